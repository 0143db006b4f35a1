"""The plain autoencoder that papers on textures compare with: convolutions, nothing normalised.

Bergmann et al.: Improving Unsupervised Defect Segmentation by Applying Structural Similarity to
Autoencoders. VISAPP 2019, arXiv:1807.02011, Table 1, for images of 128 px: convolutions of 4x4
halve the side to 8, others of 3x3 keep it, and one of 8x8 makes the code. Widths are 1, 2 and 4
times a unit, there 32. Images of 256 px have one more halving of the first width, as in MVTec AD
(CVPR 2019), those of 64 px one less, and those of 32 px begin with the 3x3 behind these.
First weights are Glorot's, for leaky ReLU: with PyTorch's, biases drown what is in the image.
"""

from itertools import pairwise
from typing import NamedTuple, final

from torch import nn

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents
from onlygood.networks.convolutional import Output, bounded
from onlygood.networks.sizes import halvings_to

SIDE = 8
"""Of the maps that a code is made of."""
SLOPE = 0.2


class Posterior(NamedTuple):
    """A normal distribution with independent entries for the code of each image."""

    mean: Latents
    log_variance: Latents

    def at(self, noise: Latents) -> Latents:
        """The code that standard normal noise stands for, `mean + std noise`.

        Source: Kingma and Welling 2014, arXiv:1312.6114, section 2.4.
        """
        return self.mean + (self.log_variance / 2).exp() * noise


class _Layer(NamedTuple):
    """A convolution on the way to the code."""

    inputs: int
    outputs: int
    halves: bool


def _layers(shape: InputShape, width: int) -> list[_Layer]:
    """All layers but the one that makes the code, which is given `width` channels."""
    outer = halvings_to(SIDE, shape, "bergmann") - 2
    units = [*[1] * outer, 1, 2, 2, 4, 2, 1]
    halves = [*[True] * outer, False, True, False, True, False, False]
    channels = pairwise([shape.channels, *(width * unit for unit in units)])
    return [_Layer(a, b, halved) for (a, b), halved in zip(channels, halves, strict=True)]


@final
class Encoder(nn.Module):
    """Image to numbers, `(B, C, H, W)` to `(B, outputs)`, unbounded."""

    def __init__(self, shape: InputShape, outputs: int, width: int = 32) -> None:
        super().__init__()
        made: list[nn.Module] = []
        for a, b, halves in _layers(shape, width):
            kernel, stride = (4, 2) if halves else (3, 1)
            made += [nn.Conv2d(a, b, kernel, stride, 1), nn.LeakyReLU(SLOPE)]
        self.layers = nn.Sequential(*made, nn.Conv2d(width, outputs, SIDE))
        _draw(self.layers)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.layers(x).flatten(1).float()


@final
class Decoder(nn.Module):
    """Code to image, `(B, latent)` to `(B, C, H, W)`; the encoder mirrored."""

    def __init__(
        self, shape: InputShape, latent: int, width: int = 32, *, output: Output = "sigmoid"
    ) -> None:
        super().__init__()
        made: list[nn.Module] = [nn.ConvTranspose2d(latent, width, SIDE)]
        for b, a, halves in reversed(_layers(shape, width)):
            doubled = nn.ConvTranspose2d(a, b, 4, 2, 1) if halves else None
            made += [nn.LeakyReLU(SLOPE), doubled or nn.Conv2d(a, b, 3, padding=1)]
        self.layers = nn.Sequential(*made)
        _draw(self.layers)
        self.output = output

    def forward(self, z: Latents) -> Images:
        """Give images back."""
        return bounded(self.layers(z[..., None, None]), self.output)


@final
class VariationalEncoder(nn.Module):
    """Image to the distribution of its code: one `Encoder` with twice as many numbers."""

    def __init__(self, shape: InputShape, latent: int, width: int = 32) -> None:
        super().__init__()
        self.both = Encoder(shape, 2 * latent, width)

    def forward(self, x: Images) -> Posterior:
        """Encode images."""
        return Posterior(*self.both(x).chunk(2, 1))


def _draw(layers: nn.Sequential) -> None:
    for layer in layers:
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_uniform_(layer.weight, nn.init.calculate_gain("leaky_relu", SLOPE))
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
