"""Deep SVDD: a network that maps normal images close to one point, in a sphere as small as can be.

Ruff et al.: Deep One-Class Classification. ICML 2018. Equation numbers are the paper's.

Departures from the paper:
- Images of any side: further blocks for larger ones; the two networks of the paper are presets.
- How long the stages are is a share of the run's budget, and so is when rates fall: `epochs=500`
  and the defaults are its 350 and 150 on CIFAR-10.

Departures from the authors' code:
- The range after contrast normalisation is measured on the training images; theirs is written
  down, for each class of MNIST and CIFAR-10.
- An entry of the centre that is exactly 0 is moved to 0.1 like those close to it; theirs stays 0,
  where a unit that is always off would satisfy it.
- The weights of MNIST's network, too, are drawn by Glorot's rule, as those of CIFAR-10's are.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    PART,
    POSITIVE,
    SHARE,
    Preset,
    Range,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l2_sum, relative_spread
from onlygood.networks.pixels import normalised

SIDE = 4
"""Of the maps that the decoder makes of a code."""
LEAST = 0.1
"""No entry of the centre is closer to 0, where all weights 0 would be a solution."""
SLOPE = 0.01


@dataclass(frozen=True, kw_only=True)
class DeepSVDDConfig(Settings):
    """Settings of Deep SVDD; the defaults are the paper's on CIFAR-10."""

    objective: Literal["one_class", "soft_boundary"] = "one_class"
    """All distances count, Eq. 4; or the radius, and what lies beyond it, Eq. 3."""
    nu: float = number(0.1, PART)
    """Share nu of training pictures that may lie outside of a soft boundary, Eq. 3."""
    warmup_epochs: int = number(10, NOT_NEGATIVE)
    """Passes in which the radius of a soft boundary stays 0; a shorter run has a hard one."""
    contrast: bool = True
    """Normalise the contrast of each picture, and stretch what training pictures span to [0, 1]."""
    widths: tuple[int, ...] = number((32, 64, 128), ONE_OR_MORE)
    """Channels of each block, a convolution of 5x5 and a halving of the side."""
    latent: int = number(128, Range("a multiple of 16", lambda v: v > 0 and v % SIDE**2 == 0))
    """Size of the code."""
    code_norm: bool = True
    """Whether the decoder normalises codes first; MNIST's does not."""
    pretraining: float = number(0.7, BELOW_ONE)
    """Share of the budget in which the network is part of an autoencoder; 0: it is never."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of both stages."""
    drops: tuple[float, float] = number((5 / 7, 1 / 3), SHARE)
    """Shares of the two stages from which on the learning rate is a tenth."""
    pretraining_weight_decay: float = number(5e-7, NOT_NEGATIVE)
    """L2 penalty of pretraining."""
    weight_decay: float = number(5e-7, NOT_NEGATIVE)
    """L2 penalty lambda of Eq. 3 and 4."""


class Encoder(nn.Module):
    """Image to code phi(x), `(B, C, H, W)` to `(B, latent)`.

    No bias and no learnt shift anywhere: with one, the network could give every image the centre.
    """

    def __init__(self, shape: InputShape, latent: int, widths: Sequence[int]) -> None:
        super().__init__()
        blocks = [
            nn.Sequential(
                nn.Conv2d(a, b, 5, padding=2, bias=False),
                nn.BatchNorm2d(b, eps=1e-4, affine=False),
                nn.LeakyReLU(SLOPE),
                nn.MaxPool2d(2),
            )
            for a, b in pairwise([shape.channels, *widths])
        ]
        self.blocks = nn.Sequential(*blocks)
        side = shape.height >> len(widths)
        self.code = nn.Linear(widths[-1] * side**2, latent, bias=False)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return self.code(self.blocks(x).flatten(1)).float()


