"""CelebA: faces with attributes."""

from pathlib import Path

import numpy as np

from onlygood.core.errors import DataError
from onlygood.data.readers.sets import AttributePart, AttributeSet, find_folder, of_files
from onlygood.data.source import printable


def celeba(folder: Path | None = None) -> AttributeSet:
    """Faces, aligned and cropped (178 x 218, RGB; 202,599), with forty attributes.

    `folder` holds `list_attr_celeba.txt`, `list_eval_partition.txt` and the folder
    `img_align_celeba`; or these lie in `Anno`, `Eval` and `Img` of it, as they are distributed.
    Parts are the official ones: 0 training, 1 validation, 2 test.

    Raises:
        DataError: files are missing, or the lists and the pictures do not agree.

    Source: Liu, Luo, Wang, Tang 2015, arXiv:1411.7766.
    """
    root = find_folder(
        "celeba", folder, "list_attr_celeba.txt, list_eval_partition.txt and img_align_celeba"
    )
    names, files, attributes = _attributes(_inner(root, "Anno", "list_attr_celeba.txt"))
    path = _inner(root, "Eval", "list_eval_partition.txt")
    parts = _partition(path, files)
    pictures = _inner(root, "Img", "img_align_celeba")
    present = {entry.name for entry in pictures.iterdir()} if pictures.is_dir() else set()
    missing = [file for file in files if file not in present]
    if missing:
        raise DataError(
            f"{printable(pictures)}: lacks {len(missing)} of {len(files)} pictures, among them "
            f"{missing[0]}; unpack img_align_celeba.zip again"
        )

    def part(number: int) -> AttributePart:
        chosen = np.flatnonzero(parts == number)
        return AttributePart(of_files(pictures / files[i] for i in chosen), attributes[chosen])

    return AttributeSet("celeba", names, part(0), part(1), part(2))


def _inner(root: Path, below: str, name: str) -> Path:
    for path in (root / name, root / below / name):
        if path.exists():
            return path
    raise DataError(f"{printable(root)}: has neither {name} nor {below}/{name}")


def _attributes(path: Path) -> tuple[tuple[str, ...], list[str], np.ndarray]:
    """Names of the attributes, names of the files, and which have which."""
    lines = _lines(path)
    try:
        count, names = int(lines[0]), tuple(lines[1].split())
        rows = [line.split() for line in lines[2:]]
        files = [row[0] for row in rows]
        values = np.array([row[1:] for row in rows], dtype="<U2").reshape(len(rows), len(names))
        if not np.isin(values, ("1", "-1")).all():
            raise ValueError("a value is neither 1 nor -1")
    except (ValueError, IndexError) as error:
        raise DataError(
            f"{printable(path)}: is not a count, a line of attributes, and lines of a file and as "
            f"many 1 or -1 ({error}); copy it again"
        ) from error
    if len(files) != count:
        raise DataError(
            f"{printable(path)}: has {len(files)} lines of files, its first line says {count}; "
            "copy it again"
        )
    return names, files, values == "1"


def _partition(path: Path, files: list[str]) -> np.ndarray:
    rows = [line.split() for line in _lines(path)]
    if [row[:1] for row in rows] != [[file] for file in files]:
        raise DataError(
            f"{printable(path)}: does not list the {len(files)} files of list_attr_celeba.txt in "
            "their order; copy it again"
        )
    numbers = [row[1:] for row in rows]
    if not all(number in (["0"], ["1"], ["2"]) for number in numbers):
        raise DataError(
            f"{printable(path)}: has parts other than 0 (training), 1 (validation), 2 (test)"
        )
    return np.array([int(number[0]) for number in numbers], np.int64)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{printable(path)}: cannot be read ({error}); copy it again") from error
