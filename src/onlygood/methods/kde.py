"""Kernel density estimation on pixels: how thinly normal pictures are spread around a picture.

Parzen: On Estimation of a Probability Density Function and Mode. Annals of Mathematical
Statistics 33(3), 1962. As a baseline on pictures in Ruff et al.: Deep One-Class Classification,
ICML 2018, and Abati et al.: Latent Space Autoregression for Novelty Detection, CVPR 2019.

Departures from the paper: the bandwidth is the one of the twenty of Ruff et al.'s code under which
left-out training pictures are likeliest; Abati et al. do not say what theirs was.

Departures from the authors' code (Ruff et al.'s, of which the presets `svdd` are): principal axes
are used on MNIST too, as their paper says; in the code they are a switch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import NOT_NEGATIVE, PART, TWO_OR_MORE, Preset, Settings, number
from onlygood.core.shapes import Batches, Images, PerImage
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.networks.memory import Memory, Rows, sample
from onlygood.networks.pixels import Preparation

BANDWIDTHS = tuple(2.0 ** (e / 2) for e in range(-9, 11))
"""From 2^-4.5 to 2^5."""

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class KDEConfig(Settings):
    """Settings of kernel density estimation."""

    bandwidth: float = number(0.0, NOT_NEGATIVE)
    """Standard deviation h of the Gaussian kernel; 0: chosen by cross-validation."""
    variance: float = number(1.0, PART)
    """Share of the variance of training pictures that principal axes keep; 1: all pixels."""
    contrast: bool = False
    """Normalise the contrast of each picture, and stretch what training pictures span to [0, 1]."""
    limit: int = number(10_000, TWO_OR_MORE)
    """Training pictures that are kept, at most; of more, a random sample."""


@final
class KDE(Method):
    """A Gaussian around each training picture; where their sum is small is anomalous."""

    config_class = KDEConfig
    localizes = False
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="whole pictures, grey or colour", view={"size": 64}),
        "lsa": Preset(
            summary="as in the LSA paper on MNIST (CIFAR-10: size=32): pixels as they are",
            view={"size": 28},
        ),
        "svdd": Preset(
            summary="as in the Deep SVDD paper on MNIST: principal axes",
            config={"variance": 0.95},
            view={"size": 28},
        ),
        "svdd-cifar": Preset(
            summary="as in the Deep SVDD paper on CIFAR-10: contrast, principal axes",
            config={"variance": 0.95, "contrast": True},
            view={"size": 32},
        ),
    }
    bandwidth: Tensor

    def __init__(self, config: KDEConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.preparation = Preparation(shape, contrast=c.contrast, variance=c.variance)
        self.memory = Memory(None)
        self.register_buffer("bandwidth", torch.tensor(c.bandwidth))

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="density", before=self.keep)]

    def keep(self, images: Batches) -> None:
        """Keep the training images and choose the bandwidth; fills the buffers.

        Raises:
            DataError: fewer than two images, or with principal axes images that are all alike.
        """
        rows = sample(map(self.preparation.raw, images), self.config.limit)
        if len(rows) < 2:
            raise DataError(f"KDE needs at least 2 training pictures, got {len(rows)}")
        rows = self.preparation.measure(rows)
        self.memory.store(rows)
        self.bandwidth.fill_(self.config.bandwidth or likeliest_bandwidth(rows))

    def score(self, x: Images) -> Scores:
        """Negative logarithm of the density, in nats."""
        rows = self.preparation(x)
        densities = [
            log_density(d, self.bandwidth, rows.shape[1]) for d in self.memory.blocks(rows)
        ]
        return Scores.weighted(density=(1.0, -torch.cat(densities)))


def log_density(squared: Rows, bandwidth: Tensor, features: int) -> PerImage:
    """`log mean_j N(x_i; r_j, h^2 1)`, given `||x_i - r_j||^2` and how many numbers a row has."""
    sums = torch.logsumexp(-squared / (2 * bandwidth**2), 1)
    scale = bandwidth.log() + math.log(2 * math.pi) / 2
    return sums - math.log(squared.shape[1]) - features * scale


def likeliest_bandwidth(rows: Rows) -> float:
    """That of `BANDWIDTHS` under which each fifth of the rows is likeliest given the others."""
    totals = torch.zeros(len(BANDWIDTHS), dtype=torch.float64)
    grid = torch.tensor(BANDWIDTHS, device=rows.device)
    rest = Memory(rows.shape[1]).to(rows.device)
    for fold in torch.arange(len(rows)).tensor_split(min(FOLDS, len(rows))):
        rest.store(torch.cat([rows[: fold[0]], rows[fold[-1] + 1 :]]))
        for squared in rest.blocks(rows[fold]):
            for i, bandwidth in enumerate(grid):
                totals[i] += log_density(squared, bandwidth, rows.shape[1]).double().sum().cpu()
    return BANDWIDTHS[int(totals.argmax())]