class Decoder(nn.Module):
    """Code to image in [0, 1]; it serves to pretrain the encoder alone."""

    def __init__(
        self, shape: InputShape, latent: int, widths: Sequence[int], code_norm: bool
    ) -> None:
        super().__init__()
        channels = [latent // SIDE**2, *widths[::-1], shape.channels]
        doublings = math.ceil(math.log2(shape.height / SIDE))
        layers: list[nn.Module] = []
        for i, (a, b) in enumerate(pairwise(channels)):
            left = len(widths) - i
            if left < doublings:
                layers.append(nn.Upsample(scale_factor=2))
            # 28 px are twice 14, not 16: what is too much is cut off before the last doubling.
            margin = (SIDE * 2**doublings - shape.height) // 4 if left == 1 else 0
            layers.append(nn.ConvTranspose2d(a, b, 5, padding=2 + margin, bias=False))
            if left:
                layers += [nn.BatchNorm2d(b, eps=1e-4, affine=False), nn.LeakyReLU(SLOPE)]
        norm = nn.BatchNorm1d(latent, eps=1e-4, affine=False) if code_norm else nn.Identity()
        self.code = nn.Sequential(norm, nn.Unflatten(1, (-1, SIDE, SIDE)), nn.LeakyReLU(SLOPE))
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Latents) -> Images:
        """Give images back."""
        return torch.sigmoid(self.layers(self.code(z)).float())


# Less than the paper's networks, faster, by time; above PCA on clothes to choose on at first try.
_OURS = {"widths": (16, 32, 64), "latent": 32, "lr": 1e-3, "pretraining": 0.5}
_MNIST = {
    "widths": (8, 4),
    "latent": 32,
    "code_norm": False,
    "pretraining": 0.5,
    "drops": (1 / 3, 1 / 3),
    "pretraining_weight_decay": 5e-4,
}
_MNIST_LENGTH = {"epochs": 300, "batch_size": 200}
_CIFAR_LENGTH = {"epochs": 500, "batch_size": 200}


