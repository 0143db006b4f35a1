"""What a folder of pictures means, or a CSV file: the guess, made once and put into words."""

import os
from collections import Counter
from collections.abc import Iterable
from itertools import compress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy.typing import NDArray

from onlygood.core.errors import DataError
from onlygood.core.text import many
from onlygood.data.csv_file import read_csv
from onlygood.data.decode import SUFFIXES, is_tensor
from onlygood.data.items import is_indexed, is_stream, items_of
from onlygood.data.source import ImageSource, Picture, listing, printable, spooled

NORMAL_FOLDERS = ("good", "ok", "normal")
"""Names, in any case, of folders that hold normal pictures."""
NORMAL_LABELS = (*NORMAL_FOLDERS, "0")
"""Words in a CSV file for normal pictures."""


class Layout(NamedTuple):
    """How a folder was understood for fitting."""

    kind: Literal["mvtec", "halves", "labelled", "flat", "csv"]
    normal: ImageSource
    """The pictures to fit on; names are relative to the folder."""
    description: str
    """The guess in words, to be shown to the user."""


class Labelled(NamedTuple):
    """Pictures for evaluation, normal ones first, each with what is known about it."""

    source: ImageSource
    """Names are relative to the folder."""
    labels: NDArray[np.bool_]
    """`(N,)`, True = anomalous."""
    kinds: list[str]
    """Name of the subfolder that the picture is in: `good`, `scratch`..."""
    masks: list[Picture | None]
    """One whose pixels other than 0 are anomalous, where there is one."""
    description: str


def layout(folder: str | Path) -> Layout:
    """Find the normal pictures of a folder, for fitting.

    - `mvtec`: there is `train/good`; it is used alone.
    - `halves`: there is a `test` beside `train`; every picture in `train` is used, at any depth.
    - `labelled`: there is a subfolder `good`, `ok` or `normal`, in any case; it is used alone.
    - `flat`: every picture, at any depth, is taken as normal.
    - `csv`: a CSV file in place of the folder, see `onlygood.data.csv_file`; the normal pictures
      whose split is `train` are used, and those of other labels are not.

    Raises:
        DataError: it is no folder, or the part to be used has no pictures.
    """
    if is_csv(folder):
        return _normal_of_csv(Path(folder), trains=True)
    root = _folder(folder)
    train = root / "train"
    if normal := _normal_folders(train):
        return Layout("mvtec", *_normal_alone(root, train, normal, "an MVTec layout"))
    if train.is_dir() and (root / "test").is_dir():
        found = listing(train).pictures
        if not found:
            raise DataError(f"{printable(train)}: has no pictures; put the normal ones there")
        source = ImageSource([Picture(printable(p.relative_to(root)), p) for p in found])
        words = f"{printable(root)}: {_counted(source)} in train, all taken as normal"
        return Layout("halves", source, words)
    if normal := _normal_folders(root):
        return Layout("labelled", *_normal_alone(root, root, normal, "a labelled folder"))
    source = ImageSource.of(root)
    folders = sorted({os.path.dirname(name) for name in source.names} - {""})
    where = f", in {_few(folders)}" if folders else ""
    words = f"{printable(root)}: {_counted(source)}{where}, all taken as normal"
    return Layout("flat", source, words)


def known_anomalous(folder: str | Path) -> tuple[ImageSource, str]:
    """Find the anomalous pictures of a folder, to learn from, and words on them.

    They are all pictures in it, at any depth; where `labelled` finds normal ones, the others alone,
    and no masks.

    Raises:
        DataError: it is no folder, or there are none.
    """
    root = _folder(folder)
    if _normal_folders(root) or _normal_folders(root / "test"):
        found = labelled(root)
        source = found.source.subset(np.flatnonzero(found.labels))
        kinds = f" ({_counts(compress(found.kinds, found.labels))})"
    else:
        source, kinds = ImageSource.of(root), ""
    return source, f"{printable(root)}: {_counted(source)}{kinds}, all taken as anomalous"


