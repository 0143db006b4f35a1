import numpy as np
import pytest

from onlygood.deploy.drift import ENOUGH, WINDOW, Watch, distances


def p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    ascending = np.sort(calibration)
    at_least = len(ascending) - np.searchsorted(ascending, scores)
    return (1 + at_least) / (len(ascending) + 1)


def test_distances_by_hand() -> None:
    # Of a grid of 1/4, 2/4, 3/4, 1.
    assert distances(np.array([0.25, 0.5, 0.75, 1.0]), 3) == (0.0, 0.0)
    assert distances(np.array([0.25, 0.25, 0.25, 0.25]), 3) == (0.75, 0.0)
    assert distances(np.array([1.0, 1.0, 1.0, 1.0]), 3) == (0.0, 0.75)
    assert distances(np.array([0.25, 0.25, 0.5, 1.0]), 3) == (0.25, 0.0)


def test_few_pictures_say_nothing() -> None:
    watch = Watch(100)
    watch.add([0.01] * (ENOUGH - 1))
    assert watch.verdict().state == "too_few"
    watch.add([0.01])
    assert watch.verdict().state == "left"


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_a_stream_like_the_calibration_raises_no_alarm(n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(20):
        calibration = draw.normal(size=n)
        watch = Watch(n)
        for _ in range(60):
            watch.add(p_values(calibration, draw.normal(size=25)))
            assert watch.verdict().state != "left"


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_defects_within_reason_are_no_drift(n: int) -> None:
    draw = np.random.default_rng(n)
    calibration = draw.normal(size=n)
    scores = np.concatenate([draw.normal(size=180), draw.normal(50, 1, size=20)])
    assert Watch(n, p_values=p_values(calibration, scores)).verdict().state == "as_calibrated"


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_a_shift_either_way_is_found_and_said(n: int) -> None:
    draw = np.random.default_rng(n)
    calibration = draw.normal(size=n)
    higher = Watch(n, p_values=p_values(calibration, draw.normal(2, 1, WINDOW))).verdict()
    assert (higher.state, higher.n) == ("left", WINDOW)
    assert "score higher than" in higher.words and "calibrate again" in higher.words
    lower = Watch(n, p_values=p_values(calibration, draw.normal(-2, 1, WINDOW))).verdict()
    assert lower.state == "left"
    assert "score lower than" in lower.words


def test_single_pictures_score_lower_than_the_worst_of_a_part_by_nature() -> None:
    watch = Watch(100, grouped=True, p_values=[0.95] * WINDOW)
    assert watch.verdict().state == "as_calibrated"
    watch.add([0.01] * WINDOW)
    assert watch.verdict().state == "left"


def test_the_window_forgets() -> None:
    watch = Watch(100, p_values=[0.01] * WINDOW)
    assert watch.verdict().state == "left"
    watch.add(np.random.default_rng(0).integers(1, 102, WINDOW) / 101)
    assert watch.verdict().state == "as_calibrated"
