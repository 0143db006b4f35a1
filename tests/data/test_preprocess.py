import numpy as np
import pytest
import torch

from onlygood.core.errors import ConfigError
from onlygood.core.settings import View
from onlygood.data.mask import mask_text
from onlygood.data.preprocess import check_augmentation, check_view, to_bytes, to_images, widening


def test_channels_come_first():
    pixels = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    assert to_bytes(pixels).tolist() == pixels.transpose(2, 0, 1).tolist()


def test_images_are_in_the_unit_interval_with_channels_last():
    images = to_images(torch.arange(256, dtype=torch.uint8).view(1, 4, 8, 8))
    torch.testing.assert_close(images.flatten(), torch.arange(256) / 255, rtol=0, atol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


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
        (View(channels=3, crop=2), r"crop must be 0 \(none is cut out\) or 4 or more, got 2"),
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


def test_the_least_sides_are_taken():
    check_view(View(channels=3, size=4, crop=4, tile=4, overlap=0.9))


def test_a_turned_tile_may_fit_exactly():
    check_view(View(channels=3, size=64, tile=64, rotate=(90.0, 90.0)))
    check_view(View(channels=3, size=512, tile=64, rotate=(0.0, 45.0)))


def test_what_one_place_hides_is_not_brought_onto_others():
    mask = np.zeros((16, 16, 1), np.uint8)
    mask[4:9, 2:5] = 255
    aside = mask_text(mask)
    mirrored = mask_text(np.maximum(mask, mask[:, ::-1]))
    for wrong in (
        View(channels=1, size=16, ignore=aside, flip=True),
        View(channels=1, size=16, ignore=mirrored, rotate=(0.0, 5.0)),
    ):
        with pytest.raises(ConfigError, match="ignore hides one place of every picture"):
            check_augmentation(wrong)
    for right in (
        View(channels=1, size=16, flip=True, rotate=(0.0, 5.0)),
        View(channels=1, size=16, ignore=aside),
        View(channels=1, size=16, ignore=mirrored, flip=True),
        View(channels=1, size=16, ignore=aside, flip=True, tile=8),
    ):
        check_augmentation(right)
