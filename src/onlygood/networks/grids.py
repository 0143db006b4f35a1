"""What is normal of features on grids of positions, and how far from it new ones are.

A short linear code, of how a part lies and of what else varies most, gives back what it can; what
is left is whitened, in blocks of positions, and its length told in units of what is usual there.
`onlygood.methods.reflect` says why.
"""

import warnings
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, final

import torch
from jaxtyping import Float, Int
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.shapes import Latents
from onlygood.networks.memory import Memory
from onlygood.networks.patches import Patches, Positions, SideBySide, Usual
from onlygood.networks.whitening import whitening

Blocks = Float[Tensor, "G _ _"]
"""`(G, N, c)`: c features at each of the N positions of all images that lie in one block of G."""

Motions = Float[Tensor, "6 D"]
"""Changes of the features of all grids side by side; see `GridStatistics.motions`."""

FLAT = 0.05
"""Share of a channel's spread over all positions: features of none are divided by less."""
ALIGNED = 0.1
"""Share of the variance of features that lies between positions, from which parts are aligned."""
PER_AXIS = 4
"""Training pictures for each entry of the code, at least."""
ROUNDING = 1e-4
"""Of the longest axis of motions: no shorter one counts."""
PART = 16
"""Pictures that are whitened at a time."""
LOOKED_AT = 20_000
"""Positions that kinds of ground are found in, at most."""
LEAN = 2_000
"""Positions that the covariance of all counts for in that of a kind."""


class Grid(NamedTuple):
    """What features on one grid are like."""

    channels: int
    finest: float = 0.0
    """No difference finer than this counts as unusual."""
    step: int = 0
    """Positions of the finest grid from one to the next; 0: stretched over it."""


