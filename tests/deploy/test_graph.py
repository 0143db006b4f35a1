import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from onlygood.core.settings import View
from onlygood.data import resize
from onlygood.deploy import file
from onlygood.deploy.graph import centre, luma, smoothing, squared


def colours(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def rgb(size: int, crop: int = 0) -> View:
    return View(size=size, crop=crop, channels=3)


@pytest.mark.parametrize(
    ("height", "width"), [(4, 4), (5, 400), (17, 90), (31, 32), (32, 33), (300, 300)]
)
@pytest.mark.parametrize("size", [8, 32, 100])
def test_squares_are_those_of_pillow_to_the_last_bit(height: int, width: int, size: int) -> None:
    picture = colours(height, width)
    found = squared(torch.from_numpy(picture)[None], rgb(size))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, resize.squared(picture, rgb(size)))


def test_tall_pictures_differ_by_rounding_alone() -> None:
    # Pillow goes down before it goes across where that is cheaper, and rounds in between.
    picture = colours(701, 64)
    found = squared(torch.from_numpy(picture)[None], rgb(32))[0].permute(1, 2, 0).numpy()
    difference = np.abs(found - resize.squared(picture, rgb(32)))
    assert difference.max() == 1
    assert (difference > 0).mean() < 0.3


def test_pictures_of_the_size_stay_as_they_are() -> None:
    picture = colours(16, 16)
    found = squared(torch.from_numpy(picture)[None], rgb(16))[0].permute(1, 2, 0)
    np.testing.assert_array_equal(found, picture)


@pytest.mark.parametrize(("size", "crop"), [(8, 20), (20, 20), (32, 20)])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (32, 32), (33, 50)])
def test_the_centre_is_cut_out_as_elsewhere(height: int, width: int, size: int, crop: int) -> None:
    picture, view = colours(height, width), rgb(size, crop)
    expected = resize.squared(picture, view)
    # As it is, and in the form that the runtime prefers.
    for given in (picture, resize.squared(picture, file.given(view))):
        found = squared(torch.from_numpy(given)[None], view)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)


def test_positions_of_what_is_cut_out_lead_out_of_smaller_pictures() -> None:
    assert centre(9, 4).tolist() == [3, 4, 5, 6]
    for side in range(1, 8):
        positions = centre(side, 8)
        assert positions.min() < -side or positions.max() >= side


def test_luma_is_that_of_pillow() -> None:
    picture = np.concatenate(
        [colours(300, 300), np.repeat(np.arange(256, dtype=np.uint8), 3 * 300).reshape(256, 300, 3)]
    )
    found = luma(torch.from_numpy(picture)[None])[0, :, :, 0]
    np.testing.assert_array_equal(found, np.array(Image.fromarray(picture).convert("L")))


@pytest.mark.parametrize("smooth", [0.0, 0.015, 0.2])
def test_smoothing_is_that_of_scoring(smooth: float) -> None:
    view = View(size=24, smooth=smooth)
    heat = np.random.default_rng(0).random((24, 24), np.float32)
    matrix = smoothing(view).numpy()
    sigma = smooth * 24
    expected = gaussian_filter(heat, sigma) if sigma else heat
    np.testing.assert_allclose(matrix @ heat @ matrix.T, expected, atol=1e-6)
