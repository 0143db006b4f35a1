import numpy as np
import pytest
import torch

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.data.preprocess import Preprocess, check_view, restore_map, to_images, widening
from tests.data.pictures import GREY, RGB


def test_a_picture_of_the_right_size_stays_as_it_is():
    square = np.ascontiguousarray(RGB[:7])
    found = Preprocess(View(channels=3, size=7))(square)
    assert found.dtype == torch.uint8
    np.testing.assert_array_equal(found.permute(1, 2, 0), square)


def test_grey_is_repeated_and_colour_becomes_luma():
    square = np.ascontiguousarray(GREY[:7, :, None])
    repeated = Preprocess(View(channels=3, size=7))(square)
    np.testing.assert_array_equal(repeated, np.repeat(square, 3, 2).transpose(2, 0, 1))
    one = Preprocess(View(size=7, channels=1))
    np.testing.assert_array_equal(one(np.repeat(square, 3, 2)), one(square))
    luma = one(np.ascontiguousarray(RGB[:7]))
    assert np.abs(luma[0].numpy() - RGB[:7] @ [0.299, 0.587, 0.114]).max() < 0.51


def test_shrinking_averages_over_all_pixels():
    board = np.indices((64, 64)).sum(0)[..., None] % 2 * np.uint8(255)
    found = Preprocess(View(size=8, channels=1))(board.astype(np.uint8))
    assert (found.float() - 127.5).abs().max() <= 3


def test_tall_pictures_are_squeezed():
    tall = np.repeat(np.arange(4, dtype=np.uint8) * 60, 64)[:, None, None] * np.ones((1, 8, 1))
    found = Preprocess(View(size=8, channels=1))(tall.astype(np.uint8))
    assert found.shape == (1, 8, 8)
    assert found[0, [0, 7], 0].tolist() == [0, 180]


def test_tiny_pictures_are_refused_by_name():
    with pytest.raises(DataError, match=r"dot\.png: is 1 x 1, each side must be 4 pixels or more"):
        Preprocess(View(channels=3, size=8))(np.zeros((1, 1, 3), np.uint8), "dot.png")
    with pytest.raises(DataError, match="is 9 x 3"):
        Preprocess(View(channels=3, size=8))(np.zeros((3, 9, 1), np.uint8))
    assert Preprocess(View(channels=3, size=8))(np.zeros((4, 4, 1), np.uint8)).shape == (3, 8, 8)


def test_images_are_in_the_unit_interval_with_channels_last():
    images = to_images(torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8))
    torch.testing.assert_close(images.flatten(), torch.arange(256) / 255, rtol=0, atol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_maps_return_to_the_size_of_the_picture():
    ramp = np.linspace(-2, 3, 8, dtype=np.float32)[None].repeat(8, 0)
    found = restore_map(ramp, (4, 16))
    assert (found.shape, found.dtype) == ((4, 16), np.float32)
    # Pixel i of 16 has its centre at (i + 0.5) / 2 - 0.5 pixels of 8.
    expected = np.interp((np.arange(16) + 0.5) / 2 - 0.5, np.arange(8), ramp[0])
    np.testing.assert_allclose(found, expected[None].repeat(4, 0), atol=1e-6)
    np.testing.assert_array_equal(restore_map(ramp, (8, 8)), ramp)


@pytest.mark.parametrize(
    ("low", "high", "factor"),
    [(0.0, 0.0, 1.0), (0.0, 45.0, 2**0.5), (-100.0, -30.0, 2**0.5), (0.0, 90.0, 2**0.5),
     (90.0, 90.0, 1.0), (-10.0, 20.0, np.cos(np.pi / 9) + np.sin(np.pi / 9)),
     (134.0, 136.0, 2**0.5)],
)  # fmt: skip
def test_room_for_a_turned_square(low: float, high: float, factor: float):
    assert widening(low, high) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("view", "message"),
    [
        (View(channels=3, size=2), "size must be 4 or more"),
        (View(channels=2), "channels must be 1"),
        (View(channels=3, size=64, tile=65), "tile must be 0"),
        (View(channels=3, tile=-1), "tile must be 0"),
        (View(channels=3, overlap=0.95), "overlap must be in"),
        (View(channels=3, overlap=float("nan")), "overlap must be in"),
        (View(channels=3, rotate=(10.0, -10.0)), "rotate must be a range"),
        (
            View(channels=3, size=64, tile=50, rotate=(0.0, 45.0)),
            "take a size of 71 or more",
        ),
    ],
)
def test_views_that_contradict_themselves_are_refused(view: View, message: str):
    with pytest.raises(ConfigError, match=message):
        check_view(view)
    with pytest.raises(ConfigError, match=message):
        Preprocess(view)


def test_a_turned_tile_may_fit_exactly():
    check_view(View(channels=3, size=64, tile=64, rotate=(90.0, 90.0)))
    check_view(View(channels=3, size=512, tile=64, rotate=(0.0, 45.0)))
