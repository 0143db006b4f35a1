"""The pictures of whoever runs the bench, and what tells them from all others."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from onlygood.core.errors import DataError
from onlygood.data.layout import is_csv, labelled, layout, subfolders
from onlygood.data.readers.sets import KnownSplit
from onlygood.data.source import Picture, printable

DIGITS = 12
"""Hexadecimal digits of a fingerprint."""
FORMS = (
    "train/good (or pictures in train) and test/good beside test/DEFECT; a folder of such folders; "
    "or a CSV file with the columns path,label,split"
)
"""How own data may lie, in words."""


def own(place: Path) -> KnownSplit:
    """Pictures to train on and to test on: an MVTec layout, `train` beside `test`, or a CSV file.

    Raises:
        DataError: it is nothing of these, or a picture is in both parts.
    """
    train, test = layout(place).normal, labelled(place)
    both = {picture.path for picture in train} & {picture.path for picture in test.source}
    if both:
        raise DataError(
            f"{printable(place)}: {len(both)} of {len(train)} pictures would both train and test, "
            f"as nothing says which ones test; needs {FORMS}"
        )
    return KnownSplit(train, test)


def own_splits(place: Path) -> dict[str, KnownSplit] | None:
    """The splits of a folder of folders, by their names; None where there is no `train` in any.

    Raises:
        DataError: as `own`.
    """
    if is_csv(place) or not os.path.isdir(place) or (place / "train").is_dir():
        return None
    inner = [place / name for name in subfolders(place) if (place / name / "train").is_dir()]
    return {path.name: own(path) for path in inner} or None


def fingerprint(splits: Mapping[str, KnownSplit]) -> str:
    """SHA-256 of all that figures depend on: names, labels, and every file's bytes. 12 digits.

    Raises:
        DataError: a picture of a test has the bytes of one that trains, or cannot be read.
    """
    facts = []
    for name, (train, test) in splits.items():
        learnt, digests = _digests(train), _digests(test.source)
        trained = dict(zip(learnt, train.names, strict=True))
        for digest, picture in zip(digests, test.source.names, strict=True):
            if digest in trained:
                raise DataError(
                    f"{picture} is, byte by byte, {trained[digest]}: a picture that trains cannot "
                    "test; take one of the two out"
                )
        masks = [None if mask is None else _digest(mask) for mask in test.masks]
        tested = [digests, test.source.names, test.kinds, test.labels.tolist(), masks]
        facts.append([name, learnt, train.names, tested])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:DIGITS]


def _digests(pictures: Iterable[Picture]) -> list[str]:
    return [_digest(picture) for picture in pictures]


def _digest(picture: Picture) -> str:
    assert picture.path is not None  # layouts and CSV files hold nothing but files
    try:
        with picture.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{printable(picture.path)}: cannot be read ({error.strerror})") from error
