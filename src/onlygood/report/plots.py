"""Plots for notebooks and papers, by matplotlib; the page has charts of its own (`charts`)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = 3


def training_curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> "Figure":
    """One small plot for each curve, by name: `(step, value)` in the order of training.

    A curve that is positive and spans more than two decades is drawn on a logarithmic scale. The
    figure belongs to no window: show it as the last line of a notebook's cell, or `savefig` it.
    """
    from matplotlib.figure import Figure

    rows = -(-len(curves) // COLUMNS)
    figure = Figure(figsize=(4 * min(COLUMNS, len(curves)), 2.6 * rows), layout="constrained")
    for number, (name, points) in enumerate(curves.items(), 1):
        steps, values = zip(*points, strict=True)
        axes = figure.add_subplot(rows, min(COLUMNS, len(curves)), number)
        # A line needs two points to be seen.
        axes.plot(steps, values, linewidth=1, marker="" if len(steps) > 1 else "o")
        axes.set_title(name, fontsize="small")
        if min(values) > 0 and max(values) > 100 * min(values):
            axes.set_yscale("log")
    return figure
