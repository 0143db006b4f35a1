import numpy as np
import pytest

from onlygood.core.errors import DataError
from onlygood.data.resize import restore_map, squared
from tests.data.pictures import GREY, RGB


def test_a_picture_of_the_right_size_stays_as_it_is():
    square = np.ascontiguousarray(RGB[:7])
    found = squared(square, 7, 3)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, square)


def test_grey_is_repeated_and_colour_becomes_luma():
    square = np.ascontiguousarray(GREY[:7, :, None])
    np.testing.assert_array_equal(squared(square, 7, 3), np.repeat(square, 3, 2))
    one = squared(np.repeat(square, 3, 2), 7, 1)
    np.testing.assert_array_equal(one, squared(square, 7, 1))
    luma = squared(np.ascontiguousarray(RGB[:7]), 7, 1)
    assert np.abs(luma[:, :, 0] - RGB[:7] @ [0.299, 0.587, 0.114]).max() < 0.51


def test_shrinking_averages_over_all_pixels():
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.uint8(255)
    found = squared(board.astype(np.uint8), 8, 1)
    assert np.abs(found - 127.5).max() <= 3


def test_tall_pictures_are_squeezed():
    tall = np.repeat(np.arange(4, dtype=np.uint8) * 60, 64)[:, None, None] * np.ones((1, 8, 1))
    found = squared(tall.astype(np.uint8), 8, 1)
    assert found.shape == (8, 8, 1)
    assert found[[0, 7], 0, 0].tolist() == [0, 180]


def test_tiny_pictures_are_refused():
    with pytest.raises(DataError, match=r"^is 1 x 1, each side must be 4 pixels or more"):
        squared(np.zeros((1, 1, 3), np.uint8), 8, 3)
    with pytest.raises(DataError, match="is 9 x 3"):
        squared(np.zeros((3, 9, 1), np.uint8), 8, 3)
    assert squared(np.zeros((4, 4, 1), np.uint8), 8, 3).shape == (8, 8, 3)


def test_maps_return_to_the_size_of_the_picture():
    ramp = np.linspace(-2, 3, 8, dtype=np.float32)[None].repeat(8, 0)
    found = restore_map(ramp, (4, 16))
    assert (found.shape, found.dtype) == ((4, 16), np.float32)
    # Pixel i of 16 has its centre at (i + 0.5) / 2 - 0.5 pixels of 8.
    expected = np.interp((np.arange(16) + 0.5) / 2 - 0.5, np.arange(8), ramp[0])
    np.testing.assert_allclose(found, expected[None].repeat(4, 0), atol=1e-6)
    np.testing.assert_array_equal(restore_map(ramp, (8, 8)), ramp)
