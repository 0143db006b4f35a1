"""From a picture's own size to that of a view, and back. Needs no torch."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from onlygood.core.arrays import maxima
from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.data.align import Pose, aligned, moved
from onlygood.data.decode import Pixels
from onlygood.data.mask import mask_of

SMALLEST_SIDE = 4
"""Pictures narrower or lower than this say nothing worth enlarging."""


class Window(NamedTuple):
    """A part of a picture, in pixels of it."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return (
            slice(self.top, self.top + self.height),
            slice(self.left, self.left + self.width),
        )


def window(size: tuple[int, int], view: View) -> Window:
    """Where in a picture of `size` (height, width) a view looks: its `crop`, or else its `roi`."""
    region = _region(size, view)
    if not view.crop:
        return region
    # An odd rest leaves one row, or column, more before the square than behind it.
    top, left = (
        first + (length - view.crop + 1) // 2
        for first, length in ((region.top, region.height), (region.left, region.width))
    )
    return Window(top, left, view.crop, view.crop)


def _region(size: tuple[int, int], view: View) -> Window:
    """The `roi` of a picture, rounded to whole pixels."""
    (height, width), (left, top, right, bottom) = size, view.roi
    first_row, end_row = (math.floor(share * height + 0.5) for share in (top, bottom))
    first_column, end_column = (math.floor(share * width + 0.5) for share in (left, right))
    return Window(first_row, first_column, end_row - first_row, end_column - first_column)


