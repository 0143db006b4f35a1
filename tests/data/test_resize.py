import numpy as np
import pytest

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.data.resize import Window, restored, squared, window
from tests.data.pictures import GREY, RGB


def of(size: int, channels: int = 3, crop: int = 0) -> View:
    return View(size=size, channels=channels, crop=crop)


def test_a_picture_of_the_right_size_stays_as_it_is():
    square = np.ascontiguousarray(RGB[:7])
    found = squared(square, of(7, 3))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, square)


def test_grey_is_repeated_and_colour_becomes_luma():
    square = np.ascontiguousarray(GREY[:7, :, None])
    np.testing.assert_array_equal(squared(square, of(7, 3)), np.repeat(square, 3, 2))
    one = squared(np.repeat(square, 3, 2), of(7, 1))
    np.testing.assert_array_equal(one, squared(square, of(7, 1)))
    luma = squared(np.ascontiguousarray(RGB[:7]), of(7, 1))
    assert np.abs(luma[:, :, 0] - RGB[:7] @ [0.299, 0.587, 0.114]).max() < 0.51


def test_shrinking_averages_over_all_pixels():
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.uint8(255)
    found = squared(board.astype(np.uint8), of(8, 1))
    assert np.abs(found - 127.5).max() <= 3


def test_tall_pictures_are_squeezed():
    tall = np.repeat(np.arange(4, dtype=np.uint8) * 60, 64)[:, None, None] * np.ones((1, 8, 1))
    found = squared(tall.astype(np.uint8), of(8, 1))
    assert found.shape == (8, 8, 1)
    assert found[[0, 7], 0, 0].tolist() == [0, 180]


def test_tiny_pictures_are_refused():
    with pytest.raises(DataError, match=r"^is 1 x 1, each side must be 4 pixels or more"):
        squared(np.zeros((1, 1, 3), np.uint8), of(8))
    with pytest.raises(DataError, match="is 9 x 3"):
        squared(np.zeros((3, 9, 1), np.uint8), of(8))
    assert squared(np.zeros((4, 4, 1), np.uint8), of(8)).shape == (8, 8, 3)


def test_maps_return_to_the_size_of_the_picture():
    ramp = np.linspace(-2, 3, 8, dtype=np.float32)[None].repeat(8, 0)
    found = restored(ramp, (4, 16), of(8))
    assert (found.shape, found.dtype) == ((4, 16), np.float32)
    # Pixel i of 16 has its centre at (i + 0.5) / 2 - 0.5 pixels of 8.
    expected = np.interp((np.arange(16) + 0.5) / 2 - 0.5, np.arange(8), ramp[0])
    np.testing.assert_allclose(found, expected[None].repeat(4, 0), atol=1e-6)
    np.testing.assert_array_equal(restored(ramp, (8, 8), of(8)), ramp)


@pytest.mark.parametrize(
    ("size", "crop", "seen"),
    [
        ((218, 178), 140, (39, 19, 140, 140)),  # CelebA
        ((9, 8), 4, (3, 2, 4, 4)),
        ((9, 8), 8, (1, 0, 8, 8)),
        ((9, 8), 0, (0, 0, 9, 8)),
    ],
)
def test_the_centre_is_cut_out(size: tuple[int, int], crop: int, seen: tuple[int, ...]):
    assert window(size, of(8, crop=crop)) == Window(*seen)


def test_what_is_cut_out_is_resized_alone():
    picture = np.full((12, 10, 3), 255, np.uint8)
    picture[4:8, 3:7] = RGB[:4, :4]
    np.testing.assert_array_equal(squared(picture, of(4, crop=4)), RGB[:4, :4])
    # Nothing of the white around it comes in.
    np.testing.assert_array_equal(squared(picture, of(2, crop=4)), squared(RGB[:4, :4], of(2)))


def test_pictures_smaller_than_the_crop_are_refused():
    with pytest.raises(DataError, match=r"^is 7 x 9, too small for the 8 x 8 pixels"):
        squared(RGB, of(4, crop=8))


@pytest.mark.parametrize("values", [np.ones((2, 2), np.float32), np.full((2, 2, 1), 9, np.uint8)])
def test_outside_of_the_crop_nothing_is_marked(values: np.ndarray):
    found = restored(values, (9, 8), of(2, crop=4))
    assert (found.shape, found.dtype) == ((9, 8, *values.shape[2:]), values.dtype)
    assert (found[3:7, 2:6] == values.max()).all()
    assert found.sum() == 16 * values.max()


def test_what_is_laid_over_a_picture_can_be_smaller_than_it():
    found = restored(np.ones((2, 2), np.float32), (90, 80), of(2, crop=40), shrink=0.1)
    assert found.shape == (9, 8)
    assert np.argwhere(found)[[0, -1]].tolist() == [[2, 2], [5, 5]]
