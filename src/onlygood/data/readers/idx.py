"""MNIST and Fashion-MNIST, in the IDX format."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from onlygood.core.errors import DataError
from onlygood.data.readers.sets import LabelledSet, Part, find_folder, of_array
from onlygood.data.source import printable

DIGITS = tuple("0123456789")
"""Classes of the sets of digits."""

FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
"""Kinds of Fashion-MNIST in the order of its labels."""


def mnist(folder: Path | None = None) -> LabelledSet:
    """Handwritten digits (28 x 28, grey; 60,000 and 10,000); `folder` holds the four IDX files.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: LeCun, Bottou, Bengio, Haffner 1998.
    """
    return _read("mnist", folder, DIGITS)


def fashion_mnist(folder: Path | None = None) -> LabelledSet:
    """Pieces of clothing (28 x 28, grey; 60,000 and 10,000); `folder` holds the four IDX files.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """
    return _read("fashion-mnist", folder, FASHION_CLASSES)


def idx(path: Path) -> UInt8[np.ndarray, "..."]:
    """Read an IDX file of bytes, plain or packed with gzip.

    Raises:
        DataError: it cannot be read, is not IDX, or is shorter or longer than its header says.

    Source: the format as described on the MNIST page: two zeros, type 0x08 (unsigned byte),
    number of axes, the length of each as 4 bytes, most significant first, then the values.
    """
    try:
        with open(path, "rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:3] != b"\0\0\x08" or magic[3] not in range(1, 5):
                raise DataError(
                    f"{printable(path)}: is not an IDX file of bytes (begins with {magic!r})"
                )
            lengths = file.read(4 * magic[3])
            shape = tuple(np.frombuffer(lengths[: len(lengths) // 4 * 4], ">u4").tolist())
            # One byte more than needed shows that there is too much; the header may be wild.
            values = file.read(min(math.prod(shape) + 1, 2**31))
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{printable(path)}: cannot be read ({error}); copy it again") from error
    if len(shape) != magic[3] or len(values) != math.prod(shape):
        problem = "longer" if len(values) > math.prod(shape) else "shorter"
        raise DataError(
            f"{printable(path)}: is {problem} than its header says (shape {shape}); copy it again"
        )
    return np.frombuffer(values, np.uint8).reshape(shape)


def _read(name: str, folder: Path | None, class_names: tuple[str, ...]) -> LabelledSet:
    root = find_folder(name, folder, "train-images-idx3-ubyte.gz and its three companions")
    count = len(class_names)
    return LabelledSet(name, class_names, _part(root, "train", count), _part(root, "t10k", count))


def _part(folder: Path, part: Literal["train", "t10k"], count: int) -> Part:
    pictures = idx(_file(folder, f"{part}-images", "idx3-ubyte"))
    classes = idx(_file(folder, f"{part}-labels", "idx1-ubyte"))
    if pictures.ndim != 3 or classes.shape != pictures.shape[:1]:
        raise DataError(
            f"{printable(folder)}: {part} images have shape {pictures.shape}, labels "
            f"{classes.shape}; expected (N, H, W) and (N,)"
        )
    return of_array(folder, pictures, classes, count)


def _file(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dot}{kind}{packed}" for dot in "-." for packed in (".gz", "")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{printable(folder)}: has none of {', '.join(names)}")
