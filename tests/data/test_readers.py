import errno
import gzip
import os
import struct
from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import labelled, layout
from onlygood.data.readers import (
    DATASETS,
    SETS,
    KnownSplit,
    elpv,
    elpv_doubtful,
    idx,
    mvtec,
    one_vs_rest,
    read_set,
    sets,
    write_dataset,
)
from tests.data.pictures import write


def idx_bytes(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + array.tobytes()
    )


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """40 training and 20 test pictures of 5 x 6 pixels, label = position modulo 10."""
    folder = tmp_path / "original"
    folder.mkdir()
    for part, n in (("train", 40), ("t10k", 20)):
        pictures = np.arange(n, dtype=np.uint8)[:, None, None] + np.zeros((1, 5, 6), np.uint8)
        classes = np.arange(n, dtype=np.uint8) % 10
        packed = gzip.compress(idx_bytes(pictures))
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
        (folder / f"{part}-labels.idx1-ubyte").write_bytes(idx_bytes(classes))
    return folder


def mnist(folder: Path, normal_class: int) -> KnownSplit:
    return one_vs_rest(read_set("mnist", folder), normal_class)


def test_idx_plain_and_packed(tmp_path: Path):
    array = np.random.RandomState(0).randint(0, 256, (3, 4, 5), dtype=np.uint8)
    for data in (idx_bytes(array), gzip.compress(idx_bytes(array))):
        (tmp_path / "a").write_bytes(data)
        np.testing.assert_array_equal(idx(tmp_path / "a"), array)


WHOLE = idx_bytes(np.zeros((3, 4), np.uint8))
BAD_IDX = {
    "empty": (b"", "is not an IDX file"),
    "text": (b"hello, world", "is not an IDX file"),
    "floats": (b"\0\0\x0d\x01\0\0\0\0", "is not an IDX file of bytes"),
    "wild header": (b"\0\0\x08\x04" + b"\xff" * 16, "shorter than its header says"),
    "too many axes": (b"\0\0\x08\xff", "is not an IDX file of bytes"),
    "header cut": (WHOLE[:9], "shorter than its header says"),
    "values cut": (WHOLE[:-1], r"shorter than its header says \(shape \(3, 4\)\)"),
    "too long": (WHOLE + b"\0", "longer than its header says"),
    "packed and cut": (gzip.compress(WHOLE)[:-9], "cannot be read"),
    "packed and damaged": (gzip.compress(WHOLE)[:10] + b"\xff" * 20, "cannot be read"),
    "packed with a wrong checksum": (gzip.compress(WHOLE)[:-8] + b"\0" * 8, "cannot be read"),
}


@pytest.mark.parametrize("case", BAD_IDX)
def test_damaged_idx_files_are_refused(case: str, tmp_path: Path):
    data, message = BAD_IDX[case]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=message):
        idx(tmp_path / "a")


def test_a_missing_idx_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="cannot be read"):
        idx(tmp_path / "gone")
    with pytest.raises(DataError, match=r"has none of train-images-idx3-ubyte\.gz"):
        mnist(tmp_path, 0)
    with pytest.raises(DataError, match=r"mnist: no folder .*gone; give the folder"):
        mnist(tmp_path / "gone", 0)


def test_a_whole_set(digits: Path):
    found = read_set("mnist", digits)
    assert (found.name, found.class_names) == ("mnist", tuple("0123456789"))
    assert found.train.classes.tolist() == [i % 10 for i in range(40)]
    assert [picture.load()[0, 0, 0] for picture in found.test.pictures] == list(range(20))
    merged = found.merged()
    assert merged.classes.tolist() == [i % 10 for i in range(60)]
    assert [p.load()[0, 0, 0] for p in merged.pictures] == [*range(40), *range(20)]
    with pytest.raises(ConfigError, match='unknown data set "mnits"; did you mean "mnist"'):
        read_set("mnits", digits)


