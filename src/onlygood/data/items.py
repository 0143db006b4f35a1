"""Pictures that somebody else holds: data sets by position, and streams that can be read once.

An item is a picture; a tuple or list whose first entry is one and whose second, if any, its label;
or a mapping with a picture under one of `PICTURE_KEYS` and a label under one of `LABEL_KEYS`. In a
stream it may also be a batch of these, `(N, C, H, W)` tensors above all, as a DataLoader gives.
"""

import io
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile, gettempdir
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeGuard, final, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onlygood.core.errors import DataError, OnlygoodError, ShapeError, in_a_line
from onlygood.data.decode import SUFFIXES, Pixels, decode, is_tensor

if TYPE_CHECKING:
    from torch import Tensor

PICTURE_KEYS = ("image", "img", "picture", "pixel_values")
LABEL_KEYS = ("label", "labels", "target", "y")

_KNOWN = (str, bytes, bytearray, memoryview, os.PathLike, list, tuple, np.ndarray, Image.Image)
"""What holds pictures in a way of its own."""

_LOADER = "; pictures of several sizes make no batch: give its data set, or batch_size=None"


@runtime_checkable
class Indexed(Protocol):
    """What a torch `Dataset`, one of torchvision or a column of Hugging Face has in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@runtime_checkable
class Labelled(Protocol):
    """What a column of pandas has: its own `[index]` goes by names of rows, not by position."""

    @property
    def iloc(self) -> Indexed:
        """The same by position."""


@final
@dataclass(frozen=True, eq=False, slots=True)
class Deferred:
    """A picture that is fetched when it is loaded."""

    get: Callable[[], Any]
    """Gives a path, bytes, PIL image, array or tensor; raises DataError."""


def refusing(why: str) -> Deferred:
    """A picture of which it is known already why it cannot be read."""
    return Deferred(partial(_refuse, why))


def _refuse(why: str) -> None:
    raise DataError(why)


class Item(NamedTuple):
    """A picture of a collection."""

    picture: Any
    """A path, bytes, PIL image, array or tensor; never of more than one picture."""
    label: Any = None
    """None where it has none."""


def is_indexed(anything: object) -> TypeGuard[Indexed]:
    """Whether it gives its pictures by position."""
    return (
        isinstance(anything, Indexed)
        and not isinstance(anything, _KNOWN)
        and not is_tensor(anything)
        and not _unordered(anything)
        and not _streams(anything)
    )


def is_stream(anything: object) -> TypeGuard[Iterable[Any]]:
    """Whether its pictures come one after the other, and perhaps only once."""
    return (
        isinstance(anything, Iterable)
        and not isinstance(anything, (*_KNOWN, io.IOBase))
        and not is_tensor(anything)
        and not _unordered(anything)
        and (_streams(anything) or not isinstance(anything, Indexed))
    )


def deferred(indexed: Indexed) -> Iterator[Deferred]:
    """The pictures of a data set, each fetched by one thread at a time when it is loaded.

    Raises:
        DataError: the first item is no picture; what is wrong with others shows when they load.
    """
    next(items_of(indexed), None)
    lock = threading.Lock()  # data sets with open files are seldom safe for threads
    for index in range(len(indexed)):
        yield Deferred(partial(_picture_at, indexed, index, lock))


def _picture_at(indexed: Indexed, index: int, lock: threading.Lock) -> Any:
    return item_at(indexed, index, lock).picture


def items_of(indexed: Indexed) -> Iterator[Item]:
    """The items of a data set, one after the other.

    Raises:
        DataError: an item is no picture; says which.
    """
    lock = threading.Lock()
    for index in range(len(indexed)):
        try:
            yield item_at(indexed, index, lock)
        except DataError as error:
            raise DataError(f"{type(indexed).__name__}[{index}]: {error}") from error


def item_at(indexed: Indexed, index: int, lock: threading.Lock) -> Item:
    """One item of a data set.

    Raises:
        DataError: the data set fails, or gives no picture; does not name the item.
    """
    try:
        with lock:
            given = (indexed.iloc if isinstance(indexed, Labelled) else indexed)[index]
    except Exception as error:  # the code of others may raise anything
        raise DataError(
            f"its data set raised {type(error).__name__}: {in_a_line(error)}"
        ) from error
    try:
        found = list(_items(given))
    except ShapeError as error:
        raise DataError(str(error)) from error
    if len(found) != 1:
        raise DataError(f"holds {len(found)} pictures; an item of a data set is one picture")
    return found[0]


def streamed(stream: Iterable[Any]) -> Iterator[Item]:
    """The pictures of a stream as they come, batches taken apart.

    Raises:
        DataError: the stream fails, or an item holds no picture, or not one label for each; names
            it by position.
    """
    count, items, kind = 0, iter(stream), type(stream).__name__
    stacked = _stacks_evenly(stream)
    while True:
        try:
            given = next(items)
            _refuse_lists(given, stream)
            found = list(_items(given, stacked))
        except StopIteration:
            return
        except (DataError, ShapeError) as error:
            raise DataError(f"{kind}[{count}]: {error}") from error
        except Exception as error:  # as above
            raise DataError(
                f"{kind}[{count}]: its stream raised {type(error).__name__}: {in_a_line(error)}"
                f"{_LOADER if _stacks(stream) else ''}"
            ) from error
        yield from found
        count += len(found)


@final
class Spool:
    """Pictures of a stream, decoded, in a temporary file that goes when nobody needs it."""

    def __init__(self) -> None:
        self._file = TemporaryFile(prefix="onlygood-")
        # Without it the interpreter would warn of a file that nobody has closed.
        weakref.finalize(self, self._file.close)
        self._lock = threading.Lock()

    def keep(self, picture: Any, max_pixels: int) -> Any:
        """Keep a picture; gives a content that takes no memory. Paths stay as they are.

        Raises:
            DataError: it has values out of range, or is too large.
            OnlygoodError: there is no room for it.
        """
        if isinstance(picture, str | os.PathLike):
            return Path(picture)
        if isinstance(picture, bytes):
            return Deferred(partial(self._read, self._write(picture), len(picture)))
        pixels = decode(picture, max_pixels)
        place = self._write(np.ascontiguousarray(pixels).data)
        return Deferred(partial(self._pixels, place, pixels.shape))

    def _write(self, content: bytes | memoryview) -> int:
        try:
            with self._lock:
                place = self._file.seek(0, os.SEEK_END)
                self._file.write(content)
                self._file.flush()
        except OSError as error:
            raise OnlygoodError(
                f"cannot keep a stream's pictures in {gettempdir()}: {error.strerror or error}; "
                "name a folder with more room in the environment (TMPDIR), or give files"
            ) from error
        return place

    def _read(self, place: int, length: int) -> bytes:
        with self._lock:
            self._file.seek(place)
            return self._file.read(length)

    def _pixels(self, place: int, shape: tuple[int, int, int]) -> Pixels:
        content = self._read(place, int(np.prod(shape)))
        return np.frombuffer(content, np.uint8).reshape(shape)


def pictures_of_array(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Cut an array into `(H, W)` or `(H, W, C)` pictures.

    Raises:
        ShapeError: it is not, or not clearly, one or many of them.
    """
    shape = array.shape
    if array.ndim == 1 and array.dtype.kind in "OUS":
        raise ShapeError(
            f"an array of dtype {array.dtype} holds no pixels; of paths, or of pictures of several "
            "sizes, give array.tolist()"
        )
    if array.ndim == 2 or (array.ndim == 3 and shape[-1] <= 4):
        stack: Any = [array]
    elif array.ndim == 3 and shape[0] in (3, 4):
        raise ShapeError(
            f"an array of shape {shape} is either {shape[0]} grey pictures or one channels-first "
            "picture; say which: array[..., None] or np.moveaxis(array, 0, -1)"
        )
    elif array.ndim == 3 or (array.ndim == 4 and shape[-1] <= 4):
        stack = array
    elif array.ndim == 4 and shape[1] <= 4:
        raise ShapeError(
            f"an array of shape {shape} is channels-first; give np.moveaxis(array, 1, -1), or a "
            "tensor"
        )
    else:
        raise ShapeError(
            f"pictures are arrays (H, W), (H, W, C), (N, H, W) or (N, H, W, C) with C in 1..4, "
            f"got shape {shape}"
        )
    yield from stack


