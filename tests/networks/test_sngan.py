import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.blocks import ResidualBlock
from onlygood.networks.sngan import Critic, Encoder, Generator, block, up_block


def square(size: int, channels: int = 3) -> InputShape:
    return InputShape(channels, size, size)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def test_the_authors_parameter_counts():
    assert parameters(Encoder(square(32))) == 1_183_616
    assert parameters(Generator(square(32))) == 4_276_739
    assert parameters(Critic(square(32), spectral=True)) == 1_057_664
    assert parameters(Critic(square(32), spectral=False)) == 1_057_664


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size: int, channels: int):
    shape = square(size, channels)
    x, z = torch.rand(2, channels, size, size), torch.randn(2, 5)
    with torch.no_grad():
        assert Encoder(shape, latent=5, width=2)(x).shape == (2, 5)
        assert Generator(shape, latent=5, width=2)(z).shape == x.shape
        pair = Critic(shape, width=2, spectral=True)(torch.cat([x, x], 1))
        alone = Critic(shape, width=2, stacked=1, spectral=False)(x)
    for judgement in (pair, alone):
        assert judgement.value.shape == (2,)
        assert judgement.features.shape == (2, 4)


@pytest.mark.parametrize("network", [Encoder, Generator, lambda s: Critic(s, spectral=True)])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (0, 0), (48, 48), (64, 32)])
def test_other_sizes_are_refused_in_words(network, height: int, width: int):
    with pytest.raises(ShapeError, match=f"got {height} x {width}; set size=64"):
        network(InputShape(3, height, width))


def blocks(network: nn.Module) -> list[ResidualBlock]:
    return [m for m in network.modules() if isinstance(m, ResidualBlock)]


def outputs(network: nn.Module) -> list[int]:
    return [block.first.out_channels for block in blocks(network)]


def test_levels_above_32_pixels_are_half_as_wide_each():
    assert outputs(Generator(square(32), width=4)) == [16, 16, 16]
    assert outputs(Generator(square(128), width=4)) == [16, 16, 16, 8, 4]
    assert outputs(Critic(square(32), width=4, spectral=True)) == [8, 8, 8, 8]
    assert outputs(Critic(square(128), width=4, spectral=True)) == [2, 4, 8, 8, 8, 8]


def test_widths_of_the_encoder_end_at_8_units():
    widths = [m.out_channels for m in Encoder(square(256), 5, 2).modules() if type(m) is nn.Conv2d]
    assert widths == [2, 4, 8, 16, 16, 16, 5]


def test_the_encoder_has_no_biases():
    assert all(m.bias is None for m in Encoder(square(32)).modules() if isinstance(m, nn.Conv2d))


def test_pictures_stay_in_range():
    torch.manual_seed(0)
    generator = Generator(square(32), latent=4, width=2).eval()
    with torch.no_grad():
        # Codes far out drive the last layer into both bounds.
        pictures = generator(1e4 * torch.randn(8, 4))
    assert -1 <= pictures.min() < -0.99
    assert 0.99 < pictures.max() <= 1


# Blocks, as they are written in the sources ---------------------------------------------------


