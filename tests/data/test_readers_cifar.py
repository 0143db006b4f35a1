import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import DataError
from onlygood.data.readers import LabelledSet, read_set
from onlygood.data.readers.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES
from onlygood.data.readers.pickled import read_pickle

RNG = np.random.RandomState(0)
PICTURES = RNG.randint(0, 256, (12, 32, 32, 3), dtype=np.uint8)
PLANES = np.moveaxis(PICTURES, 3, 1).reshape(12, 3072)


class Python2:
    """Pickles as cPickle of Python 2 and the numpy of its time did, protocol 2."""

    def __init__(self) -> None:
        self.puts = 0
        self.globals: dict[bytes, int] = {}

    def __call__(self, value: object) -> bytes:
        return b"\x80\x02" + self.of(value) + b"."

    def put(self) -> bytes:
        self.puts += 1
        return b"q%c" % self.puts if self.puts < 256 else b"r" + struct.pack("<I", self.puts)

    def name(self, name: bytes) -> bytes:
        if name in self.globals:
            return b"h%c" % self.globals[name]
        put = self.put()
        self.globals[name] = self.puts
        return b"c" + name + put

    def of(self, value: object) -> bytes:
        match value:
            case bytes() if len(value) < 256:
                return b"U%c" % len(value) + value + self.put()
            case bytes():
                return b"T" + struct.pack("<I", len(value)) + value
            case int() if 0 <= value < 256:
                return b"K%c" % value
            case int():
                return b"J" + struct.pack("<i", value)
            case [single]:
                return b"]" + self.put() + self.of(single) + b"a"
            case list():
                return b"]" + self.put() + b"(" + b"".join(map(self.of, value)) + b"e"
            case dict():
                pairs = b"".join(self.of(k) + self.of(v) for k, v in value.items())
                return (
                    b"}" + self.put() + (b"(" + pairs + b"u" if len(value) != 1 else pairs + b"s")
                )
            case np.ndarray():
                order = b"\x88" if np.isfortran(value) else b"\x89"
                return b"".join(
                    [
                        self.name(b"numpy.core.multiarray\n_reconstruct\n"),
                        self.name(b"numpy\nndarray\n"),
                        b"K\x00\x85U\x01b\x87R" + self.put() + b"(K\x01",
                        *(b"M" + struct.pack("<H", n) for n in value.shape),
                        b"\x86" + self.name(b"numpy\ndtype\n"),
                        b"U\x02" + value.dtype.str[1:].encode() + b"K\x00K\x01\x87R" + self.put(),
                        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb" + order,
                        self.of(value.tobytes("A")) + b"tb",
                    ]
                )
        raise AssertionError(value)


def batch(start: int, stop: int, **labels: list[int]) -> dict[bytes, object]:
    return {
        b"batch_label": b"training batch 1 of 5",
        **{key.encode(): value for key, value in labels.items()},
        b"data": PLANES[start:stop],
        b"filenames": [b"leptodactylus_pentadactylus_s_000004.png"] * (stop - start),
    }


FILES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def python10(folder: Path) -> Path:
    root = folder / "cifar-10-batches-py"
    root.mkdir()
    for i, file in enumerate(FILES):
        (root / file).write_bytes(Python2()(batch(2 * i, 2 * i + 2, labels=[i, 9 - i])))
    return folder


def binary10(folder: Path) -> Path:
    root = folder / "cifar-10-batches-bin"
    root.mkdir()
    for i, file in enumerate(FILES):
        records = [bytes([i]), PLANES[2 * i].tobytes(), bytes([9 - i]), PLANES[2 * i + 1].tobytes()]
        (root / f"{file}.bin").write_bytes(b"".join(records))
    return folder


def python100(folder: Path) -> Path:
    fine, coarse = [*range(88, 98), 99, 0], [7] * 12
    parts = {"train": slice(0, 10), "test": slice(10, 12)}
    for file, part in parts.items():
        content = batch(part.start, part.stop, fine_labels=fine[part], coarse_labels=coarse[part])
        (folder / file).write_bytes(Python2()(content))
    return folder


