"""Random turn, crop and mirroring of a whole batch, as a pure function of its draws."""

import math

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.core.shapes import PerImage
from onlygood.data.preprocess import to_images, widening


def draws_needed(view: View) -> int:
    """Uniform numbers that `augment` takes for one picture.

    The columns, each there only where its setting is on: turn, left, top, mirror.
    """
    return any(view.rotate) + 2 * (view.tile > 0) + view.flip


def augment(
    pictures: UInt8[Tensor, "N C H W"],
    indices: Int[Tensor, " B"],
    draws: Float[Tensor, "B K"],
    view: View,
) -> Float[Tensor, "B C side side"]:
    """Make what a method sees in training of some of the pictures that are kept.

    - The turn is uniform in `view.rotate` degrees, clockwise, bilinear. Whole pictures repeat
      their edges in the corners; a tile lies where it has none.
    - The crop of `view.tile` pixels is uniform among all places inside the picture; without a
      turn, pixels are copied.
    - Mirroring, of one picture in two, comes last.

    Args:
        pictures: 8 bit, square, `view.size` pixels a side, on any device.
        indices: which of them make the batch.
        draws: uniform on [0, 1), `draws_needed(view)` columns.
        view: what is random, and in which range.

    Raises:
        ShapeError: the number of columns is not `draws_needed(view)`.
    """
    if draws.shape[1] != draws_needed(view):
        raise ShapeError(
            f"augmentation takes {draws_needed(view)} draws a picture, got {draws.shape[1]}"
        )
    columns = iter(draws.unbind(1))
    if any(view.rotate):
        low, high = view.rotate
        angle = torch.deg2rad(low + (high - low) * next(columns))
        # How far what is cut out reaches from its centre, once it is turned.
        reach = view.tile / 2 * (angle.cos().abs() + angle.sin().abs())
        x = y = torch.full_like(angle, view.size / 2)
        if view.tile:
            x, y = (reach + next(columns) * (view.size - 2 * reach) for _ in "xy")
        images = _turned(pictures, indices, angle, x, y, view)
    elif view.tile:
        places = view.size - view.tile + 1
        # A draw close to 1 rounds up to the number of places.
        left, top = ((next(columns) * places).long().clamp(max=places - 1) for _ in "xy")
        images = to_images(_windows(pictures, indices, left, top, view.tile))
    else:
        images = to_images(pictures[indices])
    if view.flip:
        mirror = next(columns) < 0.5
        images = torch.where(mirror[:, None, None, None], images.flip(3), images)
    return images.contiguous(memory_format=torch.channels_last)


def _windows(
    pictures: UInt8[Tensor, "N C H W"],
    indices: Int[Tensor, " B"],
    left: Int[Tensor, " B"],
    top: Int[Tensor, " B"],
    side: int,
) -> UInt8[Tensor, "B C side side"]:
    """Cut the square with this upper left pixel out of each picture."""
    steps = torch.arange(side, device=pictures.device)
    rows, columns = top[:, None, None] + steps[:, None], left[:, None, None] + steps
    return pictures[indices[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def _turned(
    pictures: UInt8[Tensor, "N C H W"],
    indices: Int[Tensor, " B"],
    angle: PerImage,
    x: PerImage,
    y: PerImage,
    view: View,
) -> Float[Tensor, "B C side side"]:
    """Turn each picture about (x, y), in pixels from its corner, and cut `view.side` out there."""
    # All that a turned tile can touch; turning the whole picture for it would be wasteful.
    window = min(view.size, math.ceil(view.side * widening(*view.rotate)) + 3)
    left, top = ((c - window / 2).floor().clamp(0, view.size - window) for c in (x, y))
    images = to_images(_windows(pictures, indices, left.long(), top.long(), window))
    offset = torch.arange(view.side, device=pictures.device) + 0.5 - view.side / 2
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    across, down = offset[None, None, :], offset[None, :, None]
    grid = torch.stack(
        [
            (x - left)[:, None, None] + cos * across + sin * down,
            (y - top)[:, None, None] - sin * across + cos * down,
        ],
        dim=3,
    )
    return functional.grid_sample(
        images,
        grid * (2 / window) - 1,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
