"""The networks of AMA for any power-of-two size from 32 up: SN-GAN's residual ones, an encoder.

Widths are a unit times 1, 2, 4, 8, 8... in the encoder, times 4 in the generator and times 2 in
the critic: for 32 px and a unit of 64 those of the authors' code. Sides above 32 px add levels
next to the image, in generator and critic each half as wide as the one before, so that every
level costs the same. Miyato et al. 2018, arXiv:1802.05957.
"""

import math
from itertools import pairwise
from typing import Literal

from torch import nn
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents
from onlygood.networks.blocks import Layer, ResidualBlock, normalised
from onlygood.networks.convolutional import SIDE, Judgement, Style, Trunk, bounded
from onlygood.networks.sizes import halvings_to


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent)`, unbounded.

    Convolutions without biases, drawn as PyTorch does, with batch normalisation.
    """

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        trunk = Trunk(shape, width, Style(std=0.0))
        self.blocks = trunk.blocks
        self.code = nn.Conv2d(trunk.channels, latent, SIDE, bias=False)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(self.blocks(x)).flatten(1).float()


def up_block(inputs: int, outputs: int) -> ResidualBlock:
    """Doubles the side, the main way with batch normalisation."""
    return ResidualBlock(
        inputs,
        outputs,
        convolution=lambda a, b: _drawn(nn.Conv2d(a, b, 3, padding=1), math.sqrt(2)),
        shortcut=lambda a, b: _drawn(nn.Conv2d(a, b, 1)),
        norm=nn.BatchNorm2d,
        resize="up",
    )


class Generator(nn.Module):
    """Code to image: `(B, latent)` to `(B, C, H, W)` in [-1, 1]."""

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        # Three levels lead to 32 px.
        levels = halvings_to(SIDE, shape, "SN-GAN")
        widths = [_halved(4 * width, i - 2) for i in range(levels)]
        self.start = (widths[0], SIDE, SIDE)
        self.dense = _drawn(nn.Linear(latent, math.prod(self.start)))
        self.blocks = nn.Sequential(*(up_block(a, b) for a, b in pairwise([widths[0], *widths])))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.image = _drawn(nn.Conv2d(widths[-1], shape.channels, 3, padding=1))

    def forward(self, z: Latents) -> Images:
        """Generate images from codes."""
        x = self.blocks(self.dense(z).unflatten(1, self.start))
        return bounded(self.image(F.relu(self.norm(x))), "tanh")


def block(
    inputs: int, outputs: int, *, halve: bool = False, first: bool = False, spectral: bool = True
) -> ResidualBlock:
    """May halve the side.

    The first block of a network sees the image as it is, without a ReLU; a block that does not
    halve has no convolution in its shortcut.
    """

    def convolution(a: int, b: int) -> nn.Conv2d:
        return normalised(_drawn(nn.Conv2d(a, b, 3, padding=1), math.sqrt(2)), spectral)

    def shortcut(a: int, b: int) -> nn.Module:
        return normalised(_drawn(nn.Conv2d(a, b, 1)), spectral)

    return ResidualBlock(
        inputs,
        outputs,
        convolution=convolution,
        shortcut=shortcut if halve else nn.Identity,
        resize="down" if halve else "none",
        bare=first,
    )


class Critic(nn.Module):
    """Judge of images, or of pairs of them that are stacked on their channels.

    Its value is linear in its features, `(B, 2 width)`: the last ReLU's, summed over positions.

    `spectral` divides the weights of each layer by their largest singular value, which one power
    iteration a pass keeps track of in training.
    """

    def __init__(
        self, shape: InputShape, width: int = 64, *, stacked: Literal[1, 2] = 2, spectral: bool
    ) -> None:
        super().__init__()
        # Two levels lead from 32 px to the side of 8 at which the last two blocks work.
        halvings = halvings_to(8, shape, "SN-GAN")
        widths = [_halved(2 * width, halvings - 2 - i) for i in range(halvings)]
        channels = [stacked * shape.channels, *widths]
        self.blocks = nn.Sequential(
            *(
                block(a, b, halve=True, first=i == 0, spectral=spectral)
                for i, (a, b) in enumerate(pairwise(channels))
            ),
            *(block(widths[-1], widths[-1], spectral=spectral) for _ in range(2)),
        )
        self.value = normalised(_drawn(nn.Linear(widths[-1], 1, bias=False)), spectral)

    def forward(self, x: Images) -> Judgement:
        """Judge images, `(B, stacked C, H, W)`."""
        features = F.relu(self.blocks(x)).float().sum((2, 3))
        return Judgement(self.value(features).flatten().float(), features)


def _halved(width: int, times: int) -> int:
    return max(1, width >> max(0, times))


def _drawn(layer: Layer, gain: float = 1.0) -> Layer:
    """The layer drawn as in Glorot and Bengio 2010, uniform, no bias; uses the global state."""
    nn.init.xavier_uniform_(layer.weight, gain)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
