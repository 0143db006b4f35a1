import numpy as np
import pytest
from scipy import ndimage

from onlygood.report.heatmap import REACHED, HeatMap
from onlygood.report.regions import MOST, Region, regions


def by_scipy(map: HeatMap) -> list[Region]:
    numbers, _ = ndimage.label(map >= REACHED, np.ones((3, 3)))
    found = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(numbers), 1):
        inside = numbers == number
        width, height = columns.stop - columns.start, rows.stop - rows.start
        peak = float(map[inside].max())
        found.append(Region(columns.start, rows.start, width, height, int(inside.sum()), peak))
    return found


def maps() -> list[HeatMap]:
    """Specks at all densities, smooth hills, and a snake that touches itself nowhere."""
    draw = np.random.RandomState(0)
    specks = [
        (dense * draw.rand(*draw.randint(1, 25, 2))).astype(np.float32)
        for dense in np.linspace(1, 2, 60)
    ]
    hills = [ndimage.gaussian_filter(3 * draw.rand(40, 30), 2).astype(np.float32) for _ in range(9)]
    snake = np.zeros((41, 41), np.float32)
    snake[::2] = 1
    snake[1::4, -1] = snake[3::4, 0] = 1
    return [*specks, *hills, snake, snake.T, np.ones((3, 4), np.float32)]


def test_regions_are_those_of_scipy() -> None:
    counts = set()
    for map in maps():
        expected = by_scipy(map)
        found = regions("anomalous", map)
        assert len(found) == min(len(expected), MOST)
        assert set(found) <= set(expected)
        peaks = [region.peak for region in found]
        assert peaks == sorted((one.peak for one in expected), reverse=True)[:MOST]
        counts.add(len(expected))
    assert {0, 1} < counts and max(counts) > 20


def test_as_many_as_are_outlined_and_no_more_than_the_limit() -> None:
    map = np.zeros((40, 40), np.float32)
    map[::2, ::2] = np.linspace(1, 2, 400).reshape(20, 20)
    found = regions("unsure", map)
    assert len(found) == MOST
    assert found[0] == Region(38, 38, 1, 1, 1, 2.0)
    assert regions("normal", map) == regions("error", map) == regions("anomalous", None) == []
    map[:] = np.nan
    map[3, 5] = np.inf
    assert regions("anomalous", map) == [Region(5, 3, 1, 1, 1, np.inf)]


def test_boxes_are_in_pixels_of_the_picture() -> None:
    map = np.zeros((10, 20), np.float32)
    map[2:4, 5:8] = 1.5
    assert regions("anomalous", map) == [Region(5, 2, 3, 2, 6, 1.5)]
    assert regions("anomalous", map, (20, 60)) == [Region(15, 4, 9, 4, 36, 1.5)]
    # What is cut by a pixel's edge belongs to the box.
    (found,) = regions("anomalous", map, (15, 25))
    assert found == Region(6, 3, 4, 3, 11, pytest.approx(1.5))


@pytest.mark.parametrize("map_shape", [(443, 590), (224, 224), (7, 13)])
@pytest.mark.parametrize("size", [(960, 1280), (480, 640), (1944, 2592), (101, 97)])
def test_no_box_reaches_beyond_the_picture(
    map_shape: tuple[int, int], size: tuple[int, int]
) -> None:
    map = np.zeros(map_shape, np.float32)
    map[-3:, -3:] = 2
    (found,) = regions("anomalous", map, size)
    assert (found.top + found.height, found.left + found.width) == size
