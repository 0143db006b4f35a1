"""The one owner of what happens between a decoded picture and a network."""

import math
from typing import final

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.data.decode import Pixels

Bytes = UInt8[Tensor, "B C H W"]
"""Preprocessed pictures as they are kept: 8 bit, square."""

SMALLEST_SIDE = 4
"""Pictures narrower or lower than this say nothing worth enlarging."""


@final
class Preprocess:
    """From decoded pictures to `(C, size, size)` bytes, equally in training and in scoring.

    Channels first become those of the view: grey is repeated, RGB becomes luma
    `0.299 R + 0.587 G + 0.114 B` (ITU-R 601). Then the picture is squeezed to a square, with a
    triangle filter that covers the area it shrinks (bilinear with antialiasing); a picture that
    has the size already stays as it is.
    """

    def __init__(self, view: View) -> None:
        check_view(view)
        self.view = view

    def __call__(self, pixels: Pixels, name: str = "picture") -> UInt8[Tensor, "c side side"]:
        """Convert one decoded picture; `name` is for the message.

        Raises:
            DataError: a side is shorter than 4 pixels.
        """
        height, width, channels = pixels.shape
        if min(height, width) < SMALLEST_SIDE:
            raise DataError(
                f"{name}: is {width} x {height}, each side must be {SMALLEST_SIDE} pixels or more; "
                "remove it"
            )
        picture = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
        picture = picture.convert("L" if self.view.channels == 1 else "RGB")
        side = (self.view.size, self.view.size)
        resized = np.array(picture.resize(side, Image.Resampling.BILINEAR))
        return torch.from_numpy(np.atleast_3d(resized)).permute(2, 0, 1).contiguous()


def to_images(pictures: Bytes) -> Images:
    """Bytes to float32 in [0, 1], `x / 255`, channels last in memory."""
    return pictures.to(torch.float32, memory_format=torch.channels_last) / 255


def restore_map(
    heat: Float32[np.ndarray, "h w"], size: tuple[int, int]
) -> Float32[np.ndarray, "H W"]:
    """Bring the map of a preprocessed picture to the picture's own `size` (height, width).

    Bilinear, with antialiasing where it shrinks.
    """
    height, width = size
    return np.array(Image.fromarray(heat).resize((width, height), Image.Resampling.BILINEAR))


def check_view(view: View) -> None:
    """Refuse a view that contradicts itself.

    Raises:
        ConfigError: a field is out of its range, or a turned tile does not fit into the picture.
    """
    if view.size < SMALLEST_SIDE:
        raise ConfigError(f"size must be {SMALLEST_SIDE} or more, got {view.size}")
    if view.channels not in (1, 3):
        raise ConfigError(f"channels must be 1 (grey) or 3 (RGB), got {view.channels}")
    if not (view.tile == 0 or SMALLEST_SIDE <= view.tile <= view.size):
        raise ConfigError(
            f"tile must be 0 (whole pictures) or from {SMALLEST_SIDE} to size {view.size}, got "
            f"{view.tile}"
        )
    if not 0 <= view.overlap <= 0.9:
        raise ConfigError(f"overlap must be in [0, 0.9], got {view.overlap}")
    if view.smooth < 0:
        raise ConfigError(f"smooth must be 0 or more, got {view.smooth}")
    low, high = view.rotate
    if not -360 <= low <= high <= 360:
        raise ConfigError(
            f"rotate must be a range (lowest, highest) in degrees within [-360, 360], got "
            f"{view.rotate}"
        )
    # A turned tile needs room; up to rounding in the sine of a right angle.
    if view.tile * widening(low, high) > view.size * (1 + 1e-9):
        raise ConfigError(
            f"a tile of {view.tile} turned by {low} to {high} degrees does not fit into "
            f"{view.size} pixels; take a size of {math.ceil(view.tile * widening(low, high))} or "
            "more, or rotate less"
        )


def widening(low: float, high: float) -> float:
    """Largest side of the upright square around a unit square turned by `low` to `high` degrees.

    `max_a |cos a| + |sin a|`, which peaks at 45 degrees and every right angle from there.
    """
    peak = 45 + 90 * math.ceil((low - 45) / 90)
    angles = [45.0] if peak <= high else [low, high]
    return max(abs(math.cos(math.radians(a))) + abs(math.sin(math.radians(a))) for a in angles)