@final
class Distances(SideBySide):
    """From features on grids, finest first, to how unusual each position of the finest one is."""

    def __init__(
        self,
        grids: Sequence[Grid],
        *,
        latent: int,
        block: int,
        kinds: int,
        prior: float,
        regularisation: float,
        doubt: float = 0.0,
        before: bool = False,
    ) -> None:
        """Make empty statistics; `learn` fills them.

        Args:
            grids: What is side by side, finest first.
            latent: Entries k of the code beside six of how a part lies, fewer of few images; there
                is no code where it is 0, or one statistic is for all.
            block: Side of the squares of positions that share a covariance.
            kinds: Of ground that positions are parted into where one statistic is for all: each
                has its own mean and covariance, and the nearest counts.
            prior: Images, for each channel, that the mean covariance of all positions counts for.
            regularisation: Added to the variances of standardised features (epsilon).
            doubt: Added, too, in covariances of each position, divided by the number of images.
            before: Whether coarse grids reach beyond the finest one above and on the left, and end
                where that does; else they begin there.
        """
        super().__init__([grid.step for grid in grids], before=before)
        self.grids = [GridStatistics(grid) for grid in grids]
        self.statistics = nn.ModuleList(self.grids)
        whole = sum(grid.channels for grid in grids)
        self.whitening = Memory(whole, whole, compact=True, triangular=True)
        self.middles = Memory(whole)
        """`W_k mu_k` of each kind; empty where statistics are of each position."""
        self.usual = Usual()
        self.latent = latent
        self.block = block
        self.kinds = kinds
        self.regularisation = regularisation
        self.doubt = doubt
        # The more channels, the more images a covariance needs to be worth more than the mean.
        self.weight = prior * whole
        """Training images, n_0, that the mean over positions counts for."""

    def learn(self, flat: Tensor, forms: Sequence[torch.Size], each: bool) -> None:
        """Take statistics of all that is normal.

        Args:
            flat: `(n, D)`: features of all grids side by side; all that happens to them happens in
                place, so that no second array is as large.
            forms: `(h, w, c)` of each grid.
            each: Statistics of each position; else one for all.
        """
        sizes = [form.numel() for form in forms]
        grids = [
            part.unflatten(1, form) for part, form in zip(flat.split(sizes, 1), forms, strict=True)
        ]
        for statistics, grid in zip(self.grids, grids, strict=True):
            statistics.standardise(grid, each)
        if each:
            if self.latent:
                motions = orthonormal(self.motions(forms))
                self.encode(flat, sizes, motions, min(self.latent, len(flat) // PER_AXIS))
            self.whiten(grids)
        else:
            self.whiten_kinds(grids)
        self.gauge(grids)

    @property
    def of_kinds(self) -> bool:
        """Whether it has learnt kinds of ground, not what is normal at each position."""
        return len(self.middles.rows) > 0

    def motions(self, forms: Sequence[torch.Size]) -> Motions:
        """How features of all grids side by side change where all that is seen moves a little.

        Args:
            forms: `(h, w, c)` of each grid.
        """
        parts = zip(self.grids, forms, self.steps, strict=True)
        return torch.cat([grid.motions(form, step).flatten(1) for grid, form, step in parts], 1)

    def encode(self, flat: Tensor, sizes: Sequence[int], known: Tensor, k: int) -> None:
        """Choose V, and take off what it gives back.

        Args:
            flat: `(n, D)`: standardised features of all grids side by side; changed in place.
            sizes: Of each grid; their sum is D.
            known: Axes that it has in any case, orthonormal, `(_, D)`.
            k: Entries of the code beside them: the leading axes of what they leave.
        """
        flat.addmm_(flat @ known.T, known, alpha=-1)
        found = principal_axes(flat, k)
        flat.addmm_(flat @ found.T, found, alpha=-1)
        axes = torch.cat([known, found])
        for grid, part in zip(self.grids, axes.split(list(sizes), 1), strict=True):
            grid.axes.store(part)

    def whiten(self, rest: Sequence[Patches]) -> None:
        """Take the covariances of blocks of positions, leaning on their mean."""
        n, height, width, _ = rest[0].shape
        block = self._block(height, width)
        counts = blocked(rest[0].new_ones(1, height, width, 1), block).sum((1, 2))
        squares = rest[0].new_zeros(len(counts), *self.whitening.rows.shape[1:])
        for part in zip(*(grid.split(PART) for grid in rest), strict=True):
            rows = blocked(self.side_by_side(part), block)
            squares.baddbmm_(rows.mT, rows)
        # What is left has a mean of 0 at each position.
        freedom = (n - 1) * counts
        covariances = squares.div_(freedom[:, None, None])
        covariances.lerp_(covariances.mean(0, keepdim=True), self.weight / (self.weight + n))
        self.whitening.store(whitening(covariances, self.regularisation + self.doubt / n))

    def whiten_kinds(self, rest: Sequence[Patches]) -> None:
        """Part positions into kinds of ground, and take the mean and the covariance of each.

        Kinds are found by k-means where all positions together are white; their covariances lean
        on that of all, so that a rare kind is no narrower than it must be.
        """
        n, height, width, _ = rest[0].shape
        total = n * height * width
        squares = rest[0].new_zeros(self.whitening.rows.shape[1:])
        drawn = torch.randperm(total, generator=torch.Generator().manual_seed(0))
        drawn = drawn[:LOOKED_AT].sort().values.to(squares.device)
        sample, first = [], 0
        for part in zip(*(grid.split(PART) for grid in rest), strict=True):
            rows = self.side_by_side(part).flatten(0, 2)
            squares.addmm_(rows.T, rows)
            sample.append(rows[drawn[(drawn >= first) & (drawn < first + len(rows))] - first])
            first += len(rows)
        # What is left has a mean of 0 over all.
        common = squares.div_(total - 1)
        rows = torch.cat(sample)
        kind = kinds_of(rows @ whitening(common[None], self.regularisation)[0].T, self.kinds)
        middles, covariances = [], []
        for one in kind.unique():
            own = rows[kind == one]
            middles.append(own.mean(0))
            rest_of_own = own - middles[-1]
            seen = len(own) / len(rows) * total
            covariance = rest_of_own.T @ rest_of_own / len(own)
            covariances.append(covariance.lerp(common, LEAN / (LEAN + seen)))
        self.whitening.store(whitening(torch.stack(covariances), self.regularisation))
        self.middles.store((self.whitening.rows @ torch.stack(middles)[:, :, None])[:, :, 0])

    def gauge(self, rest: Sequence[Patches]) -> None:
        """Take the distance that is usual at each position."""
        n, height, width, _ = rest[0].shape
        total = rest[0].new_zeros(height, width)
        for part in zip(*(grid.split(PART) for grid in rest), strict=True):
            total += self.mahalanobis(part).sum(0)
        self.usual.store(total, n)

    def forward(self, features: Sequence[Patches]) -> Positions:
        """`||W_p (f - G(E(f)))_p|| / u_p` at each position p; f is standardised."""
        return self.usual(self.mahalanobis(self.left(self.standardised(features))))

    def left(self, grids: Sequence[Patches]) -> Sequence[Patches]:
        """`f - G(E(f))`."""
        if not len(self.grids[0].axes.rows):
            return grids  # OpenVINO takes no products with a matrix without rows.
        code = torch.stack(
            [statistics.encoded(own) for statistics, own in zip(self.grids, grids, strict=True)]
        ).sum(0)
        return [
            own - statistics.generated(code, own)
            for statistics, own in zip(self.grids, grids, strict=True)
        ]

    def standardised(self, features: Sequence[Patches]) -> list[Patches]:
        """`(f - mean) / spread` on each grid."""
        return [
            statistics.standardised(own)
            for statistics, own in zip(self.grids, features, strict=True)
        ]

    def mahalanobis(self, rest: Sequence[Patches]) -> Positions:
        """`||W_p r_p||` of what is left, at each position of the finest grid.

        Where ground is of kinds `||W_k (r_p - mu_k)||` of the nearest one.
        """
        whole = self.side_by_side(rest)
        size = whole.shape[1:3]
        matrices = self.whitening.rows
        if self.of_kinds:
            # One after the other: all at once would take so many times the memory.
            squares = (
                (whole @ matrix.T - middle).square().sum(3)
                for matrix, middle in zip(matrices, self.middles.rows, strict=True)
            )
            return reduce(torch.minimum, squares).sqrt()
        block = self._block(*size)
        white = matrices @ blocked(whole, block).mT
        return unblocked(white.square().sum(1), block, size).sqrt()

    def _block(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of a block on a grid of this size: more are not filled up with zeros."""
        return min(self.block, height), min(self.block, width)


@final
class GridStatistics(nn.Module):
    """What is normal on one grid: for each position, or in one row for all of them."""

    def __init__(self, grid: Grid) -> None:
        super().__init__()
        self.finest = grid.finest
        self.mean = Memory(grid.channels)
        self.spread = Memory(grid.channels)
        self.axes = Memory(None, compact=True)

    def standardise(self, grid: Patches, each: bool) -> None:
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

    def standardised(self, grid: Patches) -> Patches:
        """`(f - mean) / spread`."""
        rows = (grid.flatten(1, 2) - self.mean.rows) / self.spread.rows
        return rows.view_as(grid)

    def motions(self, form: torch.Size, step: int) -> Float[Tensor, "6 h w c"]:
        """How standardised features change where all that is seen moves a little.

        The terms of Taylor's series of a shifted mean, up to the second order, and that of a turned
        one, of the first: tangents, as Simard et al. 1993 take them. A grid of fewer than two
        positions a side knows of no motion, nor does one that is stretched: zeros.

        Args:
            form: `(h, w, c)`.
            step: Positions of the finest grid from one to the next.
        """
        height, width, _ = form
        mean = self.mean.rows.view(form)
        if min(height, width) < 2 or not step:
            return mean.new_zeros(6, *form)

        def gradient(of: Float[Tensor, "h w c"]) -> Sequence[Float[Tensor, "h w c"]]:
            return torch.gradient(of, spacing=float(step), dim=(0, 1))

        down, right = gradient(mean)
        (down_twice, both), (_, right_twice) = gradient(down), gradient(right)
        y = step * (torch.arange(height).to(mean) - (height - 1) / 2)[:, None, None]
        x = step * (torch.arange(width).to(mean) - (width - 1) / 2)[:, None]
        turned = y * right - x * down
        found = torch.stack([down, right, turned, down_twice, both, right_twice])
        return found / self.spread.rows.view(form)

    def encoded(self, grid: Patches) -> Latents:
        """This grid's part of `E(f) = V f`."""
        return grid.flatten(1) @ self.axes.rows.T

    def generated(self, code: Latents, grid: Patches) -> Patches:
        """This grid's part of `G(z) = V^T z`, in the form of `grid`."""
        return (code @ self.axes.rows).view_as(grid)


def orthonormal(rows: Motions) -> Float[Tensor, "_ D"]:
    """Axes that span the same, without those that are of rounding alone."""
    _, lengths, axes = torch.linalg.svd(rows, full_matrices=False)
    return axes[lengths > ROUNDING * lengths.max()]


def principal_axes(flat: Tensor, k: int) -> Tensor:
    """The `k` leading ones of rows with a mean of 0, `(n, D)`: `(k, D)`, orthonormal."""
    if not k:
        return flat.new_zeros(0, flat.shape[1])
    # Of such rows the right singular vectors are the principal axes.
    return torch.from_numpy(randomized_svd(flat.cpu().numpy(), k, random_state=0)[2]).to(flat)


def kinds_of(rows: Float[Tensor, "n c"], kinds: int) -> Int[Tensor, " n"]:
    """Which one of at most so many kinds each row is of, by k-means; the same for the same rows."""
    means = KMeans(min(kinds, len(rows)), n_init=1, max_iter=30, random_state=0)
    with warnings.catch_warnings():
        # Of rows that are alike there are fewer kinds.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return torch.from_numpy(means.fit_predict(rows.cpu().numpy())).long().to(rows.device)


def blocked(grid: Patches, block: Sequence[int]) -> Blocks:
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


def aligned(features: Patches) -> bool:
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
    # Chance puts the total's n-th there, and the same part of what is between positions is in that.
    return bool(between - total / len(rows) > ALIGNED * total * (1 - 1 / len(rows)))