def test_whole_sets_go_by_one_name():
    # Readers of MNIST call it otherwise than the table does only by mistake.
    for name, read in SETS.items():
        with pytest.raises(
            DataError, match=rf"^{name}: no folder gone; give the folder|gone/mnist"
        ):
            read(Path("gone"))


def test_one_class_against_the_rest(digits: Path):
    train, test = mnist(digits, 3)
    assert train.names == ["00003.png", "00013.png", "00023.png", "00033.png"]
    assert [picture.load()[0, 0, 0] for picture in train] == [3, 13, 23, 33]
    assert test.labels.tolist() == [False] * 2 + [True] * 18
    assert test.source.names[:3] == ["00003.png", "00013.png", "00000.png"]
    assert test.kinds == ["good"] * 2 + [k for k in "012456789" for _ in range(2)]
    assert "mnist, 3 against the rest: 4 normal pictures" in test.description
    assert one_vs_rest(read_set("fashion-mnist", digits), 9).test.kinds[-1] == "bag"
    with pytest.raises(ConfigError, match="has classes 0 to 9, got 10"):
        mnist(digits, 10)


def test_images_and_labels_must_belong_together(digits: Path):
    (digits / "train-labels.idx1-ubyte").write_bytes(idx_bytes(np.zeros(39, np.uint8)))
    with pytest.raises(DataError, match=r"train images have shape \(40, 5, 6\), labels \(39,\)"):
        mnist(digits, 0)
    (digits / "train-labels.idx1-ubyte").write_bytes(idx_bytes(np.full(40, 10, np.uint8)))
    with pytest.raises(DataError, match="original: has the label 10, expected 0 to 9"):
        mnist(digits, 0)


def test_a_data_set_is_looked_for_where_the_system_keeps_it(
    digits: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sets, "SYSTEM_FOLDERS", (digits / "none", digits.parent))
    digits.rename(digits.parent / "fashion-mnist")
    assert len(DATASETS["fashion-mnist-0"].read(None).train) == 4


@pytest.mark.parametrize(
    ("module", "train", "normal", "anomalous"), [("mono", 411, 177, 313), ("poly", 644, 276, 402)]
)
def test_elpv_protocol(module: str, train: int, normal: int, anomalous: int):
    package = pytest.importorskip("elpv_dataset")
    found = elpv(module)  # type: ignore[arg-type]
    assert len(found.train) == train
    assert found.test.labels.tolist() == [False] * normal + [True] * anomalous
    # The protocol once more, from the package's own table.
    table = Path(package.__file__).parent / "data/labels.csv"
    rows = [line.split() for line in table.read_text().splitlines()]
    sound = [Path(path).name for path, p, kind in rows if kind == module and float(p) == 0]
    order = np.random.RandomState(0).permutation(len(sound))
    names = [sound[i] for i in order]
    assert found.train.names + found.test.source.names[:normal] == names
    defective = [Path(path).name for path, p, kind in rows if kind == module and float(p) == 1]
    assert found.test.source.names[normal:] == defective
    assert found.train[0].load().shape == (300, 300, 1)


@pytest.mark.parametrize(("module", "grades"), [("mono", (117, 56)), ("poly", (178, 50))])
def test_doubtful_cells_are_none_that_the_protocol_tests(module: str, grades: tuple[int, int]):
    pytest.importorskip("elpv_dataset")
    known, found = elpv(module), elpv_doubtful(module)  # type: ignore[arg-type]
    assert not {*found.train.names, *found.test.source.names} & {*known.test.source.names}
    normal = [n for n, a in zip(found.test.source.names, found.test.labels, strict=True) if not a]
    assert sorted([*found.train.names, *normal]) == sorted(known.train.names)
    assert (found.test.kinds.count("0.33"), found.test.kinds.count("0.67")) == grades


