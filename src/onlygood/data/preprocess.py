"""The one owner of what happens between a picture in its view and a network."""

import math

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from onlygood.core.errors import ConfigError
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.data.align import check_alignment
from onlygood.data.resize import SMALLEST_SIDE, counting

Bytes = UInt8[Tensor, "B C H W"]
"""Preprocessed pictures as they are kept: 8 bit, of the canvas of their view."""


def to_bytes(pixels: UInt8[np.ndarray, "h w C"]) -> UInt8[Tensor, "C h w"]:
    """A picture with its channels first."""
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def to_images(pictures: Bytes) -> Images:
    """Bytes to float32 in [0, 1], `x / 255`, channels last in memory."""
    return pictures.to(torch.float32, memory_format=torch.channels_last) / 255


def check_view(view: View) -> None:
    """Refuse a view that contradicts itself.

    Raises:
        ConfigError: a field is out of its range, or a turned tile does not fit into the picture.
    """
    if view.size < SMALLEST_SIDE:
        raise ConfigError(f"size must be {SMALLEST_SIDE} or more, got {view.size}")
    if view.crop and view.crop < SMALLEST_SIDE:
        raise ConfigError(
            f"crop must be 0 (none is cut out) or {SMALLEST_SIDE} or more, got {view.crop}"
        )
    counting(view)  # Refuses a mask that is none, or leaves nothing.
    check_alignment(view)
    if view.channels not in (1, 3):
        raise ConfigError(f"channels must be 1 (grey) or 3 (RGB), got {view.channels}")
    if not (view.tile == 0 or SMALLEST_SIDE <= view.tile <= view.size):
        raise ConfigError(
            f"tile must be 0 (whole pictures) or from {SMALLEST_SIDE} to size {view.size}, got "
            f"{view.tile}"
        )
    if not 0 <= view.overlap <= 0.9:
        raise ConfigError(f"overlap must be in [0, 0.9], got {view.overlap}")
    low, high = view.rotate
    if not -360 <= low <= high <= 360:
        raise ConfigError(
            f"rotate must be a range (lowest, highest) in degrees within [-360, 360], got "
            f"{view.rotate}"
        )
    # A turned tile needs room; up to rounding in the sine of a right angle.
    room = min(view.canvas)
    if view.tile * widening(low, high) > room * (1 + 1e-9):
        least = math.ceil(view.tile * widening(low, high) * view.size / room)
        raise ConfigError(
            f"a tile of {view.tile} turned by {low} to {high} degrees does not fit into "
            f"{room} pixels; take a size of {least} or more, or rotate less"
        )


def check_augmentation(view: View) -> None:
    """Refuse to learn from pictures that are mirrored or turned where one place is hidden.

    Raises:
        ConfigError: what is hidden would come onto what counts.
    """
    counts = counting(view)
    if view.tile or not view.ignore or counts is None:
        return
    if any(view.rotate) or (view.flip and not np.array_equal(counts, counts[:, ::-1])):
        raise ConfigError(
            "ignore hides one place of every picture, and flip and rotate would bring what it "
            "hides onto others that count; leave them out, or give a mask that is its own mirror "
            "image"
        )


def widening(low: float, high: float) -> float:
    """Largest side of the upright square around a unit square turned by `low` to `high` degrees.

    `max_a |cos a| + |sin a|`, which peaks at 45 degrees and every right angle from there.
    """
    peak = 45 + 90 * math.ceil((low - 45) / 90)
    angles = [45.0] if peak <= high else [low, high]
    return max(abs(math.cos(math.radians(a))) + abs(math.sin(math.radians(a))) for a in angles)
