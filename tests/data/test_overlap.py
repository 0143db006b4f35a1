import numpy as np
import pytest
from jaxtyping import UInt8
from PIL import Image

from onlygood.data.overlap import MOST, SIDE, pieces_of_one
from onlygood.data.sequence import sketch

N = 40
Pictures = UInt8[np.ndarray, "n h w C"]


def ground(height: int, width: int) -> UInt8[np.ndarray, "h w C"]:
    """Spots of a few pixels, in colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3))
    image = Image.fromarray(coarse.astype(np.uint8))
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def cut(n: int, *, height: int = 300, width: int = 560, side: int = 160) -> Pictures:
    """At random out of one ground, each in other light and with noise."""
    draw, whole = np.random.default_rng(1), ground(height, width)
    corners = draw.integers(0, (height - side + 1, width - side + 1), (n, 2))
    pieces = np.stack([whole[y : y + side, x : x + side] for y, x in corners])
    lit = pieces * draw.uniform(0.8, 1, (n, 1, 1, 1)) + draw.normal(0, 3, pieces.shape)
    return np.clip(lit, 0, 255).astype(np.uint8)


def count(pictures: Pictures) -> int:
    return pieces_of_one([sketch(picture, SIDE) for picture in pictures])


def test_pieces_cut_at_random_out_of_one_ground_hang_together() -> None:
    assert count(cut(N)) >= 0.4 * N


def test_in_whatever_shape_they_are_seen() -> None:
    narrow = np.stack([np.asarray(Image.fromarray(one).resize((80, 160))) for one in cut(N)])
    assert count(narrow) >= 0.4 * N


def test_pieces_cut_side_by_side_do_not() -> None:
    rows = ground(1280, 800).reshape(8, 160, 5, 160, 3).swapaxes(1, 2)
    assert count(rows.reshape(-1, 160, 160, 3)) == 0


def test_a_part_that_lies_anywhere_is_no_ground() -> None:
    draw, part = np.random.default_rng(2), ground(80, 80)
    pictures = np.full((N, 160, 160, 3), 90, np.uint8)
    for picture, (y, x) in zip(pictures, draw.integers(0, 81, (N, 2)), strict=True):
        picture[y : y + 80, x : x + 80] = part
    assert count(pictures) == 0


def test_a_ground_no_larger_than_a_picture_and_a_half_is_taken_for_a_part() -> None:
    assert count(cut(N, height=240, width=240)) == 0


def test_a_pattern_that_repeats_says_nothing() -> None:
    tile = np.tile(ground(40, 40), (10, 20, 1))
    corners = np.random.default_rng(3).integers(0, 240, (N, 2))
    assert count(np.stack([tile[y : y + 160, x : x + 160] for y, x in corners])) == 0


def test_few_pieces_among_many_pictures_are_not_told() -> None:
    others = np.random.default_rng(4).integers(0, 256, (MOST, 160, 160, 3)).astype(np.uint8)
    strip = ground(160, 320)
    steps = np.stack([strip[:, 40 * i : 40 * i + 160] for i in range(5)])
    assert count(steps) == 2, "the first and the last one share nothing"
    assert count(np.concatenate([steps, others])) == 0


@pytest.mark.parametrize("n", [0, 1])
def test_one_picture_says_nothing(n: int) -> None:
    assert count(cut(N)[:n]) == 0


def test_plain_pictures_say_nothing() -> None:
    assert count(np.zeros((N, 32, 32, 1), np.uint8)) == 0
