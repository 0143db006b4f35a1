"""What a job has found: its tables, and their summary."""

import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from onlygood.core.errors import in_a_line
from onlygood.decision import drift
from onlygood.decision.calibration import Calibration
from onlygood.scale.manifest import Manifest, done_of
from onlygood.scale.places import OutputError, Place, shown

SHOWN = 20
"""Bad pictures that a summary names."""
LOOKED_AT = 100_000
"""Ranks at which p-values are compared with uniform ones; more would say no more."""
CERTAIN = 1.959963984540054
"""Quantile of the normal distribution for intervals of 95 %."""


def tables(out: str | os.PathLike[str]) -> Iterator[Any]:
    """The finished units of a job, one `pyarrow.Table` after the other, in the manifest's order.

    A row is a picture: `uri`, `score`, `p_value`, `decision`, a column `part_NAME` for each part of
    the score, and `error`, which says why there is none of these; `map` is the name of its heat map
    in `maps/UNIT.tar`, and `regions` what that outlines, as in `Result.regions`.

    Raises:
        ConfigError: `out` is not the folder of a job.
        OutputError: the file of a unit is damaged, or gone meanwhile.
    """
    place = Place(out)
    manifest = Manifest(place)
    return _tables(place, manifest)


def _tables(place: Place, manifest: Manifest) -> Iterator[Any]:
    from pyarrow import ArrowException, parquet

    done = done_of(place, manifest.names)
    for part in (f"parts/{name}.parquet" for name in manifest.names if name in done):
        try:
            with place.open(part) as file:
                table = parquet.read_table(file)
        except (OSError, ArrowException) as error:
            raise OutputError(
                f"{part} in {shown(place.uri)} cannot be read ({in_a_line(error)}); where it is "
                "damaged remove it, and run the same again, which does that unit anew"
            ) from error
        yield table


def summary(
    place: Place, manifest: Manifest, failed: Iterable[dict[str, str]], calibration: Calibration
) -> dict[str, Any]:
    """What `summary.json` says of a job of which no unit is left.

    Raises:
        OutputError: units are not there that are said to be done, or are damaged; it would be
            wrong for good.
    """
    counts = Counter(dict.fromkeys(("normal", "unsure", "anomalous", "error"), 0))
    bad: list[dict[str, str]] = []
    # p-values are on the grid k / (n + 1), so this is all of them, however many there are.
    grid = np.zeros(calibration.n + 2, np.int64)
    read = 0
    for table in _tables(place, manifest):
        read += 1
        counts.update(table["decision"].to_pylist())
        p_values = table["p_value"].drop_null().to_numpy()
        ranks = np.rint(p_values * (calibration.n + 1)).astype(np.int64)
        grid += np.bincount(ranks, minlength=len(grid))
        if len(bad) < SHOWN:
            errors = table.filter(table["error"].is_valid()).select(["uri", "error"])
            bad += errors.slice(0, SHOWN - len(bad)).to_pylist()
    readable = counts.total() - counts["error"]
    listed = list(failed)
    done = len(manifest) - len(listed)
    if read != done:
        raise OutputError(
            f"{shown(place.uri)} has the results of {read} units, and {done} are done; run the "
            "same again to do the rest"
        )
    return {
        "units": {"done": done, "failed": listed},
        "pictures": counts.total(),
        "counts": dict(counts),
        "rates": {
            "unsure": rate(counts["unsure"], readable),
            "anomalous": rate(counts["anomalous"], readable),
            "error": rate(counts["error"], counts.total()),
        },
        "drift": _drift(grid, calibration),
        "errors": bad,
    }


def rate(count: int, total: int) -> dict[str, float] | None:
    """A share, and the interval that holds the true one with 95 %; None of nothing.

    Source: Wilson 1927, Journal of the American Statistical Association 22, 209-212.
    """
    if not total:
        return None
    share, square = count / total, CERTAIN**2
    middle = (share + square / (2 * total)) / (1 + square / total)
    variance = share * (1 - share) / total + square / (4 * total**2)
    half = CERTAIN * math.sqrt(variance) / (1 + square / total)
    # Rounding must not exclude what was found.
    return {
        "share": share,
        "low": max(0.0, min(middle - half, share)),
        "high": min(1.0, max(middle + half, share)),
    }


def _drift(grid: np.ndarray, calibration: Calibration) -> dict[str, Any]:
    total = int(grid.sum())
    looked_at = min(total, LOOKED_AT)
    places = (np.arange(looked_at) + 0.5) * total / max(looked_at, 1)
    ascending = np.searchsorted(np.cumsum(grid), places, side="right") / (calibration.n + 1)
    return drift.verdict(ascending, calibration)._asdict()


def read_summary(place: Place) -> dict[str, Any] | None:
    """The summary of a job that has ended; None: it has not, or that is damaged."""
    found = place.read("summary.json")
    try:
        return None if found is None else dict(json.loads(found))
    except ValueError:
        return None
