"""One convolutional trunk, and the encoder, generator, critics and U-Net that are made of it.

Blocks halve the side until it is 4, or double it from there; widths are a unit times 1, 2, 4, 8,
then 8 again. A `Style` says what blocks are made of; the default is DCGAN's, Radford et al. 2016,
arXiv:1511.06434, with batch normalisation behind every convolution but the one that makes the
image. Normalisation has a shift, so these convolutions have no bias.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents
from onlygood.networks.blocks import FeatureMaps, Layer, ResidualBlock, normalised
from onlygood.networks.sizes import halvings_to

SIDE = 4
"""Side of the smallest feature maps, where nothing else is said."""

Features = Float[Tensor, "B *features"]
"""Whatever a critic has of an image."""

Values = Float[Tensor, "B *positions"]
"""A number for each image, or for each of its positions."""

Output = Literal["sigmoid", "tanh", "linear"]
"""Last activation of what makes images."""


@final
@dataclass(frozen=True, kw_only=True)
class Style:
    """What blocks are made of."""

    block: Literal["plain", "residual"] = "plain"
    """A strided convolution, or two of 3x3 beside a shortcut, activated before each."""
    norm: Literal["batch", "layer", "none"] = "batch"
    """Layer: of each image as a whole, with a scale and shift for each channel."""
    first_norm: bool = True
    """Normalise what the first plain block makes of the image, too."""
    spectral: bool = False
    """Divide the weights of each layer that goes inwards by their largest singular value; not those
    of generators, and not those of the last layer of encoders and critics."""
    kernel: int = 4
    """Side of the kernels of plain blocks: 3, 4 or 5."""
    slope: float = 0.2
    """Negative slope of activations on the way inwards and in critics; to an image it is 0."""
    dropout: float = 0.0
    """Share of activations left out in training, in plain blocks inwards and in critics."""
    std: float = 0.02
    """Weights are normal(0, std) at first, and biases 0; 0: as PyTorch draws them."""


DCGAN = Style()
"""Where no other style is said."""


def widths(shape: InputShape, width: int, halvings: int | None = None) -> list[int]:
    """Channels behind each halving, from the image inwards; None: down to a side of 4.

    Raises:
        ShapeError: `halvings` is None and the shape not square, or its side not a power of two
            from 32 up.
    """
    n = halvings_to(SIDE, shape, "convolutional") if halvings is None else halvings
    return [width * min(2**i, 8) for i in range(n)]


@runtime_checkable
class ImageTrunk(Protocol):
    """Image to feature maps; networks of other families may be one, too."""

    form: tuple[int, int, int]
    """Channels, height and width of the maps."""

    def __call__(self, x: Images) -> FeatureMaps:
        """`(B, C, H, W)` to `(B, *form)`."""
        ...


class Trunk(nn.Module):
    """Image to feature maps: what encoder and critics have in common.

    For critics of several images stacked on their channels give it a shape with as many channels.
    """

    def __init__(
        self,
        shape: InputShape,
        width: int = 64,
        style: Style = DCGAN,
        *,
        halvings: int | None = None,
    ) -> None:
        """Build the blocks.

        Args:
            shape: Of the images.
            width: Channels behind the first halving.
            style: Of the blocks.
            halvings: How often the side is halved, for images of any shape; None: to a side of 4.

        Raises:
            ShapeError: `halvings` is None and the shape not square, or its side not a power of two
                from 32 up.
        """
        super().__init__()
        channels = [shape.channels, *widths(shape, width, halvings)]
        last = channels[-1]
        residual = style.block == "residual"
        finish = [*_norm(last, style), _activation(style.slope)] if residual else []
        self.blocks = nn.Sequential(
            *(_down(a, b, style, first=i == 0) for i, (a, b) in enumerate(pairwise(channels))),
            *finish,
        )
        self.channels = last
        shrunk = 2 ** (len(channels) - 1)
        self.form = (last, shape.height // shrunk, shape.width // shrunk)

    def forward(self, x: Images) -> FeatureMaps:
        """`(B, C, H, W)` to `(B, *form)`."""
        return self.blocks(x)


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent)`, unbounded."""

    def __init__(
        self, shape: InputShape, latent: int = 128, width: int = 64, style: Style = DCGAN
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, style)
        self.code = linear(math.prod(self.trunk.form), latent, style)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(self.trunk(x).flatten(1)).float()


class Generator(nn.Module):
    """Code to image: `(B, latent)` to `(B, C, H, W)` in [-1, 1]; the encoder mirrored."""

    def __init__(
        self,
        shape: InputShape,
        latent: int = 128,
        width: int = 64,
        style: Style = DCGAN,
        *,
        output: Output = "tanh",
    ) -> None:
        super().__init__()
        channels = widths(shape, width)[::-1]
        self.start = (channels[0], SIDE, SIDE)
        # As a transposed convolution of kernel 4 on a single point, which DCGAN begins with: its
        # normalisation is per channel too.
        plain = style.block == "plain"
        bias = not (plain and _norm(channels[0], style))
        self.dense = linear(latent, math.prod(self.start), style, bias=bias)
        first = [*_norm(channels[0], style), nn.ReLU()] if plain else []
        self.blocks = nn.Sequential(*first, *(_up(a, b, style) for a, b in pairwise(channels)))
        self.image = _to_image(channels[-1], channels[-1], shape.channels, style)
        self.output = output

    def forward(self, z: Latents) -> Images:
        """Generate images from codes."""
        return bounded(self.image(self.blocks(self.dense(z).unflatten(1, self.start))), self.output)


