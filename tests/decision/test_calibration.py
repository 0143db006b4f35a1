"""Decisions from calibration scores: the promise, its words, ties, groups, maps, storage."""

import json
import re

import numpy as np
import pytest
from scipy import stats

from onlygood.core.errors import CalibrationError, DataError
from onlygood.decision.calibration import Calibration, percent
from onlygood.decision.thresholds import best_fpr, order_statistic_rank, simultaneous_bound
from tests.conftest import unchecked


def ramp(n: int) -> np.ndarray:
    """Scores 1..n in an order that is not theirs."""
    return np.random.default_rng(0).permutation(np.arange(1.0, n + 1))


def test_threshold_is_the_order_statistic() -> None:
    calibration = Calibration.fit(ramp(200))
    assert calibration.n == 200
    assert calibration.threshold == 195.0
    assert calibration.strict_threshold is None
    assert calibration.promised_fpr == 0.05
    assert calibration.note == ""
    assert Calibration.fit(ramp(200).astype(int)).scores.dtype == np.float64
    assert Calibration.fit(ramp(300), confidence=0.95).threshold == 292.0


def test_guarantee_in_one_sentence() -> None:
    assert Calibration.fit(ramp(82)).guarantee == (
        "at most 5 % of normal pictures are called anomalous, with 90 % confidence "
        "(82 calibration pictures, 1 above the threshold)"
    )


def test_one_picture_is_no_plural() -> None:
    one = Calibration.fit([1.0], infeasible="best")
    assert one.guarantee.endswith("(1 calibration picture, 0 above the threshold)")
    assert "needs 45 normal pictures; 1 was given, the best it supports is 90 %" in one.note
    parts = Calibration.fit([1.0, 2.0], groups=["a", "b"], infeasible="best")
    assert parts.guarantee.endswith("(2 calibration parts, 0 above the threshold)")
    assert "needs 45 normal parts; 2 were given, the best they support is" in parts.note


def test_decision_is_strictly_above_the_threshold() -> None:
    calibration = Calibration.fit(ramp(200))
    decisions = calibration.decide([195.0, np.nextafter(195.0, 300), -np.inf, np.inf])
    assert decisions.tolist() == ["normal", "anomalous", "normal", "anomalous"]


def test_three_states_share_the_risk() -> None:
    calibration = Calibration.fit(ramp(1000), target_fpr=0.05, strict_fpr=0.005)
    assert calibration.threshold == order_statistic_rank(1000, 0.05, 0.95)
    assert calibration.strict_threshold == order_statistic_rank(1000, 0.005, 0.95)
    low, high = calibration.threshold, calibration.strict_threshold
    assert calibration.decide([low, low + 0.5, high, high + 0.5]).tolist() == [
        "normal",
        "unsure",
        "unsure",
        "anomalous",
    ]
    assert "at most 5 % of normal pictures are called unsure or anomalous" in calibration.guarantee
    assert "and at most 0.5 % anomalous, with 90 % confidence" in calibration.guarantee


def test_too_few_pictures_are_refused_with_a_remedy() -> None:
    with pytest.raises(CalibrationError) as caught:
        Calibration.fit(ramp(120), target_fpr=0.01)
    message = str(caught.value)
    assert message.startswith(
        "1 % at 90 % confidence needs 230 normal pictures; "
        "120 were given, the best they support is 1.91 %"
    )
    assert "share the risk" not in message
    best = float(re.search(r"support is ([\d.]+) %", message)[1]) / 100
    assert Calibration.fit(ramp(120), target_fpr=best).threshold == 120.0


def test_two_thresholds_need_more_and_say_so() -> None:
    with pytest.raises(CalibrationError, match=r"0\.5 % at 95 % confidence needs 598 normal.*risk"):
        Calibration.fit(ramp(500), strict_fpr=0.005)


def test_best_promises_what_the_scores_support() -> None:
    calibration = Calibration.fit(ramp(50), target_fpr=0.01, infeasible="best")
    assert calibration.threshold == 50.0
    assert calibration.promised_fpr == best_fpr(50, 0.9)
    assert calibration.guarantee.startswith("at most 4.51 % of normal pictures")
    assert calibration.note == (
        "1 % at 90 % confidence needs 230 normal pictures; 50 were given, the best they support "
        "is 4.51 %: the largest calibration score is the threshold"
    )


