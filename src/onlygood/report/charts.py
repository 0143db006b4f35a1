"""Geometry of the report's charts; the template draws it.

Horizontal positions and lengths are per cent of the plot, so that a chart follows the width of the
page while its lettering keeps its size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

Floats = NDArray[np.float64]

BINS = 50
REACH = 8.0
"""The score axis ends this many times the distance from normal median to threshold away."""
MARGIN = 5.0
"""Per cent of the plot that is set apart for scores beyond an end of the axis."""
MAX_POINTS = 300
"""Points of a curve; more would only make the file larger."""


class Tick(NamedTuple):
    """A labelled position on an axis."""

    at: float
    label: str


class Bar(NamedTuple):
    """A bar of a histogram; `height` is relative to the row's highest."""

    x: float
    width: float
    height: float
    beyond: bool = False
    """Holds the scores beyond an end of the axis."""


@dataclass(frozen=True)
class Row:
    """One histogram of several over a common axis."""

    label: str
    kind: str
    bars: list[Bar]
    count: int
    peak: int


@dataclass(frozen=True)
class Histogram:
    """Histograms over a common axis, and marks across all of them."""

    rows: list[Row]
    ticks: list[Tick]
    marks: list[Tick]
    low: float
    high: float
    below: int
    """Scores beyond the lower end of the axis."""
    above: int
    """Scores beyond the upper end of the axis."""


@dataclass(frozen=True)
class Curve:
    """A training curve; `lines` are the point lists of its unbroken pieces."""

    name: str
    lines: list[str]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    last: float
    log: bool
    gaps: int
    """Values that are not finite."""


def histogram(
    groups: Sequence[tuple[str, str, Iterable[float]]],
    reference: Iterable[float],
    marks: Sequence[tuple[str, float]],
    ticks: int = 6,
) -> Histogram | None:
    """Histograms of `(label, kind, values)`, each with a scale of its own; None without values.

    Where scores lie far outside what the reference and the marks span, the axis is cut and they
    are counted in a bar at its end. No bar lies on both sides of a mark; a score that equals a mark
    stands left of it. Values that are not finite are left out.
    """
    rows = [(label, kind, _finite(values)) for label, kind, values in groups]
    rows = [row for row in rows if row[2].size]
    if not rows:
        return None
    everything = np.concatenate([values for _, _, values in rows])
    shown = [(label, value) for label, value in marks if _finite([value]).size]
    low, high = _limits(everything, _finite(reference), [value for _, value in shown])
    below, above = int((everything < low).sum()), int((everything > high).sum())
    left = MARGIN if below else 0.0
    right = 100.0 - (MARGIN if above else 0.0)

    def place(value: float) -> float:
        return left + (right - left) * (value - low) / (high - low)

    edges = _edges(low, high, [value for _, value in shown])
    starts = [place(edge) for edge in edges.tolist()]

    def row(label: str, kind: str, values: Floats) -> Row:
        inside = values[(low <= values) & (values <= high)]
        # A bar holds its right edge: a score that equals a mark is not above it.
        bins = np.maximum(np.searchsorted(edges, inside, "left") - 1, 0)
        counts = np.bincount(bins, minlength=len(edges) - 1)
        outside = (int((values < low).sum()), int((values > high).sum()))
        peak = max(int(counts.max()), *outside)
        bars = [
            Bar(start, 0.92 * (end - start), count / peak)  # a hair of space between bars
            for (start, end), count in zip(pairwise(starts), counts.tolist(), strict=True)
            if count
        ]
        for count, x in zip(outside, (0.0, 100.0 - 0.6 * MARGIN), strict=True):
            if count:
                bars.append(Bar(x, 0.6 * MARGIN, count / peak, beyond=True))
        return Row(label, kind, bars, values.size, peak)

    return Histogram(
        rows=[row(*each) for each in rows],
        ticks=[Tick(place(value), f"{value:.6g}") for value in _ticks(low, high, ticks)],
        marks=[Tick(place(value), f"{label} {value:.4g}") for label, value in shown],
        low=low,
        high=high,
        below=below,
        above=above,
    )


def roc(labels: Sequence[bool], scores: Sequence[float]) -> str | None:
    """Points of the ROC curve in a square of side 100, y downwards; None without both classes."""
    values = np.array(scores, np.float64)
    good = _drawable(values)
    known, seen = np.array(labels, bool)[good], values[good]
    if known.all() or not known.any():
        return None
    fpr, tpr, _ = roc_curve(known, seen)
    return _points(100 * fpr, 100 - 100 * tpr)


