"""Whether an exported detector says what its original says, and how fast each of them is."""

import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import DataError
from onlygood.core.text import fixed, many
from onlygood.data.layout import labelled
from onlygood.data.source import ImageSource
from onlygood.deploy.runtime import Runtime
from onlygood.detector import Detector
from onlygood.evaluation import metrics
from onlygood.result import Result

TOLERANCE = 1e-4
"""Of scores and of maps."""
TINY = float(np.finfo(np.float32).tiny)
PART = 64
"""Pictures that are compared at a time."""
SINGLE = 30
"""Pictures that are scored one by one to time them."""


@final
@dataclass(frozen=True, kw_only=True)
class Agreement:
    """What a comparison found."""

    precision: str
    """Of the exported one: `float32` or `int8`."""
    pictures: int
    """Those that can be read."""
    score_difference: float
    """Largest, relative to the original's score, or to its threshold where that is larger."""
    map_difference: float | None
    """Largest of all pixels, relative to the largest value of the original's map, as the method
    gave it, or to the pixel threshold where that is larger."""
    decisions_differ: list[str]
    """Names of pictures, without those whose score is the threshold up to `TOLERANCE`."""
    on_the_threshold: list[str]
    """Names of those, where the decisions differ."""
    auroc: float | None
    """Of the original; None where the pictures have no labels."""
    auroc_exported: float | None
    images_per_second: float
    """Of the original: decoding, scoring and maps."""
    images_per_second_exported: float
    latency_ms: float
    """Of the original, median of single pictures."""
    latency_ms_exported: float
    latency_p95_ms: float
    """Of the original: 95 % of single pictures take at most so long."""
    latency_p95_ms_exported: float

    @property
    def agrees(self) -> bool:
        """Whether nothing differs by more than rounding does."""
        maps = self.map_difference is None or self.map_difference <= TOLERANCE
        return self.score_difference <= TOLERANCE and maps and not self.decisions_differ

    @property
    def words(self) -> str:
        """The verdict in a sentence."""
        if self.agrees:
            return f"they agree on {many(self.pictures, 'picture')}"
        if self.precision == "int8":
            return (
                f"in 8 bits {len(self.decisions_differ)} of {self.pictures} decisions differ, and "
                "the thresholds are of their own"
            )
        names = ", ".join(self.decisions_differ[:3]) or "none"
        return (
            f"they do NOT agree: scores differ by up to {self.score_difference:.1e}, maps by up to "
            f"{self.map_difference or 0:.1e}; decisions that differ: {names}"
        )

    def to_json(self) -> dict[str, Any]:
        """All of it."""
        return {**asdict(self), "agrees": self.agrees}

    def rows(self) -> list[tuple[str, str]]:
        """For a table."""
        rows = [
            ("pictures", str(self.pictures)),
            ("largest difference of scores, relative", f"{self.score_difference:.1e}"),
            ("decisions that differ", str(len(self.decisions_differ))),
            ("images/s, original", f"{self.images_per_second:.1f}"),
            ("images/s, exported", f"{self.images_per_second_exported:.1f}"),
            ("one picture, original", _latency(self.latency_ms, self.latency_p95_ms)),
            (
                "one picture, exported",
                _latency(self.latency_ms_exported, self.latency_p95_ms_exported),
            ),
        ]
        if self.map_difference is not None:
            rows.insert(2, ("largest difference of maps", f"{self.map_difference:.1e}"))
        if self.auroc is not None and self.auroc_exported is not None:
            rows.append(("AUROC, original", fixed(self.auroc, 4)))
            rows.append(("AUROC, exported", fixed(self.auroc_exported, 4)))
        if self.on_the_threshold:
            rows.append(("scores on the threshold itself", str(len(self.on_the_threshold))))
        return rows


