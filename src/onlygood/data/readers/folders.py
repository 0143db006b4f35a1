"""Data sets that are folders of pictures: COIL-100, Omniglot, LSUN, ImageNet made small."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from onlygood.core.errors import DataError
from onlygood.data.readers.sets import LabelledSet, Part, find_folder, nothing, of_files
from onlygood.data.source import listing, printable

LSUN_CLASSES = ("bedroom", "conference_room")
"""Scenes of LSUN that are read."""

_COIL_NAME = re.compile(r"obj(\d+)__(\d+)\.png")


def coil100(folder: Path | None = None) -> LabelledSet:
    """100 objects on black, turned by 5 degrees (128 x 128, RGB; 72 views), no official split.

    `folder` holds `obj1__0.png`, `obj1__5.png`...; or the folder `coil-100` that the archive
    unpacks to. Classes are called `obj1`, `obj2`...; views are sorted by angle.

    Raises:
        DataError: the files are missing, or objects differ in their number of views.

    Source: Nene, Nayar, Murase 1996, Columbia Object Image Library, CUCS-006-96.
    """
    root = find_folder("coil100", folder, "obj1__0.png and the like", "coil-100")
    views = sorted(
        (int(match[1]), int(match[2]), path)
        for path in listing(root).pictures
        if (match := _COIL_NAME.fullmatch(path.name))
    )
    if not views:
        raise DataError(f"{printable(root)}: has no pictures called like obj1__0.png")
    objects = sorted({number for number, _, _ in views})
    names = tuple(f"obj{number}" for number in objects)
    part = _part([(f"obj{number}", path) for number, _, path in views], names)
    _same_for_each(root, part, names, "views")
    return LabelledSet("coil100", names, nothing(), part)


def omniglot(folder: Path | None = None) -> LabelledSet:
    """Characters of fifty alphabets, 20 drawings each (105 x 105, black on white).

    `folder` holds `images_background` (taken as training: 964 characters) and `images_evaluation`
    (the test: 659 others), each with folders `ALPHABET/CHARACTER` of PNG files. Classes are called
    `ALPHABET/CHARACTER`. Nothing is inverted; digits and clothes are white on black.

    Raises:
        DataError: folders are missing, or characters differ in their number of drawings.

    Source: Lake, Salakhutdinov, Tenenbaum 2015, doi:10.1126/science.aab3050.
    """
    root = find_folder("omniglot", folder, "images_background and images_evaluation")
    halves = [
        _drawings(_subfolder(root, half, "unpack images_background.zip and images_evaluation.zip"))
        for half in ("images_background", "images_evaluation")
    ]
    names = tuple(sorted({name for half in halves for name, _ in half}))
    train, test = (_part(half, names) for half in halves)
    for part in (train, test):
        _same_for_each(root, part, names, "drawings")
    return LabelledSet("omniglot", names, train, test)


def lsun(folder: Path | None = None) -> LabelledSet:
    """Scenes: bedrooms and conference rooms (the shorter side 256, RGB; 300 each in the test).

    `folder` holds the folders `bedroom_train`, `bedroom_val` and `conference_room_val`, and
    `conference_room_train` where wanted, each with pictures at any depth, as the original `data.py
    export` writes them from the database `bedroom_train_lmdb`...; some pictures of a folder do.

    Raises:
        DataError: a folder is missing or has no pictures.

    Source: Yu et al. 2015, arXiv:1506.03365.
    """
    root = find_folder("lsun", folder, "bedroom_train, bedroom_val and conference_room_val")

    def scenes(*kinds: str, part: str) -> Part:
        files = []
        for kind in kinds:
            inner = _subfolder(root, f"{kind}_{part}", "export the LMDB of this name to it")
            files += [(kind, path) for path in _pictures(inner)]
        return _part(files, LSUN_CLASSES)

    optional = [kind for kind in LSUN_CLASSES[1:] if (root / f"{kind}_train").is_dir()]
    return LabelledSet(
        "lsun",
        LSUN_CLASSES,
        scenes("bedroom", *optional, part="train"),
        scenes(*LSUN_CLASSES, part="val"),
    )


def imagenet(folder: Path | None = None) -> LabelledSet:
    """Photographs of ImageNet made small, one class, to be anomalous beside others.

    `folder` holds pictures at any depth, such as those of `Imagenet_resize` (32 x 32; 10,000).

    Raises:
        DataError: there is no such folder, or it has no pictures.

    Source: Liang, Li, Srikant 2018, arXiv:1706.02690, for `Imagenet_resize`.
    """
    root = find_folder("imagenet", folder, "small pictures, such as Imagenet_resize")
    paths = _pictures(root)
    return LabelledSet(
        "imagenet", ("any",), nothing(), _part([("any", path) for path in paths], ("any",))
    )


def _part(files: Sequence[tuple[str, Path]], names: Sequence[str]) -> Part:
    position = {name: i for i, name in enumerate(names)}
    classes = np.array([position[name] for name, _ in files], np.int64)
    return Part(of_files(path for _, path in files), classes)


def _pictures(folder: Path) -> list[Path]:
    found = listing(folder).pictures
    if not found:
        raise DataError(f"{printable(folder)}: has no pictures at any depth; copy it again")
    return found


def _subfolder(root: Path, name: str, advice: str) -> Path:
    if not (root / name).is_dir():
        raise DataError(f"{printable(root)}: has no folder {name}; {advice}")
    return root / name


def _drawings(half: Path) -> list[tuple[str, Path]]:
    files = [(path.relative_to(half).parts, path) for path in _pictures(half)]
    strays = [path for parts, path in files if len(parts) != 3]
    if strays:
        raise DataError(
            f"{printable(strays[0])}: lies elsewhere than in ALPHABET/CHARACTER; unpack the "
            "original archive again"
        )
    return [("/".join(parts[:2]), path) for parts, path in files]


def _same_for_each(root: Path, part: Part, names: Sequence[str], what: str) -> None:
    """Refuse a copy that lost files; nothing else in such a folder tells."""
    counts = Counter(part.classes.tolist())
    usual = max(counts.values())
    for label, count in sorted(counts.items()):
        if count != usual:
            raise DataError(
                f"{printable(root)}: {names[label]} has {count} {what}, others have {usual}; "
                "copy it again"
            )
