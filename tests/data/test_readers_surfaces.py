import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import labelled, read_mask
from onlygood.data.readers import surface, write_dataset
from onlygood.data.readers.surfaces import ARCHIVE, INSTALLED, SURFACES, TO_CHOOSE, TO_REPORT
from onlygood.data.source import Picture
from tests.data.pictures import encoded

CHOSEN = "mesh"


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Textures that are red on the left, what trains, and green on the right, what is tested."""
    root = tmp_path_factory.mktemp("ufoai")
    (root / INSTALLED).mkdir(parents=True)
    draw = np.random.default_rng(0)
    with zipfile.ZipFile(root / INSTALLED / ARCHIVE, "w") as file:
        for one in TO_CHOOSE.values():
            pixels = draw.integers(0, 40, (512 * one.reduced, 512 * one.reduced, 3), np.uint8)
            border = 288 * one.reduced
            pixels[:, :border, 0] += 160
            pixels[:, border:, 1] += 160
            file.writestr(f"textures/{one.file}", encoded(pixels))
    return root


def checksum(pictures: Iterable[Picture]) -> int:
    return zlib.crc32(b"".join(picture.load().tobytes() for picture in pictures))


def test_what_trains_and_what_is_tested_share_no_pixel(unpacked: Path) -> None:
    train, test = surface("concrete", unpacked)
    assert len(train) == 100
    assert {kind: test.kinds.count(kind) for kind in test.kinds} == {"good": 40} | dict.fromkeys(
        ("paste", "scratch", "crack", "stain", "blur", "hole", "colour", "line"), 8
    )
    for picture in train:
        assert (picture.load()[:, :, 0] > picture.load()[:, :, 1]).all()
    for picture in test.source.subset(np.flatnonzero(~test.labels)):
        assert (picture.load()[:, :, 0] < picture.load()[:, :, 1]).all()
    assert all(
        (mask is not None) == label for mask, label in zip(test.masks, test.labels, strict=True)
    )


def test_they_are_the_same_each_time(unpacked: Path) -> None:
    first, again = (surface("concrete", unpacked) for _ in range(2))
    assert checksum(first.train) == checksum(again.train) != checksum(again.test.source)
    assert checksum(first.test.source) == checksum(again.test.source)
    assert checksum(first.train) == 4169720216


def test_one_is_written_with_its_masks(unpacked: Path, tmp_path: Path) -> None:
    summary = write_dataset(f"surfaces-{CHOSEN}", tmp_path / "out", source=unpacked / INSTALLED)
    assert (summary.train, summary.test_normal, summary.test_anomalous) == (100, 40, 72)
    found = labelled(tmp_path / "out")
    masks = [read_mask(mask, (160, 160)) for mask in found.masks if mask is not None]
    assert len(masks) == 72 and all(mask.any() for mask in masks)


def test_every_kind_of_surface_is_once_in_each_half() -> None:
    assert not set(TO_CHOOSE) & set(TO_REPORT)
    assert set(SURFACES) == {*TO_CHOOSE, *TO_REPORT}
    kinds = [[one.kind for one in half.values()] for half in (TO_CHOOSE, TO_REPORT)]
    assert kinds[0] == kinds[1] and len(set(kinds[0])) == len(kinds[0]) == 16
    assert len({one.file for one in SURFACES.values()}) == 32


def test_what_is_wrong_is_named(unpacked: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='no surface "messh"; did you mean "mesh"'):
        surface("messh")
    with pytest.raises(
        DataError, match=r"no 0textures\.pk3 in .*install Debian's package ufoai-te"
    ):
        surface("mesh", tmp_path)
    # Of the other half there is nothing in the archive.
    with pytest.raises(DataError, match=r"tex_streets/street001\.png cannot be read from it"):
        surface("road", unpacked)
    (tmp_path / ARCHIVE).write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"0textures\.pk3: .* cannot be read from it"):
        surface("mesh", tmp_path)
    with zipfile.ZipFile(tmp_path / ARCHIVE, "w") as file:
        file.writestr(f"textures/{SURFACES['mesh'].file}", encoded(np.zeros((64, 512), np.uint8)))
    with pytest.raises(DataError, match=r"metal_g_1\.jpg is 512 x 64, expected 512 x 512 or more"):
        surface("mesh", tmp_path)