def compare(detector: Detector, runtime: Runtime, folder: Path) -> Agreement:
    """Score the pictures of a folder with both.

    Args:
        detector: The original.
        runtime: What was exported from it.
        folder: Pictures; AUROCs are told where it has normal and anomalous ones, see
            `onlygood.data.layout.labelled`.

    Raises:
        DataError: there are no pictures, or none that can be read.
    """
    try:
        data = labelled(folder)
        source, labels = data.source, data.labels
    except DataError:
        source, labels = ImageSource.of(folder), None
    ours, theirs = _Timed(detector), _Timed(runtime)
    by = detector.calibration
    threshold, pixel_threshold = by.threshold, by.pixel_threshold
    thresholds = [each for each in (threshold, by.strict_threshold) if each is not None]
    scores, maps = [0.0], []
    differ: list[str] = []
    tied: list[str] = []
    # In parts, each with both: maps of all pictures may not fit into memory.
    for first in range(0, len(source), PART):
        part = source.subset(range(first, min(first + PART, len(source))))
        for a, b in zip(ours.score(part), theirs.score(part), strict=True):
            if a.error is not None:
                continue
            scores.append(abs(a.score - b.score) / max(abs(a.score), abs(threshold), TINY))
            if a.map is not None and b.map is not None:
                apart = float(np.abs(a.map - b.map).max())
                size = size_of_map(float(a.map.max()), by.pixel_median, pixel_threshold)
                maps.append(apart / size)
            elif a.map is not b.map:
                maps.append(math.inf)
            if a.decision != b.decision:
                on_it = any(abs(a.score - at) <= TOLERANCE * abs(at) for at in thresholds)
                (tied if on_it else differ).append(a.name)
    readable = np.isfinite(ours.scores)
    if not readable.any():
        raise DataError(f"none of the {len(source)} pictures in {folder} can be read")
    few = source.subset(np.flatnonzero(readable)[:SINGLE])
    latency, p95 = ours.latency_ms(few)
    latency_exported, p95_exported = theirs.latency_ms(few)
    return Agreement(
        precision=runtime.precision,
        pictures=int(readable.sum()),
        # Of numpy, which keeps what is no number.
        score_difference=float(np.max(scores)),
        map_difference=float(np.max(maps)) if maps else None,
        decisions_differ=differ,
        on_the_threshold=tied,
        auroc=_auroc(labels, ours.scores, readable),
        auroc_exported=_auroc(labels, theirs.scores, readable),
        images_per_second=len(source) / ours.seconds,
        images_per_second_exported=len(source) / theirs.seconds,
        latency_ms=latency,
        latency_ms_exported=latency_exported,
        latency_p95_ms=p95,
        latency_p95_ms_exported=p95_exported,
    )


def size_of_map(largest: float, median: float | None, threshold: float | None) -> float:
    """The largest value that the method gave, or the pixel threshold, in units of a map, 1 or more.

    Maps begin at the median of normal pixels. Where the threshold is near to that, rounding of what
    the method gave looks large in them.

    Args:
        largest: Of the map, where 0 is the median of normal pixels and 1 the pixel threshold.
        median: Of what the method gave for pixels of normal pictures; None: 0.
        threshold: Of pixels, as the method gives them; None: there is none.
    """
    largest, median = max(1.0, largest), median or 0.0
    if threshold is None or threshold <= median:
        return largest
    return max(largest, abs(largest + median / (threshold - median)))


class _Timed:
    """A scorer with a clock, and a memory of scores."""

    def __init__(self, scorer: Detector | Runtime) -> None:
        self.scorer = scorer
        self.seconds = 0.0
        self.scores: list[float] = []

    def score(self, part: ImageSource) -> list[Result]:
        began = time.perf_counter()
        results = self.scorer.score(part)
        self.seconds += time.perf_counter() - began
        self.scores += [result.score for result in results]
        return results

    def latency_ms(self, source: ImageSource) -> tuple[float, float]:
        """Median and 95th percentile of single pictures, the first left out: it warms up."""
        seconds = []
        for i in range(len(source)):
            began = time.perf_counter()
            self.scorer.score(source.subset([i]))
            seconds.append(time.perf_counter() - began)
        median, p95 = 1000 * np.percentile(seconds[1:] or seconds, (50, 95))
        return float(median), float(p95)


def _latency(median: float, p95: float) -> str:
    return f"{median:.1f} ms, 95 % of them at most {p95:.1f} ms"


def _auroc(
    labels: NDArray[np.bool_] | None, scores: list[float], readable: NDArray[np.bool_]
) -> float | None:
    return None if labels is None else metrics.auroc(labels[readable], np.array(scores)[readable])
