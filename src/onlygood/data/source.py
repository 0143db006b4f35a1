"""A collection of pictures, from whatever the caller has."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onlygood.core.errors import DataError, ShapeError
from onlygood.data.apart import decode_guarded
from onlygood.data.decode import MAX_PIXELS, SUFFIXES, Pixels, decode, is_tensor
from onlygood.data.items import (
    Deferred,
    Item,
    Spool,
    deferred,
    is_indexed,
    is_stream,
    pictures_of_array,
    pictures_of_tensor,
    refusing,
    streamed,
)

if TYPE_CHECKING:
    from torch import Tensor

    Content = Path | bytes | Image.Image | NDArray[Any] | Tensor | Deferred
else:
    Content = Any  # Of what torch brings nothing is known here until somebody imports it.


@final
@dataclass(frozen=True, eq=False, slots=True)
class Picture:
    """One picture, not decoded yet."""

    name: str
    """Path relative to the folder it was found in, the path as given, or e.g. `array[3]`."""
    content: Content
    max_pixels: int = MAX_PIXELS

    @property
    def path(self) -> Path | None:
        """The file, where there is one."""
        return self.content if isinstance(self.content, Path) else None

    def load(self, *, marks: bool = False) -> Pixels:
        """Decode it; `onlygood.data.decode` says how, `onlygood.data.apart` where.

        Args:
            marks: Whether it is a mask: any number but 0 is white then, also a small one.

        Raises:
            DataError: it cannot be read, is damaged or has values out of range.
        """
        try:
            return self.decoded(marks=marks)
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error

    def decoded(self, *, marks: bool = False) -> Pixels:
        """The same; errors do not name the picture.

        Raises:
            DataError: see `load`.
        """
        content = self.content
        if isinstance(content, Deferred):
            content = content.get()
        if isinstance(content, Path | bytes):
            return decode_guarded(content, self.max_pixels, marks=marks)
        return decode(content, self.max_pixels, marks=marks)


@final
class ImageSource:
    """Pictures in a fixed order, decoded when asked for."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._pictures = tuple(pictures)

    @classmethod
    def of(
        cls, anything: Any, *, names: Sequence[str] | None = None, max_pixels: int | None = None
    ) -> "ImageSource":
        """Take pictures in any of these forms.

        - a folder: its picture files at any depth, sorted; hidden files and folders, other
          suffixes and masks of an MVTec layout (`ground_truth/KIND/NAME_mask.png`) are passed
          over, symbolic links followed, every folder visited once;
        - a file, or the bytes of one;
        - a PIL image;
        - a numpy array: `(H, W)` and `(H, W, C)` are one picture, `(N, H, W)` and `(N, H, W, C)`
          many, with C in 1..4; a last axis of 4 or less is C;
        - a tensor: `(H, W)` and `(C, H, W)` are one picture, `(N, C, H, W)` many;
        - a list or tuple of any of these, or an ImageSource;
        - whatever gives items by position: a torch or torchvision `Dataset`, a data set or column
          of Hugging Face. Items are fetched when they are loaded. `onlygood.data.items` says what
          an item may be; labels are passed over;
        - whatever can be gone through: a DataLoader, an IterableDataset, a generator. It is gone
          through once and decoded, into a temporary file: memory does not grow. Without an end it
          has no place here; `Detector.stream` scores it as it comes.

        Values are uint8, uint16, bool, or floating point in [0, 1]; they are looked at when a
        picture is loaded.

        Args:
            anything: the pictures.
            names: what to call them, instead of by path or position.
            max_pixels: larger pictures are refused before they are decoded; by default those of
                more than 100 million pixels, and of an ImageSource what it was made with.

        Raises:
            DataError: there are no pictures, a path does not exist, or the kind is unknown.
            ShapeError: an array or tensor is not, or not clearly, one of the shapes above.
        """
        found = list(_collect(anything, MAX_PIXELS if max_pixels is None else max_pixels))
        if not found:
            raise DataError(f"there are no pictures in an empty {type(anything).__name__}")
        if names is None:
            names = [one.name or f"{one.kind}[{place}]" for place, one in enumerate(found)]
        elif len(names) != len(found):
            raise DataError(f"got {len(names)} names for {len(found)} pictures; give one for each")
        return cls(
            [
                Picture(name, one.content, one.max_pixels if max_pixels is None else max_pixels)
                for name, one in zip(names, found, strict=True)
            ]
        )

    @property
    def names(self) -> list[str]:
        """The name of each picture; two pictures may have the same."""
        return [picture.name for picture in self._pictures]

    def subset(
        self, indices: Sequence[int] | NDArray[np.integer] | NDArray[np.bool_]
    ) -> "ImageSource":
        """The pictures at these positions, in this order; or where a mask `(N,)` says True.

        Raises:
            ShapeError: a mask is of another length.
        """
        chosen = np.asarray(indices)
        if chosen.dtype == bool:
            if chosen.shape != (len(self),):
                raise ShapeError(f"a mask of shape {chosen.shape} for {len(self)} pictures")
            chosen = np.flatnonzero(chosen)
        return ImageSource([self._pictures[int(i)] for i in chosen])

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Picture:
        return self._pictures[index]

    def __iter__(self) -> Iterator[Picture]:
        return iter(self._pictures)


class Listing(NamedTuple):
    """What a folder holds."""

    pictures: list[Path]
    """Picture files at any depth, sorted by their path in the folder."""
    others: Counter[str]
    """Suffixes of the remaining files that are not hidden, with counts; masks by that word."""
    folders: int
    """Number of subfolders at any depth."""


