"""Gaussians of frozen features: how unusual what is seen at a place is for that place.

Defard, Setkov, Loesch, Audigier: PaDiM: a Patch Distribution Modeling Framework for Anomaly
Detection and Localization. ICPR workshops 2021, arXiv:2011.08785.

Departures from the paper:
- The backbone is EfficientNet-Lite0 and not a ResNet-18, Wide ResNet-50-2 or EfficientNet-B5: its
  weights come with a package, and it is meant for processors.
- All channels of two layers are used, instead of some that are drawn at random from three.
- Coarse layers are interpolated bilinearly, not repeated.
- One Gaussian for all positions (`positions=all`) tells distances in units of what is usual at each
  position: next to an edge the network sees its own padding, and all distances are larger.
- The score is the mean over the most unusual hundredth of positions; `top=0` gives the maximum.

Departures from the authors' code: none known; none was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import POSITIVE, SHARE, Preset, Settings, number
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Shared, Stage
from onlygood.core.terms import Scores
from onlygood.networks.memory import Memory
from onlygood.networks.patches import PatchFeatures, Positions, Total, Usual, enlarged, top_mean
from onlygood.networks.whitening import whitening


@dataclass(frozen=True, kw_only=True)
class GaussianConfig(Settings):
    """Settings of Gaussians on features."""

    backbone: str = "efficientnet-lite0"
    """Frozen network; see `onlygood.networks.backbones` for others."""
    layers: tuple[str, ...] = ("stride8", "stride16")
    """Where its features are taken; the finer one has the grid."""
    positions: Literal["each", "all"] = "each"
    """One Gaussian for each position of the grid, or one for all."""
    regularisation: float = number(0.01, POSITIVE)
    """Added to the variances (epsilon)."""
    top: float = number(0.01, SHARE)
    """Share of positions, the most unusual ones, whose mean is the score; 0: the maximum."""


@final
class Gaussian(Method):
    """Mean and covariance of features; Mahalanobis' distance from them is the anomaly."""

    config_class = GaussianConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="aligned parts, grey or colour", view={"size": 224}),
        "texture": Preset(
            summary="textures, and parts that move: one Gaussian for all positions",
            config={"positions": "all"},
            view={"size": 512},
        ),
    }

    def __init__(self, config: GaussianConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.features = PatchFeatures(c.backbone, c.layers)
        channels = self.features.channels
        self.mean = Memory(channels)
        self.whitening = Memory(channels, channels, triangular=True)
        self.usual = Usual()

    def stages(self) -> Sequence[Stage]:
        """Stages without updates: each sees the training images once."""
        statistics = Stage(name="statistics", before=Shared(self.measure, self.learn))
        if self.config.positions == "each":
            return [statistics]
        return [statistics, Stage(name="usual", before=Shared(self.gauge, self.settle))]

    def measure(self, images: Batches, first: int) -> "Moments":
        """Moments of the features of some training images, wherever in the pass they are."""
        moments = Moments()
        for x in images:
            moments.add(self._groups(x).double(), len(x))
        return moments

    def learn(self, moments: "Moments") -> None:
        """Keep mean and covariance of the features of all training images; fills the buffers.

        Raises:
            DataError: they are of fewer than two images.
        """
        if moments.images < 2:
            raise DataError(f"covariances need at least 2 training pictures, got {moments.images}")
        self.mean.store(moments.mean)
        # In place: no second array as large.
        covariances = moments.squares.div_(moments.count - 1)
        self.whitening.store(whitening(covariances, self.config.regularisation))

    def gauge(self, images: Batches, first: int) -> Total:
        """Distances of some training images, where one Gaussian is for all positions."""
        total = Total()
        for x in images:
            total.add(self.mahalanobis(x))
        return total

    def settle(self, total: Total) -> None:
        """Keep the distance that is usual at each position."""
        self.usual.store(total.sum, total.images)

    def _groups(self, x: Images) -> Tensor:
        """Features as `(Gaussians, rows, channels)`; rows are images, or images times positions."""
        features = self.features(x).flatten(1, 2).transpose(0, 1)
        return features if self.config.positions == "each" else features.flatten(0, 1)[None]

    def mahalanobis(self, x: Images) -> Positions:
        """`sqrt((f - mu)^T (Sigma + epsilon 1)^-1 (f - mu))` at each position."""
        features = self.features(x)
        rows = features.flatten(1, 2)
        centred = (rows - self.mean.rows).permute(1, 2, 0)
        white = self.whitening.rows @ centred
        return white.square().sum(1).sqrt().T.unflatten(1, features.shape[1:3])

    def score(self, x: Images) -> Scores:
        """Mean over the top positions of Mahalanobis' distance.

        That of one Gaussian for all positions is in units of what is usual at each.
        """
        distances = self.usual(self.mahalanobis(x))
        net, size = self.features.backbone, x.shape[2:]
        return Scores.weighted(
            map=enlarged(distances, *size, stride=net.strides[0], before=net.pads_before),
            distance=(1.0, top_mean(distances, self.config.top)),
        )


@final
class Moments:
    """Mean and squares about it of `(G, n, c)` rows, added up stably; a `Statistics`.

    Source: Chan, Golub, LeVeque 1979, Updating Formulae and a Pairwise Algorithm for Computing
    Sample Variances.
    """

    mean: Float[Tensor, "G c"]
    squares: Float[Tensor, "G c c"]

    def __init__(self) -> None:
        self.images = self.count = 0
        """How many images, and how many rows of each group."""

    def add(self, rows: Float[Tensor, "G n c"], images: int) -> None:
        """Take in the rows of a batch of images."""
        groups, n, channels = rows.shape
        if not self.count:
            self.mean = rows.new_zeros(groups, channels)
            self.squares = rows.new_zeros(groups, channels, channels)
        own = rows.mean(1)
        # The step from mean to mean is one more row: no second array as large as `squares`.
        centred = torch.cat([rows - own[:, None], self._step(own, n, images)], 1)
        self.squares.baddbmm_(centred.mT, centred)

    def merge(self, other: "Moments") -> None:
        """Take in what was found of other images."""
        self.squares += other.squares
        step = self._step(other.mean, other.count, other.images)
        self.squares.baddbmm_(step.mT, step)

    def _step(self, mean: Float[Tensor, "G c"], n: int, images: int) -> Float[Tensor, "G 1 c"]:
        """Count `n` rows with this mean in; gives the row whose square is that of the step."""
        whole = self.count + n
        shift = mean - self.mean
        step = shift * (self.count * n / whole) ** 0.5
        self.mean += shift * (n / whole)
        self.count, self.images = whole, self.images + images
        return step[:, None]

    def tensors(self) -> dict[str, Tensor]:
        """See `Statistics`."""
        counts = torch.tensor([self.count, self.images])
        return {"counts": counts, "mean": self.mean, "squares": self.squares}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Moments":
        """See `Statistics`."""
        moments = cls()
        moments.count, moments.images = tensors["counts"].tolist()
        moments.mean, moments.squares = tensors["mean"], tensors["squares"]
        return moments
