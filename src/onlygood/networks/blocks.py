"""Blocks of layers that several kinds of networks have, and what makes them quick.

Averaging 2x2 positions, and repeating one, are convolutions with a stride: with one of 3x3 before
or behind they are one of 4x4. That takes 16 products where two take 36, and what has the larger
side is never written down. The numbers are the same but for rounding.
"""

from collections.abc import Callable
from typing import Literal, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

FeatureMaps = Float[Tensor, "B _ _ _"]
"""`(B, F, h, w)`."""

Kernels = Float[Tensor, "_ _ _ _"]
"""`(to, from, h, w)`."""


@final
class ResidualBlock(nn.Module):
    """Two convolutions, activated before each, beside a shortcut: `shortcut(x) + main(x)`.

    `up` doubles the side (nearest) before the convolutions, `down` halves it (average) after them.
    A `bare` block takes `x` as it is, for example an image: nothing comes before its first
    convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        convolution: Callable[[int, int], nn.Conv2d],
        shortcut: Callable[[int, int], nn.Module] = nn.Identity,
        norm: Callable[[int], nn.Module] = nn.Identity,
        slope: float = 0.0,
        resize: Literal["up", "down", "none"] = "none",
        bare: bool = False,
    ) -> None:
        """Build the block.

        Args:
            inputs: Channels of what it is given.
            outputs: Channels of what it makes.
            convolution: Makes one of 3x3 that keeps the side, of channels before and behind it.
            shortcut: Makes one of 1x1; by default `x` itself is added.
            norm: Makes what normalises so many channels, before each activation; by default
                nothing does.
            slope: Negative slope of the activations.
            resize: What becomes of the side.
            bare: Whether `x` is neither normalised nor activated.
        """
        super().__init__()
        self.resize, self.bare, self.slope = resize, bare, slope
        self.norms = nn.ModuleList([nn.Identity() if bare else norm(inputs), norm(outputs)])
        self.first = convolution(inputs, outputs)
        self.second = convolution(outputs, outputs)
        self.shortcut = shortcut(inputs, outputs)

    def forward(self, x: FeatureMaps) -> FeatureMaps:
        """`(B, inputs, h, w)` to `(B, outputs, h', w')`."""
        before, between = self.norms
        main = x if self.bare else self._activated(before(x))
        main = of_doubled(main, self.first) if self.resize == "up" else self.first(main)
        main = self._activated(between(main), inplace=True)
        if self.resize == "down":
            # Averaging and a 1x1 convolution commute: a quarter of the work.
            return self.shortcut(F.avg_pool2d(x, 2)) + halved(main, self.second)
        x, main = self.shortcut(x), self.second(main)
        # As do doubling and a 1x1 convolution.
        return (doubled(x) if self.resize == "up" else x) + main

    def _activated(self, x: FeatureMaps, inplace: bool = False) -> FeatureMaps:
        return F.leaky_relu(x, self.slope, inplace) if self.slope else F.relu(x, inplace)


def normalised(layer: Layer, spectral: bool) -> Layer:
    """The layer; `spectral` divides its weights by their largest singular value."""
    if spectral:
        # After the weights are drawn: it starts its singular vectors from them.
        spectral_norm(layer)
    return layer


def halved(x: FeatureMaps, layer: nn.Conv2d) -> FeatureMaps:
    """`avg_pool2d(layer(x), 2)`, of a layer of 3x3 that keeps the side."""
    return F.conv2d(x, _averages(layer.weight), layer.bias, stride=2, padding=1)


def of_doubled(x: FeatureMaps, layer: nn.Conv2d) -> FeatureMaps:
    """`layer(doubled(x))`, of a layer of 3x3 that keeps the side."""
    if torch.compiler.is_exporting():
        return layer(doubled(x))  # ONNX Runtime takes longer for a transposed one.
    kernels = 4 * _averages(layer.weight).flip(2, 3).transpose(0, 1)
    made = F.conv_transpose2d(x, kernels, stride=2, padding=1)
    if layer.bias is not None:
        # Not by the convolution: its gradient would take as long as all others, on a processor.
        made += layer.bias.to(made.dtype)[:, None, None]
    return made


def doubled(x: FeatureMaps) -> FeatureMaps:
    """Each position four times."""
    return F.interpolate(x, scale_factor=2.0)


def _averages(kernels: Kernels) -> Kernels:
    """Of 3x3, as they lie at each of the four positions of a square: of 4x4."""
    return F.avg_pool2d(kernels, 2, stride=1, padding=1)
