"""CIFAR-10 and CIFAR-100, in the binary and in the python version."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from onlygood.core.errors import DataError
from onlygood.data.readers.pickled import read_pickle
from onlygood.data.readers.sets import LabelledSet, Part, find_folder, of_array
from onlygood.data.source import printable

CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
"""In the order of the labels."""

CIFAR100_CLASSES = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus "
    "butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch "
    "crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo "
    "keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse "
    "mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy "
    "porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television "
    "tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm".split()
)
"""The fine ones, in the order of the labels."""

_PLANES = (3, 32, 32)
"""How a picture is stored: all of red, then green, then blue."""


def cifar10(folder: Path | None = None) -> LabelledSet:
    """Photographs of ten kinds of things (32 x 32, RGB; 50,000 and 10,000).

    `folder` holds `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin` of the binary
    version, or the files of the python version, without `.bin`; or the folder
    `cifar-10-batches-bin` or `cifar-10-batches-py` that the archive unpacks to.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    return _read(
        _Version(
            name="cifar10",
            class_names=CIFAR10_CLASSES,
            archives=("cifar-10-batches-bin", "cifar-10-batches-py"),
            train=tuple(f"data_batch_{i}" for i in range(1, 6)),
            test="test_batch",
            label_bytes=1,
            key=b"labels",
        ),
        folder,
    )


def cifar100(folder: Path | None = None) -> LabelledSet:
    """Photographs of a hundred kinds of things (32 x 32, RGB; 50,000 and 10,000), fine labels.

    `folder` holds `train.bin` and `test.bin` of the binary version, or `train` and `test` of the
    python version; or the folder `cifar-100-binary` or `cifar-100-python` that the archive unpacks
    to.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    return _read(
        _Version(
            name="cifar100",
            class_names=CIFAR100_CLASSES,
            archives=("cifar-100-binary", "cifar-100-python"),
            train=("train",),
            test="test",
            label_bytes=2,
            key=b"fine_labels",
        ),
        folder,
    )


class _Version(NamedTuple):
    name: str
    class_names: tuple[str, ...]
    archives: tuple[str, str]
    train: tuple[str, ...]
    test: str
    label_bytes: int
    """Before each picture of the binary version; the last one is the label."""
    key: bytes
    """Of the labels in the python version."""


class _Records(NamedTuple):
    pictures: UInt8[np.ndarray, "N 32 32 3"]
    classes: UInt8[np.ndarray, " N"]


def _read(version: _Version, folder: Path | None) -> LabelledSet:
    files = [*version.train, version.test]
    root = find_folder(
        version.name, folder, f"{files[0]}.bin or {files[0]} and the like", *version.archives
    )
    suffix = ".bin" if (root / f"{files[0]}.bin").exists() else ""
    for file in files:
        if not (root / f"{file}{suffix}").is_file():
            other = "" if suffix else f" (or {file}.bin)"
            raise DataError(
                f"{printable(root)}: has no file {file}{suffix}{other}; {version.name} needs "
                f"{', '.join(files)}, all with or all without .bin"
            )
    reader = _binary if suffix else _python
    train = [reader(root / f"{file}{suffix}", version) for file in version.train]
    test = reader(root / f"{version.test}{suffix}", version)
    # All files of CIFAR-10 are of one length, and so are five tests and the training of CIFAR-100.
    lengths = [len(records.classes) for records in (*train, test)]
    if sum(lengths[:-1]) != 5 * lengths[-1]:
        raise DataError(
            f"{printable(root)}: {', '.join(files)} have {', '.join(map(str, lengths))} pictures; "
            "there must be five for training to each of the test; copy them again"
        )
    count = len(version.class_names)
    return LabelledSet(
        version.name,
        version.class_names,
        _part(root / version.train[0], train, count),
        _part(root / version.test, [test], count),
    )


def _part(where: Path, records: list[_Records], count: int) -> Part:
    pictures = np.concatenate([one.pictures for one in records])
    classes = np.concatenate([one.classes for one in records])
    return of_array(where, pictures, classes, count)


def _binary(path: Path, version: _Version) -> _Records:
    length = version.label_bytes + int(np.prod(_PLANES))
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(
            f"{printable(path)}: cannot be read ({error.strerror}); copy it again"
        ) from error
    if len(data) % length or not len(data):
        raise DataError(
            f"{printable(path)}: has {len(data)} bytes, expected a multiple of {length}; copy it "
            "again"
        )
    records = data.reshape(-1, length)
    return _Records(
        _channels_last(records[:, version.label_bytes :]), records[:, version.label_bytes - 1]
    )


def _python(path: Path, version: _Version) -> _Records:
    batch = read_pickle(path)
    pictures, classes = batch.get(b"data"), batch.get(version.key)
    if (
        not isinstance(pictures, np.ndarray)
        or pictures.shape[1:] != (int(np.prod(_PLANES)),)
        or not isinstance(classes, list)
        or not all(isinstance(label, int) and 0 <= label < 256 for label in classes)
        or len(classes) != len(pictures)
    ):
        raise DataError(
            f"{printable(path)}: has no bytes (N, {np.prod(_PLANES)}) called 'data' and as many "
            f"numbers called {version.key.decode()!r}; give the original file of {version.name}"
        )
    return _Records(_channels_last(pictures), np.array(classes, np.uint8))


def _channels_last(rows: UInt8[np.ndarray, "N 3072"]) -> UInt8[np.ndarray, "N 32 32 3"]:
    return np.moveaxis(rows.reshape(-1, *_PLANES), 1, 3)