def unseen(folder: str | Path) -> Layout:
    """Find normal pictures of a folder that a model was not fitted on, to calibrate it.

    As `layout`, but never what is there to fit on beside a test: of a CSV file the normal pictures
    whose split is not `train`, and of a folder with `train` none.

    Raises:
        DataError: as `layout`; or the normal pictures are those to fit on.
    """
    if is_csv(folder):
        return _normal_of_csv(Path(folder), trains=False)
    found = layout(folder)
    if found.kind in ("mvtec", "halves"):
        raise DataError(
            f"{printable(Path(folder))}: its normal pictures are in train, to be fitted on, and "
            "what a model has seen promises nothing; give a folder of other normal pictures"
        )
    return found


def labelled(folder: str | Path) -> Labelled:
    """Find normal and anomalous pictures with their labels, for evaluation.

    Takes an MVTec root (its `test`, masks from `ground_truth`), or a folder with a subfolder
    `good`, `ok` or `normal` against the rest; for a folder called `test`, masks come from the
    `ground_truth` beside it; a subfolder `train` is no kind of defect. Pictures in no subfolder
    have no label and are left out. In a CSV file the labels `0`, `good`, `ok` and `normal` are
    normal ones, and every other word is a kind of defect; pictures whose split is `train` are left
    out.

    Raises:
        DataError: it is no folder, or there are not both normal and anomalous pictures.
    """
    if is_csv(folder):
        return _labelled_of_csv(Path(folder))
    root = _folder(folder)
    test = root / "test" if _normal_folders(root / "test") else root
    normal = _normal_folders(test)
    if not normal:
        raise DataError(
            f"{printable(root)}: no labels; needs a subfolder {' or '.join(NORMAL_FOLDERS)} beside "
            f"subfolders of anomalous pictures (or test/good), found {_few(subfolders(root))}"
        )
    # Beside `good` they are not kinds of defects.
    others = {"ground_truth", "train"}
    anomalous = [name for name in subfolders(test) if name not in {*normal, *others}]
    named = test if test.name else test.absolute()  # "." has no name
    truth = (named.parent if named.name == "test" else test) / "ground_truth"
    pictures: list[Picture] = []
    kinds: list[str] = []
    masks: list[Picture | None] = []
    for kind in [*normal, *anomalous]:
        for path in listing(test / kind).pictures:
            pictures.append(Picture(printable(path.relative_to(root)), path))
            kinds.append(kind)
            mask = truth / path.relative_to(test).with_name(f"{path.stem}_mask.png")
            # Its name may be too long for the file system, where that of the picture is not.
            known = kind not in normal and os.path.isfile(mask)
            masks.append(Picture(printable(mask), mask) if known else None)
    labels = np.array([kind not in normal for kind in kinds], dtype=bool)
    if labels.all() or not labels.any():
        missing, names = ("normal", normal) if labels.all() else ("anomalous", anomalous)
        raise DataError(
            f"{printable(test)}: no {missing} pictures in its subfolders ({_few(names)}); "
            "evaluation needs normal and anomalous ones"
        )
    words = (
        f"{printable(test)}: {_sizes(labels, kinds, f' from {_few(normal)}')}, "
        f"{len(masks) - masks.count(None)} with masks{_left_out(test)}"
        f"{_unused(truth, masks, normal)}"
    )
    return Labelled(ImageSource(pictures), labels, kinds, masks, words)