def curve(name: str, points: Sequence[tuple[int, float]]) -> Curve | None:
    """A training curve, logarithmic when it is positive and spans more than two decades."""
    steps = np.array([step for step, _ in points], np.float64)
    values = np.array([value for _, value in points], np.float64)
    good = _drawable(values)
    if not good.any():
        return None
    seen = values[good]
    values[~good] = np.nan
    low, high = float(seen.min()), float(seen.max())
    log = low > 0 and high / low > 100
    if log:
        low, high = np.floor(np.log10(low)), np.ceil(np.log10(high))
        powers = np.arange(low, high + 1)[:: int((high - low) // 4) + 1]
        levels = [
            (float(power), f"1e{power:.0f}" if abs(power) > 3 else f"{10**power:g}")
            for power in powers
        ]
        values = np.log10(values)
    else:
        low, high = _widened(low, high)
        levels = [(value, f"{value:.6g}") for value in _ticks(low, high, 4)]
    first, final = _widened(float(steps.min()), float(steps.max()))
    x, y = 100 * (steps - first) / (final - first), 100 * (high - values) / (high - low)
    breaks = np.flatnonzero(np.diff(good)) + 1
    pieces = [piece for piece in np.split(np.arange(len(values)), breaks) if good[piece[0]]]
    return Curve(
        name=name,
        lines=[_points(x[piece], y[piece], len(pieces)) for piece in pieces[:MAX_POINTS]],
        x_ticks=[
            Tick(100 * (value - first) / (final - first), f"{value:,.6g}")
            for value in _ticks(first, final, 4)
            if value == round(value)
        ],
        y_ticks=[Tick(100 * (high - at) / (high - low), label) for at, label in levels],
        last=float(seen[-1]),
        log=log,
        gaps=int((~good).sum()),
    )


def _drawable(values: Floats) -> NDArray[np.bool_]:
    """Neither NaN nor so large that a difference of two would overflow."""
    return np.abs(values) < 1e300


def _finite(values: Iterable[float]) -> Floats:
    array = np.fromiter(values, np.float64)
    return array[_drawable(array)]


def _limits(everything: Floats, reference: Floats, marks: list[float]) -> tuple[float, float]:
    """Ends of the score axis: all scores, or `REACH` where some are farther out."""
    base = reference if reference.size else everything
    centre = float(np.median(base))
    span = max([abs(value - centre) for value in marks] + [float(np.ptp(base)) / 2])
    low = max(min(float(everything.min()), centre, *marks), centre - REACH * span)
    high = min(max(float(everything.max()), centre, *marks), centre + REACH * span)
    return _widened(low, high)


def _edges(low: float, high: float, marks: list[float]) -> Floats:
    """Edges of about `BINS` bars of about one width, with every mark among them.

    A bar that lay on both sides of the threshold would show scores on the wrong one.
    """
    ends = np.unique([low, *marks, high])
    shares = np.diff(ends) / (high - low)
    return np.unique(
        np.concatenate(
            [
                np.linspace(start, end, max(1, round(BINS * share)) + 1)
                for (start, end), share in zip(pairwise(ends), shares, strict=True)
            ]
        )
    )


def _widened(low: float, high: float) -> tuple[float, float]:
    """The same limits, or limits around them where they (almost) coincide."""
    size = max(abs(low), abs(high))
    if high - low > 1e-9 * size:
        return low, high
    pad = 0.5 * size if size > 1e-300 else 0.5
    return low - pad, high + pad


def _ticks(low: float, high: float, count: int) -> list[float]:
    """Round numbers between the limits."""
    values = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [float(value) + 0.0 for value in values if low <= value <= high]


def _points(x: Floats, y: Floats, pieces: int = 1) -> str:
    """An SVG point list, thinned to `MAX_POINTS` over all pieces; the ends always stay."""
    most = max(2, MAX_POINTS // pieces)
    if len(x) > most:
        chosen = np.unique(np.linspace(0, len(x) - 1, most).astype(int))
        x, y = x[chosen], y[chosen]
    if len(x) == 1:  # a line needs two ends to leave a dot
        x, y = np.repeat(x, 2), np.repeat(y, 2)
    return " ".join(f"{a:.2f},{b:.2f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
