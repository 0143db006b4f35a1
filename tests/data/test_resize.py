from typing import Any

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.data.mask import mask_text
from onlygood.data.resize import Window, content, counting, looked_at, restored, viewed, window
from tests.data.pictures import GREY, RGB


def of(size: int, channels: int = 3, crop: int = 0, **more: Any) -> View:
    return View(size=size, channels=channels, crop=crop, **more)


def test_a_picture_of_the_right_size_stays_as_it_is():
    square = np.ascontiguousarray(RGB[:7])
    found = viewed(square, of(7, 3))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, square)


def test_grey_is_repeated_and_colour_becomes_luma():
    square = np.ascontiguousarray(GREY[:7, :, None])
    np.testing.assert_array_equal(viewed(square, of(7, 3)), np.repeat(square, 3, 2))
    one = viewed(np.repeat(square, 3, 2), of(7, 1))
    np.testing.assert_array_equal(one, viewed(square, of(7, 1)))
    luma = viewed(np.ascontiguousarray(RGB[:7]), of(7, 1))
    assert np.abs(luma[:, :, 0] - RGB[:7] @ [0.299, 0.587, 0.114]).max() < 0.51


def test_shrinking_averages_over_all_pixels():
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.uint8(255)
    found = viewed(board.astype(np.uint8), of(8, 1))
    assert np.abs(found - 127.5).max() <= 3


def test_pictures_keep_their_aspect():
    lying = np.arange(60 * 160, dtype=np.uint32)[:, None].astype(np.uint8).reshape(60, 160, 1)
    found = viewed(lying, of(64, 1, aspect=160 / 60))
    assert found.shape == (24, 64, 1)
    image = Image.fromarray(lying[:, :, 0]).resize((64, 24), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found[:, :, 0], np.asarray(image))
    # One of another shape is squeezed to that of the others.
    assert viewed(lying.transpose(1, 0, 2), of(64, 1, aspect=160 / 60)).shape == (24, 64, 1)


def test_padding_is_all_around_and_shows_the_mean_colour():
    picture = np.concatenate([np.full((4, 16, 3), 10), np.full((4, 16, 3), 21)]).astype(np.uint8)
    view = of(16, 3, aspect=2.0, pad="square")
    # Not 8 rows: 16 is the least.
    assert content(view) == Window(0, 0, 16, 16)
    view = of(64, 3, aspect=2.0, pad="square")
    found = viewed(picture.repeat(4, 0).repeat(4, 1), view)
    assert found.shape == (64, 64, 3) and content(view) == Window(16, 0, 32, 64)
    assert (found[:16] == 16).all() and (found[48:] == 16).all()
    assert (found[16] == 10).all() and (found[47] == 21).all()
    ramp = np.arange(32, dtype=np.float32)[:, None].repeat(64, 1)
    np.testing.assert_array_equal(restored(ramp, (32, 64), view), ramp)


@pytest.mark.parametrize(
    ("size", "roi", "crop", "seen"),
    [
        ((60, 160), (0.1, 0.2, 0.9, 1.0), 0, (12, 16, 48, 128)),
        ((9, 7), (0.5, 0.0, 1.0, 0.5), 0, (0, 4, 5, 3)),  # 3.5 and 4.5 pixels are rounded up.
        ((60, 160), (0.1, 0.2, 0.9, 1.0), 20, (26, 70, 20, 20)),
    ],
)
def test_a_roi_is_cut_out_and_the_centre_is_its_own(
    size: tuple[int, int], roi: tuple[float, ...], crop: int, seen: tuple[int, ...]
):
    assert window(size, of(64, crop=crop, roi=roi)) == Window(*seen)


def test_a_map_of_a_roi_lies_in_the_whole_picture():
    view = of(8, 1, roi=(0.5, 0.0, 1.0, 1.0))
    picture = np.zeros((8, 16, 1), np.uint8)
    picture[:, 8:] = 7
    np.testing.assert_array_equal(viewed(picture, view), picture[:, 8:])
    found = restored(np.ones((8, 8), np.float32), (8, 16), view)
    np.testing.assert_array_equal(found, picture[:, :, 0] > 0)
    np.testing.assert_array_equal(looked_at((8, 16), view), picture[:, :, 0] > 0)