def pictures_of_tensor(tensor: "Tensor") -> "Iterator[Tensor]":
    """Cut a tensor into `(H, W)` or `(C, H, W)` pictures.

    Raises:
        ShapeError: it is not one or many of them.
    """
    if tensor.ndim == 2 or (tensor.ndim == 3 and tensor.shape[0] <= 4):
        yield tensor
    elif tensor.ndim == 4 and tensor.shape[1] <= 4:
        yield from tensor
    else:
        hint = "for grey pictures add an axis: tensor.unsqueeze(-3)"
        if tensor.ndim in (3, 4) and tensor.shape[-1] <= 4:
            hint = (
                "channels come first: give tensor.movedim(-1, -3), and of a DataLoader that makes "
                "tensors of arrays (H, W, C) its data set"
            )
        raise ShapeError(
            f"pictures are tensors (C, H, W) or (N, C, H, W) with C in 1..4, got shape "
            f"{tuple(tensor.shape)}; {hint}"
        )


def _unordered(anything: object) -> bool:
    return isinstance(anything, Mapping | AbstractSet)


def _streams(anything: object) -> bool:
    """Whether it is an IterableDataset of torch, which has a `__getitem__` that only raises."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(anything, torch.utils.data.IterableDataset)


def _stacks(anything: object) -> bool:
    """Whether it is a DataLoader of torch, which makes batches of pictures of one size."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(anything, torch.utils.data.DataLoader)


