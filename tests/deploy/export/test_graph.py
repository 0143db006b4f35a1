import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from onlygood.core.settings import View
from onlygood.data import resize
from onlygood.data.mask import mask_text
from onlygood.decision.calibration import Calibration
from onlygood.deploy.export.graph import Graph, luma, smoothing, viewed
from onlygood.deploy.runtime import file
from tests import parts

MASK = mask_text(np.pad(np.ones((9, 13, 1), np.uint8), ((11, 10), (50, 17), (0, 0))))
"""Of 30 x 80 pixels."""


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
    found = viewed(torch.from_numpy(picture)[None], rgb(size))[0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, resize.viewed(picture, rgb(size)))


def test_tall_pictures_differ_by_rounding_alone() -> None:
    # Pillow goes down before it goes across where that is cheaper, and rounds in between.
    picture = colours(701, 64)
    found = viewed(torch.from_numpy(picture)[None], rgb(32))[0].permute(1, 2, 0).numpy()
    difference = np.abs(found - resize.viewed(picture, rgb(32)))
    assert difference.max() == 1
    assert (difference > 0).mean() < 0.3


def test_pictures_of_the_size_stay_as_they_are() -> None:
    picture = colours(16, 16)
    found = viewed(torch.from_numpy(picture)[None], rgb(16))[0].permute(1, 2, 0)
    np.testing.assert_array_equal(found, picture)


@pytest.mark.parametrize(("size", "crop"), [(8, 20), (20, 20), (32, 20)])
@pytest.mark.parametrize(("height", "width"), [(20, 20), (32, 32), (33, 50)])
def test_the_centre_is_cut_out_as_elsewhere(height: int, width: int, size: int, crop: int) -> None:
    picture, view = colours(height, width), rgb(size, crop)
    expected = resize.viewed(picture, view)
    # As it is, and in the form that the runtime prefers.
    for given in (picture, resize.viewed(picture, file.given(view))):
        found = viewed(torch.from_numpy(given)[None], view)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "view",
    [
        View(channels=3, size=24, aspect=8 / 3),
        View(channels=3, size=24, aspect=0.4, pad="square"),
        View(channels=3, size=24, aspect=1.7, roi=(0.1, 0.2, 0.93, 0.71)),
        View(channels=3, size=24, aspect=2.0, roi=(0.3, 0.0, 1.0, 0.9), pad="square", tile=24),
        View(channels=3, size=24, crop=12, roi=(0.5, 0.0, 1.0, 1.0)),
        View(channels=3, size=10, crop=12, roi=(0.0, 0.4, 1.0, 1.0)),
        View(channels=3, size=24, aspect=8 / 3, ignore=MASK),
        View(channels=3, size=24, aspect=8 / 3, ignore=MASK, pad="square"),
        View(channels=3, size=24, crop=12, roi=(0.5, 0.0, 1.0, 1.0), ignore=MASK),
    ],
)
def test_any_view_is_as_elsewhere(view: View) -> None:
    picture = colours(30, 80)
    expected = resize.viewed(picture, view)
    # As it is, and in the form that the runtime prefers.
    for given in (picture, resize.viewed(picture, file.given(view))):
        found = viewed(torch.from_numpy(given)[None], view)[0].permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(found, expected)


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
    sigma = smooth * view.size
    matrix = smoothing(view.size, sigma).numpy()
    expected = gaussian_filter(heat, sigma) if sigma else heat
    np.testing.assert_allclose(matrix @ heat @ matrix.T, expected, atol=1e-6)


def test_p_values_count_scores_that_are_as_high() -> None:
    detector = parts.fit()
    pictures = torch.from_numpy(parts.scratched(1)[..., None].repeat(3, 3))
    score = Graph(detector)(pictures)[0].item()
    for around, p in (([0.0], 1.0), ([-1.0, 0.0, 1.0], 3 / 4), ([-2.0, -1.0], 1 / 3)):
        calibration = Calibration(scores=score + np.array(around))
        assert Graph(detector, calibration)(pictures)[1].item() == pytest.approx(p)


def test_maps_without_a_scale_tell_what_is_above_the_threshold() -> None:
    detector, one = parts.fit(), np.ones(1)
    pictures = torch.from_numpy(parts.scratched(1)[..., None].repeat(3, 3))
    plain = Calibration(scores=one, pixel_maxima=one, pixel_median=0.0)
    raw = Graph(detector, plain)(pictures)[3]
    at = raw.median().item()
    flat = Calibration(scores=one, pixel_maxima=at * one, pixel_median=at)
    heat = Graph(detector, flat)(pictures)[3]
    assert torch.equal(heat, 2.0 * (raw > at)) and 0 < heat.mean() < 2
