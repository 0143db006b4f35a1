"""Reflect: what a short code cannot give back of frozen features, whitened where it lies.

A method of ours. From the papers of this package come the encoder E and the generator G between
what is seen and a code, here between the features f of an image and the code, and their
consistency: of all linear pairs the one that gives f back best, E = V and G = V^T with orthonormal
rows in V, has E(G(z)) = z for every code z, and G(E(f)) = f for all f that G can make. What is left
of f is compared as PIAD does, standardised, but with the correlations between channels taken into
account: Mahalanobis' distance at each position.

Sources: Baldi and Hornik 1989, Neural Networks and Principal Component Analysis, Neural Networks
2(1) (V is the optimum of linear autoencoders); Defard et al. 2021, arXiv:2011.08785 (a Gaussian of
frozen features for each position); Friedman 1989, Regularized Discriminant Analysis, JASA 84(405)
(covariances that lean on a pooled one); Sherman and Morrison 1950, Annals of Mathematical
Statistics 21(1) (what an inverse would be without one picture).

Departures from the paper: networks beyond the linear pair, a mirrored critic, a penalty on
inconsistent codes, weights by the sizes of gradients, relative distances and distances of the code
are left out, as none of them made it better on all data; docs/frozen.md says by how much.
Departures from the authors' code: there is none.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    Preset,
    Range,
    Settings,
    number,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.losses.perceptual import enlarged
from onlygood.networks.backbones import backbone
from onlygood.networks.memory import Memory, sample
from onlygood.networks.patches import Positions, Usual, averages, side_by_side
from onlygood.networks.whitening import whitening

Grid = Float[Tensor, "B _ _ _"]
"""`(B, h, w, c)`: c features at each of h x w positions."""
Blocks = Float[Tensor, "G _ _"]
"""`(G, N, c)`: c features at each of the N positions of all images that lie in one block of G."""

NUMBERS = 2**27
"""Features of training pictures that are held, at most: 256 MiB in 16 bits."""
FLAT = 0.05
"""Share of a channel's spread over all positions: features of none are divided by less."""
ALIGNED = 0.1
"""Share of the variance of features that lies between positions, from which parts are aligned."""
PER_AXIS = 4
"""Training pictures for each entry of the code, at least."""
TINY = 64
"""Pixels of the longer side up to which pictures are drawings of one thing on an empty ground."""
CONTRAST = 0.15
"""Standard deviation of the pixels of every picture that the network sees, about 0.5."""
FAINT = 1 / 255
"""One grey level: contrast of no more is not blown up, and no less counts as unusual light."""
OWN = 0.95
"""Share of a picture in its own distance, at most."""
PART = 16
"""Pictures that are whitened at a time."""
LEAST = 1e-6
"""Of the regularisation: what divides by its root is kept in 16 bits, which end at 65504."""


@dataclass(frozen=True, kw_only=True)
class ReflectConfig(Settings):
    """Settings of Reflect."""

    backbone: str = "efficientnet-lite0"
    """Frozen network; see `onlygood.networks.backbones` for others."""
    layers: tuple[str, ...] = ("stride8", "stride16a")
    """Where its features are taken; those of one stride are taken together, as one grid."""
    averaged: bool = True
    """Replace features by their mean over 3 x 3 positions (at edges, over those that are there)."""
    positions: Literal["auto", "each", "all"] = "auto"
    """Statistics of each position, or one for all; auto: of each where parts are aligned."""
    latent: int = number(16, NOT_NEGATIVE)
    """Entries k of the code; fewer of few pictures, none with one statistic for all."""
    light: Literal["auto", "evened", "kept"] = "auto"
    """Evened: all pictures are equally bright and rich in contrast; auto: those over 64 px."""
    block: int = number(2, ONE_OR_MORE)
    """Side of the squares of positions that share a covariance."""
    prior: float = number(0.4, NOT_NEGATIVE)
    """Pictures, for each channel, that the mean covariance of all positions counts for at each."""
    regularisation: float = number(0.01, Range("1e-6 or more", lambda v: v >= LEAST))
    """Added to the variances of standardised features (epsilon)."""
    worst: int = number(24, ONE_OR_MORE)
    """Positions of the finest grid, the most unusual ones, whose mean is the score."""


