"""From a picture's own size to that of a view, and back. Needs no torch."""

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.data.decode import Pixels

SMALLEST_SIDE = 4
"""Pictures narrower or lower than this say nothing worth enlarging."""


def squared(pixels: Pixels, size: int, channels: int) -> UInt8[np.ndarray, "size size channels"]:
    """A decoded picture in the form that a view has.

    Channels first become those of the view: grey is repeated, RGB becomes luma
    `0.299 R + 0.587 G + 0.114 B` (ITU-R 601). Then the picture is squeezed to a square, with a
    triangle filter that covers the area it shrinks (bilinear with antialiasing); a picture that
    has the size already stays as it is.

    Args:
        pixels: The picture.
        size: Side of the square.
        channels: 1 for grey, 3 for RGB.

    Raises:
        DataError: a side is shorter than 4 pixels.
    """
    height, width, _ = pixels.shape
    if min(height, width) < SMALLEST_SIDE:
        raise DataError(
            f"is {width} x {height}, each side must be {SMALLEST_SIDE} pixels or more; remove it"
        )
    picture = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0])
    mode = "L" if channels == 1 else "RGB"
    if picture.mode != mode:
        picture = picture.convert(mode)
    resized = np.array(picture.resize((size, size), Image.Resampling.BILINEAR))
    return np.atleast_3d(resized)


def restore_map(
    heat: Float32[np.ndarray, "h w"], size: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    """Bring the map of a preprocessed picture to the picture's own `size` (height, width).

    Bilinear, with antialiasing where it shrinks.
    """
    height, width = size
    return np.array(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))
