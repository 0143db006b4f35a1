"""Who trains and who is tested: the splits that figures are published on.

A protocol makes tasks of a data set: normal pictures to train on, and labelled ones to test on.
What is drawn at random is drawn from `SPLIT_SEED`, apart from the seeds of training, so that all
methods and seeds see the same pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from onlygood.core.errors import ConfigError, DataError, alternatives
from onlygood.data.layout import Labelled
from onlygood.data.readers import (
    MVTEC_CATEGORIES,
    SETS,
    VISA_CATEGORIES,
    AttributePart,
    AttributeSet,
    LabelledSet,
    Part,
    celeba,
    elpv,
    elpv_doubtful,
    mvtec,
    one_vs_rest,
    part,
    parts,
    read_set,
    surface,
    surfaces,
    visa,
)
from onlygood.data.readers.own import FORMS, fingerprint, own, own_splits
from onlygood.data.readers.sets import KnownSplit, find_folder, known_split, nothing
from onlygood.data.source import ImageSource, printable
from onlygood.evaluation.records import WHOLE

SPLIT_SEED = 0
"""Of everything that a protocol draws; recorded with each figure that depends on it."""
OOD_SHARE = 0.2
"""Anomalous pictures as a share of the normal ones, in AMA's tests."""
KNOWN_SHARE = 0.1
"""Known anomalous pictures as a share of the normal ones that train, in AMA's code."""
PAIR = "-vs-"
"""Between the names of the normal and the other data set."""
COIL_OBJECTS = tuple(
    f"obj{number}"
    for number in (
        *(79, 48, 65, 98, 73, 13, 14, 39, 57, 28, 42, 75, 44, 24, 82),
        *(56, 7, 47, 68, 30, 33, 90, 70, 87, 12, 91, 4, 22, 71, 55),
    )
)
"""The thirty of COIL-100 that PIAD averages over."""
FACES = ("Bald", "Mustache", "Bangs", "Eyeglasses", "Wearing_Hat")
"""The attributes of CelebA that PIAD takes as anomalous."""

Module = Literal["mono", "poly"]
CELLS: dict[str, Module] = {"elpv-mono": "mono", "elpv-poly": "poly"}
"""Module types of ELPV by the names of their data sets."""

TESTED_WHOLE = ("imagenet", "mnist-5k")
"""Data sets without a training part that are the other one of `ood` in tables."""

Indices = NDArray[np.intp]


class Task(NamedTuple):
    """Normal pictures to train on, labelled ones to test on."""

    train: ImageSource
    test: Labelled
    split_seed: int | None = None
    """What the protocol drew at random, it drew from this; None: nothing."""
    known: ImageSource | None = None
    """Known anomalous pictures to train on; none of them is in the test."""
    calibrates: bool = False
    """Fits a detector, which calibrates on some of the training pictures, so that promised and
    found false alarms can be compared, and maps with masks; else all pictures train."""


