"""What every reader gives back, and where it looks for the original files."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, UInt8

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import Labelled
from onlygood.data.source import ImageSource, Picture, printable

SYSTEM_FOLDERS = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))
"""Where a folder named after a data set is looked for; Debian's packages install there."""


class Part(NamedTuple):
    """Pictures, each of one class."""

    pictures: ImageSource
    classes: Int[np.ndarray, " N"]
    """int64, positions in the `class_names` of the set."""


class LabelledSet(NamedTuple):
    """A whole data set, to cut protocols from."""

    name: str
    class_names: tuple[str, ...]
    train: Part
    """The official training pictures; empty where nobody has defined a split."""
    test: Part
    """The official test pictures; where nobody has defined a split, all pictures."""

    def merged(self) -> Part:
        """All pictures: those of training, then those of the test."""
        return Part(
            ImageSource([*self.train.pictures, *self.test.pictures]),
            np.concatenate([self.train.classes, self.test.classes]),
        )


class AttributePart(NamedTuple):
    """Pictures, each with any number of attributes."""

    pictures: ImageSource
    attributes: Bool[np.ndarray, "N A"]
    """Columns in the order of the `attribute_names` of the set."""


class AttributeSet(NamedTuple):
    """A whole data set whose pictures have attributes in place of one class."""

    name: str
    attribute_names: tuple[str, ...]
    train: AttributePart
    validation: AttributePart
    test: AttributePart


class KnownSplit(NamedTuple):
    """Normal pictures to fit on, and labelled ones to evaluate on."""

    train: ImageSource
    test: Labelled


def one_vs_rest(found: LabelledSet, normal_class: int) -> KnownSplit:
    """One class against the rest: fit on it in training, evaluate on the whole test part.

    Raises:
        ConfigError: there is no such class.
        DataError: a part lacks pictures, for example because the set has no official split.
    """
    names = found.class_names
    if normal_class not in range(len(names)):
        raise ConfigError(f"{found.name} has classes 0 to {len(names) - 1}, got {normal_class}")

    def pictures(part: Part, label: int) -> ImageSource:
        return part.pictures.subset(np.flatnonzero(part.classes == label))

    others = [(name, pictures(found.test, i)) for i, name in enumerate(names) if i != normal_class]
    return known_split(
        f"{found.name}, {names[normal_class]} against the rest",
        pictures(found.train, normal_class),
        pictures(found.test, normal_class),
        [(name, source) for name, source in others if len(source)],
    )


def known_split(
    title: str,
    train: ImageSource,
    normal: ImageSource,
    anomalous: Sequence[tuple[str, ImageSource]],
    masks: dict[str, Picture] | None = None,
) -> KnownSplit:
    """Put a split together; `masks` by the name of the anomalous picture.

    Raises:
        DataError: a part is empty.
    """
    counts = {
        "training": len(train),
        "normal test": len(normal),
        "anomalous test": len(anomalous),
    }
    if empty := [words for words, count in counts.items() if not count]:
        raise DataError(
            f"{title}: a part is empty: there are no {empty[0]} pictures; give the original files, "
            "or take a protocol such as gpnd where the data set has no official split"
        )
    parts = [("good", normal), *anomalous]
    kinds = [kind for kind, source in parts for _ in source]
    labels = np.array([kind != "good" for kind in kinds], dtype=bool)
    words = (
        f"{title}: {len(train)} normal pictures for fitting; test {len(normal)} normal, "
        f"{labels.sum()} anomalous"
    )
    pictures = ImageSource([picture for _, source in parts for picture in source])
    truth = [
        (masks or {}).get(name) if anomalous else None
        for name, anomalous in zip(pictures.names, labels, strict=True)
    ]
    return KnownSplit(train, Labelled(pictures, labels, kinds, truth, words))


def find_folder(name: str, folder: Path | None, holds: str, *below: str) -> Path:
    """The folder given, or where the system keeps this data set.

    Args:
        name: of the data set, and of its folder on the system.
        folder: what the caller gave.
        holds: what is expected in it, in words, for the error.
        below: folders that the original archive unpacks to, in `folder`; the first one wins.

    Raises:
        DataError: there is none.
    """
    places = [folder] if folder is not None else [place / name for place in SYSTEM_FOLDERS]
    for place in places:
        if place.is_dir():
            return next((place / inner for inner in below if (place / inner).is_dir()), place)
    raise DataError(
        f"{name}: no folder {' or '.join(map(printable, places))}; give the folder that holds "
        f"{holds}"
    )


def of_files(paths: Iterable[Path]) -> ImageSource:
    """Pictures named like their files."""
    return ImageSource([Picture(path.name, path) for path in paths])


def of_array(
    where: Path,
    pictures: UInt8[np.ndarray, "N ..."],
    classes: Integer[np.ndarray, "..."],
    count: int,
) -> Part:
    """Pictures `(N, H, W)` or `(N, H, W, C)` named by position, with their classes of `count`.

    Raises:
        DataError: there is not one class for each picture, or one is out of range.
    """
    labels = classes.ravel().astype(np.int64)
    if len(labels) != len(pictures):
        raise DataError(
            f"{printable(where)}: has {len(pictures)} pictures and {len(labels)} labels; they "
            "must be equal in number; copy it again"
        )
    wrong = labels[(labels < 0) | (labels >= count)]
    if len(wrong):
        raise DataError(
            f"{printable(where)}: has the label {wrong[0]}, expected 0 to {count - 1}; the file is "
            "not the original one"
        )
    return Part(
        ImageSource([Picture(f"{i:05d}.png", picture) for i, picture in enumerate(pictures)]),
        labels,
    )


def nothing() -> Part:
    """The training part of a set without an official split."""
    return Part(ImageSource([]), np.empty(0, np.int64))