def labelled_items(pictures: Any, labels: Any = None, normal: Any = 0) -> Labelled:
    """Find normal and anomalous pictures in whatever holds them with their labels.

    Args:
        pictures: A data set of `(picture, label)`, or a stream of these (`onlygood.data.items`);
            with `labels`, whatever `ImageSource.of` takes. A data set is read twice.
        labels: One for each picture.
        normal: The label of normal pictures, or a list, tuple or set of several; every other one
            is anomalous. True and False count as 1 and 0.

    Raises:
        DataError: an item has no picture or no label, or there are not both normal and anomalous
            ones.
    """
    kind = type(pictures).__name__
    if labels is not None:
        source = ImageSource.of(pictures)
        given = list(labels)
        if len(given) != len(source):
            raise DataError(f"got {len(given)} labels for {len(source)} pictures; give one each")
    elif is_indexed(pictures):
        source = ImageSource.of(pictures)
        given = [item.label for item in items_of(pictures)]
    elif is_stream(pictures):
        items = list(spooled(pictures))
        source = ImageSource(
            [Picture(f"{kind}[{i}]", item.picture) for i, item in enumerate(items)]
        )
        given = [item.label for item in items]
    else:
        raise DataError(
            f"{kind} holds no labels; give labels=, a folder, or a data set of (picture, label)"
        )
    known = normal if isinstance(normal, list | tuple | set | frozenset) else [normal]
    names = [_label(name, value) for name, value in zip(source.names, given, strict=True)]
    anomalous = np.array([name not in {_label("normal", one) for one in known} for name in names])
    if anomalous.all() or not anomalous.any():
        raise DataError(
            f"{kind}: {'no' if anomalous.all() else 'only'} normal pictures; labels are "
            f"{_few(sorted(set(names)))}, normal is {_few([str(one) for one in known])}: say which "
            "are normal, for example normal=1"
        )
    order = np.argsort(anomalous, kind="stable")
    # A defect may be called so, too; what is good is told by its name from here on.
    kinds = [
        (f"{names[i]} (label)" if names[i] == "good" else names[i]) if anomalous[i] else "good"
        for i in order
    ]
    words = f"{kind}: {_sizes(anomalous[order], kinds)}"
    return Labelled(source.subset(order), anomalous[order], kinds, [None] * len(kinds), words)


def _label(name: str, value: Any) -> str:
    """A label as text, whatever number or string it is; 0-d tensors and arrays too."""
    if isinstance(value, np.generic | np.ndarray) or is_tensor(value):
        value = value.item() if value.ndim == 0 else None
    if isinstance(value, bool) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, int | str):
        return str(value)
    raise DataError(
        f"{name}: {'has no label' if value is None else f'its label is {value!r}'}; give "
        "(picture, label) with a whole number or text"
    )


def truth(
    mask: Picture | None, anomalous: bool, size: tuple[int, int]
) -> Bool[np.ndarray, "H W"] | None:
    """Which pixels of a labelled picture are anomalous; None: nobody has said it.

    Of a normal picture without a mask none are.

    Raises:
        As `read_mask`.
    """
    if mask is not None:
        return read_mask(mask, size)
    return None if anomalous else np.zeros(size, dtype=bool)


