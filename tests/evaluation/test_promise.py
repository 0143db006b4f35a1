"""The promise against pictures that took no part in it: an exact binomial test."""

import json
import math

import numpy as np
import pytest

from onlygood.decision.calibration import Calibration
from onlygood.evaluation.promise import RISK, calibrated_on, check_promise

CALIBRATION = Calibration.fit(np.arange(45.0), target_fpr=0.05, confidence=0.9)


@pytest.mark.parametrize(("found", "total"), [(0, 40), (2, 40), (6, 40), (7, 40), (1, 1)])
def test_the_p_value_is_the_binomial_tail(found: int, total: int) -> None:
    tail = sum(math.comb(total, x) * 0.05**x * 0.95 ** (total - x) for x in range(found, total + 1))
    test = check_promise(CALIBRATION, found, total)
    assert test.p_value == pytest.approx(tail)
    assert test.broken == (tail < RISK)


def test_a_broken_promise_says_what_to_do() -> None:
    test = check_promise(CALIBRATION, 22, 40)
    assert test.broken and test.p_value is not None and test.p_value < 1e-15
    for words in ("22 of 40", "55 %", "at most 5 %", "less than 0.000001"):
        assert words in test.words
    seen = check_promise(CALIBRATION, 7, 41).words
    assert "(17.1 %)" in seen and seen.endswith("be found with probability 0.004")
    assert "(99.97 %)" in check_promise(CALIBRATION, 2999, 3000).words
    assert "light" in test.advice and "onlygood calibrate" in test.advice
    assert json.loads(json.dumps(test.to_json()))["broken"] is True


def test_a_kept_promise_says_what_was_tested_and_how_little_is_known() -> None:
    test = check_promise(CALIBRATION, 1, 40)
    assert not test.broken and not test.advice
    for words in (
        *("1 of 40 normal pictures is above", "does not contradict the promise"),
        "one-sided test at a level of 1 %",
        *("if just 5 % of all normal pictures were above, 1 or more of 40", "p = 0.87"),
        "between 0.0633 % and 13.2 %",
    ):
        assert words in test.words
    assert check_promise(CALIBRATION, 0, 40).words.startswith("0 of 40 normal pictures are above")


def test_what_is_promised_is_tested_not_what_was_asked_for() -> None:
    few = Calibration.fit(np.arange(10.0), target_fpr=0.05, confidence=0.9, infeasible="best")
    test = check_promise(few, 4, 20)
    assert test.promised == few.promised_fpr == pytest.approx(1 - 0.1**0.1)
    assert "where at most 20.6 % were promised" in test.words
    assert not test.broken


def test_pictures_of_one_part_are_not_independent() -> None:
    parts = Calibration.fit(np.arange(45.0), groups=[str(i) for i in range(45)])
    test = check_promise(parts, 40, 40)
    assert (test.p_value, test.broken) == (None, False)
    assert "of parts" in test.words


def test_pictures_that_have_calibrated_test_nothing() -> None:
    draw = np.random.default_rng(0)
    known, new = draw.gamma(2, size=200), draw.gamma(2, size=800)
    calibration = Calibration.fit(known)
    rounded = known * (1 + 1e-7 * draw.standard_normal(200))
    assert calibrated_on(calibration, rounded) == 200
    assert calibrated_on(calibration, new) < 0.02 * 800
    test = check_promise(calibration, 8, 1000, 200)
    assert (test.p_value, test.broken) == (None, False)
    assert "200 of these pictures, by their scores, have calibrated" in test.words
    assert "have not seen" in test.advice
    assert check_promise(calibration, 8, 1000, 100).p_value is None
    assert check_promise(calibration, 8, 1000, 99).p_value is not None
    assert check_promise(calibration, 1, 20, 3).p_value is None
    assert check_promise(calibration, 1, 20, 2).p_value is not None
    assert check_promise(calibration, 500, 1000, 200).broken  # the others alone break it


def test_pictures_that_were_learnt_from_test_nothing() -> None:
    test = check_promise(CALIBRATION, 1, 40, 0, 4)
    assert (test.p_value, test.broken) == (None, False)
    assert "4 of these pictures equal some that the model was learnt from" in test.words
    assert "calibrated" not in test.words and "have not seen" in test.advice
    assert check_promise(CALIBRATION, 1, 40, 0, 3).p_value is not None
    both = check_promise(CALIBRATION, 1, 40, 3, 1)
    assert both.p_value is None
    assert "3 of these pictures, by their scores" in both.words
    assert "1 of these pictures equals one that the model was learnt from" in both.words
    assert check_promise(CALIBRATION, 22, 40, 0, 40).broken


def test_a_score_is_known_within_a_share_of_the_usual_distance() -> None:
    calibration = Calibration.fit([*range(44), 1000.0])  # one that lies apart counts for little
    assert calibrated_on(calibration, np.array([9.9971, 10.0029, 1000.0029])) == 3
    assert calibrated_on(calibration, np.array([9.9969, 10.0031, 1000.0031])) == 0
    for scores in ([0.0, 1.0], [*range(9), 8.0]):  # two, and nine in ten, are just enough
        few = Calibration.fit(scores, infeasible="best")
        assert calibrated_on(few, np.array([1.0])) == 1


@pytest.mark.parametrize("scores", [[1.0], [0.0] * 30 + [1.0] * 30])
def test_scores_that_other_pictures_share_tell_none_apart(scores: list[float]) -> None:
    calibration = Calibration.fit(scores, infeasible="best")
    assert calibrated_on(calibration, np.ones(10)) == 0
