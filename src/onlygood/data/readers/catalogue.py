"""The data sets by name: whole ones, and splits of them that can be written as folders."""

import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from onlygood.core.errors import ConfigError, DataError, alternatives
from onlygood.data.readers.cifar import CIFAR10_CLASSES, cifar10, cifar100
from onlygood.data.readers.digits import mnist_5k, svhn
from onlygood.data.readers.folders import coil100, imagenet, lsun, omniglot
from onlygood.data.readers.idx import DIGITS, FASHION_CLASSES, fashion_mnist, mnist
from onlygood.data.readers.industrial import VISA_CATEGORIES, elpv, visa
from onlygood.data.readers.parts import PARTS, find_packages, part
from onlygood.data.readers.sets import KnownSplit, LabelledSet, one_vs_rest
from onlygood.data.readers.surfaces import SURFACES, find_archive, surface
from onlygood.data.source import Picture, printable


class Summary(NamedTuple):
    """What `write_dataset` wrote."""

    name: str
    folder: Path
    train: int
    test_normal: int
    test_anomalous: int
    description: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An entry of `DATASETS`."""

    family: str
    """The data set that it is a split of; all of a family come from the same files."""
    read: Callable[[Path | None], KnownSplit]
    """Takes the folder of the original files; None: where they are installed."""
    find: Callable[[Path | None], object] | None = None
    """Raises as `read` where the files are missing, where that can be told in less time."""


SETS: dict[str, Callable[[Path | None], LabelledSet]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "coil100": coil100,
    "fashion-mnist": fashion_mnist,
    "imagenet": imagenet,
    "lsun": lsun,
    "mnist": mnist,
    "mnist-5k": mnist_5k,
    "omniglot": omniglot,
    "svhn": svhn,
}
"""Whole data sets whose pictures have one class each, by the name that `read_set` takes."""


def read_set(name: str, folder: Path | None = None) -> LabelledSet:
    """Read a whole data set from its original files.

    Args:
        name: one of `SETS`.
        folder: of the original files; None: where they are installed.

    Raises:
        ConfigError: no such name.
        DataError: the files are missing or not what they should be.
    """
    _known(name, SETS)
    return SETS[name](folder)


def write_dataset(name: str, folder: Path, *, source: Path | None = None) -> Summary:
    """Write a known data set's split as PNG files in MVTec layout: `train/good`, `test/KIND`.

    Masks, where there are any, go to `ground_truth/KIND`. Files keep their original names, or
    are called by their position in the original data.

    Args:
        name: one of `DATASETS`.
        folder: is made; may exist if it is empty. On failure nothing of it remains.
        source: folder of the original files, where they are not installed.

    Raises:
        ConfigError: no such name.
        DataError: the folder is not empty or cannot be written, or the data are missing or cannot
            be read.
    """
    _known(name, DATASETS)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(f"{printable(folder)}: exists and is not an empty folder; give a new one")
    train, test = DATASETS[name].read(source)
    # In a folder that is there, as that may be a disk of its own: nothing can be moved into it.
    near = folder if folder.is_dir() else folder.parent
    temporary = near / f".{secrets.token_hex(8)}.partial"
    try:
        for picture in train:
            _write(picture, temporary / "train" / "good", picture.name)
        for picture, kind, mask in zip(test.source, test.kinds, test.masks, strict=True):
            _write(picture, temporary / "test" / kind, picture.name)
            if mask is not None:
                stem = Path(picture.name).stem
                _write(mask, temporary / "ground_truth" / kind, f"{stem}_mask.png")
        if folder.is_dir():
            # It stays, as somebody may be in it.
            for part in temporary.iterdir():
                os.replace(part, folder / part.name)
            temporary.rmdir()
        else:
            os.replace(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"{printable(folder)}: cannot be written ({error.strerror})") from error
        raise
    anomalous = int(test.labels.sum())
    return Summary(
        name, folder, len(train), len(test.source) - anomalous, anomalous, test.description
    )


def _classes(name: str, count: int) -> dict[str, Dataset]:
    """Each class of a whole data set against the rest."""

    def read(folder: Path | None, normal_class: int) -> KnownSplit:
        return one_vs_rest(read_set(name, folder), normal_class)

    return {
        f"{name}-{label}": Dataset(family=name, read=partial(read, normal_class=label))
        for label in range(count)
    }


DATASETS: dict[str, Dataset] = {
    "elpv-mono": Dataset(family="elpv", read=partial(elpv, "mono")),
    "elpv-poly": Dataset(family="elpv", read=partial(elpv, "poly")),
    **_classes("fashion-mnist", len(FASHION_CLASSES)),
    **_classes("mnist", len(DIGITS)),
    **_classes("cifar10", len(CIFAR10_CLASSES)),
    **_classes("svhn", len(DIGITS)),
    **{
        f"parts-{name}": Dataset(
            family="parts",
            read=partial(part, name),
            find=lambda _: find_packages(),
        )
        for name in PARTS
    },
    **{
        f"surfaces-{name}": Dataset(
            family="surfaces",
            read=partial(surface, name),
            find=find_archive,
        )
        for name in SURFACES
    },
    **{
        f"visa-{category}": Dataset(family="visa", read=partial(visa, category))
        for category in VISA_CATEGORIES
    },
}
"""Data sets by the name that `write_dataset` takes."""


def _known(name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ConfigError(f'unknown data set "{name}"{alternatives(name, names)}')


def _write(picture: Picture, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if picture.path is not None:
        try:
            content = picture.path.read_bytes()
        except OSError as error:
            raise DataError(
                f"{printable(picture.path)}: cannot be read ({error.strerror}); give the folder of "
                "the original files"
            ) from error
        (folder / name).write_bytes(content)
        return
    pixels = picture.load()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(folder / name)
