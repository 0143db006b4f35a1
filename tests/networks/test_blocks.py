"""Convolutions beside a change of the side, as one, against both in turn."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.networks.blocks import halved, of_doubled

Way = Callable[[Tensor, nn.Conv2d], Tensor]


def layer(*, bias: bool = True) -> nn.Conv2d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Conv2d(2, 3, 3, padding=1, bias=bias, dtype=torch.float64)


def averaged(x: Tensor, layer: nn.Conv2d) -> Tensor:
    return F.avg_pool2d(layer(x), 2)


def repeated(x: Tensor, layer: nn.Conv2d) -> Tensor:
    return layer(x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def seen(way: Way, kernels: nn.Conv2d, side: tuple[int, int]) -> list[Tensor]:
    """What it gives, its gradients, and those of their squares, as a gradient penalty has them."""
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 2, *side, dtype=torch.float64, generator=draw).requires_grad_()
    made = way(x, kernels)
    direction = torch.randn(made.shape, dtype=torch.float64, generator=draw).requires_grad_()
    weights = list(kernels.parameters())
    slopes = torch.autograd.grad((made * direction).sum(), [x, *weights], create_graph=True)
    squares = torch.stack([slope.square().sum() for slope in slopes]).sum()
    return [made, *slopes, *torch.autograd.grad(squares, [direction, x, weights[0]])]


@pytest.mark.parametrize(("one", "two"), [(halved, averaged), (of_doubled, repeated)])
@pytest.mark.parametrize("side", [(8, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_one_convolution_gives_what_two_steps_give(
    one: Way, two: Way, side: tuple[int, int], bias: bool
) -> None:
    kernels = layer(bias=bias)
    for found, expected in zip(seen(one, kernels, side), seen(two, kernels, side), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@torch.no_grad()
def test_an_exported_graph_has_no_transposed_convolution(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels, x = layer(), torch.rand(1, 2, 4, 4, dtype=torch.float64)
    expected = of_doubled(x, kernels)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    monkeypatch.setattr(F, "conv_transpose2d", None)
    torch.testing.assert_close(of_doubled(x, kernels), expected, rtol=1e-12, atol=1e-12)