def read_mask(mask: Picture, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Read a mask for a picture of `size` (height, width); True = anomalous.

    Raises:
        DataError: it cannot be read, or its size differs.
    """
    pixels = mask.load(marks=True).any(axis=2)
    if pixels.shape != size:
        raise DataError(
            f"{mask.name}: the mask is {pixels.shape[1]} x {pixels.shape[0]}, its picture "
            f"{size[1]} x {size[0]}; they must be equal"
        )
    return pixels


def is_csv(path: str | os.PathLike[str]) -> bool:
    """Whether it is a CSV file, by its name."""
    return Path(path).suffix.lower() == ".csv" and os.path.isfile(path)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, none that is hidden; none where there is no folder.

    Raises:
        DataError: it cannot be searched.
    """
    if not folder.is_dir():
        return []
    try:
        found = [p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")]
    except OSError as error:
        raise DataError(f"{printable(folder)}: cannot be searched ({error.strerror})") from error
    return sorted(found)


def _normal_of_csv(path: Path, *, trains: bool) -> Layout:
    entries = [one for one in read_csv(path) if one.trains == trains]
    normal = [one for one in entries if one.label in NORMAL_LABELS]
    part, purpose = ("train", "fit") if trains else ("test", "calibrate")
    if not normal:
        raise DataError(
            f"{printable(path)}: no line is both {part} (column split) and normal (label "
            f"{', '.join(NORMAL_LABELS)}); there is nothing to {purpose} on"
        )
    source = ImageSource([one.picture for one in normal])
    others = _counts(one.label for one in entries if one.label not in NORMAL_LABELS)
    ignored = f"; not used for it: {others}" if others else ""
    words = (
        f"{printable(path)}: {_counted(source)} of the split {part} with a normal label{ignored}"
    )
    return Layout("csv", source, words)


def _labelled_of_csv(path: Path) -> Labelled:
    entries = [one for one in read_csv(path) if not one.trains]
    entries.sort(key=lambda one: one.label not in NORMAL_LABELS)
    labels = np.array([one.label not in NORMAL_LABELS for one in entries], dtype=bool)
    if labels.all() or not labels.any():
        raise DataError(
            f"{printable(path)}: no {'normal' if labels.all() else 'anomalous'} pictures in the "
            f"{len(entries)} lines to test on; evaluation needs normal ones (label "
            f"{', '.join(NORMAL_LABELS)}) and anomalous ones (any other label)"
        )
    kinds = [one.label if label else "good" for one, label in zip(entries, labels, strict=True)]
    masks = [one.mask if label else None for one, label in zip(entries, labels, strict=True)]
    with_masks = f"{len(masks) - masks.count(None)} with masks"
    words = f"{printable(path)}: {_sizes(labels, kinds)}, {with_masks}"
    return Labelled(ImageSource([one.picture for one in entries]), labels, kinds, masks, words)


def _folder(folder: str | Path) -> Path:
    path = Path(folder)
    if not os.path.isdir(path):
        problem = "is a file" if os.path.isfile(path) else "does not exist"
        raise DataError(f"{printable(path)}: {problem}; give a folder of pictures")
    return path


def _normal_folders(folder: Path) -> list[str]:
    return [name for name in subfolders(folder) if name.lower() in NORMAL_FOLDERS]


def _normal_alone(
    root: Path, parent: Path, normal: list[str], what: str
) -> tuple[ImageSource, str]:
    """The pictures of some subfolders of `parent`, and words on them and on those left out."""
    paths = [path for name in normal for path in listing(parent / name).pictures]
    where = _few([printable((parent / name).relative_to(root)) for name in normal])
    if not paths:
        raise DataError(
            f"{printable(root)}: taken as {what}, but there are no pictures in {where}; put the "
            "normal pictures there"
        )
    others = _counts(
        name
        for name in subfolders(parent)
        if name not in normal
        for _ in listing(parent / name).pictures
    )
    source = ImageSource([Picture(printable(p.relative_to(root)), p) for p in paths])
    ignored = f"; not used for fitting: {others}" if others else ""
    words = (
        f"{printable(root)}: taken as {what}, {_counted(source)} from {where}"
        f"{ignored}{_left_out(parent)}"
    )
    return source, words


def _counted(source: ImageSource) -> str:
    return many(len(source), "picture")


def _sizes(labels: NDArray[np.bool_], kinds: list[str], where: str = "") -> str:
    """How many pictures are normal, and how many anomalous of which kind."""
    normal = many(int((~labels).sum()), "normal picture")
    return f"{normal}{where}, {labels.sum()} anomalous ({_counts(compress(kinds, labels))})"


def _left_out(folder: Path) -> str:
    """Words on pictures that lie beside the subfolders."""
    loose = sum(
        path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
        for path in folder.iterdir()
    )
    return f"; {loose} in no subfolder left out" if loose else ""


def _unused(truth: Path, masks: list[Picture | None], normal: list[str]) -> str:
    """Words on what lies among the masks, but is called otherwise than that of any picture."""
    found = listing(truth).pictures if truth.is_dir() else []
    used = {mask.path for mask in masks if mask is not None}
    # Of a normal picture there may be a black one, which says nothing new.
    spare = [p for p in found if p not in used and p.relative_to(truth).parts[0] not in normal]
    called = "masks of these pictures would be called ground_truth/KIND/NAME_mask.png"
    return f"; {len(spare)} in ground_truth left out: {called}" if spare else ""


def _counts(kinds: Iterable[str]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(Counter(kinds).items()))


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return (", ".join(names[:5]) or "none") + more