@final
class Reflect(Method):
    """A linear encoder and generator of frozen features; what they leave is whitened."""

    config_class = ReflectConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(
            summary="`tiny` for pictures up to 64 px, else `object`", view={"size": 0}
        ),
        "object": Preset(summary="parts and textures, grey or colour", view={"size": 224}),
        "tiny": Preset(summary="pictures of about 28 px", view={"size": 48}),
        "texture": Preset(
            summary="textures, and parts that lie anyhow: one statistic for all positions",
            config={"positions": "all"},
            view={"size": 448},
        ),
    }

    def __init__(self, config: ReflectConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.backbone = backbone(c.backbone, c.layers)
        layers = list(zip(self.backbone.strides, self.backbone.channels, strict=True))
        self.evened = c.light == "evened" or (
            c.light == "auto" and max(shape.height, shape.width) > TINY
        )
        """Whether the network sees all pictures equally bright and rich in contrast."""
        self.grids = [
            GridStatistics(sum(channels for _, channels in group))
            for _, group in groupby(layers, key=lambda layer: layer[0])
        ]
        """One for each stride, finest first, and one for light."""
        if self.evened:
            self.grids.append(GridStatistics(2, finest=FAINT))
        self.statistics = nn.ModuleList(self.grids)
        whole = sum(grid.channels for grid in self.grids)
        self.whitening = Memory(whole, whole, compact=True, triangular=True)
        self.usual = Usual()
        numbers = sum(
            math.ceil(shape.height / stride) * math.ceil(shape.width / stride) * channels
            for stride, channels in layers
        )
        self.room = max(2, NUMBERS // numbers)
        """Training pictures whose features are held, at most."""
        # The more channels, the more pictures a covariance needs to be worth more than the mean.
        self.weight = c.prior * whole
        """Training pictures, n_0, that the mean over positions counts for."""

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="statistics", before=self.measure)]

    def features(self, x: Images) -> list[Grid]:
        """Features f of images, a grid for each stride, finest first.

        Where light is evened, what it was is the last grid, of one position: mean and standard
        deviation of all pixels.
        """
        light: list[Grid] = []
        if self.evened:
            mean = x.mean((1, 2, 3), keepdim=True)
            std = (x - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
            light = [torch.cat([mean, std], 3)]
            x = 0.5 + CONTRAST * (x - mean) / (std + FAINT)
        found = self.backbone(x)
        if self.config.averaged:
            found = tuple(map(averages, found))
        maps = zip(self.backbone.strides, found, strict=True)
        grids = [
            torch.cat([features for _, features in group], 1).permute(0, 2, 3, 1)
            for _, group in groupby(maps, key=lambda layer: layer[0])
        ]
        return grids + light

    def measure(self, images: Batches) -> None:
        """Learn what the features of normal images are like; fills the buffers.

        Memory does not grow: of more images than there is room for a random sample counts.

        Raises:
            DataError: fewer than two images.
        """
        c = self.config
        forms: list[torch.Size] = []

        def flattened() -> Iterator[Tensor]:
            for x in images:
                grids = self.features(x)
                forms[:] = [grid.shape[1:] for grid in grids]
                yield torch.cat([grid.flatten(1) for grid in grids], 1).half()

        kept = sample(flattened(), self.room)
        if len(kept) < 2:
            raise DataError(
                f"covariances need at least 2 training pictures, got {len(kept)}; give more"
            )
        # All that follows happens in place: no second array is as large.
        flat = kept.float()
        del kept
        sizes = [form.numel() for form in forms]
        grids = [
            part.unflatten(1, form) for part, form in zip(flat.split(sizes, 1), forms, strict=True)
        ]
        each = c.positions == "each" or (c.positions == "auto" and aligned(grids[0]))
        for grid, own in zip(self.grids, grids, strict=True):
            grid.standardise(own, each)
        self.encode(flat, sizes, min(c.latent, len(flat) // PER_AXIS) if each else 0)
        self.whiten(grids, each)
        self.gauge(grids, each)

    def encode(self, flat: Tensor, sizes: Sequence[int], k: int) -> None:
        """Choose V, the k leading axes of all grids together, and take off what they give back.

        Args:
            flat: `(n, D)`: standardised features of all grids side by side; changed in place.
            sizes: Of each grid; their sum is D.
            k: Entries of the code.
        """
        axes = principal_axes(flat, k)
        for grid, part in zip(self.grids, axes.split(list(sizes), 1), strict=True):
            grid.axes.store(part)
        flat.addmm_(flat @ axes.T, axes, alpha=-1)

    def whiten(self, rest: Sequence[Grid], each: bool) -> None:
        """Take the covariances of blocks of positions, leaning on their mean, or one of all."""
        c = self.config
        n, height, width, _ = rest[0].shape
        block = (c.block, c.block) if each else (height, width)
        counts = blocked(rest[0].new_ones(1, height, width, 1), block).sum((1, 2))
        squares = rest[0].new_zeros(len(counts), *self.whitening.rows.shape[1:])
        for part in zip(*(grid.split(PART) for grid in rest), strict=True):
            rows = blocked(side_by_side(part), block)
            squares.baddbmm_(rows.mT, rows)
        # What is left has a mean of 0, at each position or over all.
        freedom = n * counts - (counts if each else 1)
        covariances = squares.div_(freedom[:, None, None])
        covariances.lerp_(covariances.mean(0, keepdim=True), self.weight / (self.weight + n))
        self.whitening.store(whitening(covariances, c.regularisation))

    def gauge(self, rest: Sequence[Grid], each: bool) -> None:
        """Take the distance that is usual at each position.

        An image that a covariance was learned from lies nearer than it would otherwise. One of the
        `N = n + n_0` that make it, at distance d, would be at `d / sqrt(1 - d^2 / N)` without it
        (Sherman and Morrison 1950).
        """
        n, height, width, _ = rest[0].shape
        makers = self.weight + n if each else n * height * width
        total = rest[0].new_zeros(height, width)
        for part in zip(*(grid.split(PART) for grid in rest), strict=True):
            squares = self.mahalanobis(part).square()
            own = (squares / makers).clamp_max(OWN)
            total += (squares / (1 - own)).sqrt().sum(0)
        self.usual.store(total, n)

    def score(self, x: Images) -> Scores:
        """Mean over the worst positions p of `||W_p (f - G(E(f)))_p|| / u_p`; f is standardised."""
        grids = [
            grid.standardised(own) for grid, own in zip(self.grids, self.features(x), strict=True)
        ]
        code = torch.stack(
            [grid.encoded(own) for grid, own in zip(self.grids, grids, strict=True)]
        ).sum(0)
        rest = [
            own - grid.generated(code, own) for grid, own in zip(self.grids, grids, strict=True)
        ]
        distances = self.usual(self.mahalanobis(rest))
        return Scores.weighted(
            map=enlarged(distances, *x.shape[2:]), distance=(1.0, self.pooled(distances))
        )

    def mahalanobis(self, rest: Sequence[Grid]) -> Positions:
        """`||W_p r_p||` of what is left, at each position of the finest grid."""
        whole = side_by_side(rest)
        size = whole.shape[1:3]
        matrices = self.whitening.rows
        block = (self.config.block, self.config.block) if len(matrices) > 1 else size
        white = matrices @ blocked(whole, block).mT
        return unblocked(white.square().sum(1), block, size).sqrt()

    def pooled(self, distances: Positions) -> PerImage:
        """Mean over the worst positions."""
        flat = distances.flatten(1)
        return flat.topk(min(self.config.worst, flat.shape[1])).values.mean(1)


@final
class GridStatistics(nn.Module):
    """What is normal on one grid: for each position, or in one row for all of them."""

    def __init__(self, channels: int, *, finest: float = 0.0) -> None:
        """Make empty statistics; no difference finer than `finest` counts as unusual."""
        super().__init__()
        self.channels = channels
        self.finest = finest
        self.mean = Memory(channels)
        self.spread = Memory(channels)
        self.axes = Memory(None, compact=True)

    def standardise(self, grid: Grid, each: bool) -> None:
        """Take means and spreads, and standardise in place: PIAD's Eq. 3, by position."""
        rows = grid.flatten(1, 2)
        over = 0 if each else (0, 1)
        mean, spread = rows.mean(over), rows.std(over, correction=0)
        mean, spread = (values.view(-1, rows.shape[2]) for values in (mean, spread))
        # Where a channel is nearly constant, a position must not outvote all others.
        spread = (spread + FLAT * spread.square().mean(0).sqrt()).clamp_min(self.finest)
        self.mean.store(mean)
        self.spread.store(torch.where(spread > 0, spread, 1.0))
        rows.sub_(self.mean.rows).div_(self.spread.rows)

    def standardised(self, grid: Grid) -> Grid:
        """`(f - mean) / spread`."""
        rows = (grid.flatten(1, 2) - self.mean.rows) / self.spread.rows
        return rows.view_as(grid)

    def encoded(self, grid: Grid) -> Latents:
        """This grid's part of `E(f) = V f`."""
        return grid.flatten(1) @ self.axes.rows.T

    def generated(self, code: Latents, grid: Grid) -> Grid:
        """This grid's part of `G(z) = V^T z`, in the form of `grid`."""
        return (code @ self.axes.rows).view_as(grid)


def principal_axes(flat: Tensor, k: int) -> Tensor:
    """The `k` leading ones of rows with a mean of 0, `(n, D)`: `(k, D)`, orthonormal."""
    if not k:
        return flat.new_zeros(0, flat.shape[1])
    # Of such rows the right singular vectors are the principal axes.
    return torch.from_numpy(randomized_svd(flat.cpu().numpy(), k, random_state=0)[2]).to(flat)


def blocked(grid: Grid, block: Sequence[int]) -> Blocks:
    """Positions by the blocks, of so many rows and columns, that they lie in.

    Where the grid ends within a block, zeros take the places that are missing.
    """
    (height, width), (rows, columns) = grid.shape[1:3], block
    whole = F.pad(grid, (0, 0, 0, -width % columns, 0, -height % rows))
    parts = whole.unflatten(2, (-1, columns)).unflatten(1, (-1, rows))
    return parts.permute(1, 3, 0, 2, 4, 5).flatten(2, 4).flatten(0, 1)


def unblocked(values: Float[Tensor, "G _"], block: Sequence[int], size: Sequence[int]) -> Positions:
    """One number of each position, as `blocked` put them, back on a grid of this size."""
    (rows, columns), (height, width) = block, size
    parts = values.unflatten(1, (-1, rows, columns)).unflatten(0, (-1, -(-width // columns)))
    return parts.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2)[:, :height, :width]


def aligned(features: Grid) -> bool:
    """Whether it matters where on the picture something is: parts that all lie alike.

    From the share of the variance of features that lies between positions, less what chance puts
    there, one n-th. An eighth of the grid at each edge is left out: there features differ in any
    picture, as the network sees nothing beyond.
    """
    height, width = features.shape[1:3]
    top, left = (max(1, side // 8) if side > 2 else 0 for side in (height, width))
    rows = features[:, top : height - top, left : width - left].flatten(1, 2)
    total = rows.var((0, 1), correction=0).sum()
    between = rows.mean(0).var(0, correction=0).sum()
    return bool(between - total / len(rows) > ALIGNED * total)