def binary100(folder: Path) -> Path:
    fine = [*range(88, 98), 99, 0]
    records = [
        bytes([7, label]) + planes.tobytes() for label, planes in zip(fine, PLANES, strict=True)
    ]
    (folder / "train.bin").write_bytes(b"".join(records[:10]))
    (folder / "test.bin").write_bytes(b"".join(records[10:]))
    return folder


def agrees(found: LabelledSet, train: list[int], test: list[int]) -> None:
    assert (found.train.classes.tolist(), found.test.classes.tolist()) == (train, test)
    merged = [picture.load() for picture in found.merged().pictures]
    np.testing.assert_array_equal(merged, PICTURES)
    assert found.test.pictures.names == ["00000.png", "00001.png"]


@pytest.mark.parametrize("write", [python10, binary10])
def test_cifar10(write: Callable[[Path], Path], tmp_path: Path):
    folder = write(tmp_path)
    for place in (folder, next(folder.iterdir())):
        found = read_set("cifar10", place)
        assert (found.name, found.class_names) == ("cifar10", CIFAR10_CLASSES)
        agrees(found, [0, 9, 1, 8, 2, 7, 3, 6, 4, 5], [5, 4])


@pytest.mark.parametrize("write", [python100, binary100])
def test_cifar100_has_fine_labels(write: Callable[[Path], Path], tmp_path: Path):
    found = read_set("cifar100", write(tmp_path))
    assert (found.name, found.class_names) == ("cifar100", CIFAR100_CLASSES)
    agrees(found, list(range(88, 98)), [99, 0])


def test_names_of_cifar100():
    assert len(CIFAR100_CLASSES) == len(set(CIFAR100_CLASSES)) == 100
    assert list(CIFAR100_CLASSES) == sorted(CIFAR100_CLASSES)


def test_missing_files(tmp_path: Path):
    with pytest.raises(DataError, match=r"has no file data_batch_1 \(or data_batch_1\.bin\)"):
        read_set("cifar10", tmp_path)
    folder = binary10(tmp_path)
    (folder / "cifar-10-batches-bin/data_batch_4.bin").unlink()
    with pytest.raises(DataError, match=r"cifar-10-batches-bin: has no file data_batch_4\.bin;"):
        read_set("cifar10", folder)


def test_binary_files_cut_or_of_the_other_set(tmp_path: Path):
    folder = binary100(tmp_path)
    whole = (folder / "train.bin").read_bytes()
    for damaged, message in {
        whole[:-1]: "has 30739 bytes, expected a multiple of 3074",
        b"": "has 0 bytes",
        whole[:-3074]: r"train, test have 9, 2 pictures; there must be five",
        b"\0\x64" + whole[2:]: "has the label 100, expected 0 to 99",
    }.items():
        (folder / "train.bin").write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_set("cifar100", folder)


def test_python_files_cut_or_of_the_other_set(tmp_path: Path):
    folder = python100(tmp_path)
    whole = (folder / "test").read_bytes()
    for damaged, message in {
        whole[:-1]: "is no whole pickle of plain data",
        b"": "is no whole pickle",
        Python2()(batch(0, 2, labels=[1, 2])): "as many numbers called 'fine_labels'",
        Python2()(batch(0, 2, fine_labels=[1])): "as many numbers called 'fine_labels'",
        Python2()(batch(0, 2, fine_labels=[1, 300])): "as many numbers called 'fine_labels'",
        Python2()(batch(0, 2, fine_labels=[1, 100])): "has the label 100, expected 0 to 99",
        Python2()({b"data": PLANES[:, :9], b"fine_labels": [1] * 12}): r"no bytes \(N, 3072\)",
        Python2()({b"fine_labels": [1]}): r"no bytes \(N, 3072\)",
    }.items():
        (folder / "test").write_bytes(damaged)
        with pytest.raises(DataError, match=message):
            read_set("cifar100", folder)


CONTENT = {
    b"first": RNG.randint(0, 256, (3, 4), dtype=np.uint8),
    b"by columns": np.asfortranarray(RNG.randint(0, 256, (30, 40), dtype=np.uint8)),
    b"numbers": [0, 255, 256, 70000, -1],
    b"one": [b"alone"],
    b"none": [],
    b"strings": [b"%d" % i for i in range(300)],
    b"inner": {b"a": {b"b": 1, b"\xff": 2}},
}