def content(view: View) -> Window:
    """Where on the canvas of a view the picture lies; around it is padding."""
    (height, width), (rows, columns) = view.shape, view.canvas
    return Window((rows - height) // 2, (columns - width) // 2, height, width)


@lru_cache(maxsize=16)
def counting(view: View) -> Bool[np.ndarray, "H W"] | None:
    """Which pixels of the canvas count; None: all do.

    Not the padding, and none that an ignored pixel would have a share in. Not to be changed.

    Raises:
        ConfigError: none is left.
    """
    counts = np.zeros(view.canvas, bool)
    inside = content(view)
    counts[inside.slices] = True
    if view.ignore:
        mask = mask_of(view.ignore)
        ignored = Image.fromarray(mask[window(mask.shape, view).slices].astype(np.float32))
        share = ignored.resize((inside.width, inside.height), Image.Resampling.BILINEAR)
        counts[inside.slices] &= np.asarray(share) == 0
        if not counts.any():
            raise ConfigError(
                f"ignore leaves nothing to look at, of roi={view.roi} and crop={view.crop} at "
                f"{inside.width} x {inside.height} pixels"
            )
    counts.setflags(write=False)
    return None if counts.all() else counts


def counted(maps: Float32[np.ndarray, "B h w"], view: View) -> Float32[np.ndarray, "B n"]:
    """The values of maps of `View.shape` at the pixels that count."""
    counts = counting(view)
    if counts is None:
        return maps.reshape(len(maps), -1)
    return maps[:, counts[content(view).slices]]


def viewed(
    pixels: Pixels, view: View, pose: Pose | None = None
) -> UInt8[np.ndarray, "h w channels"]:
    """A decoded picture in the form that a view has: its canvas.

    It is turned and shifted to lie as the reference, where it has a pose. What `window` says is
    cut out. Channels become those of the view: grey is repeated, RGB becomes luma
    `0.299 R + 0.587 G + 0.114 B` (ITU-R 601). Then the picture is resized to `View.shape`, with a
    triangle filter that covers the area it shrinks (bilinear with antialiasing); a picture that has
    the size already stays as it is. What does not count, see `counting`, shows the mean colour of
    what does.

    Args:
        pixels: The picture.
        view: Complete, as `onlygood.data.preprocess.check_view` wants it.
        pose: Of `onlygood.data.align.pose_in`.

    Raises:
        DataError: a side is shorter than 4 pixels, or than what is to be cut out, or the picture
            has not the size of the mask in `View.ignore`.
    """
    height, width, channels = pixels.shape
    _check_size((height, width), view)
    if pose is not None:
        pixels = aligned(pixels, pose)
    cut = pixels[window((height, width), view).slices]
    picture = Image.fromarray(cut if channels == 3 else cut[:, :, 0])
    mode = "L" if view.channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    inside, counts = content(view), counting(view)
    resized = picture.resize((inside.width, inside.height), Image.Resampling.BILINEAR)
    if counts is None:
        return np.atleast_3d(np.array(resized))
    canvas = np.zeros((*view.canvas, view.channels), np.uint8)
    canvas[inside.slices] = np.atleast_3d(np.asarray(resized))
    # Rounded in double precision, as the exported graph does it.
    canvas[~counts] = np.floor(canvas[counts].sum(0, dtype=np.int64) / counts.sum() + 0.5)
    return canvas


def _check_size(size: tuple[int, int], view: View) -> None:
    height, width = size
    region = _region(size, view)
    of_roi = "" if region == (0, 0, *size) else f" in its roi, {region.width} x {region.height},"
    if min(region.height, region.width) < SMALLEST_SIDE:
        raise DataError(
            f"is {width} x {height},{of_roi} each side must be {SMALLEST_SIDE} pixels or more; "
            "remove it"
        )
    if min(region.height, region.width) < view.crop:
        raise DataError(
            f"is {width} x {height},{of_roi} too small for the {view.crop} x {view.crop} pixels "
            f"that crop={view.crop} cuts out of its centre; fit with a smaller crop, or remove it"
        )
    if view.ignore and mask_of(view.ignore).shape != size:
        rows, columns = mask_of(view.ignore).shape
        raise DataError(
            f"is {width} x {height}, and the mask of what is ignored {columns} x {rows}; they must "
            "be equal"
        )


def looked_at(
    size: tuple[int, int], view: View, pose: Pose | None = None
) -> Bool[np.ndarray, "H W"]:
    """Which pixels of a picture of `size` (height, width) can have a part in its score."""
    looked = np.zeros(size, bool)
    seen = window(size, view).slices
    looked[seen] = ~mask_of(view.ignore)[seen] if view.ignore else True
    return looked if pose is None else moved(looked.astype(np.uint8), pose) > 0


def restored(
    values: Float32[np.ndarray, "h w"] | UInt8[np.ndarray, "h w C"],
    size: tuple[int, int],
    view: View,
    shrink: float = 1.0,
    pose: Pose | None = None,
) -> Float32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W C"]:
    """Lay what a view has made of a picture over the picture itself: `viewed` undone.

    Bilinear, with antialiasing where the picture is smaller than the view. A map that `shrink`
    makes smaller has maxima, so that no peak is lost by that. Outside of what the view looks at,
    and where it ignores pixels, it is 0: of a map the level of usual pixels, so that nothing is
    marked where nothing was looked at; black in a picture.

    Args:
        values: A map, or a picture, of `View.shape`: without padding.
        size: Height and width of the picture.
        view: How it was seen.
        shrink: Side of the result as a share of the picture's.
        pose: How the part lay in the picture, where the view aligns.
    """
    seen = window(size, view)
    top, left, *inner = (int(shrink * pixels) for pixels in seen)
    height, width = (max(1, pixels) for pixels in inner)
    flat = values[:, :, 0] if values.shape[2:] == (1,) else values
    if shrink < 1 and values.ndim == 2:
        rows, columns = min(seen.height, len(values)), min(seen.width, values.shape[1])
        flat = np.asarray(Image.fromarray(flat).resize((columns, rows), Image.Resampling.BILINEAR))
        flat = maxima(flat, min(height, rows), min(width, columns))
    picture = Image.fromarray(flat).resize((width, height), Image.Resampling.BILINEAR)
    if seen != (0, 0, *size):
        height, width = (max(1, int(shrink * pixels)) for pixels in size)
        whole = Image.new(picture.mode, (width, height))
        whole.paste(picture, (left, top))
        picture = whole
    found = np.array(picture).reshape(height, width, *values.shape[2:])
    if view.ignore:
        ignored = Image.fromarray(mask_of(view.ignore))
        found[np.asarray(ignored.resize((width, height), Image.Resampling.NEAREST))] = 0
    return found if pose is None else moved(found, pose)
