"""From raw scores to results, for a detector and for what was exported from one. Needs no torch."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlygood.core.settings import View
from onlygood.data.loading import Loaded
from onlygood.data.resize import restored
from onlygood.decision.calibration import Calibration
from onlygood.result import Result


def judged(
    batch: Sequence[Loaded],
    view: View,
    calibration: Calibration,
    totals: NDArray[np.float64],
    parts: Mapping[str, NDArray[np.floating[Any]]],
    maps: NDArray[np.floating[Any]] | None,
) -> Iterator[Result]:
    """What is said of the pictures of a batch, in their order.

    Args:
        batch: Loaded pictures, and those that could not be.
        view: How they were seen.
        calibration: Decides.
        totals: `(n,)` finite scores of the readable ones.
        parts: `(n,)` for each part of the score.
        maps: `(n, *View.shape)` on the calibration's scale, where they are wanted.
    """
    p_values, decisions = calibration.p_values(totals), calibration.decide(totals)
    readable = iter(range(len(totals)))
    for item in batch:
        if item.size is None:
            yield Result(item.name, math.nan, math.nan, "error", {}, error=item.error)
            continue
        i = next(readable)
        yield Result(
            item.name,
            float(totals[i]),
            float(p_values[i]),
            str(decisions[i]),
            {name: float(values[i]) for name, values in parts.items()},
            None
            if maps is None
            else restored(maps[i].astype(np.float32), item.size, view, pose=item.pose),
            picture=item.whole,
        )