def _stacks_evenly(anything: object) -> bool:
    """Whether it is a DataLoader whose batches are its items laid one upon another."""
    return _stacks(anything) and _collates_by(anything, "default_collate")


def _collates_by(loader: Any, name: str) -> bool:
    """Whether a DataLoader makes its batches by this function of torch."""
    return bool(loader.collate_fn is getattr(sys.modules["torch"].utils.data, name))


def _refuse_lists(given: object, stream: object) -> None:
    """Refuse a list or tuple of pictures: as (picture, label) all but the first would be lost.

    Of torch's own functions lists are tuples once: whole batches, or a picture and its mask. Of
    several paths it makes no batch, but leaves them a list.

    Raises:
        DataError: it is one.
    """
    if not isinstance(given, list | tuple) or len(given) < 2:
        return
    if _stacks(stream) and _collates_by(stream, "default_convert"):
        return
    if isinstance(given, tuple) and len(set(map(_form, given))) > 1:
        return  # a picture with its mask, its path or its label
    if all(map(_is_path if _stacks_evenly(stream) else _is_single, given)):
        raise DataError(
            f"is a {'list' if isinstance(given, list) else 'tuple'} of {len(given)} pictures, no "
            "batch; give them one by one, of a picture and its mask the picture alone, of a "
            "DataLoader its data set"
        )


def _form(thing: object) -> object:
    """What pictures of one stream have in common, and a picture and what is said of it do not."""
    if isinstance(thing, Image.Image):
        return thing.mode
    if isinstance(thing, np.ndarray) or is_tensor(thing):
        last = -1 if isinstance(thing, np.ndarray) else 0
        return type(thing), thing.dtype, thing.shape[last] if thing.ndim == 3 else 1
    return Path if _is_path(thing) else type(thing)


def _is_single(thing: object) -> bool:
    if isinstance(thing, np.ndarray) or is_tensor(thing):
        return thing.ndim in (2, 3)
    return isinstance(thing, bytes | Image.Image) or _is_path(thing)


def _is_path(thing: object) -> bool:
    if isinstance(thing, str):  # a label may be text, too
        return os.path.splitext(thing)[1].lower() in SUFFIXES
    return isinstance(thing, os.PathLike)


def _items(given: object, stacked: bool = False) -> Iterator[Item]:
    """The pictures of one item, each with its label; `stacked` is of `_stacks_evenly`.

    Raises:
        DataError: it is no picture, or has not one label for each.
        ShapeError: an array or tensor is not, or not clearly, one picture or many.
    """
    picture, label = _parted(given)
    pictures: list[Any]
    if isinstance(picture, np.ndarray) and picture.ndim >= 2:
        pictures = list(pictures_of_array(picture))
        batch = len(pictures) > 1 or picture.ndim == 4
    elif is_tensor(picture) and picture.ndim >= 2:
        if stacked and picture.ndim == 3:  # else three grey ones would be one of three colours
            picture = picture.unsqueeze(1)
        pictures = list(pictures_of_tensor(picture))
        batch = picture.ndim == 4
    elif isinstance(picture, str | os.PathLike):
        pictures, batch = [Path(picture)], False
    elif isinstance(picture, bytes | Image.Image):
        pictures, batch = [picture], False
    else:
        raise DataError(
            f"is {_told(picture)}, no picture; an item is a picture, (picture, label), or a "
            f"mapping with one of {', '.join(PICTURE_KEYS)}"
        )
    labels = [label] * len(pictures)
    if batch and label is not None:
        labels = list(label)
        if len(labels) != len(pictures):
            raise DataError(f"is a batch of {len(pictures)} pictures with {len(labels)} labels")
    yield from map(Item, pictures, labels)


def _parted(given: object) -> tuple[Any, Any]:
    """Picture and label, not looked at yet."""
    if isinstance(given, tuple | list):
        return (*given, None, None)[:2]
    if not isinstance(given, Mapping):
        return given, None
    if given.keys() >= {"bytes", "path"}:  # how Hugging Face holds pictures it does not decode
        return given["bytes"] or given["path"], None
    picture = next((given[key] for key in PICTURE_KEYS if key in given), None)
    if picture is None:
        raise DataError(
            f"has no {', '.join(PICTURE_KEYS[:-1])} or {PICTURE_KEYS[-1]} among {list(given)}; "
            "give the column that holds the pictures"
        )
    label = next((given[key] for key in LABEL_KEYS if key in given), None)
    return _parted(picture)[0] if isinstance(picture, Mapping) else picture, label


def _told(value: object) -> str:
    if value is None:
        return "None"
    words = " ".join(repr(value).split())
    return f"{type(value).__name__} {words[:40]}{'...' if len(words) > 40 else ''}"
