"""What `n` scores of normal pictures can promise about pictures still to come.

The scores S_1..S_n belong to normal pictures that took no part in training, drawn independently
from one distribution F. A picture is rejected when its score is above (>) a threshold t; the
false-positive rate `FPR(t) = 1 - F(t)` is never seen, only bounded, with probability `confidence`
over the draw of the n scores. Every bound is exact for continuous F; with ties it holds with room
to spare.
"""

import math

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import CalibrationError

Floats = NDArray[np.float64]

SMALLEST_RATE = 1e-9
"""Of false alarms that can be asked for; it takes two billion pictures."""

_SLACK = 1e-9
"""Relative room for rounding where a risk meets its limit exactly, as in `0.5 ** 2 <= 0.25`."""


def order_statistic_rank(n: int, target_fpr: float, confidence: float) -> int | None:
    """Rank k of the smallest order statistic whose use as threshold keeps the promise.

    `k = min {k : P(Binom(n, 1 - target_fpr) >= k) <= 1 - confidence}`: with threshold S_(k) the
    false-positive rate is at most `target_fpr` with probability `confidence`. `n - k` scores may
    lie above it. None: not even the largest of n scores keeps the promise (see `images_needed`).

    Raises:
        CalibrationError: `n` is below 1, or a rate or the confidence is out of its range.

    Source: Tong, Feng, Li 2018, Science Advances 4(2) eaao1659, Proposition 1.
    """
    _check_count(n)
    _check_rate("target_fpr", target_fpr)
    _check_confidence(confidence)
    exceedances = np.arange(n + 1)
    risks = np.cumsum(_binomial(_log_choose(n), n, exceedances, target_fpr))
    allowed = int(np.searchsorted(risks, (1 - confidence) * (1 + _SLACK), side="right"))
    return n - (allowed - 1) if allowed else None


def images_needed(target_fpr: float, confidence: float) -> int:
    """Fewest scores with which `order_statistic_rank` can keep the promise.

    The smallest n with `(1 - target_fpr)^n <= 1 - confidence`.

    Raises:
        CalibrationError: a rate or the confidence is out of its range.
    """
    _check_rate("target_fpr", target_fpr)
    _check_confidence(confidence)
    return math.ceil((math.log(1 - confidence) + _SLACK) / math.log1p(-target_fpr))


def best_fpr(n: int, confidence: float) -> float:
    """Smallest false-positive rate that n scores can promise: `1 - (1 - confidence)^(1/n)`.

    The threshold that keeps it is the largest score.

    Raises:
        CalibrationError: `n` is below 1, or the confidence is out of its range.
    """
    _check_count(n)
    _check_confidence(confidence)
    return -math.expm1(math.log(1 - confidence) / n)


def false_positive_bound(n: int, exceedances: int, confidence: float) -> float:
    """Upper limit of the false-positive rate when `exceedances` of n scores are above a threshold.

    Holds for one threshold that was fixed, by value or by rank, before the scores were seen; for
    one chosen by looking at them take `simultaneous_bound`.

    Raises:
        CalibrationError: `exceedances` is not in 0..n, or the confidence is out of its range.

    Source: Clopper and Pearson 1934; the quantile `confidence` of Beta(exceedances + 1,
    n - exceedances).
    """
    return _upper_limit(n, exceedances, confidence)


def miss_bound(d: int, y: int, confidence: float) -> float:
    """Upper limit of the share of defects missed, when y of d known anomalous pictures were.

    Holds for a threshold that was fixed without these pictures.

    Raises:
        CalibrationError: `y` is not in 0..d, or the confidence is out of its range.
    """
    return _upper_limit(d, y, confidence)


def simultaneous_bound(n: int, confidence: float) -> Floats:
    """Upper limits of the false-positive rate that hold for all thresholds at once.

    Element x, for x = 0..n-1, is the limit at any threshold with x of the n scores above it; with
    probability `confidence` none of them fails, so a person may choose the threshold by looking.

    Raises:
        CalibrationError: `n` is below 1, or the confidence is out of its range.

    Source: generalised Simes envelope with m = n // 2, Bates et al. 2023, Annals of Statistics
    51(1), arXiv:2104.08279.
    """
    _check_count(n)
    _check_confidence(confidence)
    m = max(n // 2, 1)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    falling = log_factorials[m:] - log_factorials[: n + 1 - m]  # log i(i-1)...(i-m+1), i = m..n
    bound = np.ones(n)
    # i = n - x scores are at or below the threshold; fewer than m of them say nothing.
    bound[: n + 1 - m] = -np.expm1((math.log(1 - confidence) + falling[::-1] - falling[-1]) / m)
    return bound


def _upper_limit(trials: int, events: int, confidence: float) -> float:
    """The share p with `P(Binom(trials, p) <= events) = 1 - confidence`, never rounded down."""
    _check_count(trials)
    _check_confidence(confidence)
    if not 0 <= events <= trials:
        raise CalibrationError(f"a count among {trials} must be in 0..{trials}, got {events}")
    counts = np.arange(events + 1)
    log_choose = _log_choose(trials)[: events + 1]
    low, high = events / trials, 1.0
    while low < (middle := (low + high) / 2) < high:
        if _binomial(log_choose, trials, counts, middle).sum() > 1 - confidence:
            low = middle
        else:
            high = middle
    return high


def _log_choose(n: int) -> Floats:
    """`log C(n, x)` for x = 0..n."""
    x = np.arange(1, n + 1)
    return np.concatenate([[0.0], np.cumsum(np.log((n + 1 - x) / x))])


def _binomial(log_choose: Floats, n: int, x: NDArray[np.int_], share: float) -> Floats:
    """`P(Binom(n, share) = x)`; in logarithms, since neither factor alone fits a float."""
    probability: Floats = np.exp(log_choose + x * math.log(share) + (n - x) * math.log1p(-share))
    return probability


def _check_count(n: int) -> None:
    if n < 1:
        raise CalibrationError(f"a promise needs at least one picture, got n={n}")


def _check_rate(name: str, rate: float) -> None:
    if not 0 < rate < 1:
        raise CalibrationError(f"{name} must lie between 0 and 1 (0.05 is 5 %), got {rate}")
    if rate < SMALLEST_RATE:
        raise CalibrationError(f"{name} must be {SMALLEST_RATE} or more, got {rate}")


def _check_confidence(confidence: float) -> None:
    if not 0.5 <= confidence < 1:
        raise CalibrationError(
            f"confidence must be at least 0.5 and below 1 (0.9 is 90 %), got {confidence}"
        )
