"""Styles and critics; what DCGAN's style promises is in test_dcgan."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onlygood.core.method import InputShape
from onlygood.networks.blocks import ResidualBlock
from onlygood.networks.convolutional import (
    Encoder,
    Generator,
    ImageCritic,
    Judgement,
    LatentCritic,
    MapCritic,
    PairCritic,
    Style,
    Trunk,
    UNet,
)
from onlygood.networks.preact import Trunk as OtherTrunk

SHAPE = InputShape(2, 32, 32)
STYLES = [
    Style(block=block, norm=norm, spectral=spectral)
    for block in ("plain", "residual")
    for norm, spectral in (("batch", False), ("layer", True), ("none", False))
] + [Style(kernel=5, dropout=0.5, std=0.0), Style(kernel=3, first_norm=False)]
each_style = pytest.mark.parametrize(
    "style", STYLES, ids=[f"{s.block}-{s.norm}-{s.kernel}" for s in STYLES]
)


def pictures(n: int = 3, shape: InputShape = SHAPE) -> Tensor:
    return torch.rand(n, *shape, generator=torch.Generator().manual_seed(0))


def codes(n: int = 3) -> Tensor:
    return torch.randn(n, 5, generator=torch.Generator().manual_seed(0))


def drawn(kind: Callable[..., Any], *args: Any, **settings: Any) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args, **settings)


@each_style
@pytest.mark.parametrize("size", [32, 64])
def test_shapes_and_gradients_in_every_style(style: Style, size: int):
    shape = InputShape(2, size, size)
    x, z = pictures(shape=shape), codes()
    networks: list[tuple[nn.Module, tuple[Tensor, ...], tuple[int, ...]]] = [
        (Encoder(shape, 5, 2, style), (x,), (3, 5)),
        (Generator(shape, 5, 2, style), (z,), x.shape),
        (UNet(shape, 2, style), (x,), x.shape),
        (UNet(shape, 2, style, halvings=2), (x,), x.shape),
        (ImageCritic(Trunk(shape, 2, style), style), (x,), (3,)),
        (MapCritic(Trunk(shape, 2, style, halvings=2), style), (x,), (3, size // 4, size // 4)),
        (PairCritic(Trunk(shape, 2, style), 5, style, code=4, joint=6), (x, z), (3,)),
        (LatentCritic(5, (6, 4), style), (z,), (3,)),
    ]
    for network, inputs, expected in networks:
        made = network(*inputs)
        value = made.value if isinstance(made, Judgement) else made
        assert value.shape == expected
        value.sum().backward()
        assert all(p.grad is not None for p in network.parameters())


@each_style
def test_layers_are_those_of_the_style(style: Style):
    norms = nn.BatchNorm2d | nn.GroupNorm
    kind = {"batch": nn.BatchNorm2d, "layer": nn.GroupNorm}
    trunk, generator = Trunk(SHAPE, 2, style), Generator(SHAPE, 5, 2, style)
    for network in (trunk, generator):
        assert {type(m) for m in network.modules() if isinstance(m, norms)} <= {
            kind.get(style.norm, nn.Module)
        }
        residual = any(isinstance(m, ResidualBlock) for m in network.modules())
        assert residual == (style.block == "residual")
    kernels = [m for m in trunk.modules() if isinstance(m, nn.Conv2d)]
    assert all(parametrize.is_parametrized(m) == style.spectral for m in kernels)
    assert not any(parametrize.is_parametrized(m) for m in generator.modules())
    if style.block == "plain":
        # Either a normalisation or a bias shifts what a convolution makes.
        first, *others = kernels
        assert (first.bias is None) == (style.norm != "none" and style.first_norm)
        assert all((m.bias is None) == (style.norm != "none") for m in others)
        assert {m.kernel_size[0] for m in kernels} == {style.kernel}


def test_layer_norm_does_not_look_at_other_images():
    for norm in ("layer", "none"):
        critic = drawn(ImageCritic, Trunk(SHAPE, 2, Style(norm=norm))).train()
        together = critic(pictures()).value
        torch.testing.assert_close(critic(pictures()[1:2]).value, together[1:2])


@torch.no_grad()
def test_layer_norm_is_of_an_image_as_a_whole():
    norm = Trunk(SHAPE, 2, Style(norm="layer")).blocks[0][1]
    x = 3 * torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0)) + 1
    flat = x.flatten(1)
    mean, std = flat.mean(1, keepdim=True), flat.std(1, correction=0, keepdim=True)
    torch.testing.assert_close(norm(x).flatten(1), (flat - mean) / std, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_values_are_linear_in_the_features():
    trunk = Trunk(SHAPE, 2)
    plain, hidden = drawn(ImageCritic, trunk).eval(), drawn(ImageCritic, trunk, features=7).eval()
    pair = drawn(PairCritic, trunk, 5, code=4, joint=6).eval()
    latent, places = drawn(LatentCritic, 5, (6, 4)).eval(), drawn(MapCritic, trunk).eval()
    x, z = pictures(), codes()
    judged = [(plain, (x,)), (hidden, (x,)), (pair, (x, z)), (latent, (z,))]
    for critic, inputs in judged:
        value, features = critic(*inputs)
        torch.testing.assert_close(value, critic.value(features.flatten(1))[:, 0])
    torch.testing.assert_close(plain(x).features, trunk(x))
    assert hidden(x).features.shape == (3, 7)
    # Of the same numbers a map has one value at each position.
    value, features = places(x)
    expected = (features * places.value.weight).sum(1) + places.value.bias
    torch.testing.assert_close(value, expected)


@torch.no_grad()
def test_a_pair_is_judged_by_both_and_images_may_be_stacked_and_oblong():
    pair = drawn(PairCritic, Trunk(SHAPE, 2, Style(norm="none")), 5, Style(std=0.0))
    x, z = pictures(), codes()
    value = pair(x, z).value
    assert (value - pair(x.flip(0), z).value)[0] != 0
    assert (value - pair(x, z.flip(0)).value)[0] != 0
    stacked = ImageCritic(Trunk(SHAPE._replace(channels=4), 2))
    assert stacked(torch.cat([x, x], 1)).value.shape == (3,)
    below = Trunk(SHAPE._replace(height=64), 2, halvings=2)
    assert below.form == (4, 16, 8)
    assert ImageCritic(below)(torch.cat([x, x], 2)).features.shape == (3, 4, 16, 8)


@torch.no_grad()
def test_critics_stand_on_trunks_of_other_families():
    judged = ImageCritic(OtherTrunk(SHAPE, 3))(pictures())
    assert judged.value.shape == (3,)
    assert judged.features.shape == (3, 3, 4, 4)


@torch.no_grad()
def test_a_u_net_stacks_what_it_saw_of_each_side():
    network = drawn(UNet, SHAPE, 2, Style(norm="none"), output="linear", halvings=2).eval()
    x = pictures()
    first = network.down[0](x)
    back = network.up[0](network.down[1](first))
    torch.testing.assert_close(network(x), network.image(torch.cat([back, first], 1)))
    assert [m.in_channels for m in (network.up[0][0], network.image)] == [4, 4]


def test_a_u_net_may_go_down_to_a_point():
    network = UNet(SHAPE, 2, halvings=5)
    assert network(pictures(1)).shape == (1, 2, 32, 32)


@pytest.mark.parametrize(("output", "low", "high"), [("tanh", -1, 1), ("sigmoid", 0, 1)])
def test_outputs_are_bounded(output: Any, low: float, high: float):
    with torch.no_grad():
        # Codes far out drive the last layer into both bounds.
        made = Generator(SHAPE, 5, 2, output=output).eval()(1e8 * codes())
    assert low <= made.min() < low + 0.01
    assert high - 0.01 < made.max() <= high
