import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.blocks import ResidualBlock
from onlygood.networks.preact import (
    Encoder,
    Generator,
    ImageCritic,
    LatentCritic,
    Trunk,
    block,
    widths,
    with_spread,
)

SMALL = {"latent": 3, "width": 2}


def square(size: int, channels: int = 3) -> InputShape:
    return InputShape(channels, size, size)


def drawn(network: Any, *args: Any, **kwargs: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return network(*args, **kwargs)


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


# Shapes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "doublings", "expected"),
    [
        (32, 0, [1, 1, 1]),
        (32, 2, [1, 2, 4]),
        (64, 2, [1, 2, 4, 4]),
        (256, 1, [1, 2, 2, 2, 2, 2]),
        (128, 9, [1, 2, 4, 8, 16]),
    ],
)
def test_widths_double_as_often_as_they_are_told(size: int, doublings: int, expected: list[int]):
    assert widths(square(size), 1, doublings) == expected


@pytest.mark.parametrize("size", [32, 64, 256])
@pytest.mark.parametrize("side", [1, 4])
@pytest.mark.parametrize("channels", [1, 4])
def test_shapes(size: int, side: int, channels: int):
    shape, code = square(size, channels), 3 * side**2
    x, z = torch.rand(2, channels, size, size), torch.randn(2, code)
    with torch.no_grad():
        assert Encoder(shape, **SMALL, side=side)(x).shape == (2, code)
        assert Generator(shape, **SMALL, side=side)(z).shape == x.shape
        assert ImageCritic(shape, width=2)(x).shape == (2,)
        assert LatentCritic(code, width=2)(z).shape == (2,)


@pytest.mark.parametrize("network", [Encoder, Generator, ImageCritic])
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (0, 0), (48, 48), (100, 100), (64, 32), (32, 64)]
)
def test_other_sizes_are_refused_in_words(network: Any, height: int, width: int):
    with pytest.raises(ShapeError, match=f"got {height} x {width}; set size=64"):
        network(InputShape(3, height, width))


def test_outputs_are_float32_under_bf16():
    shape = square(32)
    x, z = torch.rand(2, 3, 32, 32), torch.randn(2, 3)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = (
            Encoder(shape, **SMALL)(x),
            Generator(shape, **SMALL)(z),
            ImageCritic(shape, width=2)(x),
            LatentCritic(3, width=2)(z),
        )
    for output in outputs:
        assert output.dtype == torch.float32
        assert output.isfinite().all()


# Blocks ---------------------------------------------------------------------------------------


def by_hand(made: ResidualBlock, x: Tensor) -> Tensor:
    """The block in the order of the supplement's Figure 1."""
    main, shortcut = x if made.bare else F.leaky_relu(x, 0.2), x
    if made.resize == "up":
        main, shortcut = (t.repeat_interleave(2, 2).repeat_interleave(2, 3) for t in (main, x))
    main = made.second(F.leaky_relu(made.first(main), 0.2))
    if made.resize == "down":
        main, shortcut = F.avg_pool2d(main, 2), F.avg_pool2d(shortcut, 2)
    return made.shortcut(shortcut) + main


@pytest.mark.parametrize("outputs", [2, 3])
@pytest.mark.parametrize(
    ("kind", "side"),
    [({}, 8), ({"resize": "up"}, 16), ({"resize": "down"}, 4), ({"bare": True}, 8)],
)
def test_a_block_is_what_the_supplement_draws(kind: dict[str, Any], side: int, outputs: int):
    made, x = drawn(block, 2, outputs, **kind), noise(1, 2, 8, 8)
    before = x.clone()
    result = made(x)
    assert result.shape == (1, outputs, side, side)
    torch.testing.assert_close(result, by_hand(made, x))
    assert torch.equal(x, before)


def test_the_shortcut_has_weights_only_where_widths_differ():
    assert not list(block(2, 2).shortcut.parameters())
    assert block(2, 3).shortcut.weight.shape == (3, 2, 1, 1)


def test_a_code_enters_as_through_the_tables_padded_convolution():
    generator, z = drawn(Generator, square(32), latent=3, width=5), noise(2, 3)
    weight = generator.entry.weight.transpose(0, 1).flip(2, 3)
    padded = F.conv2d(z[:, :, None, None], weight, generator.entry.bias, padding=3)
    torch.testing.assert_close(generator.entry(z[:, :, None, None]), padded)


@torch.no_grad()
def test_images_are_not_bounded():
    generator = drawn(Generator, square(32), **SMALL)
    assert generator(100 * noise(4, 3)).abs().max() > 5


# The spread of a batch ------------------------------------------------------------------------


def test_the_spread_is_one_channel_of_one_number():
    x = noise(5, 3, 4, 4)
    result = with_spread(x)
    assert result.shape == (5, 4, 4, 4)
    assert torch.equal(result[:, :3], x)
    by_position = x.flatten(1).numpy().std(0)
    assert len(result[:, 3].unique()) == 1
    assert result[0, 3, 0, 0].item() == pytest.approx(by_position.mean(), rel=1e-5)


@pytest.mark.parametrize("n", [1, 4])
def test_alike_images_have_a_spread_of_next_to_nothing(n: int):
    alike = noise(1, 2, 4, 4).expand(n, -1, -1, -1)
    torch.testing.assert_close(with_spread(alike)[:, 2], torch.full((n, 4, 4), 1e-4))


def test_the_spread_is_taken_in_full_precision():
    x = noise(5, 3, 4, 4).bfloat16()
    result = with_spread(x)
    assert result.dtype == torch.bfloat16
    assert result[0, 3, 0, 0] == with_spread(x.float())[0, 3, 0, 0].bfloat16()


@torch.no_grad()
def test_the_critic_sees_whether_images_are_alike():
    critic, x = drawn(ImageCritic, square(32, 1), width=2), torch.rand(4, 1, 32, 32)
    among_others, alone = critic(x)[:1], critic(x[:1])
    assert not torch.allclose(among_others, alone, rtol=1e-3)
    channel = critic.value[1].weight[:, -1]
    channel.zero_()
    torch.testing.assert_close(critic(x)[:1], critic(x[:1]))


# First weights --------------------------------------------------------------------------------


def test_convolutions_are_drawn_by_their_outputs():
    layers = [
        drawn(Trunk, square(32), width=64).blocks[0],
        drawn(block, 16, 64).first,
        drawn(block, 16, 64).shortcut,
        drawn(Generator, square(32), latent=48, width=64).entry,
    ]
    for layer in layers:
        kernel = math.prod(layer.kernel_size)
        expected = math.sqrt(2 / (1 + 0.2**2) / (64 * kernel))
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert layer.weight.abs().max() > 3 * expected, "normal, not uniform"
        assert layer.bias.any()


def test_dense_layers_are_drawn_uniformly_with_the_gain_of_what_follows():
    layers = [m for m in drawn(LatentCritic, 200, 300).value if isinstance(m, nn.Linear)]
    gains = [math.sqrt(2 / 1.04)] * 2 + [1.0]
    for layer, gain in zip(layers, gains, strict=True):
        bound = gain * math.sqrt(6 / sum(layer.weight.shape))
        assert 0.98 * bound < layer.weight.abs().max() <= bound