def test_two_thresholds_promise_no_more_than_half_the_risk_supports() -> None:
    calibration = Calibration.fit(ramp(50), strict_fpr=0.01, infeasible="best")
    assert calibration.promised_fpr == best_fpr(50, 0.95) > 0.05
    assert calibration.guarantee.startswith("at most 5.82 % of normal pictures")


def test_the_pixel_threshold_has_the_whole_confidence() -> None:
    maps = {"pixel_maxima": ramp(300), "pixel_median": 0.0}
    three = Calibration.fit(ramp(300), strict_fpr=0.01, **maps)
    assert three.pixel_threshold == Calibration.fit(ramp(300)).threshold < three.threshold


def test_best_keeps_the_promise_that_can_be_kept() -> None:
    calibration = Calibration.fit(ramp(100), strict_fpr=0.001, infeasible="best")
    assert calibration.promised_fpr == 0.05
    assert calibration.promised_strict_fpr == best_fpr(100, 0.95)
    assert calibration.strict_threshold == 100.0 > calibration.threshold
    assert calibration.note.startswith("0.1 % at 95 % confidence needs")
    assert calibration.note.endswith(": the largest calibration score is the strict threshold")


@pytest.mark.parametrize(
    ("draw", "survival", "exact"),
    [
        (lambda rng, size: rng.normal(size=size), stats.norm.sf, True),
        (lambda rng, size: rng.lognormal(size=size), stats.lognorm(1).sf, True),
        (lambda rng, size: rng.poisson(2, size=size), stats.poisson(2).sf, False),
    ],
    ids=["normal", "log-normal", "tied"],
)
@pytest.mark.parametrize(
    ("n", "fpr", "risk"), [(200, 0.05, 0.1), (300, 0.01, 0.1), (50, 0.01, 0.1)]
)
def test_the_promise_is_kept(draw, survival, exact: bool, n: int, fpr: float, risk: float) -> None:
    draws = 1000
    samples = draw(np.random.default_rng(3), (draws, n))
    fits = [
        Calibration.fit(s, target_fpr=fpr, confidence=1 - risk, infeasible="best") for s in samples
    ]
    promised = fits[0].promised_fpr
    broken = (survival([fit.threshold for fit in fits]) > promised).mean()
    margin = 3 * np.sqrt(risk * (1 - risk) / draws)
    assert broken <= risk + margin
    if exact:  # the risk is what theory says, so the threshold is not needlessly high either
        allowed = n - (order_statistic_rank(n, fpr, 1 - risk) or n)
        assert abs(broken - stats.binom.cdf(allowed, n, promised)) < margin


def test_constant_scores_call_no_equal_score_anomalous() -> None:
    calibration = Calibration.fit(np.full(100, 3.0))
    assert calibration.threshold == 3.0
    assert calibration.decide([3.0, 3.1]).tolist() == ["normal", "anomalous"]
    assert calibration.p_values([3.0, 3.1]) == pytest.approx([1.0, 1 / 101])
    assert calibration.guarantee.endswith("(100 calibration pictures, 0 above the threshold)")


def test_p_values_by_counting() -> None:
    calibration = Calibration.fit([1.0, 2.0, 2.0, 5.0], infeasible="best")
    values = calibration.p_values([[0.0, 1.0, 2.0], [3.0, 5.0, np.inf]])
    assert values == pytest.approx(np.array([[1.0, 1.0, 0.8], [0.4, 0.4, 0.2]]))


def test_p_value_of_one_score() -> None:
    calibration = Calibration.fit([1.0, 2.0, 2.0, 5.0], infeasible="best")
    assert float(calibration.p_values(2.0)) == 0.8
    assert str(calibration.decide(9.0)) == "anomalous"