class UNet(nn.Module):
    """Image to image, both `(B, C, H, W)`, by default in [-1, 1].

    What each block on the way inwards makes is stacked on what the block of its side on the way
    back makes. Ronneberger et al. 2015, arXiv:1505.04597, with strided blocks as in Isola et al.
    2017, arXiv:1611.07004.
    """

    def __init__(
        self,
        shape: InputShape,
        width: int = 64,
        style: Style = DCGAN,
        *,
        output: Output = "tanh",
        halvings: int | None = None,
    ) -> None:
        """Build the blocks.

        Args:
            shape: Of the images.
            width: Channels behind the first halving.
            style: Of the blocks.
            output: Last activation.
            halvings: How often the side is halved; None: to a side of 4.

        Raises:
            ShapeError: `halvings` is None and the shape not square, or its side not a power of two
                from 32 up.
        """
        super().__init__()
        channels = widths(shape, width, halvings)
        point = shape.height >> len(channels) == 1  # A single number cannot be normalised.
        self.down = nn.ModuleList(
            _down(a, b, style, first=i == 0, norm=not (point and i == len(channels) - 1))
            for i, (a, b) in enumerate(pairwise([shape.channels, *channels]))
        )
        back = channels[::-1]
        stacked = [back[0], *(2 * width for width in back[1:])]
        self.up = nn.ModuleList(
            _up(a, b, style) for a, b in zip(stacked[:-1], back[1:], strict=True)
        )
        self.image = _to_image(stacked[-1], back[-1], shape.channels, style)
        self.output = output

    def forward(self, x: Images) -> Images:
        """Make images of images."""
        skips: list[Tensor] = []
        for block in self.down:
            x = block(x)
            skips.append(x)
        x = skips.pop()
        for block in self.up:
            x = torch.cat([block(x), skips.pop()], 1)
        return bounded(self.image(x), self.output)


# Critics ---------------------------------------------------------------------------------------


class Judgement(NamedTuple):
    """What a critic says, and the features that a score can compare."""

    value: Values
    """Logit or Wasserstein value of each image, `(B,)`, or of each of its positions."""
    features: Features
    """Of its last hidden layer."""


class ImageCritic(nn.Module):
    """Judge of images, or of several that are stacked on their channels."""

    def __init__(
        self,
        trunk: ImageTrunk,
        style: Style = DCGAN,
        *,
        features: int = 0,
        activated: bool = False,
    ) -> None:
        """Put a last layer on a trunk.

        Args:
            trunk: What sees the images.
            style: Of this layer.
            features: Size of one more linear layer before it, whose results are the features; 0:
                there is none, and they are the trunk's maps.
            activated: Whether that layer ends in the style's activation.
        """
        super().__init__()
        self.trunk = trunk
        inputs = math.prod(trunk.form)
        self.hidden: nn.Module | None = None
        if features:
            self.hidden = linear(inputs, features, style, inwards=True)
            if activated:
                self.hidden = nn.Sequential(self.hidden, _activation(style.slope))
        self.value = linear(features or inputs, 1, style)

    def forward(self, x: Images) -> Judgement:
        """Judge images."""
        features = self.trunk(x)
        if self.hidden is not None:
            features = self.hidden(features.flatten(1))
        return Judgement(self.value(features.flatten(1)).flatten().float(), features.float())


class MapCritic(nn.Module):
    """Judge of each position of an image: values `(B, h, w)` by a 1x1 convolution."""

    def __init__(self, trunk: ImageTrunk, style: Style = DCGAN) -> None:
        super().__init__()
        self.trunk = trunk
        self.value = _drawn(nn.Conv2d(trunk.form[0], 1, 1), style)

    def forward(self, x: Images) -> Judgement:
        """Judge the positions of images."""
        features = self.trunk(x)
        return Judgement(self.value(features)[:, 0].float(), features.float())


