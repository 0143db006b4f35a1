"""Pre-activation residual networks of PIAD for any power-of-two size from 32 up.

Nothing is normalised. Blocks of two convolutions halve or double the side between the image and 4
pixels. Widths are a unit, which doubles with each of the first `doublings` steps from the image
inwards: 32, 32, 32 for 32 px and a unit of 32, or 64, 128, 256 for a unit of 64 that doubles
twice. A code is a point of `latent` channels, or a map of 4x4 such points; it is flat outside of
these networks.

Layers and parameter counts follow Tables 1 to 4 of the supplement of Tuluptceva et al. 2019,
arXiv:1909.05904, first weights the authors' code; see `docs/methods/piad.md`.
"""

from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import nn

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.networks.blocks import FeatureMaps, ResidualBlock
from onlygood.networks.convolutional import SIDE
from onlygood.networks.sizes import halvings_to

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""

Convolution = TypeVar("Convolution", nn.Conv2d, nn.ConvTranspose2d)

CodeSide = Literal[1, 4]
"""Side of a code before it is flattened: a point, or a map."""


def widths(shape: InputShape, width: int, doublings: int = 0) -> list[int]:
    """Channels of the blocks that change the side, from the image inwards.

    Raises:
        ShapeError: the shape is not square, or its side not a power of two from 32 up.
    """
    halvings = halvings_to(SIDE, shape, "pre-activation")
    return [width * 2 ** min(i, doublings) for i in range(halvings)]


def block(
    inputs: int,
    outputs: int,
    resize: Literal["up", "down", "none"] = "none",
    *,
    bare: bool = False,
) -> ResidualBlock:
    """The shortcut has a convolution where widths differ."""
    return ResidualBlock(
        inputs,
        outputs,
        convolution=lambda a, b: _convolution(a, b, 3, 1),
        shortcut=nn.Identity if inputs == outputs else lambda a, b: _convolution(a, b, 1),
        slope=SLOPE,
        resize=resize,
        bare=bare,
    )


class Trunk(nn.Module):
    """Image to feature maps of side 4: what encoder and critic have in common."""

    def __init__(self, shape: InputShape, width: int, doublings: int = 0) -> None:
        super().__init__()
        channels = widths(shape, width, doublings)
        self.blocks = nn.Sequential(
            _convolution(shape.channels, channels[0], 3, 1),
            *(block(a, b, "down") for a, b in pairwise([channels[0], *channels])),
        )
        self.channels = channels[-1]
        self.form = (self.channels, SIDE, SIDE)

    def forward(self, x: Images) -> FeatureMaps:
        """`(B, C, H, W)` to `(B, channels, 4, 4)`."""
        return self.blocks(x)


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent * side^2)`, unbounded."""

    def __init__(
        self,
        shape: InputShape,
        latent: int = 32,
        width: int = 32,
        doublings: int = 0,
        side: CodeSide = 1,
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, doublings)
        channels = self.trunk.channels
        to_code = (
            (nn.LeakyReLU(SLOPE), _convolution(channels, channels, SIDE))
            if side == 1
            else (block(channels, channels),)
        )
        self.code = nn.Sequential(*to_code, nn.LeakyReLU(SLOPE), _convolution(channels, latent, 1))

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(self.trunk(x)).flatten(1).float()


class Generator(nn.Module):
    """Code to image: `(B, latent * side^2)` to `(B, C, H, W)`, linear at the end: unbounded."""

    def __init__(
        self,
        shape: InputShape,
        latent: int = 32,
        width: int = 32,
        doublings: int = 0,
        side: CodeSide = 1,
    ) -> None:
        super().__init__()
        channels = widths(shape, width, doublings)[::-1]
        self.start = (latent, side, side)
        # The table's 4x4 convolution of a single point with 3 pixels of padding, turned by 180
        # degrees, without its products with zero.
        self.entry = (
            _drawn(nn.ConvTranspose2d(latent, channels[0], SIDE))
            if side == 1
            else block(latent, channels[0], bare=True)
        )
        self.blocks = nn.Sequential(
            *(block(a, b, "up") for a, b in pairwise([channels[0], *channels])),
            block(channels[-1], channels[-1]),
            nn.LeakyReLU(SLOPE),
        )
        self.image = _convolution(channels[-1], shape.channels, 1)

    def forward(self, z: Latents) -> Images:
        """Generate images from codes."""
        x = self.blocks(self.entry(z.unflatten(1, self.start)))
        return self.image(x).float()


class ImageCritic(nn.Module):
    """Judge of images, who also sees how much those of a batch differ: Wasserstein values.

    Give real and generated images in batches of their own.
    """

    def __init__(self, shape: InputShape, width: int = 32, doublings: int = 0) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, doublings)
        channels = self.trunk.channels
        self.value = nn.Sequential(
            nn.LeakyReLU(SLOPE),
            _convolution(channels + 1, channels, SIDE),
            nn.LeakyReLU(SLOPE),
            _convolution(channels, 1, 1),
        )

    def forward(self, x: Images) -> PerImage:
        """Judge images."""
        return self.value(with_spread(self.trunk(x))).flatten().float()


class LatentCritic(nn.Module):
    """Judge of codes: three dense layers, Wasserstein values."""

    def __init__(self, latent: int, width: int = 128) -> None:
        super().__init__()
        gain = nn.init.calculate_gain("leaky_relu", SLOPE)
        self.value = nn.Sequential(
            _dense(latent, width, gain),
            nn.LeakyReLU(SLOPE),
            _dense(width, width, gain),
            nn.LeakyReLU(SLOPE),
            _dense(width, 1, 1.0),
        )

    def forward(self, z: Latents) -> PerImage:
        """Judge codes."""
        return self.value(z).flatten().float()


def with_spread(x: FeatureMaps) -> FeatureMaps:
    """Append how much a batch varies as one more channel, the same number everywhere.

    It is the standard deviation over the batch of each channel and position, averaged over these:
    `mean_chw sqrt(mean_b (x - mean_b x)^2 + 1e-8)`. Each process of several sees its own images.

    Source: Karras et al. 2018, arXiv:1710.10196, section 3 ("minibatch standard deviation").
    """
    values = x.float()
    variance = (values - values.mean(0)).square().mean(0)
    spread = (variance + 1e-8).sqrt().mean().to(x.dtype)
    return torch.cat([x, spread.expand(len(x), 1, *x.shape[2:])], 1)


def _dense(inputs: int, outputs: int, gain: float) -> nn.Linear:
    """A layer drawn as in Glorot and Bengio 2010, uniform; uses the global random state."""
    layer = nn.Linear(inputs, outputs)
    nn.init.xavier_uniform_(layer.weight, gain)
    return layer


def _convolution(inputs: int, outputs: int, kernel: int, padding: int = 0) -> nn.Conv2d:
    return _drawn(nn.Conv2d(inputs, outputs, kernel, padding=padding))


def _drawn(layer: Convolution) -> Convolution:
    """The layer with normal weights of variance `2 / (1 + SLOPE^2) / (outputs kernel^2)`.

    He et al. 2015 by the outputs; biases stay PyTorch's. Uses the global random state.
    """
    # PyTorch goes by the place in the shape, where inputs and outputs of the latter are swapped.
    if isinstance(layer, nn.Conv2d):
        nn.init.kaiming_normal_(layer.weight, SLOPE, "fan_out")
    else:
        nn.init.kaiming_normal_(layer.weight, SLOPE, "fan_in")
    return layer