class Tasks(NamedTuple):
    """What a protocol makes of a data set."""

    classes: tuple[str, ...]
    """In the order of the data set."""
    usual: tuple[str, ...]
    """Those that published means are over."""
    task: Callable[[str], Task]
    """Makes the task of a class."""
    fingerprint: str = ""
    """Of data that nobody else has; part of their name in records."""

    def named(self, dataset: str) -> str:
        """The name of the data set in records: other data never meet the records of these."""
        return f"{dataset}@{self.fingerprint}" if self.fingerprint else dataset

    def chosen(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """Classes by name or position; the usual ones where none is wanted.

        Raises:
            ConfigError: there is no such class.
        """
        found = []
        for word in wanted:
            if word not in self.classes:
                if not word.isdecimal() or int(word) >= len(self.classes):
                    raise ConfigError(f'no class "{word}"{alternatives(word, self.classes)}')
                word = self.classes[int(word)]
            found.append(word)
        return tuple(dict.fromkeys(found)) or self.usual


class Halves(NamedTuple):
    """A data set of pictures with made defects, parted by name."""

    choose: tuple[str, ...]
    """Names that settings are chosen on."""
    report: tuple[str, ...]
    """Names that tables show."""
    read: Callable[[str, Path | None], KnownSplit]


MADE = {
    "parts": Halves(tuple(parts.TO_CHOOSE), tuple(parts.TO_REPORT), part),
    "surfaces": Halves(tuple(surfaces.TO_CHOOSE), tuple(surfaces.TO_REPORT), surface),
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """An entry of `PROTOCOLS`."""

    summary: str
    datasets: str
    """What it is made for, in words."""
    open: Callable[[str, Path | None], Tasks]
    """Takes the name of the data set, and the folder that holds it; None: where it is installed."""
    known: bool = False
    """Tasks have known anomalous pictures, for methods that learn from them."""


# Splits ------------------------------------------------------------------------------------------


def official(data: LabelledSet, normal: int) -> Task:
    """Train on a class of the official training part, test on the whole official test part.

    Source: Ruff et al. 2018, Deep One-Class Classification, ICML.
    """
    return Task(*one_vs_rest(data, normal))


def semi_supervised(task: Task, anomalous: ImageSource, seed: int = SPLIT_SEED) -> Task:
    """The same task with a few known anomalous pictures: a tenth as many as normal ones train.

    Args:
        task: one whose test has none of `anomalous`.
        anomalous: pictures of official training parts to draw from; all, if there are fewer.
        seed: of the drawing.

    Raises:
        DataError: there are none to draw from.

    Source: Somepalli et al. 2021, arXiv:2003.10713, section 3.2, which leaves the experiments to an
    appendix that was not to be had; share and origin are those of the authors' code.
    """
    if not len(anomalous):
        raise DataError(
            "the other data set has no training part to take known anomalous pictures from; take "
            "one that has, or the protocol without them"
        )
    count = round(KNOWN_SHARE * len(task.train))
    drawn = np.sort(RandomState(seed).permutation(len(anomalous))[:count])
    return task._replace(known=anomalous.subset(drawn), split_seed=seed)


def official_known(data: LabelledSet, normal: int) -> Task:
    """As `official`, with known pictures of the other classes, out of the training part."""
    others = np.flatnonzero(data.train.classes != normal)
    return semi_supervised(official(data, normal), data.train.pictures.subset(others))


def gpnd(data: LabelledSet, normal: int, seed: int = SPLIT_SEED) -> Task:
    """Train on 80 % of a class, test on the other 20 % and on as many pictures of other classes.

    Both official parts are merged, and each class is parted at random, rounded down; the anomalous
    pictures are drawn from the 20 % of the other classes.

    Source: Pidhorskyi et al. 2018, arXiv:1807.02588, as in Tuluptceva et al. 2019,
    arXiv:1909.05904, section 4.1 (who draw the anomalous pictures anew for each evaluation).
    """
    pool = data.merged()
    fitted, held = _parted(data, pool, seed)
    others = np.concatenate([*held[:normal], *held[normal + 1 :]])
    # A stream for each class: what is drawn for one does not depend on which others are run.
    drawn = RandomState([seed, normal]).permutation(others)[: len(held[normal])]
    split = known_split(
        f"{data.name}, {data.class_names[normal]} against the rest, 80/20",
        pool.pictures.subset(fitted[normal]),
        pool.pictures.subset(held[normal]),
        _by_class(data, pool, np.sort(drawn)),
    )
    return Task(*split, split_seed=seed)


def choosing(data: LabelledSet, normal: int, seed: int = SPLIT_SEED) -> Task:
    """`gpnd` of pictures that no table tests: the place to choose settings on.

    What `gpnd` would train on of each class, as far as it is of the official training part (where
    there is one), is parted once more. For `TESTED_WHOLE` there is no such place.
    """
    pool = data.merged()
    kept = np.concatenate(_parted(data, pool, seed)[0])
    kept = np.sort(kept[kept < (len(data.train.pictures) or len(pool.pictures))])
    part = Part(pool.pictures.subset(kept), pool.classes[kept])
    return gpnd(data._replace(train=nothing(), test=part), normal, seed)


def out_of_distribution(
    data: LabelledSet, other: LabelledSet, share: float | None = OOD_SHARE, seed: int = SPLIT_SEED
) -> Task:
    """Train on all of a data set, test on its test part and on the test part of another data set.

    Args:
        data: what is normal.
        other: what is anomalous.
        share: number of pictures drawn from `other`, as a share of the normal ones in the test;
            all, if there are fewer. None: all, without drawing.
        seed: of the drawing.

    Source: Somepalli et al. 2021, arXiv:2003.10713, section 5.
    """
    drawn = np.arange(len(other.test.pictures))
    if share is not None:
        count = round(share * len(data.test.pictures))
        drawn = np.sort(RandomState(seed).permutation(drawn)[:count])
    split = known_split(
        f"{data.name} against {other.name}",
        data.train.pictures,
        data.test.pictures,
        [(other.name, other.test.pictures.subset(drawn))],
    )
    return Task(*split, split_seed=None if share is None else seed)


def pair(data: LabelledSet, normal: int, anomalous: int) -> Task:
    """Train on one class of the training part, test on the test part of it and of another class."""
    names = data.class_names
    split = known_split(
        f"{data.name}, {names[normal]} against {names[anomalous]}",
        data.train.pictures.subset(np.flatnonzero(data.train.classes == normal)),
        data.test.pictures.subset(np.flatnonzero(data.test.classes == normal)),
        _by_class(data, data.test, np.flatnonzero(data.test.classes == anomalous)),
    )
    return Task(*split)


def attribute(data: AttributeSet, name: str, others: Sequence[str] = ()) -> Task:
    """Train on pictures without an attribute, test on pictures without and with it.

    Args:
        data: pictures with attributes, in official parts.
        name: the anomalous attribute.
        others: attributes that no picture has, neither in training nor in the test.

    Source: Tuluptceva et al. 2019, arXiv:1909.05904, section 4.1; with the other four as `others`
    as in the authors' code, which makes the training pictures of all five the same.
    """
    column = data.attribute_names.index(name)
    columns = [data.attribute_names.index(other) for other in others]

    def found(part: AttributePart, has: bool) -> ImageSource:
        chosen = (part.attributes[:, column] == has) & ~part.attributes[:, columns].any(1)
        return part.pictures.subset(np.flatnonzero(chosen))

    anomalous = found(data.test, True)
    split = known_split(
        f"{data.name}, without and with {name}",
        found(data.train, False),
        found(data.test, False),
        [(name, anomalous)] if len(anomalous) else [],
    )
    return Task(*split)


def solar_cells(module: Module, folder: Path | None = None) -> Task:
    """ELPV, see `onlygood.data.readers.elpv`, trained in the order of names.

    That is the order of the folder that `onlygood data` writes: a detector that is fitted on that
    folder is the same.
    """
    train, test = elpv(module, folder)
    return Task(train.subset(np.argsort(train.names, kind="stable")), test, calibrates=True)


def solar_cells_to_choose(module: Module, folder: Path | None = None) -> Task:
    """Solar cells that `solar_cells` does not test; the anomalous ones are of doubtful grade."""
    train, test = elpv_doubtful(module, folder)
    return Task(train.subset(np.argsort(train.names, kind="stable")), test)


def _parted(data: LabelledSet, pool: Part, seed: int) -> tuple[list[Indices], list[Indices]]:
    """80 % of each class and the rest, at random and rounded down: positions in the pool."""
    random = RandomState(seed)
    fitted: list[Indices] = []
    held: list[Indices] = []
    for label in range(len(data.class_names)):
        order = random.permutation(np.flatnonzero(pool.classes == label))
        cut = len(order) * 8 // 10
        fitted.append(np.sort(order[:cut]))
        held.append(np.sort(order[cut:]))
    return fitted, held


def _by_class(data: LabelledSet, part: Part, where: Indices) -> list[tuple[str, ImageSource]]:
    """The pictures at some positions, class by class."""
    classes = part.classes[where]
    return [
        (data.class_names[label], part.pictures.subset(where[classes == label]))
        for label in np.unique(classes)
    ]


# Of data sets by name ----------------------------------------------------------------------------


def _classes(make: Callable[[LabelledSet, int], Task], name: str, folder: Path | None) -> Tasks:
    data = read_set(name, folder_of(name, folder))
    names = data.class_names
    usual = COIL_OBJECTS if name == "coil100" else names

    def task(word: str) -> Task:
        if word not in names:
            raise DataError(
                f"{name}: the folder has no pictures of {word}, only of {len(names)} classes; "
                "add them, or name classes with --classes"
            )
        return make(data, names.index(word))

    return Tasks(names, usual, task)


def _two_sets(share: float | None, name: str, folder: Path | None, known: bool = False) -> Tasks:
    normal, between, other = name.partition(PAIR)
    if not between or not {normal, other} <= set(SETS):
        raise ConfigError(
            f'this protocol takes two data sets, such as "fashion-mnist{PAIR}mnist", got '
            f'"{name}"; known: {", ".join(SETS)}'
        )

    def read(one: str) -> LabelledSet:
        # One folder cannot be both data sets.
        place = folder_of(one, folder)
        return read_set(one, None if place == folder else place)

    def task(word: str) -> Task:
        anomalous = read(other)
        made = out_of_distribution(read(normal), anomalous, share)
        return semi_supervised(made, anomalous.train.pictures) if known else made

    return Tasks((WHOLE,), (WHOLE,), task)


def _bedrooms(name: str, folder: Path | None) -> Tasks:
    _only(name, "lsun")
    data = read_set(name, folder_of(name, folder))
    others = data.class_names[1:]
    return Tasks(others, others, lambda word: pair(data, 0, data.class_names.index(word)))


def _faces(apart: bool, name: str, folder: Path | None) -> Tasks:
    _only(name, "celeba")
    data = celeba(folder_of(name, folder))

    def task(word: str) -> Task:
        return attribute(data, word, [other for other in FACES if apart and other != word])

    return Tasks(FACES, FACES, task)


def _mvtec(name: str, folder: Path | None) -> Tasks:
    _only(name, "mvtec")
    wanted = f"the categories, such as {MVTEC_CATEGORIES[0]}"
    place = find_folder(name, folder_of(name, folder), wanted)
    if not any((place / category).is_dir() for category in MVTEC_CATEGORIES):
        raise DataError(
            f"{printable(place)}: has no folder of MVTec AD; give the one that holds {wanted}"
        )
    return Tasks(
        MVTEC_CATEGORIES, MVTEC_CATEGORIES, lambda category: Task(*mvtec(place / category))
    )


def _visa(name: str, folder: Path | None) -> Tasks:
    _only(name, "visa")
    place = folder_of(name, folder)
    return Tasks(VISA_CATEGORIES, VISA_CATEGORIES, lambda category: Task(*visa(category, place)))


def _cells(make: Callable[[Module, Path | None], Task], name: str, folder: Path | None) -> Tasks:
    _only(name, *CELLS)
    return Tasks((WHOLE,), (WHOLE,), lambda word: make(CELLS[name], folder_of("elpv", folder)))


def _made(names: tuple[str, ...], name: str, folder: Path | None) -> Tasks:
    place = folder_of(name, folder)
    return Tasks(names, names, lambda one: Task(*MADE[name].read(one, place), calibrates=True))


def _to_report(made: str, name: str, folder: Path | None) -> Tasks:
    _only(name, made)
    return _made(MADE[name].report, name, folder)


def _to_choose(name: str, folder: Path | None) -> Tasks:
    if name in TESTED_WHOLE:
        raise ConfigError(
            f"{name} has no training part and is tested whole by ood: no picture of it is there to "
            "choose on; take another data set, such as fashion-mnist"
        )
    if name in CELLS:
        return _cells(solar_cells_to_choose, name, folder)
    if name in MADE:
        return _made(MADE[name].choose, name, folder)
    return _classes(choosing, name, folder)


def _own(name: str, folder: Path | None) -> Tasks:
    if folder is None:
        raise ConfigError(f'own data (called "{name}" in records) need --folder: {FORMS}')
    if {"/", "\\"} & set(name):
        raise ConfigError(
            f'a name of own data is no path, got "{name}"; records lie in a file of that name: say '
            f"--dataset {folder.stem or 'mine'}"
        )
    splits = own_splits(folder) or {WHOLE: own(folder)}
    names = tuple(splits)
    return Tasks(
        names,
        names,
        lambda word: Task(*splits[word], calibrates=True),
        fingerprint(splits),
    )


def _only(name: str, *names: str) -> None:
    if name not in names:
        raise ConfigError(f'this protocol is made for {" and ".join(names)}, got "{name}"')


def folder_of(name: str, folder: Path | None) -> Path | None:
    """The subfolder of this name, or the folder itself."""
    if folder is not None and (folder / name).is_dir():
        return folder / name
    return folder


PROTOCOLS: dict[str, Protocol] = {
    "one-vs-rest": Protocol(
        summary="train on a class in the official split, test on the whole test part",
        datasets="mnist, fashion-mnist, cifar10, cifar100, svhn",
        open=partial(_classes, official),
    ),
    "gpnd": Protocol(
        summary="train on 80 % of a class, test on the rest and as many pictures of other classes",
        datasets="fashion-mnist, coil100 and others with classes",
        open=partial(_classes, gpnd),
    ),
    "ood": Protocol(
        summary="train on all of a data set, test against pictures of another one, 20 % as many",
        datasets="two with -vs- between, such as fashion-mnist-vs-mnist",
        open=partial(_two_sets, OOD_SHARE),
    ),
    "ood-full": Protocol(
        summary="the same against all test pictures of the other data set",
        datasets="two with -vs- between, such as fashion-mnist-vs-mnist",
        open=partial(_two_sets, None),
    ),
    "one-vs-rest-known": Protocol(
        summary="one-vs-rest, with known anomalous pictures of the training part, a tenth as many",
        datasets="mnist, fashion-mnist, cifar10, cifar100, svhn",
        open=partial(_classes, official_known),
        known=True,
    ),
    "ood-known": Protocol(
        summary="ood, with known pictures of the other data set's training part, a tenth as many",
        datasets="two with -vs- between, such as fashion-mnist-vs-mnist",
        open=partial(_two_sets, OOD_SHARE, known=True),
        known=True,
    ),
    "mvtec": Protocol(summary="each category in its official split", datasets="mvtec", open=_mvtec),
    "visa": Protocol(summary="each category in its one-class split", datasets="visa", open=_visa),
    "elpv": Protocol(
        summary="solar cells of a module type, with a calibrated threshold",
        datasets="elpv-mono, elpv-poly",
        open=partial(_cells, solar_cells),
    ),
    "parts": Protocol(
        summary="each part of the half to report, with a calibrated threshold, and masks if made",
        datasets="parts",
        open=partial(_to_report, "parts"),
    ),
    "surfaces": Protocol(
        summary="each surface of the half to report, with a calibrated threshold and masks",
        datasets="surfaces",
        open=partial(_to_report, "surfaces"),
    ),
    "celeba-attributes": Protocol(
        summary="train on faces without an attribute, test without and with it",
        datasets="celeba",
        open=partial(_faces, False),
    ),
    "celeba-five": Protocol(
        summary="the same, and no face has another of the five attributes, as in PIAD's code",
        datasets="celeba",
        open=partial(_faces, True),
    ),
    "lsun-pair": Protocol(
        summary="train on bedrooms, test on 300 of them and 300 conference rooms",
        datasets="lsun",
        open=_bedrooms,
    ),
    "folder": Protocol(
        summary="own pictures in their own split, with a calibrated threshold, and masks if given",
        datasets="your own by a name of your choice, from --folder",
        open=_own,
    ),
    "choose": Protocol(
        summary="pictures that no table tests, as in gpnd or of a half: settings are chosen here",
        datasets="those of gpnd but mnist-5k; elpv-mono, elpv-poly; parts, surfaces",
        open=_to_choose,
    ),
}
"""Protocols by the name that users type."""


def open_tasks(protocol: str, dataset: str, folder: Path | None = None) -> Tasks:
    """The tasks that a protocol makes of a data set.

    Args:
        protocol: one of `PROTOCOLS`.
        dataset: its name; data sets of a pair have `-vs-` between them.
        folder: of the original files, or of folders with the names of data sets; None: where
            they are installed.

    Raises:
        ConfigError: an unknown protocol, or a data set that it is not made for.
        DataError: the pictures are missing or not what they should be.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f'unknown protocol "{protocol}"{alternatives(protocol, PROTOCOLS)}')
    return PROTOCOLS[protocol].open(dataset, folder)