def test_elpv_from_another_folder(tmp_path: Path):
    lines = [f"images/cell{i}.png {p} mono" for i, p in enumerate([0.0] * 10 + [1.0, 0.33])]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    found = elpv("mono", tmp_path)
    assert (len(found.train), found.test.labels.tolist()) == (7, [False] * 3 + [True])
    (tmp_path / "labels.csv").write_text("path,label\n")
    with pytest.raises(DataError, match=r"has no labels\.csv with lines of path"):
        elpv("mono", tmp_path)


def test_elpv_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "elpv_dataset", None)
    with pytest.raises(DataError, match=r"pip install 'onlygood\[demo\]'"):
        elpv("mono")


def test_a_split_is_written_in_mvtec_layout(digits: Path, tmp_path: Path):
    target = tmp_path / "new" / "mnist-3"
    summary = write_dataset("mnist-3", target, source=digits)
    assert summary[:5] == ("mnist-3", target, 4, 2, 18)
    assert layout(target).kind == "mvtec"
    assert layout(target).normal.names[0] == "train/good/00003.png"
    found, expected = labelled(target), mnist(digits, 3).test
    assert found.kinds == expected.kinds
    for a, b in zip(found.source, expected.source, strict=True):
        np.testing.assert_array_equal(a.load(), b.load())
    assert mvtec(target).train.names == layout(target).normal.names
    assert [path.name for path in target.parent.iterdir()] == ["mnist-3"]


def test_files_are_copied_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("elpv_dataset")
    (tmp_path / "cells").mkdir()
    monkeypatch.chdir(tmp_path / "cells")
    summary = write_dataset("elpv-mono", Path())
    assert (summary.train, summary.test_normal, summary.test_anomalous) == (411, 177, 313)
    assert len(list((tmp_path / "cells/test/defective").iterdir())) == 313
    original = elpv("mono").train[0]
    assert original.path is not None
    assert sorted(path.name for path in tmp_path.rglob("*") if path.parent.name == "cells") == [
        "test",
        "train",
    ]
    copy = tmp_path / "cells/train/good" / original.name
    assert copy.read_bytes() == original.path.read_bytes()


def test_what_cannot_be_written_leaves_nothing(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    target = tmp_path / "target"
    with pytest.raises(ConfigError, match='unknown data set "elpv_mono"; did you mean "elpv-mono"'):
        write_dataset("elpv_mono", target)
    write(target / "keep.png")
    with pytest.raises(DataError, match="exists and is not an empty folder"):
        write_dataset("mnist-3", target, source=digits)
    assert [path.name for path in target.iterdir()] == ["keep.png"]

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(DataError, match=r"other: cannot be written \(No space left on device\)"):
        write_dataset("mnist-3", tmp_path / "other", source=digits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["original", "target"]


def test_a_file_that_is_missing_is_not_the_fault_of_the_folder_to_write(tmp_path: Path):
    (tmp_path / "labels.csv").write_text("".join(f"{i}.png 0.0 mono\n" for i in range(3)))
    with open(tmp_path / "labels.csv", "a") as file:
        file.write("3.png 1.0 mono\n")
    with pytest.raises(DataError, match=r"\d\.png: cannot be read \(No such file or directory\)"):
        write_dataset("elpv-mono", tmp_path / "out", source=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["labels.csv"]


def test_a_folder_that_is_there_may_be_a_disk_of_its_own(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    volume = tmp_path / "volume"
    volume.mkdir()
    replace = os.replace

    def within_a_disk(source: Path, target: Path) -> None:
        if not source.is_relative_to(volume):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        replace(source, target)

    monkeypatch.setattr("os.replace", within_a_disk)
    write_dataset("mnist-3", volume, source=digits)
    assert sorted(path.name for path in volume.iterdir()) == ["test", "train"]


def test_mvtec_needs_its_layout(tmp_path: Path):
    write(tmp_path / "good/a.png")
    with pytest.raises(DataError, match="has no train/good"):
        mvtec(tmp_path)
