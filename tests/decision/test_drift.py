import numpy as np
import pytest

from onlygood.decision.calibration import Calibration
from onlygood.decision.drift import ENOUGH, WINDOW, Watch, distances, smallest_share


def calibrated(scores: np.ndarray, *, grouped: bool = False) -> Calibration:
    return Calibration(scores=scores, target_fpr=0.9, grouped=grouped)


def of(n: int, *, grouped: bool = False) -> Calibration:
    """A calibration of `n` scores, no two of which are equal."""
    return calibrated(np.arange(float(n)), grouped=grouped)


def test_distances_by_hand() -> None:
    grid = of(3).attainable_p_values
    assert grid.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert distances(np.array([0.25, 0.5, 0.75, 1.0]), grid) == (0.0, 0.0)
    assert distances(np.array([0.25, 0.25, 0.25, 0.25]), grid) == (0.75, 0.0)
    assert distances(np.array([1.0, 1.0, 1.0, 1.0]), grid) == (0.0, 0.75)
    assert distances(np.array([0.25, 0.25, 0.5, 1.0]), grid) == (0.25, 0.0)
    # Two equal scores: none can have 0.5, so that nothing is short of it.
    ties = calibrated(np.array([1.0, 2.0, 2.0])).attainable_p_values
    assert ties.tolist() == [0.25, 0.75, 1.0]
    assert distances(np.array([0.25, 0.75, 0.75, 1.0]), ties) == (0.0, 0.0)
    assert distances(np.array([0.75, 0.75, 0.75, 1.0]), ties) == (0.0, 0.25)


def test_few_pictures_say_nothing() -> None:
    watch = Watch(of(100))
    watch.add([0.01] * (ENOUGH - 1))
    assert watch.verdict().state == "too_few"
    watch.add([0.01])
    assert watch.verdict().state == "left"


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_a_stream_like_the_calibration_raises_no_alarm(n: int) -> None:
    draw = np.random.default_rng(n)
    for _ in range(20):
        calibration = calibrated(draw.normal(size=n))
        watch = Watch(calibration)
        for _ in range(60):
            watch.add(calibration.p_values(draw.normal(size=25)))
            assert watch.verdict().state != "left"


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_an_empty_belt_that_was_there_before_is_no_drift(share: float) -> None:
    # Many pictures are the same, among those that calibrate as in the stream.
    draw = np.random.default_rng(0)

    def scores(n: int) -> np.ndarray:
        return np.where(draw.random(n) < share, 0.0, draw.normal(size=n))

    for _ in range(20):
        calibration = calibrated(scores(200))
        assert Watch(calibration, calibration.p_values(scores(WINDOW))).verdict().state != "left"
    darker = calibration.p_values(scores(WINDOW) - 2)
    assert "score lower than" in Watch(calibration, darker).verdict().words


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_defects_within_reason_are_no_drift(n: int) -> None:
    draw = np.random.default_rng(n)
    calibration = calibrated(draw.normal(size=n))
    scores = np.concatenate([draw.normal(size=180), draw.normal(50, 1, size=20)])
    assert Watch(calibration, calibration.p_values(scores)).verdict().state == "as_calibrated"


@pytest.mark.parametrize("n", [45, 100, 1000])
def test_a_shift_either_way_is_found_and_said(n: int) -> None:
    draw = np.random.default_rng(n)
    calibration = calibrated(draw.normal(size=n))
    higher = Watch(calibration, calibration.p_values(draw.normal(2, 1, WINDOW))).verdict()
    assert (higher.state, higher.n) == ("left", WINDOW)
    assert "score higher than" in higher.words and "calibrate again" in higher.words
    lower = Watch(calibration, calibration.p_values(draw.normal(-2, 1, WINDOW))).verdict()
    assert lower.state == "left"
    assert "score lower than" in lower.words


def test_an_alarm_says_how_many_score_higher_than_what() -> None:
    # Where the distance is largest: at 0.2, not at the 0.1 of a tenth or where all are.
    watch = Watch(of(99), [0.1] * 20 + [0.2] * 130 + [1.0] * 50)
    assert (
        "75 % of the last 200 pictures score higher than 80 % of normal ones did, where 20 % should"
    ) in watch.verdict().words


def test_single_pictures_score_lower_than_the_worst_of_a_part_by_nature() -> None:
    watch = Watch(of(100, grouped=True), [0.95] * WINDOW)
    assert watch.verdict().state == "as_calibrated"
    watch.add([0.01] * WINDOW)
    assert watch.verdict().state == "left"


def test_the_window_forgets() -> None:
    watch = Watch(of(100), [0.01] * WINDOW)
    assert watch.verdict().state == "left"
    watch.add(np.random.default_rng(0).integers(1, 102, WINDOW) / 101)
    assert watch.verdict().state == "as_calibrated"


@pytest.mark.parametrize("n", [45, 100, 230, 1000])
def test_the_smallest_change_that_is_said_to_be_seen_is_seen(n: int) -> None:
    share = smallest_share(WINDOW, n)
    assert share is not None
    even = np.arange(1, n + 2) / (n + 1)

    def state(changed: float) -> str:
        high = round(changed * WINDOW)
        rest = np.quantile(even, np.linspace(0, 1, WINDOW - high), method="higher")
        return Watch(of(n), [*rest, *[1 / (n + 1)] * high]).verdict().state

    assert (state(share - 0.03), state(share + 0.03)) == ("as_calibrated", "left")


def test_what_so_few_pictures_can_show_is_said() -> None:
    watch = Watch(of(45), np.arange(1, 47) / 46)
    assert watch.verdict().state == "too_few"
    assert "63 % of pictures" in watch.verdict().words
    watch.add(np.tile(np.arange(1, 47) / 46, 4))
    verdict = watch.verdict()
    assert verdict.state == "as_calibrated" and verdict.smallest_share == smallest_share(200, 45)
    assert "with 200 pictures and 45 calibration scores" in verdict.words
    assert "52 % of pictures" in verdict.words
    watch = Watch(of(5), [0.5] * WINDOW)
    assert watch.verdict().smallest_share is None
    assert "too few to see any change" in watch.verdict().words