def test_an_up_block_doubles_both_ways_first():
    torch.manual_seed(0)
    up, x = up_block(2, 3).eval(), torch.randn(2, 2, 4, 4)
    before, between = up.norms
    for norm in (before, between):
        norm.running_mean.uniform_()

    def doubled(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    main = up.second(F.relu(between(up.first(doubled(F.relu(before(x)))))))
    torch.testing.assert_close(up(x), up.shortcut(doubled(x)) + main)


@pytest.mark.parametrize("first", [False, True])
def test_a_halving_block_halves_both_ways_last(first: bool):
    torch.manual_seed(0)
    down, x = block(2, 3, halve=True, first=first, spectral=False), torch.randn(2, 2, 4, 4)
    before = x.clone()
    main = down.second(F.relu(down.first(x if first else F.relu(x))))
    expected = F.avg_pool2d(down.shortcut(x), 2) + F.avg_pool2d(main, 2)
    torch.testing.assert_close(down(x), expected)
    assert torch.equal(x, before)


def test_a_block_that_keeps_the_side_adds_to_its_input():
    same, x = block(2, 2, spectral=False), torch.randn(2, 2, 4, 4)
    torch.testing.assert_close(same(x), x + same.second(F.relu(same.first(F.relu(x)))))


def test_only_the_first_block_sees_negative_pixels():
    bare = [block.bare for block in blocks(Critic(square(64), 2, spectral=True))]
    assert bare == [True, False, False, False, False]


# What is judged -------------------------------------------------------------------------------


def test_the_value_is_linear_in_the_features():
    critic = Critic(square(32), width=2, spectral=False)
    x = torch.rand(3, 6, 32, 32)
    judgement = critic(x)
    torch.testing.assert_close(judgement.value, judgement.features @ critic.value.weight[0])
    torch.testing.assert_close(judgement.features, F.relu(critic.blocks(x)).sum((2, 3)))


def test_a_pair_is_judged_by_both_images():
    torch.manual_seed(0)
    critic = Critic(square(32, 1), width=2, spectral=True).eval()
    x, y = torch.rand(2, 2, 1, 32, 32)
    with torch.no_grad():
        values = [critic(torch.cat(pair, 1)).value for pair in ((x, y), (y, x), (x, x))]
    assert not torch.allclose(values[0], values[1])
    assert not torch.allclose(values[0], values[2])


# Spectral normalisation -----------------------------------------------------------------------


def layers(network: nn.Module) -> list[nn.Module]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@torch.no_grad()
def test_every_layer_of_the_critic_has_a_largest_singular_value_of_1():
    torch.manual_seed(0)
    critic = Critic(square(32), width=2, spectral=True)
    assert len(layers(critic)) == 11
    for layer in layers(critic):
        # As after steps of training, from which the power iteration has to recover.
        layer.parametrizations.weight.original.mul_(3).add_(0.1)
    for _ in range(50):
        critic(torch.rand(1, 6, 32, 32))
    for layer in layers(critic.eval()):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=1e-2, atol=0)


def test_without_it_weights_are_as_they_were_drawn():
    assert not any(map(parametrize.is_parametrized, layers(Critic(square(32), 2, spectral=False))))


@torch.no_grad()
def test_scoring_leaves_the_power_iteration_alone():
    critic = Critic(square(32), width=2, spectral=True)
    before = {k: v.clone() for k, v in critic.state_dict().items()}
    critic.eval()(torch.rand(1, 6, 32, 32))
    assert all(torch.equal(v, before[k]) for k, v in critic.state_dict().items())
    critic.train()(torch.rand(1, 6, 32, 32))
    assert not all(torch.equal(v, before[k]) for k, v in critic.state_dict().items())


# First weights --------------------------------------------------------------------------------


@pytest.mark.parametrize(("layer", "gain"), [("first", 2**0.5), ("shortcut", 1.0)])
def test_layers_are_drawn_by_glorots_rule(layer: str, gain: float):
    torch.manual_seed(0)
    for made in (up_block(40, 60), block(40, 60, halve=True, spectral=False)):
        convolution = getattr(made, layer)
        fans = (40 + 60) * math.prod(convolution.kernel_size)
        bound = gain * math.sqrt(6 / fans)
        assert 0.99 * bound < convolution.weight.abs().max() <= bound
        assert not convolution.bias.any()


def test_outputs_are_float32_under_bf16():
    shape = square(32)
    x, z = torch.rand(2, 3, 32, 32), torch.randn(2, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        code = Encoder(shape, latent=4, width=2)(x)
        picture = Generator(shape, latent=4, width=2)(z)
        judgement = Critic(shape, width=2, spectral=True)(torch.cat([x, x], 1))
    for output in (code, picture, judgement.value, judgement.features):
        assert output.dtype == torch.float32
        assert output.isfinite().all()
