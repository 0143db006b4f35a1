"""The residual networks of CBiGAN for any power-of-two size from 32 up.

Widths are multiples of a unit: 1, 2, 3, 4, 8, 16 (then 16 again for sizes above 128). Layers and
parameter counts follow the authors' notebook; see `docs/methods/cbigan.md`.
"""

import math
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents
from onlygood.networks.convolutional import Judgement, Output, bounded
from onlygood.networks.sizes import halvings_to

SLOPE = 0.2
"""Negative slope of every leaky ReLU."""

Biases = Literal["all", "closing"]
"""`closing`: only in each block's last convolution and the last layer of a network."""


def multipliers(shape: InputShape) -> list[int]:
    """Widths of the blocks, from the image inwards, in units.

    Raises:
        ShapeError: the shape is not square, or its side not a power of two from 32 up.
    """
    return [1, 2, 3, 4, 8, 16] + [16] * max(0, halvings_to(1, shape, "residual") - 7)


class Block(nn.Module):
    """Three convolutions and a 1x1 shortcut: `LReLU(shortcut(x) + main(x))`.

    `up` doubles the side before (bilinear), `down` halves it after (average).
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        up: bool = False,
        down: bool = False,
        biases: Biases = "all",
    ) -> None:
        super().__init__()
        inner = biases == "all"
        self.up, self.down = up, down
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=inner)
        self.first = nn.Conv2d(inputs, outputs, 3, padding=1, bias=inner)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1, bias=inner)
        self.closing = nn.Conv2d(outputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, h, w)` to `(B, outputs, h', w')`."""
        if self.up:
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        main = F.leaky_relu(self.first(x), SLOPE, inplace=True)
        main = F.leaky_relu(self.second(main), SLOPE, inplace=True)
        x = F.leaky_relu(self.shortcut(x) + self.closing(main), SLOPE, inplace=True)
        return F.avg_pool2d(x, 2) if self.down else x


class Trunk(nn.Module):
    """Image to feature vector: the blocks that encoder and critic have in common, flattened."""

    def __init__(self, shape: InputShape, width: int, biases: Biases = "all") -> None:
        super().__init__()
        widths = [shape.channels, *(width * m for m in multipliers(shape))]
        halvings = min(int(math.log2(shape.height)) - 1, len(widths) - 2)
        self.blocks = nn.Sequential(
            *(
                Block(a, b, down=i < halvings, biases=biases)
                for i, (a, b) in enumerate(pairwise(widths))
            )
        )
        side = shape.height >> halvings
        self.features = widths[-1] * side * side

    def forward(self, x: Images) -> Tensor:
        """`(B, C, H, W)` to `(B, features)`."""
        return self.blocks(x).flatten(1)


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent)`, unbounded."""

    def __init__(
        self, shape: InputShape, latent: int = 64, width: int = 16, biases: Biases = "all"
    ) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, biases)
        self.hidden = nn.Linear(self.trunk.features, 16 * width, bias=biases == "all")
        self.code = nn.Linear(16 * width, latent)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(F.leaky_relu(self.hidden(self.trunk(x)), SLOPE)).float()


class Generator(nn.Module):
    """Code to image: `(B, latent)` to `(B, C, H, W)`; `output` bounds it to [0, 1] or [-1, 1].

    These blocks have no normalisation and a large gain: a few steps towards a dark picture can move
    what goes into a sigmoid by a hundred, where its gradient is 0 for good. `linear` cannot die so.
    """

    def __init__(
        self,
        shape: InputShape,
        latent: int = 64,
        width: int = 16,
        biases: Biases = "all",
        output: Output = "sigmoid",
    ) -> None:
        super().__init__()
        widths = [width * m for m in reversed(multipliers(shape))]
        doublings = int(math.log2(shape.height)) - 1
        inner = biases == "all"
        self.start = (widths[0], 2, 2)
        self.dense = nn.Linear(latent, 4 * widths[0], bias=inner)
        self.blocks = nn.Sequential(
            *(
                Block(a, b, up=i >= len(widths) - doublings, biases=biases)
                for i, (a, b) in enumerate(pairwise([widths[0], *widths]))
            )
        )
        self.image = nn.Conv2d(widths[-1], shape.channels, 1)
        self.output = output

    def forward(self, z: Latents) -> Images:
        """Generate images from codes."""
        x = self.blocks(self.dense(z).unflatten(1, self.start))
        return bounded(self.image(x), self.output)


class PairCritic(nn.Module):
    """Judge of pairs (image, code), for Wasserstein or hinge values and logits alike.

    Its features are of both, `(B, 16 width)`, before the activation.
    """

    def __init__(
        self, shape: InputShape, latent: int = 64, width: int = 16, biases: Biases = "all"
    ) -> None:
        super().__init__()
        inner = biases == "all"
        self.trunk = Trunk(shape, width, biases)
        self.latent = nn.Sequential(
            *(
                layer
                for inputs in (latent, 512, 512)
                for layer in (nn.Linear(inputs, 512, bias=inner), nn.LeakyReLU(SLOPE))
            )
        )
        self.joint = nn.Linear(self.trunk.features + 512, 16 * width, bias=inner)
        self.value = nn.Linear(16 * width, 1)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        joint = self.joint(torch.cat([self.trunk(x), self.latent(z)], 1))
        value = self.value(F.leaky_relu(joint, SLOPE))
        return Judgement(value.flatten().float(), joint.float())


def initialise(network: nn.Module, rule: Literal["he", "glorot"]) -> None:
    """Draw all weights anew, zero all biases, as Keras does under the same name.

    `he`: normal of variance 2 / inputs, cut off at two standard deviations; `glorot`: uniform of
    variance 2 / (inputs + outputs). Uses the global random state.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            if rule == "he":
                inputs = module.weight[0].numel()
                # A standard normal cut off at 2 has standard deviation 0.8796.
                std = math.sqrt(2 / inputs) / 0.87962566
                nn.init.trunc_normal_(module.weight, std=std, a=-2 * std, b=2 * std)
            else:
                nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
