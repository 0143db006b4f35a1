"""Heat maps on one scale for all pictures: 0 = normal median, 1 = pixel threshold.

The scale never depends on the picture, so a normal picture stays quiet and two pictures can be
compared. The colours are `plasma`: even steps for the eye, and for colour-blind eyes.

The score decides, the map shows where. A region is outlined only in a picture that is not called
normal; one that is, without a region, is unusual as a whole (`found_in`).
"""

import base64
import functools
import io
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageFilter

from onlygood.core.arrays import maxima
from onlygood.core.errors import ShapeError
from onlygood.core.files import replacing

Picture = UInt8[np.ndarray, "H W C"]
"""Grey (C = 1) or RGB (C = 3) values in 0..255."""

HeatMap = Float[np.ndarray, "h w"]
"""One number for each pixel; 0 = normal median, 1 = pixel threshold."""

QUIET = 0.5
"""Up to here a map is invisible."""

TOP = 2.0
"""From here on the colour stays the same."""

PLASMA = (
    "0c0786 310496 4c02a1 6500a7 7e03a7 9511a1 a92395 bb3586 cb4777 "
    "d8586a e56b5c ef7e4e f79341 fcaa33 fdc328 f8dd24 eff821"
).split()
"""Seventeen of the colours of `plasma`, evenly spaced: what lies between differs by 5 of 255."""

FAINT, STRONG = 48, 88
"""Opacity, of 255, just below the pixel threshold and from it on: what lies below stays visible."""

OUTLINE = (0, 190, 220)
"""RGB of the rim of a region: none of `plasma`, and seen on grey, brick, wood and white."""

REACHED = 0.95
"""From here on a region is outlined, where the decision asks for one. Interpolation to a picture's
size takes up to 4.3 % off the sharpest peak that `View.smooth` leaves of a map of 224 px, and one
that reaches the threshold must not lose its region."""

_BELOW = float(np.nextafter(np.float32(REACHED), np.float32(0)))
"""The largest level that is not outlined."""


def may_outline(decision: str) -> bool:
    """Whether a decision asks for an outline around what its map marks."""
    return decision in ("unsure", "anomalous")


def found_in(decision: str, map: HeatMap | None) -> Literal["region", "whole picture"] | None:
    """Where a picture is unusual: in a region that is outlined, or as a whole.

    None where it is called normal, or there is no map.
    """
    if map is None or not may_outline(decision):
        return None
    return "region" if (np.asarray(map) >= REACHED).any() else "whole picture"


def colourise(map: HeatMap, *, outline: bool = True) -> Image.Image:
    """Colour a map: RGBA, `(h, w)`; transparent up to `QUIET`, outlined from `REACHED` on.

    Values above `TOP` look like `TOP`; a NaN is transparent. Without `outline`, for a picture that
    is called normal, values from there on look like those just below.
    """
    top = TOP if outline else _BELOW
    level = np.nan_to_num(np.asarray(map, np.float32), nan=0.0).clip(0.0, top)
    hot = level >= REACHED
    rgba = _palette()[(level * (255 / TOP)).astype(np.uint8)]
    rgba[hot, 3] = STRONG
    rgba[_outline(hot)] = (*OUTLINE, 255)
    return Image.fromarray(rgba)


def overlay(
    picture: Picture, map: HeatMap, *, opacity: float = 1.0, outline: bool = True
) -> Image.Image:
    """Lay a coloured map over its picture: RGB, in the picture's size.

    A map of another size is stretched to the picture (see `fit_map`). `opacity` in [0, 1]
    multiplies that of `colourise`, which `outline` is for.

    Raises:
        ShapeError: the picture is neither grey nor RGB.
        ValueError: `opacity` is not in [0, 1].
    """
    if picture.shape[2] not in (1, 3):
        raise ShapeError(
            f"a picture has 1 or 3 channels in its last dimension, got shape {picture.shape}; "
            "convert it to grey or RGB, rows first"
        )
    if not 0.0 <= opacity <= 1.0:
        raise ValueError(f"opacity must lie between 0 and 1, got {opacity}")
    below = Image.fromarray(np.broadcast_to(picture, (*picture.shape[:2], 3)).copy())
    colours = colourise(fit_map(map, below.size), outline=outline)
    alpha = colours.getchannel("A").point([round(opacity * value) for value in range(256)])
    below.paste(colours, mask=alpha)
    return below


def fit_map(map: HeatMap, size: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """Resize a map to `size`, `(width, height)` in pixels.

    Growing is bilinear. Shrinking takes the maximum, so that a defect of a few pixels does not
    vanish from a thumbnail.
    """
    width, height = size
    fitted = np.asarray(map, np.float32)
    fitted = maxima(fitted, min(height, fitted.shape[0]), min(width, fitted.shape[1]))
    if fitted.shape == (height, width):
        return fitted
    return np.asarray(Image.fromarray(fitted).resize(size, Image.Resampling.BILINEAR))


def strip(*panels: Image.Image, gap: int = 8) -> Image.Image:
    """Panels side by side on white, top-aligned, `gap` pixels apart: RGB."""
    width = sum(panel.width for panel in panels) + gap * (len(panels) - 1)
    sheet = Image.new("RGB", (width, max(panel.height for panel in panels)), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, 0))
        left += panel.width + gap
    return sheet


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write a picture as PNG, atomically.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    with replacing(Path(path)) as temporary:
        image.save(temporary, "PNG")


def data_uri(image: Image.Image) -> str:
    """A picture as part of a page."""
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=80)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


@functools.cache
def _palette() -> UInt8[np.ndarray, "256 4"]:
    """RGBA of the levels from 0 to `TOP`, with the opacity of those below the threshold."""
    knots = np.array([list(bytes.fromhex(colour)) for colour in PLASMA])
    places = np.linspace(0, 255, len(knots))
    rgb = np.stack([np.interp(np.arange(256), places, knots[:, i]) for i in range(3)], 1)
    rgba = np.rint(np.pad(rgb, ((0, 0), (0, 1)))).astype(np.uint8)
    level = np.linspace(0.0, TOP, 256)
    rgba[:, 3] = FAINT * ((level - QUIET) / (1.0 - QUIET)).clip(0.0, 1.0)
    return rgba


def _outline(hot: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """The rim of the marked region, as thick as the map's size asks for."""
    thickness = max(1, round(max(hot.shape) / 250))
    # A pixel is inside when all its neighbours are hot; the mean of a box tells, at any size.
    share = Image.fromarray(hot.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(thickness))
    return hot & (np.asarray(share) < 255)
