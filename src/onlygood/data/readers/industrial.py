"""Industrial pictures with their published splits: solar cells (ELPV), MVTec AD, VisA."""

import csv
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import labelled, layout
from onlygood.data.readers.sets import KnownSplit, find_folder, known_split, of_files
from onlygood.data.source import Picture, printable

MVTEC_CATEGORIES = tuple(
    "bottle cable capsule carpet grid hazelnut leather metal_nut pill screw tile toothbrush "
    "transistor wood zipper".split()
)
"""Folders of MVTec AD."""

VISA_CATEGORIES = tuple(
    "candle capsules cashew chewinggum fryum macaroni1 macaroni2 pcb1 pcb2 pcb3 pcb4 "
    "pipe_fryum".split()
)
"""Folders of VisA."""


def elpv(module: Literal["mono", "poly"], folder: Path | None = None) -> KnownSplit:
    """Photographs of solar cells (electroluminescence, 300 x 300, grey), normal = sound.

    One module type; normal = defect probability 0, anomalous = 1, the two grades between dropped.
    The normal ones, shuffled by `numpy.random.RandomState(0)`, go to training up to 70 % (rounded
    down), the rest and all anomalous ones to the test. `folder` holds `labels.csv` and `images`;
    None: those of the package `elpv-dataset`.

    Raises:
        DataError: the package is not installed, or the folder is another one.

    Source: Buerhop-Lutz et al. 2018, A benchmark for visual identification of defective solar
    cells in electroluminescence imagery; CC BY-NC-SA 4.0.
    """
    cells = _elpv(module, folder)
    train, test = _parted(cells[0.0], tenths=7)
    return known_split(
        f"ELPV, {module}crystalline modules",
        of_files(train),
        of_files(test),
        [("defective", of_files(cells[1.0]))],
    )


def elpv_doubtful(module: Literal["mono", "poly"], folder: Path | None = None) -> KnownSplit:
    """Cells of ELPV that `elpv` does not test: something to choose settings on.

    Its training pictures, of which a fifth goes to the test (shuffled by `RandomState(0)` again),
    and as anomalous ones the two grades between, which it drops.

    Raises:
        As `elpv`.
    """
    cells = _elpv(module, folder)
    known, _ = _parted(cells[0.0], tenths=7)
    train, test = _parted(known, tenths=8)
    doubtful = [(f"{p:.2f}", of_files(cells[p])) for p in sorted(cells) if 0 < p < 1]
    return known_split(
        f"ELPV, {module}crystalline modules, doubtful against sound ones",
        of_files(train),
        of_files(test),
        doubtful,
    )


def _parted(paths: list[Path], tenths: int) -> tuple[list[Path], list[Path]]:
    """Shuffled: so many tenths of them, rounded down, and the rest."""
    shuffled = [paths[i] for i in np.random.RandomState(0).permutation(len(paths))]
    count = len(paths) * tenths // 10
    return shuffled[:count], shuffled[count:]


def _elpv(module: str, folder: Path | None) -> dict[float, list[Path]]:
    """Files of a module type by the probability of a defect, in the order of the labels."""
    data = _elpv_folder() if folder is None else folder
    cells: dict[float, list[Path]] = {0.0: [], 1.0: []}
    try:
        for line in (data / "labels.csv").read_text("utf-8").splitlines():
            path, probability, kind = line.split()
            if kind == module:
                cells.setdefault(float(probability), []).append(data / path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(data)}: has no labels.csv with lines of path, defect probability and "
            f"module type ({error})"
        ) from error
    return cells


def _elpv_folder() -> Path:
    try:
        return Path(str(resources.files("elpv_dataset"))) / "data"
    except ModuleNotFoundError as error:
        raise DataError(
            "the ELPV photographs come with the package elpv-dataset, which is not installed; "
            "pip install 'onlygood[demo]'"
        ) from error


def mvtec(root: Path) -> KnownSplit:
    """A category of MVTec AD, or any folder in its layout.

    Raises:
        DataError: there is no `train/good`, or the test lacks normal or anomalous pictures.
    """
    found = layout(root)
    if found.kind != "mvtec":
        raise DataError(f"{printable(root)}: has no train/good; give the folder of one category")
    return KnownSplit(found.normal, labelled(root))


def visa(category: str, folder: Path | None = None) -> KnownSplit:
    """A category of VisA, the one-class split (`1cls`), with masks.

    `folder` holds `split_csv/1cls.csv` and the categories, each with `Data/Images/Normal`,
    `Data/Images/Anomaly` and `Data/Masks/Anomaly`.

    Raises:
        ConfigError: there is no such category.
        DataError: files are missing, or the table is another one.

    Source: Zou et al. 2022, arXiv:2207.14315; CC BY 4.0.
    """
    if category not in VISA_CATEGORIES:
        raise ConfigError(f"VisA has no category {category!r}; known: {', '.join(VISA_CATEGORIES)}")
    root = find_folder("visa", folder, "split_csv/1cls.csv and a folder for each category")
    table = root / "split_csv" / "1cls.csv"
    parts: dict[tuple[str, str], list[Path]] = {
        ("train", "normal"): [],
        ("test", "normal"): [],
        ("test", "anomaly"): [],
    }
    masks: dict[str, Picture] = {}
    try:
        with open(table, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                if row["object"] == category:
                    picture = root / row["image"]
                    parts[row["split"], row["label"]].append(picture)
                    if row["mask"]:
                        mask = root / row["mask"]
                        masks[picture.name] = Picture(printable(mask), mask)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{printable(table)}: is no table of object, split, label, image and mask with train "
            f"(normal) and test (normal, anomaly) ({error!r}); give the folder of VisA"
        ) from error
    files = [path for part in parts.values() for path in part]
    files += [mask.path for mask in masks.values() if mask.path is not None]
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise DataError(
            f"{printable(missing[0])}: is in the table of VisA but not here, one of {len(missing)} "
            "such files; unpack the archive again"
        )
    train, normal, anomalous = (of_files(part) for part in parts.values())
    anomalies = [("anomaly", anomalous)] if len(anomalous) else []
    return known_split(f"VisA, {category}", train, normal, anomalies, masks)
