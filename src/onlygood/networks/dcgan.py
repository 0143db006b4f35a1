"""DCGAN-type networks for any power-of-two size from 32 up, and discriminators of pairs on them.

Convolutions of kernel 4 and stride 2 halve the side until it is 4; widths are a unit times 1, 2,
4, 8, then 8 again: 64, 128, 256, 512, 512 for 128 px and a unit of 64. Batch normalisation
follows every convolution but the one that makes the image; it has a shift, so these convolutions
have no bias. Weights are drawn normal(0, 0.02), biases are 0. Radford et al. 2016,
arXiv:1511.06434; the pairing by projection is that of Miyato and Koyama 2018, arXiv:1802.05637.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.networks.sizes import power_of_two

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""

SIDE = 4
"""Side of the smallest feature maps."""

FeatureMaps = Float[Tensor, "B F h w"]


def widths(shape: InputShape, width: int) -> list[int]:
    """Channels behind each halving, from the image inwards.

    Raises:
        ShapeError: the shape is not square, or its side not a power of two from 32 up.
    """
    side = power_of_two(shape, "DCGAN")
    return [width * min(2**i, 8) for i in range(int(math.log2(side // SIDE)))]


class Trunk(nn.Module):
    """Image to feature maps of side 4: what encoder and discriminators have in common.

    `spectral` divides the weights of each convolution by their largest singular value.
    """

    def __init__(self, shape: InputShape, width: int = 64, *, spectral: bool = False) -> None:
        super().__init__()
        channels = [shape.channels, *widths(shape, width)]
        self.blocks = nn.Sequential(
            *(_down(a, b, 4, 2, spectral=spectral) for a, b in pairwise(channels))
        )
        self.channels = channels[-1]

    def forward(self, x: Images) -> FeatureMaps:
        """`(B, C, H, W)` to `(B, channels, 4, 4)`."""
        return self.blocks(x)


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent)`, unbounded."""

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width)
        self.code = _linear(self.trunk.channels * SIDE * SIDE, latent)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(self.trunk(x).flatten(1)).float()


class Generator(nn.Module):
    """Code to image: `(B, latent)` to `(B, C, H, W)` in [-1, 1]; the encoder's mirror."""

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        channels = widths(shape, width)[::-1]
        self.start = (channels[0], SIDE, SIDE)
        # As a transposed convolution of kernel 4 on a single point, which DCGAN begins with: its
        # normalisation is per channel too.
        self.dense = _linear(latent, math.prod(self.start), bias=False)
        self.blocks = nn.Sequential(
            nn.BatchNorm2d(channels[0]), nn.ReLU(), *(_up(a, b) for a, b in pairwise(channels))
        )
        self.image = _drawn(nn.ConvTranspose2d(channels[-1], shape.channels, 4, 2, 1))

    def forward(self, z: Latents) -> Images:
        """Generate images from codes."""
        x = self.blocks(self.dense(z).unflatten(1, self.start))
        # Bounded in float32: bf16 has steps of 1/256 near 1, as coarse as the pixels themselves.
        return torch.tanh(self.image(x).float())


class Judgement(NamedTuple):
    """What a discriminator says of pairs, and the features that a score can compare."""

    logit: PerImage
    h: Latents
    """The last hidden layer, before any activation."""
    phi: FeatureMaps
    """`(B, channels, 4, 4)`, of the image alone."""


class ProjectionDiscriminator(nn.Module):
    """Judge of pairs by `logit = f(h) + <h, z>`, where `h` is made of the image alone.

    The feature maps of the image are summed over their pixels, and a dense layer maps the sums to
    `h`, of the code's size; `f` is a dense layer too. The code is not embedded.

    Source: Komoto et al. 2020 (CE-BiGAN), Eq. 13.
    """

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, spectral=True)
        self.hidden = _linear(self.trunk.channels, latent)
        self.logit = _linear(latent, 1)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        phi = self.trunk(x)
        h = self.hidden(phi.float().sum((2, 3)))
        logit = self.logit(h).flatten().float() + (h.float() * z).sum(1)
        return Judgement(logit, h.float(), phi.float())


class ConcatenatingDiscriminator(nn.Module):
    """Judge of pairs that stacks the code, as constant maps, on the feature maps of the image.

    One more convolution sees both; its maps are summed over their pixels and go through two dense
    layers with a leaky ReLU between, of the sizes that the projecting discriminator has.

    Source: Komoto et al. 2020 (CE-BiGAN), Fig. 3a, which names no layer behind the stacking.
    """

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, spectral=True)
        channels = self.trunk.channels
        self.joint = _down(channels + latent, channels, 3, 1, spectral=True)
        self.hidden = _linear(channels, latent)
        self.logit = _linear(latent, 1)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        phi = self.trunk(x)
        stacked = torch.cat([phi, z[:, :, None, None].expand(-1, -1, SIDE, SIDE)], 1)
        h = self.hidden(self.joint(stacked).float().sum((2, 3)))
        logit = self.logit(F.leaky_relu(h, SLOPE)).flatten().float()
        return Judgement(logit, h.float(), phi.float())


def _down(inputs: int, outputs: int, kernel: int, stride: int, *, spectral: bool) -> nn.Module:
    """Convolution, batch normalisation, leaky ReLU."""
    layer: nn.Module = _drawn(nn.Conv2d(inputs, outputs, kernel, stride, 1, bias=False))
    if spectral:
        # After the weights are drawn: it starts its singular vectors from them.
        layer = spectral_norm(layer)
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(SLOPE))


def _up(inputs: int, outputs: int) -> nn.Module:
    """Transposed convolution, batch normalisation, ReLU."""
    layer = _drawn(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False))
    return nn.Sequential(layer, nn.BatchNorm2d(outputs), nn.ReLU())


def _linear(inputs: int, outputs: int, bias: bool = True) -> nn.Module:
    return _drawn(nn.Linear(inputs, outputs, bias))


def _drawn(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> nn.Module:
    """The layer with weights normal(0, 0.02) and no bias; uses the global random state."""
    nn.init.normal_(layer.weight, std=0.02)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
