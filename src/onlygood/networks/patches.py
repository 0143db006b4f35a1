"""What a frozen backbone sees at each position of an image, and what positions say of the image."""

from collections.abc import Mapping, Sequence
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.shapes import Images, PerImage
from onlygood.networks.backbones import FeatureMaps, backbone
from onlygood.networks.memory import Memory

Patches = Float[Tensor, "B _ _ _"]
"""`(B, h, w, c)`: c features at each of h x w positions."""

Positions = Float[Tensor, "B _ _"]
"""`(B, h, w)`: one number at each position."""


@final
class PatchFeatures(nn.Module):
    """Images to the features of several layers, side by side on the grid of the finest."""

    def __init__(self, name: str, layers: Sequence[str], *, averaged: bool = False) -> None:
        """Build the backbone.

        Args:
            name: Of the backbone, see `onlygood.networks.backbones.backbone`.
            layers: Of the backbone.
            averaged: Replace features by their mean over 3 x 3 positions (at edges, over those
                that are there).
        """
        super().__init__()
        self.backbone = backbone(name, layers)
        self.channels = sum(self.backbone.channels)
        self.averaged = averaged

    def forward(self, x: Images) -> Patches:
        """Features of each position; those of coarser layers are interpolated bilinearly."""
        maps = self.backbone(x)
        if self.averaged:
            maps = tuple(map(averages, maps))
        return side_by_side([m.permute(0, 2, 3, 1) for m in maps])


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


def side_by_side(grids: Sequence[Patches]) -> Patches:
    """Several grids as one, on the first: the others are interpolated bilinearly."""
    finest, *others = (grid.permute(0, 3, 1, 2) for grid in grids)
    enlarged = (F.interpolate(grid, finest.shape[2:], mode="bilinear") for grid in others)
    return torch.cat([finest, *enlarged], 1).permute(0, 2, 3, 1)


def top_mean(positions: Positions, share: float) -> PerImage:
    """Mean over the `share` of positions that are largest, at least one: 0 gives the maximum."""
    values = positions.flatten(1)
    return values.topk(max(1, round(share * values.shape[1]))).values.mean(1)
