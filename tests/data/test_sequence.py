import numpy as np
import pytest
from jaxtyping import UInt8

from onlygood.data.sequence import in_sequence, sketch

N = 60


def drawn(n: int, seed: int = 0) -> UInt8[np.ndarray, "n h w C"]:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 40, 3)).astype(np.uint8)


def again(pictures: UInt8[np.ndarray, "n h w C"], times: int) -> UInt8[np.ndarray, "n h w C"]:
    """Each several times, in other light and with noise."""
    draw = np.random.default_rng(1)
    shots = np.repeat(pictures, times, 0) * draw.uniform(0.8, 1, (times * len(pictures), 1, 1, 1))
    return np.clip(shots + draw.normal(0, 3, shots.shape), 0, 255).astype(np.uint8)


def count(pictures: UInt8[np.ndarray, "n h w C"]) -> int:
    return in_sequence([sketch(picture) for picture in pictures])


def test_a_sketch_is_the_mean_grey_of_each_of_its_cells() -> None:
    halves = np.zeros((16, 24, 3), np.uint8)
    halves[:, 12:] = (30, 60, 90)
    assert sketch(halves) == bytes([0, 0, 0, 0, 60, 60, 60, 60] * 8)


def test_pictures_drawn_one_by_one_follow_nothing() -> None:
    assert count(drawn(N)) == 0


@pytest.mark.parametrize("times", [2, 3, 5])
def test_shots_of_one_part_follow_each_other(times: int) -> None:
    shots = again(drawn(N // times), times)
    assert count(shots) >= 0.6 * N
    assert count(np.random.default_rng(2).permutation(shots)) == 0


def test_pieces_that_overlap_follow_each_other() -> None:
    strip = np.random.default_rng(3).integers(0, 256, (32, 40 + 2 * N, 3)).astype(np.uint8)
    assert count(np.stack([strip[:, 2 * i : 2 * i + 40] for i in range(N)])) >= 0.9 * N


def test_one_picture_again_and_again_is_no_sequence() -> None:
    assert count(np.repeat(drawn(1), N, 0)) == 0


@pytest.mark.parametrize("n", [0, 1, 5, 8])
def test_few_pictures_say_nothing(n: int) -> None:
    assert count(again(drawn(n), 2)[:n]) == 0


def test_some_that_follow_each_other_are_no_sequence() -> None:
    assert count(np.concatenate([again(drawn(5), 2), drawn(N - 10, seed=4)])) == 0
