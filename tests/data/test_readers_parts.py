from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import read_mask
from onlygood.data.readers import elpv_doubtful, made, part, parts
from onlygood.data.readers.parts import KINDS, SIDE, Thing
from tests.data.pictures import write


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in {"TRAIN": 4, "NORMAL": 3, "OF_EACH": 2}.items():
        monkeypatch.setattr(made, name, count)


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("name", ["warning", "blossom"])
def test_a_part_is_seen_in_many_poses_with_defects(name: str) -> None:
    train, test = part(name)
    pictures = [picture.load() for picture in train]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures) == 4
    assert {picture.shape for picture in pictures} == {(SIDE, SIDE, 3)}
    assert test.kinds == ["good"] * 3 + [kind for kind in KINDS for _ in range(2)]
    for mask, label in zip(test.masks, test.labels, strict=True):
        assert (mask is not None) == label
        assert mask is None or read_mask(mask, (SIDE, SIDE)).any()
    again = part(name)
    for one, other in zip([*train, *test.source], [*again.train, *again.test.source], strict=True):
        np.testing.assert_array_equal(one.load(), other.load())


def test_a_straight_pose_is_the_middle_of_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DEGREES", "SHIFT", "SCALE"):
        monkeypatch.setattr(parts, name, 0.0)
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 256, (300, 320, 3), np.uint8)
    image = Image.fromarray(pixels)
    thing = Thing(image, image.convert("L"), (150.0, 140.0), SIDE)
    seen = parts._posed(image, SIDE, parts._pose(thing, draw))
    np.testing.assert_array_equal(np.asarray(seen), pixels[44 : 44 + SIDE, 54 : 54 + SIDE])


def test_a_turned_pose_turns_about_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SHIFT", 0.0)
    draw = np.random.default_rng(0)
    image = Image.new("L", (300, 300))
    image.paste(255, (149, 139, 152, 142))  # its middle is at x = 150.5, y = 140.5
    thing = Thing(image, image, (150.5, 140.5), SIDE)
    poses = [parts._posed(image, SIDE, parts._pose(thing, draw)) for _ in range(3)]
    for seen in poses:
        ys, xs = np.nonzero(np.asarray(seen) > 127)
        assert np.abs([ys.mean() + 0.5 - SIDE / 2, xs.mean() + 0.5 - SIDE / 2]).max() < 0.6


def test_cells_keep_their_split(tmp_path: Path) -> None:
    rows = []
    for number in range(24):
        write(tmp_path / f"images/cell{number:02}.png", 60 + 5 * number, side=300)
        grade = [0.0, 0.0, 0.67, 1.0][number % 4]
        rows.append(f"images/cell{number:02}.png {grade} poly")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    plain, posed = elpv_doubtful("poly", tmp_path), part("cell-poly", tmp_path)
    assert posed.train.names == plain.train.names
    assert posed.test.source.names == plain.test.source.names
    assert (posed.test.kinds, posed.test.masks) == (plain.test.kinds, plain.test.masks)
    assert posed.test.labels.tolist() == plain.test.labels.tolist()
    for one, other in zip(posed.train, plain.train, strict=True):
        pixels = one.load()
        assert pixels.shape == (SIDE, SIDE, 1)
        assert abs(pixels.mean() / other.load().mean() - 1) < 0.15


def test_what_is_wrong_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match='no part "dail"; did you mean "dial"'):
        part("dail")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(DataError, match=r"matplotlib is not installed; pip install 'onlygood\[tra"):
        part("dial")