@pytest.mark.parametrize(
    ("pixels", "view", "says"),
    [
        (RGB, of(8, roi=(0.0, 0.0, 0.4, 1.0)), "is 7 x 9, in its roi, 3 x 9, each side must be 4"),
        (
            RGB,
            of(8, crop=5, roi=(0.0, 0.0, 0.6, 1.0)),
            "in its roi, 4 x 9, too small",
        ),
        (
            RGB,
            of(8, ignore=mask_text(np.eye(7, 9, dtype=np.uint8)[:, :, None])),
            "is 7 x 9, and the mask of",
        ),
    ],
)
def test_pictures_that_a_view_does_not_fit_are_refused(pixels: np.ndarray, view: View, says: str):
    with pytest.raises(DataError, match=says):
        viewed(pixels, view)


def test_ignored_pixels_have_no_share_in_anything():
    mask = np.zeros((32, 32, 1), np.uint8)
    mask[10:13, 20:25] = 255
    view = of(16, 3, ignore=mask_text(mask))
    counts = counting(view)
    assert counts is not None
    # Each pixel of 16 is a triangle over four of 32.
    assert np.argwhere(~counts)[[0, -1]].tolist() == [[4, 9], [6, 12]]
    draw = np.random.default_rng(0)
    picture, other = (draw.integers(0, 256, (32, 32, 3), np.uint8) for _ in range(2))
    other[mask[:, :, 0] == 0] = picture[mask[:, :, 0] == 0]
    found = viewed(picture, view)
    np.testing.assert_array_equal(viewed(other, view), found)
    assert (found[~counts] == np.rint(found[counts].mean(0))).all()
    np.testing.assert_array_equal(
        restored(np.ones((16, 16), np.float32), (32, 32), view), mask[:, :, 0] == 0
    )
    shrunk = restored(np.ones((16, 16), np.float32), (32, 32), view, 0.5)
    assert shrunk.shape == (16, 16) and not shrunk[5:6, 10:12].any() and shrunk.sum() > 240


def test_a_mask_that_leaves_nothing_is_refused():
    mask = np.ones((32, 32, 1), np.uint8)
    mask[:8] = 0
    with pytest.raises(ConfigError, match="ignore leaves nothing to look at"):
        counting(of(16, roi=(0.0, 0.5, 1.0, 1.0), ignore=mask_text(mask)))


def test_tall_pictures_are_squeezed_where_squares_are_wanted():
    tall = np.repeat(np.arange(4, dtype=np.uint8) * 60, 64)[:, None, None] * np.ones((1, 8, 1))
    found = viewed(tall.astype(np.uint8), of(8, 1))
    assert found.shape == (8, 8, 1)
    assert found[[0, 7], 0, 0].tolist() == [0, 180]


def test_tiny_pictures_are_refused():
    with pytest.raises(DataError, match=r"^is 1 x 1, each side must be 4 pixels or more"):
        viewed(np.zeros((1, 1, 3), np.uint8), of(8))
    with pytest.raises(DataError, match="is 9 x 3"):
        viewed(np.zeros((3, 9, 1), np.uint8), of(8))
    assert viewed(np.zeros((4, 4, 1), np.uint8), of(8)).shape == (8, 8, 3)


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
    np.testing.assert_array_equal(viewed(picture, of(4, crop=4)), RGB[:4, :4])
    # Nothing of the white around it comes in.
    np.testing.assert_array_equal(viewed(picture, of(2, crop=4)), viewed(RGB[:4, :4], of(2)))


def test_pictures_smaller_than_the_crop_are_refused():
    with pytest.raises(DataError, match=r"^is 7 x 9, too small for the 8 x 8 pixels"):
        viewed(RGB, of(4, crop=8))


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


def test_a_peak_outlives_that_its_map_is_made_smaller():
    values = np.zeros((40, 40), np.float32)
    values[17, 22] = 3
    for size, crop in (((400, 300), 40), ((40, 40), 0), ((400, 300), 20)):
        whole = restored(values, size, of(40, crop=crop))
        small = restored(values, size, of(40, crop=crop), shrink=0.1)
        assert small.max() == pytest.approx(whole.max(), rel=1e-6)
        place = np.array(np.unravel_index(small.argmax(), small.shape)) + 0.5
        there = np.array(np.unravel_index(whole.argmax(), whole.shape)) + 0.5
        assert abs(10 * place - there).max() <= 10