class PairCritic(nn.Module):
    """Judge of pairs (image, code): a dense layer of the code, one of both, then the value."""

    def __init__(
        self,
        trunk: ImageTrunk,
        latent: int,
        style: Style = DCGAN,
        *,
        code: int = 512,
        joint: int = 1024,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.code = _hidden(latent, code, style)
        self.joint = _hidden(math.prod(trunk.form) + code, joint, style)
        self.value = linear(joint, 1, style)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        features = self.joint(torch.cat([self.trunk(x).flatten(1), self.code(z)], 1))
        return Judgement(self.value(features).flatten().float(), features.float())


class LatentCritic(nn.Module):
    """Judge of codes, or of several side by side: dense layers of the sizes `hidden`.

    Not normalised: by batches it could not tell codes that are too narrow or beside the middle.
    """

    def __init__(self, latent: int, hidden: Sequence[int], style: Style = DCGAN) -> None:
        super().__init__()
        sizes = pairwise([latent, *hidden])
        self.hidden = nn.Sequential(*(_hidden(a, b, style) for a, b in sizes))
        self.value = linear(hidden[-1], 1, style)

    def forward(self, z: Latents) -> Judgement:
        """Judge codes."""
        features = self.hidden(z)
        return Judgement(self.value(features).flatten().float(), features.float())


# Blocks ----------------------------------------------------------------------------------------


def bounded(image: Images, output: Output) -> Images:
    """The last activation, in float32: bf16 has steps of 1/256 near 1, as coarse as pixels."""
    match output:
        case "sigmoid":
            return torch.sigmoid(image.float())
        case "tanh":
            return torch.tanh(image.float())
        case "linear":
            return image.float()


def convolved(
    inputs: int,
    outputs: int,
    style: Style,
    *,
    kernel: int,
    stride: int = 1,
    norm: bool = True,
) -> nn.Module:
    """Convolution, normalisation, leaky ReLU; the side is kept, or divided by `stride`."""
    norms = _norm(outputs, style) if norm else []
    layer = _drawn(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2, bias=not norms), style
    )
    return nn.Sequential(
        normalised(layer, style.spectral), *norms, _activation(style.slope), *_dropout(style)
    )


def linear(
    inputs: int, outputs: int, style: Style, *, bias: bool = True, inwards: bool = False
) -> nn.Module:
    """A dense layer; `inwards` are those that a style's spectral normalisation is of."""
    layer = _drawn(nn.Linear(inputs, outputs, bias), style)
    return normalised(layer, style.spectral) if inwards else layer


def _down(inputs: int, outputs: int, style: Style, *, first: bool, norm: bool = True) -> nn.Module:
    if style.block == "residual":
        return _residual(inputs, outputs, style, "down", bare=first)
    norm = norm and (style.first_norm or not first)
    return convolved(inputs, outputs, style, kernel=style.kernel, stride=2, norm=norm)


def _up(inputs: int, outputs: int, style: Style) -> nn.Module:
    if style.block == "residual":
        return _residual(inputs, outputs, style, "up")
    norms = _norm(outputs, style)
    layer = _transposed(inputs, outputs, style, bias=not norms)
    return nn.Sequential(layer, *norms, nn.ReLU())


def _to_image(inputs: int, width: int, outputs: int, style: Style) -> nn.Module:
    """Doubles the side for the last time."""
    if style.block == "plain":
        return _transposed(inputs, outputs, style, bias=True)
    return nn.Sequential(
        _residual(inputs, width, style, "up"),
        *_norm(width, style),
        nn.ReLU(),
        _drawn(nn.Conv2d(width, outputs, 3, padding=1), style),
    )


def _residual(
    inputs: int,
    outputs: int,
    style: Style,
    resize: Literal["up", "down"],
    *,
    bare: bool = False,
) -> nn.Module:
    def convolution(kernel: int, a: int, b: int) -> nn.Conv2d:
        layer = _drawn(nn.Conv2d(a, b, kernel, padding=kernel // 2), style)
        return normalised(layer, style.spectral) if resize == "down" else layer

    return ResidualBlock(
        inputs,
        outputs,
        convolution=partial(convolution, 3),
        shortcut=partial(convolution, 1) if inputs != outputs else nn.Identity,
        norm=nn.Identity if style.norm == "none" else lambda channels: _norm(channels, style)[0],
        slope=style.slope if resize == "down" else 0.0,
        resize=resize,
        bare=bare,
    )


def _hidden(inputs: int, outputs: int, style: Style) -> nn.Module:
    """Dense layer, leaky ReLU."""
    layer = linear(inputs, outputs, style, inwards=True)
    return nn.Sequential(layer, _activation(style.slope), *_dropout(style))


def _norm(channels: int, style: Style) -> list[nn.Module]:
    match style.norm:
        case "batch":
            return [nn.BatchNorm2d(channels)]
        case "layer":
            return [nn.GroupNorm(1, channels)]
        case "none":
            return []


def _activation(slope: float) -> nn.Module:
    return nn.LeakyReLU(slope) if slope else nn.ReLU()


def _dropout(style: Style) -> list[nn.Module]:
    return [nn.Dropout(style.dropout)] if style.dropout else []


def _transposed(inputs: int, outputs: int, style: Style, *, bias: bool) -> nn.Module:
    """A transposed convolution that doubles the side."""
    k = style.kernel
    return _drawn(
        nn.ConvTranspose2d(inputs, outputs, k, 2, (k - 1) // 2, output_padding=k % 2, bias=bias),
        style,
    )


def _drawn(layer: Layer, style: Style) -> Layer:
    """The layer with first weights in this style; uses the global random state."""
    if style.std:
        nn.init.normal_(layer.weight, std=style.std)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return layer
