"""From a picture's own size to that of a view, and back. Needs no torch."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.data.decode import Pixels

SMALLEST_SIDE = 4
"""Pictures narrower or lower than this say nothing worth enlarging."""


class Window(NamedTuple):
    """The part of a picture that a view looks at, in pixels of the picture."""

    top: int
    left: int
    height: int
    width: int


def window(size: tuple[int, int], view: View) -> Window:
    """Where in a picture of `size` (height, width) a view looks.

    An odd rest leaves one row, or column, more before the square than behind it.
    """
    height, width = size
    if not view.crop:
        return Window(0, 0, height, width)
    return Window((height - view.crop + 1) // 2, (width - view.crop + 1) // 2, view.crop, view.crop)


def squared(pixels: Pixels, view: View) -> UInt8[np.ndarray, "size size channels"]:
    """A decoded picture in the form that a view has.

    The square in its centre is cut out where the view has a `crop`. Channels become those of the
    view: grey is repeated, RGB becomes luma `0.299 R + 0.587 G + 0.114 B` (ITU-R 601). Then the
    picture is squeezed to a square of `view.size`, with a triangle filter that covers the area it
    shrinks (bilinear with antialiasing); a picture that has the size already stays as it is.

    Args:
        pixels: The picture.
        view: Complete, as `onlygood.data.preprocess.check_view` wants it.

    Raises:
        DataError: a side is shorter than 4 pixels, or than what is to be cut out.
    """
    height, width, channels = pixels.shape
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"is {width} x {height}, each side must be {SMALLEST_SIDE} pixels or more; remove it"
        )
    if min(height, width) < view.crop:
        raise DataError(
            f"is {width} x {height}, too small for the {view.crop} x {view.crop} pixels that "
            f"crop={view.crop} cuts out of its centre; fit with a smaller crop, or remove it"
        )
    seen = window((height, width), view)
    pixels = pixels[seen.top : seen.top + seen.height, seen.left : seen.left + seen.width]
    picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    mode = "L" if view.channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    resized = np.array(picture.resize((view.size, view.size), Image.Resampling.BILINEAR))
    return np.atleast_3d(resized)


def restored(
    values: Float32[np.ndarray, "h w"] | UInt8[np.ndarray, "h w C"],
    size: tuple[int, int],
    view: View,
    shrink: float = 1.0,
) -> Float32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W C"]:
    """Lay what a view has made of a picture over the picture itself: `squared` undone.

    Bilinear, with antialiasing where it shrinks. Outside of what the view looks at it is 0: of a
    map the level of usual pixels, so that nothing is marked where nothing was looked at; black in
    a picture.

    Args:
        values: A map, or a picture.
        size: Height and width of the picture.
        view: How it was seen.
        shrink: Side of the result as a share of the picture's.
    """
    top, left, *inner = (int(shrink * pixels) for pixels in window(size, view))
    height, width = (max(1, pixels) for pixels in inner)
    flat = values[:, :, 0] if values.shape[2:] == (1,) else values
    picture = Image.fromarray(flat).resize((width, height), Image.Resampling.BILINEAR)
    if view.crop:
        height, width = (max(1, int(shrink * pixels)) for pixels in size)
        whole = Image.new(picture.mode, (width, height))
        whole.paste(picture, (left, top))
        picture = whole
    return np.array(picture).reshape(height, width, *values.shape[2:])