def test_plain_data_are_what_pickle_makes_of_them(tmp_path: Path):
    data = Python2()(CONTENT)
    (tmp_path / "a").write_bytes(data)
    found, expected = read_pickle(tmp_path / "a"), pickle.loads(data, encoding="bytes")
    assert list(found) == list(expected) == list(CONTENT)
    for key, value in expected.items():
        np.testing.assert_equal(found[key], value)
        np.testing.assert_equal(found[key], CONTENT[key])


def string(path: Path) -> bytes:
    return b"U%c" % len(bytes(path)) + bytes(path)


MALICIOUS: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda path: b"\x80\x02cos\nmkdir\n" + string(path) + b"\x85R.",
    "in a dictionary": lambda p: b"\x80\x02}U\x04datacos\nmkdir\n" + string(p) + b"\x85Rs.",
    "instance": lambda path: b"(" + string(path) + b"ios\nmkdir\n.",
    "object": lambda path: b"(cos\nmkdir\n" + string(path) + b"o.",
    "new object": lambda p: b"\x80\x02cpathlib\nPath\n)\x81cos\nmkdir\n" + string(p) + b"\x85R.",
    "name from the stack": lambda p: b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93" + string(p) + b"\x85R.",
}


@pytest.mark.parametrize("kind", MALICIOUS)
def test_nothing_is_called(kind: str, tmp_path: Path):
    # That the file would do harm is shown first, else the test would prove nothing.
    pickle.loads(MALICIOUS[kind](tmp_path / "harm"))
    assert (tmp_path / "harm").is_dir()
    (tmp_path / "a").write_bytes(MALICIOUS[kind](tmp_path / "more"))
    with pytest.raises(DataError, match="anything else could run code and is not read"):
        read_pickle(tmp_path / "a")
    assert not (tmp_path / "more").exists()


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R"
REFUSED = {
    "a list": (b"].", "it holds a list, not a dictionary"),
    "an array of objects": (b"cnumpy\ndtype\nU\2O8K\0K\1\x87R.", "else than arrays of bytes"),
    "an array of floats": (Python2()({b"a": np.zeros((2, 2))}), "else than arrays of bytes"),
    "an array of a list": (RECONSTRUCT + b"(K\1K\1\x85N\x89]tb.", "else than arrays of bytes"),
    "a called array": (b"cnumpy\nndarray\nK\1\x85\x85R.", "else than arrays of bytes"),
    "a called string": (b"U\1aK\1\x85R.", "else than arrays of bytes"),
    "a string with a state": (b"U\1a}b.", "the state of something else"),
    "a wrong shape": (Python2()({b"a": PLANES}).replace(b"K\1M\x0c", b"K\1M\x0d"), "reshape"),
    "a key that is a tuple": (b"}K\1" + b"\x85" * 100_000 + b"K\1s.", "not a string"),
    "another opcode": (b"\x80\x02}G" + b"\0" * 8 + b".", "it has the opcode BINFLOAT"),
    "another format": (b"hello, world", "is no whole pickle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_anything_but_plain_data_is_refused(case: str, tmp_path: Path):
    data, message = REFUSED[case]
    (tmp_path / "a").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_pickle(tmp_path / "a")


def test_a_missing_pickle(tmp_path: Path):
    with pytest.raises(DataError, match="gone: cannot be read"):
        read_pickle(tmp_path / "gone")


def test_damage_anywhere_is_told_or_harmless(tmp_path: Path):
    whole = Python2()({b"data": PLANES[:2, :9].copy(), b"labels": [1, 2], b"names": [b"a"]})
    path = tmp_path / "a"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError):
            read_pickle(path)
    for position in range(len(whole)):
        for value in b"(h\xff":
            path.write_bytes(whole[:position] + bytes([value]) + whole[position + 1 :])
            try:
                assert isinstance(read_pickle(path), dict)
            except DataError:
                pass
