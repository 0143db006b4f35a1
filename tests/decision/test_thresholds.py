"""The bounds against the published table, scipy, closed forms and simulation."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from onlygood.core.errors import CalibrationError
from onlygood.decision.thresholds import (
    best_fpr,
    false_positive_bound,
    images_needed,
    miss_bound,
    order_statistic_rank,
    simultaneous_bound,
)

COUNTS = (50, 100, 200, 300, 500, 1000, 3000)
TABLE = {
    (0.10, 0.90): (22, (1, 5, 14, 22, 40, 87, 278)),
    (0.05, 0.90): (45, (0, 1, 5, 9, 18, 40, 134)),
    (0.05, 0.95): (59, (None, 1, 4, 8, 16, 38, 130)),
    (0.02, 0.90): (114, (None, None, 1, 2, 5, 13, 49)),
    (0.01, 0.90): (230, (None, None, None, 0, 1, 5, 22)),
    (0.01, 0.95): (299, (None, None, None, 0, 1, 4, 20)),
    (0.005, 0.90): (460, (None, None, None, None, 0, 1, 9)),
    (0.001, 0.90): (2302, (None, None, None, None, None, None, 0)),
}


@pytest.mark.parametrize("promise", TABLE)
def test_minimum_counts_and_allowed_exceedances(promise: tuple[float, float]) -> None:
    needed, allowed = TABLE[promise]
    ranks = [order_statistic_rank(n, *promise) for n in COUNTS]
    assert images_needed(*promise) == needed
    assert [k and n - k for n, k in zip(COUNTS, ranks, strict=True)] == list(allowed)


@pytest.mark.parametrize("promise", [*TABLE, (0.5, 0.5), (0.5, 0.75), (0.9, 0.9), (0.3, 0.99)])
def test_images_needed_is_where_the_rank_begins_to_exist(promise: tuple[float, float]) -> None:
    needed = images_needed(*promise)
    assert order_statistic_rank(needed, *promise) == needed
    assert needed == 1 or order_statistic_rank(needed - 1, *promise) is None


@pytest.mark.parametrize("n", [1, 2, 7, 50, 119, 1000])
def test_best_fpr_is_feasible_and_nothing_smaller_is(n: int) -> None:
    best = best_fpr(n, 0.9)
    assert best == pytest.approx(1 - 0.1 ** (1 / n))
    assert order_statistic_rank(n, best, 0.9) == n
    assert order_statistic_rank(n, 0.999 * best, 0.9) is None


@pytest.mark.parametrize("n", [23, 200, 777])
def test_rank_is_the_first_whose_binomial_risk_is_small_enough(n: int) -> None:
    for fpr in (0.03, 0.1, 0.4):
        risks = stats.binom.sf(np.arange(1, n + 1) - 1, n, 1 - fpr)
        feasible = np.flatnonzero(risks <= 0.1)
        expected = feasible[0] + 1 if len(feasible) else None
        assert order_statistic_rank(n, fpr, 0.9) == expected


def test_bound_is_the_clopper_pearson_limit() -> None:
    for n, x in [(1, 0), (2, 1), (30, 0), (82, 1), (200, 5), (200, 199), (5000, 1200)]:
        for confidence in (0.5, 0.9, 0.999):
            expected = stats.beta.ppf(confidence, x + 1, n - x)
            assert false_positive_bound(n, x, confidence) == pytest.approx(expected, rel=1e-9)
    assert false_positive_bound(7, 7, 0.9) == 1.0


def test_rank_and_bound_agree() -> None:
    k = order_statistic_rank(200, 0.05, 0.9)
    assert k == 195
    assert false_positive_bound(200, 200 - k, 0.9) <= 0.05 < false_positive_bound(200, 6, 0.9)


def test_bounds_hold_for_many_pictures() -> None:
    n = 200_000
    expected = stats.beta.ppf(0.9, 2001, n - 2000)
    assert false_positive_bound(n, 2000, 0.9) == pytest.approx(expected, rel=1e-8)
    k = order_statistic_rank(n, 0.01, 0.9)
    assert k is not None
    assert stats.binom.sf(k - 1, n, 0.99) <= 0.1 < stats.binom.sf(k - 2, n, 0.99)


def test_no_miss_in_thirty_defects() -> None:
    assert miss_bound(30, 0, 0.9) == pytest.approx(1 - 0.1 ** (1 / 30))
    assert miss_bound(30, 0, 0.9) == pytest.approx(0.074, abs=5e-4)
    assert miss_bound(30, 3, 0.9) == pytest.approx(stats.beta.ppf(0.9, 4, 27))


def test_simultaneous_bound_by_hand() -> None:
    # n=4, m=2: 1 - sqrt(0.1 * i(i-1) / (4*3)) for i = 4, 3, 2, 1
    expected = [1 - np.sqrt(0.1 * product / 12) for product in (12, 6, 2, 0)]
    assert simultaneous_bound(4, 0.9) == pytest.approx(expected)
    assert simultaneous_bound(1, 0.9) == pytest.approx([0.9])


def test_simultaneous_bound_of_a_thousand() -> None:
    bound = simultaneous_bound(1000, 0.9)
    assert bound.shape == (1000,)
    assert bound[[0, 4]] == pytest.approx([0.0046, 0.0101], abs=5e-5)
    assert (np.diff(bound) >= 0).all()
    assert all(bound[x] > false_positive_bound(1000, x, 0.9) for x in (0, 1, 4, 40, 400))


@pytest.mark.parametrize(("n", "confidence"), [(200, 0.9), (31, 0.75)])
def test_simultaneous_bound_covers_all_thresholds_at_once(n: int, confidence: float) -> None:
    draws = 4000
    uniforms = np.sort(np.random.default_rng(0).random((draws, n)), axis=1)
    worst = 1 - uniforms[:, ::-1]  # element x: the rate at S_(n-x), the lowest with x above it
    covered = (worst <= simultaneous_bound(n, confidence)).all(axis=1).mean()
    margin = 3 * np.sqrt(confidence * (1 - confidence) / draws)
    assert abs(covered - confidence) < margin  # the envelope is exact, so both ways


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: order_statistic_rank(0, 0.05, 0.9), "at least one picture"),
        (lambda: order_statistic_rank(50, 0.0, 0.9), "target_fpr must lie between 0 and 1"),
        (lambda: order_statistic_rank(50, float("nan"), 0.9), "target_fpr must lie between"),
        (lambda: images_needed(1.0, 0.9), "target_fpr must lie between 0 and 1"),
        (lambda: images_needed(0.05, 1.0), "confidence must be at least 0.5 and below 1"),
        (lambda: images_needed(0.05, 0.1), "confidence must be at least 0.5 and below 1"),
        (lambda: best_fpr(0, 0.9), "at least one picture"),
        (lambda: false_positive_bound(10, 11, 0.9), "must be in 0..10, got 11"),
        (lambda: false_positive_bound(10, -1, 0.9), "must be in 0..10, got -1"),
        (lambda: miss_bound(0, 0, 0.9), "at least one picture"),
        (lambda: simultaneous_bound(0, 0.9), "at least one picture"),
    ],
)
def test_impossible_requests_are_refused(call, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        call()


def test_the_room_needs_numpy_alone() -> None:
    code = (
        "import sys; import onlygood.decision.calibration; "
        "print(sorted({'torch', 'scipy', 'sklearn', 'jaxtyping'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.strip() == "[]", found.stderr


def test_a_rate_that_no_number_of_pictures_supports_is_refused():
    assert images_needed(1e-9, 0.9) == pytest.approx(2_302_585_092, abs=2)
    for rate in (9.9e-10, 1e-320):
        with pytest.raises(CalibrationError, match="target_fpr must be 1e-09 or more, got"):
            images_needed(rate, 0.9)