def listing(folder: Path) -> Listing:
    """Search a folder at any depth; hidden names are passed over, each folder is visited once.

    Raises:
        DataError: it or a folder in it cannot be read.
    """
    pictures: list[Path] = []
    others: Counter[str] = Counter()
    folders = -1
    for root, files in walked(folder):
        folders += 1
        for name in files:
            path, suffix = Path(root, name), os.path.splitext(name)[1].lower()
            if is_mask(path.relative_to(folder).as_posix()):
                others["masks in ground_truth"] += 1
            elif suffix in SUFFIXES:
                pictures.append(path)
            else:
                others[suffix or "without suffix"] += 1
    pictures.sort(key=lambda path: path.relative_to(folder).parts)
    return Listing(pictures, others, folders)


def is_mask(name: str) -> bool:
    """Whether a path in a folder is that of a mask in an MVTec layout, which nobody scores."""
    return name.endswith("_mask.png") and "ground_truth" in name.split("/")[:-1]


def walked(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder at any depth, once, with the names of its files; nothing that is hidden.

    Folders and names come in one order, whatever the disk's.

    Raises:
        DataError: a folder cannot be read.
    """
    visited: set[tuple[int, int]] = set()

    def fail(error: OSError) -> None:
        raise DataError(f"{error.filename}: cannot be searched ({error.strerror})") from error

    for root, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        status = os.stat(root)
        # A symbolic link can lead back up, and the same pictures must not count twice.
        if (identity := (status.st_dev, status.st_ino)) in visited:
            folders.clear()
            continue
        visited.add(identity)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield root, sorted(name for name in files if not name.startswith("."))


def printable(path: Path) -> str:
    """The path with forward slashes; bytes that are not UTF-8 become question marks."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


class _Found(NamedTuple):
    """A picture, before it has a name."""

    name: str
    """Nothing where it is told by its position."""
    kind: str
    """For a name by position."""
    content: Content
    max_pixels: int = MAX_PIXELS


def pictures_of(anything: Any) -> Iterable[Picture]:
    """Pictures to be gone through once: what `ImageSource.of` takes; streams are not kept.

    Raises:
        DataError, ShapeError: see `ImageSource.of`; of a stream when it comes to that.
    """
    return _as_they_come(anything) if is_stream(anything) else ImageSource.of(anything)


def _as_they_come(stream: Iterable[Any]) -> Iterator[Picture]:
    count = 0
    for count, item in enumerate(streamed(stream), 1):
        yield Picture(f"{type(stream).__name__}[{count - 1}]", _kept(item.picture))
    if not count:
        raise DataError(f"there are no pictures in an empty {type(stream).__name__}")


def _kept(picture: Any) -> Any:
    """The picture as it is now: a camera may fill the same memory again before it is looked at.

    An image of Pillow may be closed by then, or be another frame of its file.
    """
    if isinstance(picture, np.ndarray):
        return picture.copy()
    if isinstance(picture, Image.Image):
        try:
            return decode(picture)
        except DataError as error:
            return refusing(str(error))
    return picture.clone() if is_tensor(picture) else picture


def spooled(stream: Iterable[Any], max_pixels: int = MAX_PIXELS) -> Iterator[Item]:
    """The items of a stream, with pictures that take no memory.

    Raises:
        DataError: an item holds no picture, or one with values out of range; says which.
    """
    kind, spool = type(stream).__name__, Spool()
    for position, item in enumerate(streamed(stream)):
        try:
            yield item._replace(picture=spool.keep(item.picture, max_pixels))
        except DataError as error:
            raise DataError(f"{kind}[{position}]: {error}") from error


def _collect(anything: Any, max_pixels: int, whole_paths: bool = False) -> Iterator[_Found]:
    match anything:
        case str() | os.PathLike():
            yield from _from_path(Path(anything), whole_paths)
        case bytes() | bytearray() | memoryview():
            yield _Found("", "bytes", bytes(anything))
        case Image.Image():
            yield _Found("", "image", anything)
        case np.ndarray():
            yield from (_Found("", "array", picture) for picture in pictures_of_array(anything))
        case _ if is_tensor(anything):
            yield from (_Found("", "tensor", picture) for picture in pictures_of_tensor(anything))
        case ImageSource():
            yield from (_Found(one.name, "", one.content, one.max_pixels) for one in anything)
        case list() | tuple():
            for item in anything:
                # Of several folders, the path in one of them would not say which.
                yield from _collect(item, max_pixels, whole_paths=True)
        case _ if is_indexed(anything):
            kind = type(anything).__name__
            yield from (_Found("", kind, content) for content in deferred(anything))
        case _ if is_stream(anything):
            kind = type(anything).__name__
            yield from (_Found("", kind, item.picture) for item in spooled(anything, max_pixels))
        case _:
            raise DataError(
                f"cannot take pictures from {type(anything).__name__}; give a path, bytes, a PIL "
                "image, a numpy array, a tensor, a list of these, or a data set"
            )


def _from_path(path: Path, whole_paths: bool) -> Iterator[_Found]:
    # Of os.path: pathlib raises where a name is too long for the file system.
    if not os.path.isdir(path):
        if not os.path.lexists(path):
            raise DataError(f"{printable(path)}: there is no such file or folder; check the path")
        yield _Found(printable(path), "", path)
        return
    found = listing(path)
    if not found.pictures:
        raise DataError(f"{printable(path)}: {_nothing_in(found)}")
    for picture in found.pictures:
        name = printable(picture if whole_paths else picture.relative_to(path))
        yield _Found(name, "", picture)


def _nothing_in(found: Listing) -> str:
    others = ", ".join(f"{count} {suffix}" for suffix, count in found.others.most_common(5))
    return (
        f"no pictures; looked for {' '.join(sorted(SUFFIXES))} at any depth, and found "
        f"{others or 'no files'} in it and its {found.folders} subfolders"
    )
