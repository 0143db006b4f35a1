"""Scores of normal pictures that were kept aside, and every decision that follows from them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from onlygood.core.errors import CalibrationError, DataError
from onlygood.core.text import many
from onlygood.decision.thresholds import (
    SMALLEST_RATE,
    Floats,
    best_fpr,
    images_needed,
    order_statistic_rank,
    simultaneous_bound,
)

_ARRAYS = ("scores", "pixel_maxima")


@final
@dataclass(frozen=True, kw_only=True, eq=False)
class Calibration:
    """What turns a score into a decision. `Calibration.fit` makes one from scores.

    The threshold is an order statistic of the scores: at most `target_fpr` of normal pictures
    score above it, with probability `confidence` over the choice of the calibration pictures.
    The settings must be chosen before the scores are seen; to browse thresholds, take `bound_at`.
    """

    scores: Floats
    """`(n,)` ascending; of normal pictures that took no part in training or model selection."""
    target_fpr: float = 0.05
    """Share of normal pictures that may be above the threshold, in (0, 1)."""
    confidence: float = 0.9
    """Probability that the promise holds, in [0.5, 1)."""
    strict_fpr: float | None = None
    """Smaller share for a second, higher threshold; scores between the two are unsure."""
    pixel_maxima: Floats | None = None
    """`(n,)` ascending; the maximum of each calibration picture's map."""
    pixel_median: float | None = None
    """Median of all values in the maps of the calibration pictures."""
    grouped: bool = False
    """Whether each score is the maximum over the pictures of one part."""

    def __post_init__(self) -> None:
        """Check the parts, and sort them for good."""
        _check_settings(self.target_fpr, self.confidence, self.strict_fpr)
        object.__setattr__(self, "scores", _ascending("scores", self.scores))
        if (self.pixel_maxima is None) != (self.pixel_median is None):
            raise CalibrationError("pixel_maxima and pixel_median belong together; give both")
        if self.pixel_maxima is None or self.pixel_median is None:
            return
        object.__setattr__(self, "pixel_maxima", _ascending("pixel_maxima", self.pixel_maxima))
        if len(self.pixel_maxima) != self.n:
            raise CalibrationError(
                f"each calibration score needs the maximum of its map: got {self.n} scores and "
                f"{len(self.pixel_maxima)} pixel_maxima"
            )
        if not math.isfinite(self.pixel_median):
            raise CalibrationError(f"pixel_median must be finite, got {self.pixel_median}")

    @classmethod
    def fit(
        cls,
        scores: ArrayLike,
        *,
        target_fpr: float = 0.05,
        confidence: float = 0.9,
        strict_fpr: float | None = None,
        pixel_maxima: ArrayLike | None = None,
        pixel_median: float | None = None,
        groups: Sequence[str] | None = None,
        infeasible: Literal["raise", "best"] = "raise",
    ) -> "Calibration":
        """Calibrate on `(n,)` scores of normal pictures that took no part in training.

        With `strict_fpr` there are two thresholds, and each takes half of the risk
        `1 - confidence`, so that both promises hold together.

        Args:
            scores: `(n,)`, larger = more anomalous.
            target_fpr: share of normal pictures that may be above the threshold.
            confidence: probability that the promise holds.
            strict_fpr: share of normal pictures that may be above the second threshold.
            pixel_maxima: `(n,)`, the maximum of each picture's map.
            pixel_median: median of all values in these maps.
            groups: the part that each picture shows. Pictures of one part are not independent,
                so a part counts once, with its largest score, and the promise is about parts.
            infeasible: when there are too few scores for the promise, `raise`, or take the
                largest score as threshold and promise the `best` that it supports; see `note`.

        Raises:
            CalibrationError: too few scores, scores that are not finite, or a setting out of its
                range.
        """
        _check_settings(target_fpr, confidence, strict_fpr)
        each = _numbers("scores", scores)
        maxima = None if pixel_maxima is None else _numbers("pixel_maxima", pixel_maxima)
        if groups is not None:
            each = _part_maxima(each, groups)
            maxima = None if maxima is None else _part_maxima(maxima, groups)
        calibration = cls(
            scores=each,
            target_fpr=target_fpr,
            confidence=confidence,
            strict_fpr=strict_fpr,
            pixel_maxima=maxima,
            pixel_median=None if pixel_median is None else float(pixel_median),
            grouped=groups is not None,
        )
        return calibration._accepted(infeasible)

    def with_target(
        self,
        target_fpr: float,
        confidence: float | None = None,
        strict_fpr: float | None = None,
        infeasible: Literal["raise", "best"] = "raise",
    ) -> "Calibration":
        """The same scores under another promise; no picture is needed.

        Without `confidence` the present one is kept, without `strict_fpr` there are two states.

        Raises:
            CalibrationError: too few scores, or a setting out of its range.
        """
        calibration = replace(
            self,
            target_fpr=target_fpr,
            confidence=self.confidence if confidence is None else confidence,
            strict_fpr=strict_fpr,
        )
        return calibration._accepted(infeasible)

    @property
    def n(self) -> int:
        """Number of calibration scores: pictures, or parts where pictures were grouped."""
        return len(self.scores)

    @cached_property
    def attainable_p_values(self) -> Floats:
        """All values of `p_values`, ascending: fewer than `n + 1` where scores are equal."""
        return np.unique(self.p_values(np.append(self.scores, np.inf)))

    @cached_property
    def threshold(self) -> float:
        """A score above it is no longer normal."""
        return _order_statistic(self.scores, self.target_fpr, self._confidence_of_each)

    @cached_property
    def strict_threshold(self) -> float | None:
        """Above it a score is anomalous, between `threshold` and it unsure; None: two states."""
        if self.strict_fpr is None:
            return None
        return _order_statistic(self.scores, self.strict_fpr, self._confidence_of_each)

    @cached_property
    def pixel_threshold(self) -> float | None:
        """At most `target_fpr` of normal pictures have any pixel of their map above it.

        A promise of its own, with the whole `confidence`. None: calibrated without maps.
        """
        if self.pixel_maxima is None:
            return None
        return _order_statistic(self.pixel_maxima, self.target_fpr, self.confidence)

    @property
    def promised_fpr(self) -> float:
        """What is really promised of `threshold`: `target_fpr`, or more with too few scores."""
        return max(self.target_fpr, best_fpr(self.n, self._confidence_of_each))

    @property
    def promised_strict_fpr(self) -> float | None:
        """What is really promised of `strict_threshold`; None: two states."""
        if self.strict_fpr is None:
            return None
        return max(self.strict_fpr, best_fpr(self.n, self._confidence_of_each))

    @property
    def guarantee(self) -> str:
        """The promise in one sentence."""
        rate = percent(self.promised_fpr)
        subject = "normal parts have a picture" if self.grouped else "normal pictures are"
        if self.promised_strict_fpr is None:
            promise = f"at most {rate} of {subject} called anomalous"
        else:
            promise = (
                f"at most {rate} of {subject} called unsure or anomalous, "
                f"and at most {percent(self.promised_strict_fpr)} anomalous"
            )
        above = self._count_above(self.threshold)
        evidence = f"{many(self.n, f'calibration {self._unit}')}, {above} above the threshold"
        return f"{promise}, with {100 * self.confidence:.6g} % confidence ({evidence})"

    @property
    def note(self) -> str:
        """What was asked for but cannot be promised, in words; empty when all can."""
        return "; ".join(
            f"{words}: the largest calibration score is the {name}"
            for name, words in self._shortages().items()
        )

    def p_values(self, scores: ArrayLike | float) -> Floats:
        """Conformal p-value `(1 + #{i : S_i >= s}) / (n + 1)` of each score, in its shape.

        A normal picture's p-value is at most p with probability at most p, averaged over
        calibration sets.

        Raises:
            DataError: a score is NaN.

        Source: Vovk, Gammerman, Shafer 2005, Algorithmic Learning in a Random World.
        """
        at_least = self.n - np.searchsorted(self.scores, _scores(scores), side="left")
        return np.asarray((1 + at_least) / (self.n + 1))

    def decide(self, scores: ArrayLike | float) -> NDArray[np.character]:
        """`normal`, `unsure` or `anomalous` for each score, in its shape.

        Unsure are scores above `threshold` up to `strict_threshold`; without the latter none is.

        Raises:
            DataError: a score is NaN.
        """
        values = _scores(scores)
        strict = self.threshold if self.strict_threshold is None else self.strict_threshold
        above = np.where(values > strict, "anomalous", "unsure")
        return np.where(values > self.threshold, above, "normal")

    def bound_at(self, threshold: float) -> float:
        """Upper limit of the false-positive rate at a threshold chosen by looking at the scores.

        Holds for all thresholds at once with probability `confidence`.

        Raises:
            DataError: the threshold is NaN.
        """
        return self.bounds[self._count_above(float(_scores(threshold)))]

    @cached_property
    def bounds(self) -> list[float]:
        """What `bound_at` gives where x calibration scores are above, `x = 0..n`."""
        return [*simultaneous_bound(self.n, self.confidence).tolist(), 1.0]

    def normalise_maps(self, maps: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        """Maps on a scale fixed for all pictures: 0 = normal median, 1 = pixel threshold.

        Any shape; keeps the precision. Where normal maps are constant there is no such scale, and
        a pixel is 2 above the threshold and 0 elsewhere.

        Raises:
            CalibrationError: calibrated without maps.
        """
        if self.pixel_threshold is None or self.pixel_median is None:
            raise CalibrationError(
                "heat maps have no scale: calibrated without maps; the method may not localise"
            )
        spread = self.pixel_threshold - self.pixel_median
        if spread > 0:
            return (maps - self.pixel_median) / spread
        return np.where(maps > self.pixel_threshold, 2, 0).astype(maps.dtype)

    def arrays(self) -> dict[str, Floats]:
        """The numbers, for a file; with `settings` all that `from_parts` needs."""
        return {name: value for name in _ARRAYS if (value := getattr(self, name)) is not None}

    def settings(self) -> dict[str, float | bool | None]:
        """Everything but the arrays; plain values for JSON."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _ARRAYS}

    @classmethod
    def from_parts(cls, settings: Mapping[str, Any], arrays: Mapping[str, Floats]) -> "Calibration":
        """The calibration that `settings()` and `arrays()` were taken from.

        Raises:
            CalibrationError: a part is missing, unknown, or not what a calibration can hold.
        """
        names = {f.name for f in fields(cls)}
        if set(settings) != names - set(_ARRAYS):
            raise CalibrationError(
                f"settings of a calibration are {sorted(names - set(_ARRAYS))}, "
                f"got {sorted(settings)}"
            )
        if not {"scores"} <= set(arrays) <= set(_ARRAYS):
            raise CalibrationError(f"arrays of a calibration are {_ARRAYS}, got {sorted(arrays)}")
        optional = ("strict_fpr", "pixel_median")
        for name, value in settings.items():
            wanted = bool if name == "grouped" else float
            if not isinstance(value, wanted) and not (value is None and name in optional):
                raise CalibrationError(f"{name} must be a {wanted.__name__}, got {value!r}")
        checked: dict[str, Any] = {name: _numbers(name, arrays[name]) for name in arrays}
        return cls(**settings, **checked)

    @property
    def _confidence_of_each(self) -> float:
        """Confidence of one threshold: two of them share the risk."""
        return self.confidence if self.strict_fpr is None else (1 + self.confidence) / 2

    @property
    def _unit(self) -> str:
        return "part" if self.grouped else "picture"

    def _count_above(self, threshold: float) -> int:
        return self.n - int(np.searchsorted(self.scores, threshold, side="right"))

    def _shortages(self) -> dict[str, str]:
        """For each promise that cannot be kept: what it needs, and what can be promised."""
        confidence = self._confidence_of_each
        given = "1 was given, the best it supports is"
        if self.n > 1:
            given = f"{self.n} were given, the best they support is"
        rates = {"threshold": self.target_fpr, "strict threshold": self.strict_fpr}
        return {
            name: f"{percent(rate)} at {100 * confidence:.6g} % confidence needs "
            f"{many(images_needed(rate, confidence), f'normal {self._unit}')}; {given} "
            f"{percent(best_fpr(self.n, confidence))}"
            for name, rate in rates.items()
            if rate is not None and self.n < images_needed(rate, confidence)
        }

    def _accepted(self, infeasible: Literal["raise", "best"]) -> "Calibration":
        if infeasible not in ("raise", "best"):  # else a slip of the pen would weaken the promise
            raise CalibrationError(f'infeasible must be "raise" or "best", got {infeasible!r}')
        if infeasible == "raise" and (shortages := self._shortages()):
            halves = "" if self.strict_fpr is None else " (two thresholds share the risk)"
            raise CalibrationError(
                f"{'; '.join(shortages.values())}{halves}; give more normal {self._unit}s, or "
                "allow a larger rate"
            )
        return self


def percent(share: float) -> str:
    """A promised share in words, `0.05` as `5 %`: three digits, never rounded down."""
    value = float(f"{100 * share:.9g}")  # 100 * 0.07 is a little more than 7
    step = 10.0 ** (math.floor(math.log10(value)) - 2)
    return f"{math.ceil(value / step - 1e-6) * step:.3g} %"


def _order_statistic(ascending: Floats, fpr: float, confidence: float) -> float:
    """The threshold that keeps the promise, or the largest score where none does."""
    n = len(ascending)
    return float(ascending[(order_statistic_rank(n, fpr, confidence) or n) - 1])


def _check_settings(target_fpr: float, confidence: float, strict_fpr: float | None) -> None:
    images_needed(target_fpr, confidence)  # raises where one is out of its range
    if strict_fpr is not None and not SMALLEST_RATE <= strict_fpr < target_fpr:
        raise CalibrationError(
            f"strict_fpr must lie between {SMALLEST_RATE} and target_fpr={target_fpr}, got "
            f"{strict_fpr}"
        )


def _numbers(name: str, values: ArrayLike) -> Floats:
    """The values as a new `(n,)` float64 array, if they are that many finite numbers."""
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"calibration {name} must be numbers: {error}") from error
    if array.ndim != 1 or array.size == 0:
        raise CalibrationError(
            f"calibration {name} must be one number for each picture, got shape {array.shape}"
        )
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise CalibrationError(
            f"{len(bad)} of {len(array)} calibration {name} are not finite (the first is "
            f"{array[bad[0]]} at position {bad[0]}); remove those pictures or train again"
        )
    return array


def _ascending(name: str, values: Floats) -> Floats:
    array = np.sort(_numbers(name, values))
    array.setflags(write=False)
    return array


def _part_maxima(values: Floats, groups: Sequence[str]) -> Floats:
    """The largest value of each part, in the order of the parts' names."""
    if len(groups) != len(values):
        raise CalibrationError(
            f"each picture needs its group, got {len(values)} pictures and {len(groups)} groups"
        )
    names, part = np.unique(np.asarray(groups), return_inverse=True)
    maxima = np.full(len(names), -np.inf)
    np.maximum.at(maxima, part, values)
    return maxima


def _scores(scores: ArrayLike | float) -> Floats:
    """The scores as float64; NaN is refused, for every comparison would call it normal."""
    array = np.asarray(scores, dtype=np.float64)
    missing = int(np.isnan(array).sum())
    if missing:
        raise DataError(
            f"{missing} of {array.size} scores are NaN and cannot be decided; "
            "look for damaged pictures or a diverged model"
        )
    return array
