"""Heat maps: one fixed scale, quiet below it, marked from the threshold on."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.report.heatmap import (
    REACHED,
    colourise,
    fit_map,
    found_in,
    overlay,
    save_png,
    strip,
)


def _flat(value: float, side: int = 9) -> np.ndarray:
    return np.full((side, side), value, np.float32)


def test_quiet_up_to_half_and_clearly_marked_from_the_threshold_on() -> None:
    opacity = [
        np.asarray(colourise(_flat(value)))[4, 4, 3]
        for value in (-3.0, 0.5, 0.55, 0.75, 0.94, REACHED, 1.0, 2.0)
    ]
    assert opacity[:2] == [0, 0]
    assert 0 < opacity[2] < opacity[3] < opacity[4] < opacity[5] / 1.5
    assert opacity[5] == opacity[6] == opacity[7] < 255 / 2  # what is marked can still be seen


def test_nothing_is_marked_in_a_normal_picture() -> None:
    map = _flat(0.0)
    map[3:6, 3:6] = 1.5
    just_below = np.minimum(map, np.nextafter(np.float32(REACHED), np.float32(0)))
    normal = np.asarray(colourise(map, outline=False))
    assert (normal == np.asarray(colourise(just_below))).all()
    assert (normal != np.asarray(colourise(map))).any()


@pytest.mark.parametrize(
    ("decision", "value", "place"),
    [
        ("anomalous", 1.0, "region"),
        ("unsure", 1.0, "region"),
        ("anomalous", REACHED, "region"),
        ("anomalous", 0.94, "whole picture"),
        ("normal", 1.5, None),
        ("error", 1.5, None),
    ],
)
def test_a_region_is_found_where_the_decision_asks_for_one(decision, value, place) -> None:
    assert found_in(decision, _flat(value)) == place
    assert found_in(decision, None) is None


def test_colour_depends_on_the_value_alone_not_on_the_rest_of_the_map() -> None:
    calm, wild = _flat(0.1), _flat(40.0)
    calm[4, 4] = wild[4, 4] = 0.8
    assert (np.asarray(colourise(calm))[4, 4] == np.asarray(colourise(wild))[4, 4]).all()


def test_values_above_the_top_and_strange_ones() -> None:
    top = np.asarray(colourise(_flat(2.0)))
    for value in (7.0, np.inf):
        assert (np.asarray(colourise(_flat(value))) == top).all()
    assert (np.asarray(colourise(_flat(1.9)))[4, 4] != top[4, 4]).any()
    for value in (np.nan, -np.inf):
        assert (np.asarray(colourise(_flat(value)))[..., 3] == 0).all()


def test_colours_get_steadily_brighter() -> None:
    ramp = np.linspace(0, 2, 64, dtype=np.float32)[None]
    rgba = np.asarray(colourise(ramp), float)[0]
    inside = rgba[:, 3] < 255  # but for the rim
    luminance = rgba[inside, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance[16:]) > -1).all()
    assert luminance[-1] - luminance[16] > 120


def test_a_marked_region_has_a_solid_rim_one_pixel_wide() -> None:
    map = _flat(0.0, 11)
    map[3:8, 3:8] = 1.5
    opacity = np.asarray(colourise(map))[..., 3]
    rim = np.zeros((11, 11), bool)
    rim[3:8, 3:8] = True
    rim[4:7, 4:7] = False
    assert ((opacity == 255) == rim).all()


def test_a_rim_is_thicker_in_a_large_map() -> None:
    map = _flat(0.0, 1000)
    map[300:700, 300:700] = 1.5
    across = np.asarray(colourise(map))[500, :, 3] == 255
    assert np.flatnonzero(across).tolist() == [300, 301, 302, 303, 696, 697, 698, 699]


def test_overlay_leaves_a_quiet_picture_as_it_is_and_grey_becomes_rgb() -> None:
    picture = np.arange(36, dtype=np.uint8).reshape(6, 6, 1)
    result = np.asarray(overlay(picture, _flat(0.4, 6)))
    assert (result == np.broadcast_to(picture, (6, 6, 3))).all()


def test_opacity_fades_the_overlay() -> None:
    picture = np.zeros((9, 9, 3), np.uint8)
    light = [
        np.asarray(overlay(picture, _flat(1.5), opacity=opacity)).astype(int).sum()
        for opacity in (0.0, 0.5, 1.0)
    ]
    assert light[0] == 0 < light[1] < light[2]
    for opacity in (1.5, -0.5):
        with pytest.raises(ValueError, match=f"between 0 and 1, got {opacity}"):
            overlay(picture, _flat(1.5), opacity=opacity)


def test_nothing_is_marked_over_a_normal_picture() -> None:
    picture = np.zeros((9, 9, 3), np.uint8)
    below = float(np.nextafter(np.float32(REACHED), np.float32(0)))
    assert overlay(picture, _flat(1.5), outline=False) == overlay(picture, _flat(below))


def test_overlay_takes_a_smaller_map_and_refuses_two_channels() -> None:
    assert overlay(np.zeros((8, 12, 3), np.uint8), _flat(0.0, 4)).size == (12, 8)
    with pytest.raises(ShapeError, match=r"1 or 3 channels.*\(8, 8, 2\)"):
        overlay(np.zeros((8, 8, 2), np.uint8), _flat(0.0, 8))


def test_shrinking_keeps_a_defect_of_one_pixel() -> None:
    map = np.zeros((100, 70), np.float32)
    map[57, 33] = 1.5
    small = fit_map(map, (7, 10))
    assert small.shape == (10, 7)
    assert small[5, 3] == 1.5 and small.sum() == 1.5
    # Nor does what is no number spread.
    odd = np.array([[0.0, 0.0, 1.5, np.nan, 0.0]], np.float32)
    assert fit_map(odd, (3, 1)).tolist() == [[0.0, 1.5, 0.0]]


def test_growing_is_smooth_and_keeps_a_constant_map() -> None:
    assert (fit_map(_flat(0.75, 3), (5, 4)) == np.full((4, 5), 0.75)).all()
    assert fit_map(np.array([[0.0, 1.0]], np.float32), (4, 1)).tolist() == [[0.0, 0.25, 0.75, 1.0]]


def test_strip_puts_panels_side_by_side() -> None:
    sheet = strip(Image.new("RGB", (4, 3), "red"), Image.new("L", (2, 5), 0), gap=1)
    assert sheet.size == (7, 5)
    assert [sheet.getpixel(at) for at in ((0, 0), (4, 0), (5, 4), (0, 4))] == [
        (255, 0, 0),
        (255, 255, 255),
        (0, 0, 0),
        (255, 255, 255),
    ]


def test_save_png_replaces_whole_and_leaves_nothing_behind(tmp_path, monkeypatch) -> None:
    image = colourise(_flat(1.2))
    save_png(image, tmp_path / "map.png")
    save_png(image, tmp_path / "map.png")
    assert [path.name for path in tmp_path.iterdir()] == ["map.png"]
    with Image.open(tmp_path / "map.png") as read:
        assert (np.asarray(read) == np.asarray(image)).all()
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError):
        save_png(image, tmp_path / "taken")
    before = (tmp_path / "map.png").read_bytes()

    def fail(*_) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("onlygood.core.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_png(colourise(_flat(0.0)), tmp_path / "map.png")
    assert (tmp_path / "map.png").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["map.png", "taken"]


def test_a_peak_at_the_threshold_keeps_its_region_in_the_picture_s_size() -> None:
    """The sharpest peak that smoothing leaves: one pixel, spread as in maps of 224 px."""
    smooth = View().smooth * 224
    map = gaussian_filter(np.pad([[1.0]], 111), smooth).astype(np.float32)
    map *= 1 / map.max()
    for size in ((300, 300), (224, 224), (225, 227), (1600, 600), (20, 24)):
        assert found_in("anomalous", fit_map(map, size)) == "region"
