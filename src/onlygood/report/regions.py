"""What a heat map outlines, in numbers: where each region lies, how large it is, how far it goes.

Without scipy, which machines at the line need for nothing else.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from onlygood.report.heatmap import REACHED, HeatMap, may_outline

MOST = 100
"""Regions that are told of one picture: a map that is all specks has no end of them."""


class Region(NamedTuple):
    """Outlined pixels that touch each other, corners included; in pixels of the picture."""

    left: int
    top: int
    width: int
    height: int
    area: int
    """Of the outlined pixels themselves, not of the box around them."""
    peak: float
    """The highest value of the map in it; 1 = pixel threshold."""


def regions(
    decision: str, map: HeatMap | None, size: tuple[int, int] | None = None
) -> list[Region]:
    """What is outlined in a map, the highest peak first; at most `MOST`.

    None where the picture is called normal, as nothing is outlined then, or there is no map.

    Args:
        decision: On the picture.
        map: Of it, on the fixed scale.
        size: Height and width of the picture, where the map is smaller.
    """
    if map is None or not may_outline(decision):
        return []
    hot = np.asarray(map) >= REACHED
    row, start, end = _runs(hot)
    if not len(row):
        return []
    region = _joined(row, start, end, hot.shape[1])
    order = np.argsort(region, kind="stable")
    first = np.flatnonzero(np.diff(region[order], prepend=-1))
    length = end - start
    peaks = np.maximum.reduceat(np.asarray(map)[hot], np.cumsum(length) - length)
    peak = np.maximum.reduceat(peaks[order], first)
    area = np.add.reduceat(length[order], first)
    left, top = (np.minimum.reduceat(ends[order], first) for ends in (start, row))
    right, bottom = (np.maximum.reduceat(ends[order], first) for ends in (end, row + 1))
    # In whole numbers: a quotient that is rounded up reaches beyond the picture.
    height, width = hot.shape
    tall, wide = size or hot.shape
    return [
        Region(
            x := int(left[i]) * wide // width,
            y := int(top[i]) * tall // height,
            -(-int(right[i]) * wide // width) - x,
            -(-int(bottom[i]) * tall // height) - y,
            round(int(area[i]) * tall * wide / (height * width)),
            float(peak[i]),
        )
        for i in np.argsort(-peak, kind="stable")[:MOST]
    ]


def columns(found: Sequence[Region]) -> dict[str, object]:
    """How many there are, and the first as `region_NAME`; its values are None where none is."""
    worst = found[0]._asdict() if found else dict.fromkeys(Region._fields)
    return {"regions": len(found)} | {f"region_{name}": value for name, value in worst.items()}


Runs = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]]


def _runs(hot: Bool[np.ndarray, "h w"]) -> Runs:
    """Row, first column and column behind the last of all pixels that lie side by side."""
    edges = np.diff(np.pad(hot, ((0, 0), (1, 1))).view(np.int8), axis=1)
    row, start = np.nonzero(edges > 0)
    return row, start, np.nonzero(edges < 0)[1]


def _joined(
    row: Int[np.ndarray, " n"],
    start: Int[np.ndarray, " n"],
    end: Int[np.ndarray, " n"],
    width: int,
) -> Int[np.ndarray, " n"]:
    """A number for each run, the same where runs touch, directly or through others."""
    # Runs are in order, so those of the next row that one touches follow each other.
    stride = width + 2
    low = np.searchsorted(row * stride + end, (row + 1) * stride + start)
    high = np.searchsorted(row * stride + start, (row + 1) * stride + end, side="right")
    count = high - low
    above = np.repeat(np.arange(len(row)), count)
    below = np.arange(len(above)) + np.repeat(low - np.cumsum(count) + count, count)
    number = np.arange(len(row))
    while True:
        least = np.minimum(number[above], number[below])
        lower = number.copy()
        np.minimum.at(lower, number[above], least)
        np.minimum.at(lower, number[below], least)
        lower = lower[lower]
        if np.array_equal(lower, number):
            return number
        number = lower
