import numpy as np
import pytest

from onlygood.core.settings import View
from onlygood.data.source import ImageSource
from onlygood.detector.learning import settled
from onlygood.methods import METHODS


def pictures(*sizes: int, channels: int = 1) -> ImageSource:
    return ImageSource.of([np.zeros((side, side + 9, channels), np.uint8) for side in sizes])


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [((28, 28), 48), ((55,), 48), ((56,), 224), ((28, 300, 300), 224), ((1024,), 224)],
)
def test_the_size_is_settled_by_the_longer_sides(sizes: tuple[int, ...], expected: int) -> None:
    assert settled(View(size=0), pictures(*sizes), METHODS["pca"]).size == expected


@pytest.mark.parametrize(("channels", "expected"), [(1, 1), (3, 3)])
def test_channels_are_settled_by_the_pictures(channels: int, expected: int) -> None:
    view = settled(View(size=32), pictures(28, channels=channels), METHODS["pca"])
    assert (view.size, view.channels) == (32, expected)


def test_what_is_said_stays() -> None:
    view = View(size=32, channels=3, aspect=2.0, pad="none")
    assert settled(view, pictures(28), METHODS["cbigan"]) == view
    found = settled(View(size=0, channels=3, aspect=1.0), pictures(28), METHODS["pca"])
    assert found == View(size=48, channels=3, aspect=1.0, pad="none")


@pytest.mark.parametrize(
    ("view", "shapes", "aspect"),
    [
        (View(), [(60, 160)] * 3, 160 / 60),
        (View(), [(60, 160), (60, 160), (90, 90)], 160 / 60),
        (View(), [(60, 160), (160, 60)], 1.0),
        (View(roi=(0.0, 0.0, 0.5, 1.0)), [(60, 160)], 80 / 60),
        (View(crop=50), [(60, 160)], 1.0),
        (View(), [(4, 1000)], 64.0),
    ],
)
def test_the_aspect_is_that_of_most_pictures(
    view: View, shapes: list[tuple[int, int]], aspect: float
) -> None:
    source = ImageSource.of([np.zeros(shape, np.uint8) for shape in shapes])
    assert settled(view, source, METHODS["pca"]).aspect == pytest.approx(aspect)


def test_only_whole_pictures_of_networks_that_need_squares_are_padded() -> None:
    def pad(name: str, **view: int) -> str:
        return settled(View(**view), pictures(28), METHODS[name]).pad

    assert (pad("cbigan"), pad("cbigan", tile=64), pad("reflect")) == ("square", "none", "none")
