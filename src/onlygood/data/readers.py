"""Known data sets, each as the split that figures are published on."""

import difflib
import gzip
import math
import os
import secrets
import shutil
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.layout import Labelled, labelled, layout
from onlygood.data.source import ImageSource, Picture, printable

SYSTEM_FOLDERS = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))
"""Where a folder named after an IDX data set is looked for; Debian's packages install there."""


class KnownSplit(NamedTuple):
    """Normal pictures to fit on, and labelled ones to evaluate on."""

    train: ImageSource
    test: Labelled


class Summary(NamedTuple):
    """What `write_dataset` wrote."""

    name: str
    folder: Path
    train: int
    test_normal: int
    test_anomalous: int
    description: str


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """An entry of `DATASETS`."""

    summary: str
    read: Callable[[Path | None], KnownSplit]
    """Takes the folder of the original files; None: where they are installed."""


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
    return _known(
        f"ELPV, {module}crystalline modules",
        _of_files(train),
        _of_files(test),
        [("defective", _of_files(anomalous))],
    )


def _elpv_folder() -> Path:
    try:
        return Path(str(resources.files("elpv_dataset"))) / "data"
    except ModuleNotFoundError as error:
        raise DataError(
            "the ELPV photographs come with the package elpv-dataset, which is not installed; "
            "pip install 'onlygood[demo]'"
        ) from error


def fashion_mnist(folder: Path | None, normal_class: int) -> KnownSplit:
    """Fashion-MNIST, one class against the rest, official split; `folder` holds its IDX files.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747.
    """
    return _one_vs_rest("fashion-mnist", folder, normal_class, FASHION_CLASSES)


def mnist(folder: Path | None, normal_class: int) -> KnownSplit:
    """MNIST digits, one class against the rest, official split; `folder` holds its IDX files.

    Raises:
        DataError: the files are missing or not what they should be.

    Source: LeCun, Bottou, Bengio, Haffner 1998.
    """
    return _one_vs_rest("mnist", folder, normal_class, tuple("0123456789"))


def mvtec(root: Path) -> KnownSplit:
    """A category of MVTec AD, or any folder in its layout.

    Raises:
        DataError: there is no `train/good`, or the test lacks normal or anomalous pictures.
    """
    found = layout(root)
    if found.kind != "mvtec":
        raise DataError(f"{printable(root)}: has no train/good; give the folder of one category")
    return KnownSplit(found.normal, labelled(root))


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