@pytest.mark.parametrize("ask", ["p_values", "decide"])
def test_nan_is_refused_rather_than_called_normal(ask: str) -> None:
    calibration = Calibration.fit(ramp(100))
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        getattr(calibration, ask)([np.nan, 1.0])


def test_bound_at_a_threshold_chosen_by_looking() -> None:
    calibration = Calibration.fit(ramp(200))
    bound = simultaneous_bound(200, 0.9)
    assert calibration.bound_at(1e9) == bound[0]
    assert calibration.bound_at(200.0) == bound[0]
    assert calibration.bound_at(194.5) == bound[6]
    assert calibration.bound_at(0.5) == 1.0
    assert calibration.bound_at(calibration.threshold) > calibration.promised_fpr


def test_another_target_from_the_stored_scores() -> None:
    first = Calibration.fit(ramp(300), pixel_maxima=ramp(300), pixel_median=0.5)
    second = first.with_target(0.01)
    fresh = Calibration.fit(ramp(300), target_fpr=0.01, pixel_maxima=ramp(300), pixel_median=0.5)
    assert (first.threshold, second.threshold) == (291.0, 300.0)
    assert second.guarantee == fresh.guarantee
    assert second.pixel_threshold == fresh.pixel_threshold == 300.0
    assert first.with_target(0.05, 0.95).threshold == 292.0
    assert first.with_target(0.05, strict_fpr=0.01).strict_threshold == 300.0
    with pytest.raises(CalibrationError, match="needs 2302 normal pictures; 300 were given"):
        first.with_target(0.001)
    assert first.with_target(0.001, infeasible="best").promised_fpr == best_fpr(300, 0.9)


def test_pictures_of_one_part_count_once() -> None:
    scores = np.arange(200.0)
    parts = [f"part{i // 2}" for i in range(200)]
    calibration = Calibration.fit(scores, groups=parts, pixel_maxima=scores + 1, pixel_median=0.0)
    assert calibration.n == 100
    assert calibration.scores.tolist() == list(range(1, 200, 2))
    assert calibration.pixel_maxima.tolist() == list(range(2, 201, 2))
    assert calibration.guarantee == (
        "at most 5 % of normal parts have a picture called anomalous, with 90 % confidence "
        "(100 calibration parts, 1 above the threshold)"
    )
    assert Calibration.fit(scores, groups=parts).pixel_maxima is None
    with pytest.raises(CalibrationError, match="needs 230 normal parts; 100 were given"):
        calibration.with_target(0.01)


def test_maps_on_a_fixed_scale() -> None:
    calibration = Calibration.fit(ramp(200), pixel_maxima=ramp(200), pixel_median=15.0)
    maps = np.array([[15.0, 195.0], [105.0, -165.0]], dtype=np.float32)
    normalised = calibration.normalise_maps(maps)
    assert normalised.dtype == np.float32
    assert normalised.tolist() == [[0.0, 1.0], [0.5, -1.0]]
    fine = Calibration.fit(ramp(200), pixel_maxima=ramp(200) / 256, pixel_median=0.75)
    assert fine.normalise_maps(np.array([0.755859375])) == 0.5


def test_constant_maps_have_no_scale_but_an_order() -> None:
    calibration = Calibration.fit(ramp(100), pixel_maxima=np.full(100, 2.0), pixel_median=2.0)
    maps = np.array([[1.0, 2.0, 2.5]], dtype=np.float32)
    normalised = calibration.normalise_maps(maps)
    assert normalised.dtype == np.float32
    assert normalised.tolist() == [[0.0, 0.0, 2.0]]


def test_without_maps_there_is_no_pixel_threshold() -> None:
    calibration = Calibration.fit(ramp(100))
    assert calibration.pixel_threshold is None
    with pytest.raises(CalibrationError, match="calibrated without maps"):
        calibration.normalise_maps(np.zeros((2, 2)))


def test_parts_survive_storage() -> None:
    calibration = Calibration.fit(
        ramp(700), target_fpr=0.04, strict_fpr=0.01, pixel_maxima=ramp(700), pixel_median=1.0
    )
    settings = json.loads(json.dumps(calibration.settings()))
    again = Calibration.from_parts(settings, calibration.arrays())
    assert again.settings() == calibration.settings()
    assert again.guarantee == calibration.guarantee
    assert again.strict_threshold == calibration.strict_threshold
    assert again.pixel_threshold == calibration.pixel_threshold


