import math
from typing import Literal

import pytest
import torch
from torch import nn

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.residual import (
    Biases,
    Block,
    Encoder,
    Generator,
    Output,
    PairCritic,
    initialise,
)

NETWORKS = (Generator, Encoder, PairCritic)


def square(size: int, channels: int = 3) -> InputShape:
    return InputShape(channels, size, size)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (Generator, 64, 2_080_947),
        (Generator, 128, 2_080_947),
        (Encoder, 64, 1_638_304),
        (Encoder, 128, 2_424_736),
        (PairCritic, 64, 2_311_777),
        (PairCritic, 128, 3_098_209),
    ],
)
def test_the_notebooks_parameter_counts(network, size: int, expected: int):
    assert parameters(network(square(size))) == expected


@pytest.mark.parametrize(
    ("network", "size", "expected"),
    [
        (Generator, 64, 83_142),
        (Generator, 128, 83_142),
        (Encoder, 64, 60_244),
        (Encoder, 128, 87_892),
        (PairCritic, 64, 638_789),
        (PairCritic, 128, 666_437),
    ],
)
def test_the_tf2_codes_parameter_counts(network, size: int, expected: int):
    assert parameters(network(square(size), width=3, biases="closing")) == expected


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_shapes(size: int, channels: int):
    shape = square(size, channels)
    x, z = torch.rand(2, channels, size, size), torch.randn(2, 5)
    with torch.no_grad():
        assert Encoder(shape, latent=5, width=2)(x).shape == (2, 5)
        assert Generator(shape, latent=5, width=2)(z).shape == x.shape
        judgement = PairCritic(shape, latent=5, width=2)(x, z)
    assert judgement.value.shape == (2,)
    assert judgement.features.shape == (2, 32)


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (0, 0), (48, 48), (100, 100), (64, 32), (32, 64)]
)
def test_other_sizes_are_refused_in_words(network, height: int, width: int):
    with pytest.raises(ShapeError, match=f"got {height} x {width}; set size=64"):
        network(InputShape(3, height, width))


@pytest.mark.parametrize(("output", "low"), [("sigmoid", 0.0), ("tanh", -1.0)])
def test_pictures_stay_in_range(output: Output, low: float):
    torch.manual_seed(0)
    generator = Generator(square(32), latent=4, width=2, output=output)
    with torch.no_grad():
        # Codes far out drive the last layer into both bounds.
        pictures = generator(1e4 * torch.randn(8, 4))
    assert low <= pictures.min() < low + 0.01
    assert 0.99 < pictures.max() <= 1


def test_a_linear_generator_still_learns_where_a_sigmoid_is_dead():
    def gradient(output: Output) -> float:
        torch.manual_seed(0)
        generator = Generator(square(32), latent=4, width=2, output=output)
        torch.nn.init.constant_(generator.image.bias, -200.0)
        generator(torch.randn(2, 4)).square().sum().backward()
        return sum(float(p.grad.abs().sum()) for p in generator.parameters() if p.grad is not None)

    assert gradient("sigmoid") == 0
    assert gradient("linear") > 0


def test_a_pair_is_judged_by_both_parts():
    torch.manual_seed(0)
    critic = PairCritic(square(32), latent=4, width=2)
    x, z = torch.rand(2, 3, 32, 32), torch.randn(2, 4)
    with torch.no_grad():
        straight, crossed = critic(x, z).value, critic(x, z.flip(0)).value
        other_images = critic(x.flip(0), z).value
    assert not torch.allclose(straight, crossed)
    assert not torch.allclose(straight, other_images)


def test_features_are_what_the_value_is_made_of():
    critic = PairCritic(square(32), latent=4, width=2)
    judgement = critic(torch.rand(2, 3, 32, 32), torch.randn(2, 4))
    value = critic.value(nn.functional.leaky_relu(judgement.features, 0.2)).flatten()
    torch.testing.assert_close(value, judgement.value)
    # Before the activation: some are far below what a leaky ReLU would leave.
    assert (judgement.features < 0).any()


@pytest.mark.parametrize(("sides", "expected"), [({}, 8), ({"up": True}, 16), ({"down": True}, 4)])
def test_a_block_keeps_doubles_or_halves_the_side(sides: dict[str, bool], expected: int):
    assert Block(2, 3, **sides)(torch.rand(1, 2, 8, 8)).shape == (1, 3, expected, expected)


def test_a_block_is_shortcut_plus_main():
    block = Block(2, 3)
    x = torch.randn(1, 2, 4, 4)
    leaky = nn.LeakyReLU(0.2)
    main = block.closing(leaky(block.second(leaky(block.first(x)))))
    torch.testing.assert_close(block(x), leaky(block.shortcut(x) + main))


def test_a_block_leaves_its_input_alone():
    block, x = Block(2, 2), torch.randn(1, 2, 4, 4)
    before = x.clone()
    block(x)
    assert torch.equal(x, before)


@pytest.mark.parametrize(("biases", "count"), [("all", 4), ("closing", 1)])
def test_biases_of_a_block(biases: Biases, count: int):
    named = [name for name, _ in Block(2, 3, biases=biases).named_parameters() if "bias" in name]
    assert len(named) == count
    assert "closing.bias" in named


def test_he_is_a_normal_cut_off_at_two_deviations():
    torch.manual_seed(0)
    layer = nn.Conv2d(40, 60, 3)
    initialise(layer, "he")
    std = math.sqrt(2 / (40 * 9))
    assert abs(layer.weight.std() / std - 1) < 0.02
    assert 1.99 < layer.weight.abs().max() / (std / 0.87962566) <= 2
    assert not layer.bias.any()


def test_glorot_is_uniform_within_its_bound():
    torch.manual_seed(0)
    layer = nn.Linear(200, 100)
    initialise(layer, "glorot")
    bound = math.sqrt(6 / (200 + 100))
    assert 0.99 * bound < layer.weight.abs().max() <= bound
    assert abs(layer.weight.std() / math.sqrt(2 / (200 + 100)) - 1) < 0.02
    assert not layer.bias.any()


@pytest.mark.parametrize("rule", ["he", "glorot"])
@pytest.mark.parametrize("biases", ["all", "closing"])
def test_every_layer_is_drawn_anew(rule: Literal["he", "glorot"], biases: Biases):
    network = PairCritic(square(32), latent=4, width=2, biases=biases)
    before = {name: p.clone() for name, p in network.named_parameters()}
    initialise(network, rule)
    for name, p in network.named_parameters():
        assert not torch.equal(p, before[name])
        assert p.any() == name.endswith("weight")


def test_outputs_are_float32_under_bf16():
    shape = square(32)
    x, z = torch.rand(2, 3, 32, 32), torch.randn(2, 4)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        code = Encoder(shape, latent=4, width=2)(x)
        picture = Generator(shape, latent=4, width=2)(z)
        judgement = PairCritic(shape, latent=4, width=2)(x, z)
    for output in (code, picture, judgement.value, judgement.features):
        assert output.dtype == torch.float32
        assert output.isfinite().all()
