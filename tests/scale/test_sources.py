"""What is found in sources, and what of it is a picture. Nothing is scored here."""

import io
import os
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from onlygood.core.errors import DataError
from onlygood.data.decode import MAX_PIXELS
from onlygood.scale.places import local_path
from onlygood.scale.sources import inputs_of, status
from onlygood.scale.units import Input, Unit
from onlygood.scale.work import pictures_of
from tests.deploy.stream import normal
from tests.scale.test_places import kept

__all__ = ["kept"]


def test_suffixes_may_be_large_and_names_in_a_tar_odd(tmp_path: Path) -> None:
    (tmp_path / "A.PNG").write_bytes(normal(1))
    with tarfile.open(tmp_path / "SET.TAR", "w") as archive:
        archive.add(tmp_path / "A.PNG", "b #ü.PNG")
        archive.add(tmp_path / "A.PNG", "label.json")
    (alone,) = inputs_of([tmp_path])
    (tar,) = inputs_of([tmp_path / "SET.TAR"])
    assert (alone.pictures, tar.pictures) == (1, 0)
    found = [picture.name for one in (alone, tar) for picture in pictures_of(Unit("", (one,)))]
    assert found == [(tmp_path / "A.PNG").as_uri(), f"{tar.uri}#b%20%23%C3%BC.PNG"]


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_cell_without_bytes_is_a_bad_picture(tmp_path: Path, kind: pa.DataType) -> None:
    file = tmp_path / "set.parquet"
    parquet.write_table(pa.table({"image": pa.array([normal(1), None], kind)}), file)
    (item,) = inputs_of([file])
    good, bad = pictures_of(Unit("", (item,)))
    assert good.load().shape == (40, 50, 3)
    with pytest.raises(DataError, match=r"set\.parquet#1: has no bytes$"):
        bad.load()


def test_what_is_too_large_is_refused_unread(kept: str, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(normal(1))
    size = 8 * MAX_PIXELS + 2**20 + 1
    (remote,) = pictures_of(Unit("", (Input(f"{kept}/a.png", size, "0"),)))
    with tarfile.open(tmp_path / "set.tar", "w") as archive:
        for name, octets in (("b.png", size), ("c.png", 0)):
            entry = tarfile.TarInfo(name)
            entry.size = octets
            archive.addfile(entry, None if octets else io.BytesIO())
    member = next(pictures_of(Unit("", tuple(inputs_of([tmp_path / "set.tar"])))))
    for picture in (remote, member):
        with pytest.raises(DataError, match="has 764 MiB, more than a picture of"):
            picture.load()


def test_a_folder_elsewhere_is_as_one_here(kept: str, tmp_path: Path) -> None:
    names = ["b/d.png", "b/c.png", "a.png", ".hidden/e.png", "f.txt"]
    names += ["test/hole/g.png", "ground_truth/hole/g_mask.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    here, there = ([item.uri for item in inputs_of([of])] for of in (tmp_path, kept))
    assert there == [
        f"{kept}/{name}" for name in ("a.png", "b/c.png", "b/d.png", "test/hole/g.png")
    ]
    assert sorted(here) == [f"file://{uri.removeprefix('keeping://')}" for uri in there]


def test_a_stamp_is_in_nanoseconds(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"1")
    os.utime(tmp_path / "a.png", ns=(0, 1))
    assert status((tmp_path / "a.png").as_uri()) == (1, "1")


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_list_may_be_as_windows_writes_it(tmp_path: Path, code: str) -> None:
    names = [tmp_path / "a.png", tmp_path / "ü.png"]
    for path in names:
        path.touch()
    (tmp_path / "list.txt").write_bytes("\r\n".join(map(str, names)).encode(code))
    found = [local_path(item.uri) for item in inputs_of([tmp_path / "list.txt"])]
    assert found == names
    (tmp_path / "list.txt").write_bytes(b"a.png\nb\0.png\n")
    with pytest.raises(DataError, match=r"list.txt has a byte 0 in line 2"):
        list(inputs_of([tmp_path / "list.txt"]))