def test_storage_keeps_what_was_promised_with_too_few() -> None:
    calibration = Calibration.fit(ramp(50), target_fpr=0.01, infeasible="best")
    again = Calibration.from_parts(calibration.settings(), calibration.arrays())
    assert again.note == calibration.note != ""


@pytest.mark.parametrize(
    ("settings", "arrays", "words"),
    [
        ({"extra": 1}, {}, "settings of a calibration are"),
        ({"target_fpr": "5"}, {}, "target_fpr must be a float, got '5'"),
        ({"confidence": None}, {}, "confidence must be a float, got None"),
        ({"target_fpr": 2.0}, {}, "target_fpr must lie between 0 and 1"),
        ({"grouped": 1}, {}, "grouped must be a bool, got 1"),
        ({}, {"other": np.zeros(3)}, "arrays of a calibration are"),
        ({}, {"scores": np.array([1.0, np.nan])}, "not finite"),
        ({}, {"scores": np.zeros((2, 2))}, r"got shape \(2, 2\)"),
        ({}, {"pixel_maxima": np.ones(60)}, "belong together"),
        ({"pixel_median": 0.0}, {"pixel_maxima": np.ones(59)}, "60 scores and 59 pixel_maxima"),
        ({"pixel_median": np.inf}, {"pixel_maxima": np.ones(60)}, "pixel_median must be finite"),
    ],
)
def test_spoilt_parts_are_refused(settings: dict, arrays: dict, words: str) -> None:
    sound = Calibration.fit(ramp(60))
    with pytest.raises(CalibrationError, match=words):
        Calibration.from_parts(sound.settings() | settings, sound.arrays() | arrays)


@pytest.mark.parametrize(
    ("scores", "settings", "words"),
    [
        ([], {}, r"got shape \(0,\)"),
        ([[1.0]], {}, r"got shape \(1, 1\)"),
        ([1.0, np.inf, 2.0], {}, "1 of 3 calibration scores are not finite .*inf at position 1"),
        ([1.0], {"target_fpr": 0.0}, "target_fpr must lie between 0 and 1"),
        ([1.0], {"confidence": 0.3}, "confidence must be at least 0.5"),
        ([1.0], {"strict_fpr": 0.05}, "strict_fpr must lie between 1e-09 and target_fpr=0.05"),
        ([1.0], {"strict_fpr": 0.0}, "strict_fpr must lie between 1e-09 and target_fpr=0.05"),
        ([1.0, 2.0], {"groups": ["a"]}, "got 2 pictures and 1 groups"),
    ],
)
def test_spoilt_input_is_refused(scores: list, settings: dict, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        Calibration.fit(scores, infeasible="best", **settings)


def test_a_slip_of_the_pen_weakens_no_promise() -> None:
    with unchecked(), pytest.raises(CalibrationError, match='"raise" or "best", got \'rais\''):
        Calibration.fit(ramp(5), infeasible="rais")  # type: ignore[arg-type]
    with unchecked(), pytest.raises(CalibrationError, match='"raise" or "best", got \'Best\''):
        Calibration.fit(ramp(60)).with_target(0.01, infeasible="Best")  # type: ignore[arg-type]


def test_scores_belong_to_the_calibration() -> None:
    mine = ramp(100)
    calibration = Calibration.fit(mine)
    mine[:] = 0
    assert calibration.scores[-1] == 100.0
    with pytest.raises(ValueError, match="read-only"):
        calibration.scores[0] = 7.0


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.05, "5 %"),
        (0.07, "7 %"),
        (0.005, "0.5 %"),
        (0.019005, "1.91 %"),
        (0.9999, "100 %"),
        (0.29, "29 %"),
        (0.0001, "0.01 %"),
    ],
)
def test_percentages_are_never_rounded_down(share: float, words: str) -> None:
    assert percent(share) == words
