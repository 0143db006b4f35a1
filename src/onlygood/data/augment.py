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
) -> Float[Tensor, "B C h w"]:
    """Make what a method sees in training of some of the pictures that are kept.

    - The turn is uniform in `view.rotate` degrees, clockwise, bilinear. Whole pictures repeat
      their edges in the corners; a tile lies where it has none.
    - The crop of `view.tile` pixels is uniform among all places inside the picture; without a
      turn, pixels are copied.
    - Mirroring, of one picture in two, comes last.

    Args:
        pictures: 8 bit, of the canvas of `view`, on any device.
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
        height, width = view.canvas
        x, y = (torch.full_like(angle, side / 2) for side in (width, height))
        if view.tile:
            x, y = (reach + next(columns) * (side - 2 * reach) for side in (width, height))
        images = _turned(pictures, indices, angle, x, y, view)
    elif view.tile:
        down, across = (side - view.tile + 1 for side in view.canvas)
        # A draw close to 1 rounds up to the number of places.
        left, top = ((next(columns) * n).long().clamp(max=n - 1) for n in (across, down))
        images = to_images(_windows(pictures, indices, left, top, view.sides))
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
    sides: tuple[int, int],
) -> UInt8[Tensor, "B C h w"]:
    """Cut the part of so many rows and columns with this upper left pixel out of each picture."""
    down, across = (torch.arange(side, device=pictures.device) for side in sides)
    rows, columns = top[:, None, None] + down[:, None], left[:, None, None] + across
    return pictures[indices[:, None, None], :, rows, columns].permute(0, 3, 1, 2)


def _turned(
    pictures: UInt8[Tensor, "N C H W"],
    indices: Int[Tensor, " B"],
    angle: PerImage,
    x: PerImage,
    y: PerImage,
    view: View,
) -> Float[Tensor, "B C h w"]:
    """Turn each picture about (x, y), in pixels from its corner, and cut `view.sides` out there."""
    # All that a turned tile can touch; turning the whole picture for it would be wasteful.
    most = math.ceil(max(view.sides) * widening(*view.rotate)) + 3
    height, width = (min(side, most) for side in view.canvas)
    left, top = (
        (middle - length / 2).floor().clamp(0, side - length)
        for middle, length, side in ((x, width, view.canvas[1]), (y, height, view.canvas[0]))
    )
    images = to_images(_windows(pictures, indices, left.long(), top.long(), (height, width)))
    down, across = (
        torch.arange(side, device=pictures.device) + 0.5 - side / 2 for side in view.sides
    )
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    across, down = across[None, None, :], down[None, :, None]
    grid = torch.stack(
        [
            (x - left)[:, None, None] + cos * across + sin * down,
            (y - top)[:, None, None] - sin * across + cos * down,
        ],
        dim=3,
    )
    return functional.grid_sample(
        images,
        grid * (2 / grid.new_tensor([width, height])) - 1,
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )
