import math
import sys
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.data import apart
from onlygood.data.align import (
    FAR,
    UNMOVED,
    Pose,
    _blurred,
    _held,
    aligned,
    misalignment,
    most_usual,
    moved,
    pose,
    pose_in,
    reference_text,
)
from onlygood.data.decode import Pixels
from onlygood.data.mask import mask_text
from onlygood.data.resize import looked_at, restored, viewed
from tests.data.pictures import encoded

SIZE = (90, 150)


def part(channels: int = 1, at: Pose = UNMOVED) -> Pixels:
    """Bars and a corner on an even ground, so that no turn and no shift looks like another."""
    pixels = np.full((*SIZE, channels), 60, np.uint8)
    pixels[30:60, 40:110] = 150
    pixels[34:56, 46:58] = 220
    pixels[36:42, 66:104] = 90
    pixels[48:54, 66:84] = 20
    return aligned(pixels, at)


def opposite(at: Pose) -> Pose:
    """What undoes a pose."""
    angle = math.radians(at.angle)
    right = math.cos(angle) * at.right + math.sin(angle) * at.down
    down = math.cos(angle) * at.down - math.sin(angle) * at.right
    return Pose(-at.angle, -right, -down)


def test_a_pose_turns_clockwise_about_the_centre_and_then_shifts() -> None:
    # The upper left corner of 5 x 7 pixels goes to the right of the centre, and a pixel down.
    there = Pose(90.0, 0.0, 1 / 7).matrix((5, 7)) @ (0.0, 0.0, 1.0)
    np.testing.assert_allclose(there, (3 + 2, 2 - 3 + 1), atol=1e-5)
    marked = np.zeros((5, 7, 1), np.uint8)
    marked[2, 5] = 200
    assert aligned(marked, Pose(0.0, 1 / 7, -1 / 7))[3, 4] == 200
    assert moved(marked, Pose(0.0, 1 / 7, -1 / 7))[1, 6] == 200


@pytest.mark.parametrize(
    "at", [Pose(7.0, 0.05, -0.04), Pose(-25.0, 0.0, 0.1), Pose(0.0, -0.12, 0.06), UNMOVED]
)
@pytest.mark.parametrize("channels", [1, 3])
def test_it_finds_how_a_part_lies(at: Pose, channels: int) -> None:
    picture = part(channels, opposite(at))
    # Brighter, and poorer in contrast.
    picture = (70 + 0.6 * picture.astype(float)).astype(np.uint8)
    found = pose(picture, reference_text(part(channels)))
    assert found.angle == pytest.approx(at.angle, abs=0.2)
    assert (found.right, found.down) == pytest.approx((at.right, at.down), abs=0.003)
    inside = (slice(25, 65), slice(35, 115))
    apart_by = aligned(picture, found)[inside].astype(float) - (70 + 0.6 * part(channels)[inside])
    assert np.abs(apart_by).mean() < 6


def test_larger_pictures_are_compared_as_small_as_the_reference() -> None:
    at = Pose(5.0, 0.03, 0.02)
    large = np.asarray(Image.fromarray(part(3, opposite(at))).resize((1500, 900)))
    found = pose(large, reference_text(part(3)))
    assert found == pytest.approx(at, abs=0.1)


def test_moved_undoes_aligned() -> None:
    at = Pose(8.0, 0.05, -0.03)
    heat = np.zeros(SIZE, np.float32)
    heat[40:46, 70:78] = 1
    # As a picture that lies so would show it.
    there = moved(heat, at)
    row, column = np.argwhere(there > 0.5).mean(0)
    x, y = at.matrix(SIZE) @ (73.5, 42.5, 1.0)
    assert (column, row) == pytest.approx((x, y), abs=0.3)
    assert moved(np.ones(SIZE, np.float32), Pose(0.0, 0.2, 0.0))[:, :29].max() == 0
    assert np.array_equal(moved(heat, UNMOVED), heat)


def test_what_an_aligned_picture_has_not_is_not_looked_at() -> None:
    looked = looked_at(SIZE, View(), Pose(0.0, 0.2, 0.0))
    assert not looked[:, :30].any()
    assert looked[:, 30:].all()
    assert looked_at(SIZE, View()).all()


def test_what_is_like_nothing_stays_as_it_lies() -> None:
    even = np.full((*SIZE, 1), 7, np.uint8)
    assert pose(even, reference_text(part())) == UNMOVED
    assert pose(part(), reference_text(even)) == UNMOVED


def test_noise_on_a_plain_surface_turns_nothing() -> None:
    def plain(seed: int) -> Pixels:
        draw = np.random.default_rng(seed)
        return np.clip(draw.normal(0, 4, (200, 300, 1)), 0, 255).astype(np.uint8)

    reference = reference_text(plain(0))
    assert [pose(plain(seed), reference) for seed in (1, 2, 4)] == [UNMOVED] * 3


def bar(noise: float, at: Pose = UNMOVED) -> Pixels:
    """A bar from side to side, however it is turned."""
    clean = np.full((400, 480, 1), 60, np.uint8)
    clean[170:230] = 180
    there = aligned(clean, at)[80:320, 80:400].astype(float)
    drawn = np.random.default_rng(int(noise)).normal(0, 2, there.shape)
    return np.clip(there + noise * drawn, 0, 255).astype(np.uint8)


def test_along_an_edge_nothing_is_shifted() -> None:
    reference = reference_text(bar(1))
    for noise in (2, 3, 4, 5):
        found = pose(bar(noise), reference)
        assert found.angle == pytest.approx(0, abs=0.1)
        assert math.hypot(found.right, found.down) < FAR + 0.005


@pytest.mark.parametrize("angle", [0.0, 20.0])
def test_what_a_shift_along_an_edge_gains_is_asked_as_the_part_lies(angle: float) -> None:
    x, y = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    target, seen = (_blurred(bar(0, at), 192) for at in (UNMOVED, Pose(-angle, 0.0, 0.0)))
    found = _held(target, seen, Pose(angle, 0.1 * x - 0.01 * y, 0.1 * y + 0.01 * x), None)
    assert found == pytest.approx((angle, -0.01 * y, 0.01 * x), abs=1e-3)


def test_a_small_mark_on_an_edge_tells_how_far_to_shift() -> None:
    def marked(left: int) -> Pixels:
        picture = np.full((*SIZE, 1), 60, np.uint8)
        picture[30:60] = 180
        picture[40:46, left : left + 6] = 60
        return picture

    found = pose(marked(60), reference_text(marked(50)))
    assert (found.right, found.down) == pytest.approx((10 / 150, 0), abs=0.003)


def test_a_view_that_aligns() -> None:
    at = Pose(6.0, -0.04, 0.03)
    picture = part(1, opposite(at))
    view = View(size=75, aspect=150 / 90, pad="none", channels=1, align=reference_text(part()))
    found = pose_in(picture, view)
    assert found is not None
    plain = viewed(part(), view).astype(float)
    assert np.abs(viewed(picture, view, found) - plain).mean() < 1.5
    assert np.abs(viewed(picture, view) - plain).mean() > 5
    heat = np.zeros(view.shape, np.float32)
    heat[24, 36] = 1
    before, after = (
        np.unravel_index(restored(heat, SIZE, view, pose=lies).argmax(), SIZE)
        for lies in (None, found)
    )
    x, y = at.matrix(SIZE) @ (before[1], before[0], 1.0)
    assert (after[1], after[0]) == pytest.approx((x, y), abs=1.5)
    assert pose_in(picture, View()) is None


def test_another_process_finds_the_same(tmp_path: Path) -> None:
    picture = part(3, Pose(-4.0, 0.02, 0.02))
    Image.fromarray(picture).save(tmp_path / "it.png")
    view = View(size=75, aspect=150 / 90, pad="none", channels=3, align=reference_text(part(3)))
    decoded = apart.decode_apart(tmp_path / "it.png", fit=view)
    assert decoded is not None
    assert decoded.pose == pose_in(picture, view)
    np.testing.assert_array_equal(decoded.pixels, viewed(picture, view, decoded.pose))


def test_the_most_usual_picture_is_the_nearest_to_the_mean() -> None:
    found = [part(), part(1, Pose(20.0, 0.1, 0.0)), part(1, Pose(-20.0, -0.1, 0.0))]
    assert most_usual(found[::-1]) == reference_text(found[0])
    # None but the one that is looked at is in memory.
    passed: list[weakref.ref[Pixels]] = []

    def passing() -> Iterator[Pixels]:
        for one in found:
            assert sum(picture() is not None for picture in passed) <= 1
            copied = one.copy()
            passed.append(weakref.ref(copied))
            yield copied

    most_usual(passing())
    with pytest.raises(DataError, match="needs a picture as its reference"):
        most_usual([])


def test_what_is_ignored_does_not_tell_which_is_the_most_usual() -> None:
    found = [part(), part(1, Pose(20.0, 0.1, 0.0)), part(1, Pose(-20.0, -0.1, 0.0))]
    ignored = np.zeros((*part().shape[:2], 1), np.uint8)
    ignored[:50, :40] = 1
    found[0] = np.where(ignored > 0, np.uint8(255), found[0])  # a lamp
    assert most_usual(found) != reference_text(found[0])
    assert most_usual(found, mask_text(ignored)) == reference_text(found[0])


def test_what_is_ignored_does_not_tell_how_a_part_lies() -> None:
    at = Pose(6.0, 0.03, -0.02)
    ignored = np.zeros((*part().shape[:2], 1), np.uint8)
    ignored[:50, :40] = 1
    dark = aligned(part(), opposite(at))
    lit = dark.copy()
    lit[:30, :20] = 255
    text = reference_text(part())
    there, also = (pose(picture, text, mask_text(ignored)) for picture in (dark, lit))
    assert there == pytest.approx(also, abs=0.02)
    assert there == pytest.approx(at, abs=0.3)
    assert abs(pose(lit, text).angle - at.angle) > 1


def test_a_long_picture_has_the_shape_of_itself() -> None:
    long = np.tile(part()[:54, :100], (1, 10, 1))
    assert pose(long, reference_text(long)) == pytest.approx(UNMOVED, abs=1e-3)


def test_what_cannot_be_aligned_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = reference_text(part())
    with pytest.raises(DataError, match=r"is 90 x 90, and cannot be aligned to .* shape 192 x 115"):
        pose(part()[:, :90], reference)
    with pytest.raises(ConfigError, match=r"align=nut\.png is no reference .* give align=auto"):
        pose(part(), "nut.png")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(ConfigError, match=r"pip install 'onlygood\[align\]'"):
        pose(part(), reference)


def test_a_picture_that_opencv_finds_too_wide_is_an_error_in_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import cv2

    def refuse(*_: object, **__: object) -> None:
        raise cv2.error("(-215:Assertion failed) dst.cols < SHRT_MAX")

    monkeypatch.setattr(cv2, "warpAffine", refuse)
    with pytest.raises(DataError, match=r"is 150 x 90, and cannot be .*SHRT_MAX.* scale it down"):
        aligned(part(), Pose(1.0, 0.0, 0.0))


def test_cores_of_the_machine_take_no_memory_from_a_picture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In another process, whose address space has an end; each thread of OpenCV takes some.
    apart._end_workers()
    monkeypatch.setenv("OPENCV_FOR_THREADS_NUM", "32")
    large = encoded(part(3).repeat(16, 0).repeat(16, 1))
    view = View(size=75, pad="none", channels=1, align=reference_text(part()))
    decoded = apart.decode_apart(large, fit=view)
    assert decoded is not None and decoded.pixels.shape == (*view.shape, 1)


def test_how_differently_a_part_lies_is_told_against_the_most_usual_picture() -> None:
    poses = [UNMOVED, Pose(2.0, 0.03, 0.04), Pose(-2.0, 0.03, 0.04), Pose(2.0, -0.03, -0.04)]
    found = misalignment(part(3, at) for at in poses)
    assert found == (pytest.approx(2.0, abs=0.05), pytest.approx(0.05, abs=0.001))


def test_nothing_is_said_of_pictures_that_would_not_gain_by_alignment() -> None:
    draw = np.random.default_rng(0)
    noise = [draw.integers(0, 256, (*SIZE, 1), np.uint8) for _ in range(4)]
    assert misalignment(noise) is None
    assert misalignment([part()] * 4) is None  # copies
    assert (
        misalignment([part(at=Pose(0.0, 0.004, 0.0)), part(), part(at=Pose(0.4, 0.0, 0.0))]) is None
    )
    moved_a_lot = [part(), part(at=Pose(3.0, 0.05, 0.0)), part(at=Pose(-3.0, 0.0, 0.05))]
    assert misalignment(moved_a_lot) is not None
    assert misalignment(moved_a_lot[:2]) is None
    assert misalignment(iter([*moved_a_lot, part()[:, :90]])) is None  # of another shape
    assert misalignment([]) is None
    # What sets them apart is more than how they lie: each has a blot of its own.
    blotted = [picture.copy() for picture in moved_a_lot]
    for place, picture in zip((5, 50, 95), blotted, strict=True):
        picture[10:80, place : place + 50] = 255
    assert misalignment(blotted) is None


def test_without_opencv_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [part(), part(at=Pose(3.0, 0.05, 0.0)), part(at=Pose(-3.0, 0.0, 0.0))]
    assert misalignment(pictures) is not None
    monkeypatch.setattr("onlygood.data.align.find_spec", lambda name: None)
    assert misalignment(pictures) is None
