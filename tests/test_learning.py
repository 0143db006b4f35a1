import numpy as np
import pytest

from onlygood.core.settings import View
from onlygood.data.source import ImageSource
from onlygood.learning import settled


def pictures(*sizes: int, channels: int = 1) -> ImageSource:
    return ImageSource.of([np.zeros((side, side + 9, channels), np.uint8) for side in sizes])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((28, 28), 48), ((64,), 48), ((65,), 224), ((28, 300, 300), 224), ((1024,), 224)],
)
def test_the_size_is_settled_by_the_shorter_sides(sizes: tuple[int, ...], expected: int) -> None:
    assert settled(View(size=0), pictures(*sizes)).size == expected


@pytest.mark.parametrize(("channels", "expected"), [(1, 1), (3, 3)])
def test_channels_are_settled_by_the_pictures(channels: int, expected: int) -> None:
    view = settled(View(size=32), pictures(28, channels=channels))
    assert (view.size, view.channels) == (32, expected)


def test_what_is_said_stays() -> None:
    view = View(size=32, channels=3)
    assert settled(view, pictures(28)) == view
    assert settled(View(size=0, channels=3), pictures(28)) == View(size=48, channels=3)