@final
class DeepSVDD(Method):
    """Encoder whose codes of normal images are close to a centre."""

    config_class = DeepSVDDConfig
    localizes = False
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "mnist": Preset(
            summary="as in its paper on MNIST",
            config=_MNIST,
            view={"size": 28},
            training=_MNIST_LENGTH,
        ),
        "cifar10": Preset(
            summary="as in its paper on CIFAR-10", view={"size": 32}, training=_CIFAR_LENGTH
        ),
        "ama-mnist": Preset(
            summary="as the AMA paper ran it on MNIST and Fashion-MNIST: contrast as it is",
            config={**_MNIST, "contrast": False},
            view={"size": 28},
            training=_MNIST_LENGTH,
        ),
        "ama-cifar10": Preset(
            summary="as the AMA paper ran it on CIFAR-10 and SVHN: contrast as it is",
            config={"contrast": False},
            view={"size": 32},
            training=_CIFAR_LENGTH,
        ),
    }
    low: Tensor
    high: Tensor
    centre: Tensor
    radius: Tensor

    def __init__(self, config: DeepSVDDConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        _check(shape, len(c.widths))
        self.encoder = Encoder(shape, c.latent, c.widths)
        self.decoder = (
            Decoder(shape, c.latent, c.widths, c.code_norm) if c.pretraining > 0 else None
        )
        for weight in self.parameters():
            nn.init.xavier_uniform_(weight, nn.init.calculate_gain("leaky_relu", SLOPE))
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))
        self.register_buffer("centre", torch.zeros(c.latent))
        self.register_buffer("radius", torch.tensor(0.0))

    def rescaled(self, x: Images) -> Images:
        """Images of normalised contrast, of which those to train on span [0, 1]."""
        if not self.config.contrast:
            return x
        return (normalised(x).view_as(x) - self.low) / (self.high - self.low)

    def distance(self, x: Images) -> PerImage:
        """`||phi(x) - c||^2`."""
        return (self.encoder(self.rescaled(x)) - self.centre).square().sum(1)

    def reconstruction_loss(self, batch: Batch) -> Loss:
        """Squared error of the autoencoder, section 4.1."""
        assert self.decoder is not None  # Of whoever trains it.
        x = self.rescaled(batch.normal)
        z = self.encoder(x)
        x_hat = self.decoder(z)
        return Loss.weighted(reconstruction=(1.0, l2_sum(x, x_hat))).watching(
            code_spread=relative_spread(z), reconstruction_spread=relative_spread(x_hat, x)
        )

    def sphere_loss(self, batch: Batch) -> Loss:
        """Eq. 4: distances from the centre. Eq. 3: the sphere, and what lies beyond it."""
        c, d = self.config, self.distance(batch.normal)
        if c.objective == "one_class":
            return Loss.weighted(distance=(1.0, d))
        # A copy, as the radius moves below, before gradients are taken.
        squared = self.radius.square()
        loss = Loss.weighted(radius=(1.0, squared), outside=(1 / c.nu, F.relu(d - squared)))
        if batch.progress.epoch >= c.warmup_epochs:
            # Section 3.3: between two steps, the radius that leaves the share nu outside.
            self.radius.copy_(batch.whole(d.detach()).sqrt().quantile(1 - c.nu))
        return loss.watching(distance=d)

    def stages(self) -> Sequence[Stage]:
        """Pretraining as an autoencoder, then the sphere around the mean of the codes."""
        c = self.config
        before, then = (Schedule(shares=(drop,)) for drop in c.drops)
        stages = [Stage(name="contrast", before=self.measure)]
        if self.decoder is not None:
            stages.append(
                Stage(
                    name="pretraining",
                    share=c.pretraining,
                    updates=[
                        Update(
                            name="autoencoder",
                            trains=(self.encoder, self.decoder),
                            loss=self.reconstruction_loss,
                            optimizer=Adam(
                                lr=c.lr, weight_decay=c.pretraining_weight_decay, schedule=before
                            ),
                        )
                    ],
                )
            )
        sphere = Stage(
            name="sphere",
            share=1 - c.pretraining,
            before=self.settle,
            updates=[
                Update(
                    name="encoder",
                    trains=(self.encoder,),
                    loss=self.sphere_loss,
                    optimizer=Adam(lr=c.lr, weight_decay=c.weight_decay, schedule=then),
                )
            ],
        )
        return [*stages, sphere]

    def measure(self, images: Batches) -> None:
        """Find what the training images span once their contrast is normalised."""
        if not self.config.contrast:
            return
        ends = [normalised(x).aminmax() for x in images]
        self.low.copy_(torch.stack([end.min for end in ends]).min())
        self.high.copy_(torch.stack([end.max for end in ends]).max())
        # Of constant images nothing remains: no stretching then.
        if self.high == self.low:
            self.high += 1

    def settle(self, images: Batches) -> None:
        """Section 4.1: the centre is the mean code of the training images, away from 0."""
        codes = [self.encoder(self.rescaled(x)) for x in images]
        mean = torch.cat(codes).mean(0)
        sign = torch.where(mean < 0, -1.0, 1.0)
        self.centre.copy_(sign * mean.abs().clamp_min(LEAST))

    def score(self, x: Images) -> Scores:
        """Eq. 5: squared distance from the centre, less that of a soft boundary."""
        d = self.distance(x)
        return Scores(d - self.radius.square(), {"distance": d})


def _check(shape: InputShape, blocks: int) -> None:
    """Refuse images that the decoder cannot make.

    Raises:
        ShapeError: they are not square, of another side than a multiple of 4 from 8 up, or too
            large for so many blocks.
    """
    side = shape.height
    if side != shape.width or side % SIDE or side < 2 * SIDE:
        raise ShapeError(
            f"deep_svdd needs square images with a side that is a multiple of 4, at least 8; got "
            f"{side} x {shape.width}; set size=32 or size=64"
        )
    if not 2**blocks <= side <= SIDE * 2 ** (blocks + 1):
        enough = max(1, math.ceil(math.log2(side / SIDE)) - 1)
        example = ",".join(str(32 * min(2**i, 4)) for i in range(enough))
        raise ShapeError(
            f"{blocks} blocks are for images of {2**blocks} to {SIDE * 2 ** (blocks + 1)} px, got "
            f"{side}; name more or fewer widths, for example widths={example}"
        )