def write_dataset(name: str, folder: Path, *, source: Path | None = None) -> Summary:
    """Write a known data set's split as PNG files in MVTec layout: `train/good`, `test/KIND`.

    Files keep their original names, or their position in the original data.

    Args:
        name: one of `DATASETS`.
        folder: is made; may exist if it is empty. On failure nothing of it remains.
        source: folder of the original files, where they are not installed.

    Raises:
        ConfigError: no such name.
        DataError: the folder is not empty or cannot be written, or the data are missing.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown data set {name!r}; {hint}known: {', '.join(DATASETS)}")
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DataError(f"{printable(folder)}: exists and is not an empty folder; give a new one")
    train, test = DATASETS[name].read(source)
    temporary = folder.parent / f".{secrets.token_hex(8)}.partial"
    try:
        for picture in train:
            _write(picture, temporary / "train" / "good")
        for picture, kind in zip(test.source, test.kinds, strict=True):
            _write(picture, temporary / "test" / kind)
        if folder.is_dir():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise DataError(f"{printable(folder)}: cannot be written ({error.strerror})") from error
        raise
    anomalous = int(test.labels.sum())
    return Summary(
        name, folder, len(train), len(test.source) - anomalous, anomalous, test.description
    )


FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
"""Kinds of Fashion-MNIST in the order of its labels."""

_ELPV = "solar cells in {}crystalline modules, sound against defective (pip: onlygood[demo])"
_FASHION = "Fashion-MNIST, {} against the rest (Debian: dataset-fashion-mnist)"
_MNIST = "MNIST, digit {} against the rest (needs a folder with the four IDX files)"

DATASETS: dict[str, Dataset] = {
    "elpv-mono": Dataset(summary=_ELPV.format("mono"), read=partial(elpv, "mono")),
    "elpv-poly": Dataset(summary=_ELPV.format("poly"), read=partial(elpv, "poly")),
    **{
        f"fashion-mnist-{label}": Dataset(
            summary=_FASHION.format(kind), read=partial(fashion_mnist, normal_class=label)
        )
        for label, kind in enumerate(FASHION_CLASSES)
    },
    **{
        f"mnist-{digit}": Dataset(
            summary=_MNIST.format(digit), read=partial(mnist, normal_class=digit)
        )
        for digit in range(10)
    },
}
"""Data sets by the name that `write_dataset` takes."""


def _one_vs_rest(
    name: str, folder: Path | None, normal_class: int, kinds: tuple[str, ...]
) -> KnownSplit:
    if normal_class not in range(len(kinds)):
        raise ConfigError(f"{name} has classes 0 to {len(kinds) - 1}, got {normal_class}")
    root = _idx_folder(name, folder)
    pictures, classes = _idx_pair(root, "train")
    train = _of_array(pictures, classes, normal_class)
    pictures, classes = _idx_pair(root, "t10k")
    return _known(
        f"{name}, {kinds[normal_class]} against the rest",
        train,
        _of_array(pictures, classes, normal_class),
        [
            (kind, _of_array(pictures, classes, label))
            for label, kind in enumerate(kinds)
            if label != normal_class and (classes == label).any()
        ],
    )


def _idx_folder(name: str, folder: Path | None) -> Path:
    places = [folder] if folder is not None else [place / name for place in SYSTEM_FOLDERS]
    for place in places:
        if place.is_dir():
            return place
    raise DataError(
        f"{name}: no folder {' or '.join(map(printable, places))}; give the folder that holds "
        "train-images-idx3-ubyte.gz and its three companions"
    )


def _idx_pair(
    folder: Path, part: Literal["train", "t10k"]
) -> tuple[UInt8[np.ndarray, "N H W"], UInt8[np.ndarray, " N"]]:
    pictures = idx(_idx_file(folder, f"{part}-images", "idx3-ubyte"))
    classes = idx(_idx_file(folder, f"{part}-labels", "idx1-ubyte"))
    if pictures.ndim != 3 or classes.shape != pictures.shape[:1]:
        raise DataError(
            f"{printable(folder)}: {part} images have shape {pictures.shape}, labels "
            f"{classes.shape}; expected (N, H, W) and (N,)"
        )
    return pictures, classes


def _idx_file(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dot}{kind}{packed}" for dot in "-." for packed in (".gz", "")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise DataError(f"{printable(folder)}: has none of {', '.join(names)}")


def _of_files(paths: list[Path]) -> ImageSource:
    return ImageSource([Picture(path.name, path) for path in paths])


def _of_array(
    pictures: UInt8[np.ndarray, "N H W"], classes: UInt8[np.ndarray, " N"], label: int
) -> ImageSource:
    positions = np.flatnonzero(classes == label)
    return ImageSource([Picture(f"{i:05d}.png", pictures[i]) for i in positions])


def _known(
    title: str, train: ImageSource, normal: ImageSource, anomalous: list[tuple[str, ImageSource]]
) -> KnownSplit:
    if not len(train) or not len(normal) or not anomalous:
        raise DataError(f"{title}: a part is empty; the files are not the original ones")
    parts = [("good", normal), *anomalous]
    kinds = [kind for kind, source in parts for _ in source]
    labels = np.array([kind != "good" for kind in kinds], dtype=bool)
    words = (
        f"{title}: {len(train)} normal pictures for fitting; test {len(normal)} normal, "
        f"{labels.sum()} anomalous"
    )
    pictures = [picture for _, source in parts for picture in source]
    return KnownSplit(
        train, Labelled(ImageSource(pictures), labels, kinds, [None] * len(kinds), words)
    )


def _write(picture: Picture, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    if picture.path is not None:
        shutil.copyfile(picture.path, folder / picture.name)
        return
    pixels = picture.load()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(folder / picture.name)
