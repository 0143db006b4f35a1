"""Industrial pictures with their published splits: solar cells (ELPV), MVTec AD, VisA."""

import csv
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import labelled, layout
from onlygood.data.readers.sets import KnownSplit, find_folder, known_split, of_files
from onlygood.data.source import printable

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
    data = _elpv_folder() if folder is None else folder
    try:
        rows = [line.split() for line in (data / "labels.csv").read_text("utf-8").splitlines()]
        chosen = [(data / path, float(p)) for path, p, kind in rows if kind == module]
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(data)}: has no labels.csv with lines of path, defect probability and "
            f"module type ({error})"
        ) from error
    normal = [path for path, probability in chosen if probability == 0]
    anomalous = [path for path, probability in chosen if probability == 1]
    order = np.random.RandomState(0).permutation(len(normal))
    fitted = len(normal) * 7 // 10
    train = [normal[i] for i in order[:fitted]]
    test = [normal[i] for i in order[fitted:]]
    return known_split(
        f"ELPV, {module}crystalline modules",
        of_files(train),
        of_files(test),
        [("defective", of_files(anomalous))],
    )


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
    masks: dict[str, Path] = {}
    try:
        with open(table, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, strict=True):
                if row["object"] == category:
                    picture = root / row["image"]
                    parts[row["split"], row["label"]].append(picture)
                    if row["mask"]:
                        masks[picture.name] = root / row["mask"]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(
            f"{printable(table)}: is no table of object, split, label, image and mask with train "
            f"(normal) and test (normal, anomaly) ({error!r}); give the folder of VisA"
        ) from error
    files = [path for part in parts.values() for path in part]
    missing = [path for path in [*files, *masks.values()] if not path.is_file()]
    if missing:
        raise DataError(
            f"{printable(missing[0])}: is in the table of VisA but not here, one of {len(missing)} "
            "such files; unpack the archive again"
        )
    train, normal, anomalous = (of_files(part) for part in parts.values())
    anomalies = [("anomaly", anomalous)] if len(anomalous) else []
    return known_split(f"VisA, {category}", train, normal, anomalies, masks)
