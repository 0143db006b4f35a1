"""What a frozen backbone sees at each position of an image, and what positions say of the image."""

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.shapes import Images, Maps, PerImage
from onlygood.networks.backbones import FeatureMaps, backbone
from onlygood.networks.memory import Memory

Patches = Float[Tensor, "B _ _ _"]
"""`(B, h, w, c)`: c features at each of h x w positions."""

Positions = Float[Tensor, "B _ _"]
"""`(B, h, w)`: one number at each position."""


class SideBySide(nn.Module):
    """Something that puts several grids side by side on the finest, where the network saw them."""

    strides: Tensor

    def __init__(self, steps: Sequence[int], *, before: bool) -> None:
        """Keep where the grids lie.

        Args:
            steps: Positions of the finest grid from one of each grid to the next; 0: stretched.
            before: See `laid`.
        """
        super().__init__()
        self.steps = tuple(steps)
        self.before = before
        self.register_buffer("strides", torch.tensor(self.steps))
        """Of each grid. Older model files have none: there coarse grids are stretched over the
        finest, wherever they end, and what was learnt of them holds for that alone."""

    def side_by_side(self, grids: Sequence[Patches]) -> Patches:
        """See the function of this name."""
        # Not by the numbers in the buffer, which a graph that is exported does not know.
        known = len(self.strides) > 0
        return side_by_side(grids, self.steps if known else (), before=self.before)

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any
    ) -> None:
        stored = state_dict.setdefault(f"{prefix}strides", self.strides.new_zeros(0))
        self.strides = self.strides.new_zeros(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)


@final
class PatchFeatures(SideBySide):
    """Images to the features of several layers, side by side on the grid of the finest."""

    def __init__(self, name: str, layers: Sequence[str], *, averaged: bool = False) -> None:
        """Build the backbone.

        Args:
            name: Of the backbone, see `onlygood.networks.backbones.backbone`.
            layers: Of the backbone.
            averaged: Replace features by their mean over 3 x 3 positions (at edges, over those
                that are there).
        """
        net = backbone(name, layers)
        steps = [stride // net.strides[0] for stride in net.strides]
        super().__init__(steps, before=net.pads_before)
        self.backbone = net
        self.channels = sum(net.channels)
        self.averaged = averaged

    def forward(self, x: Images) -> Patches:
        """Features of each position; those of coarser layers are interpolated bilinearly."""
        maps = self.backbone(x)
        if self.averaged:
            maps = tuple(map(averages, maps))
        return self.side_by_side([m.permute(0, 2, 3, 1) for m in maps])


@final
class Usual(nn.Module):
    """Distances in units of what is usual where they are: 1 is what normal images have there.

    Next to an edge a network sees its own padding, which is unlike any picture, and there distances
    are larger in all images alike. Empty until `store`; until then it changes nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.distances = Memory()

    def store(self, total: Float[Tensor, "h w"], n: int) -> None:
        """Take the sum over `n` normal images at each position.

        The mean of all positions counts as one image more, for where there are few.
        """
        usual = (total + total.mean() / n) / (n + 1)
        self.distances.store(torch.where(usual > 0, usual, 1.0).flatten())

    def forward(self, distances: Positions) -> Positions:
        """Distances at each position, told in what is usual there."""
        if not len(self.distances.rows):
            return distances
        return (distances.flatten(1) / self.distances.rows).view_as(distances)


@final
class Total:
    """Sum over images of what is at each position, in float64; a `Statistics`."""

    sum: Float[Tensor, "h w"]

    def __init__(self) -> None:
        self.images = 0

    def add(self, positions: Positions) -> None:
        """Take in the images of a batch."""
        found = positions.double().sum(0)
        self.sum = self.sum + found if self.images else found
        self.images += len(positions)

    def merge(self, other: "Total") -> None:
        """Take in what was found of other images."""
        self.sum = self.sum + other.sum
        self.images += other.images

    def tensors(self) -> dict[str, Tensor]:
        """See `Statistics`."""
        return {"images": torch.tensor(self.images), "sum": self.sum}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Total":
        """See `Statistics`."""
        total = cls()
        total.images, total.sum = int(tensors["images"]), tensors["sum"]
        return total


def averages(maps: FeatureMaps) -> FeatureMaps:
    """Means over 3 x 3 positions; at edges over those that are there."""
    return F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


def side_by_side(
    grids: Sequence[Patches], steps: Sequence[int] = (), *, before: bool = False
) -> Patches:
    """Several grids as one, on the first: the others are interpolated bilinearly.

    Args:
        grids: Finest first.
        steps: Positions of the first from one of each grid to the next, as `stride` of `laid`;
            none: all are stretched.
        before: See `laid`.
    """
    finest, *others = (grid.permute(0, 3, 1, 2) for grid in grids)
    placed = (
        laid(grid, *finest.shape[2:], stride=step, before=before)
        for grid, step in zip(others, steps[1:] or [0] * len(others), strict=True)
    )
    return torch.cat([finest, *placed], 1).permute(0, 2, 3, 1)


def enlarged(
    positions: Positions, height: int, width: int, *, stride: int = 0, before: bool = False
) -> Maps:
    """Maps of positions as maps of pixels, `(B, height, width)`; the rest as for `laid`."""
    return laid(positions[:, None], height, width, stride=stride, before=before)[:, 0]


def laid(
    grids: FeatureMaps, height: int, width: int, *, stride: int = 0, before: bool = False
) -> FeatureMaps:
    """Grids `(B, c, h, w)` over finer ones, or pixels: bilinear, corners not aligned.

    Args:
        grids: What is laid.
        height: Of the finer ones.
        width: Of the finer ones.
        stride: Finer positions from one to the next, where a side need not be a multiple of them;
            0: grids are stretched over the finer ones.
        before: Whether grids reach beyond the finer ones above and on the left, and end where those
            do; else they begin there.
    """
    rows, columns = (stride * n for n in grids.shape[2:])
    if max(abs(rows - height), abs(columns - width)) >= stride:
        return F.interpolate(grids, (height, width), mode="bilinear")
    whole = F.interpolate(grids, (rows, columns), mode="bilinear")
    top, left = (max(0, rows - height), max(0, columns - width)) if before else (0, 0)
    there = whole[:, :, top : top + height, left : left + width]
    # A network that drops what is left of an odd side tells nothing of the last pixels.
    missing = [0, width - there.shape[3], 0, height - there.shape[2]]
    return F.pad(there, missing, mode="replicate") if any(missing) else there


def top_mean(positions: Positions, share: float) -> PerImage:
    """Mean over the `share` of positions that are largest, at least one: 0 gives the maximum."""
    values = positions.flatten(1)
    return values.topk(max(1, round(share * values.shape[1]))).values.mean(1)
