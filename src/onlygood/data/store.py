"""Decoded pictures for training and scoring, within bounds on memory."""

import hashlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, final

import torch
from jaxtyping import UInt8
from torch import Tensor

from onlygood.core.digest import short_digest
from onlygood.core.errors import DataError
from onlygood.core.images import Pick
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.data import overlap, sequence
from onlygood.data.augment import augment, draws_needed
from onlygood.data.loading import READ_AHEAD, Decoders, Loaded, in_order
from onlygood.data.preprocess import check_view, to_bytes
from onlygood.data.source import ImageSource, Picture


class Unreadable(NamedTuple):
    """A picture that was set aside."""

    name: str
    reason: str


class Filled(NamedTuple):
    """What came out when all pictures were decoded."""

    unreadable: list[Unreadable]
    digest: str
    """SHA-256 of all preprocessed pictures, in order."""
    digests: list[int]
    """The short one of each."""
    sketches: list[bytes]
    """Of the first ones, see `onlygood.data.sequence`."""
    pieces: list[bytes]
    """Finer ones of fewer, see `onlygood.data.overlap`."""


_Found = tuple[Tensor, Tensor, Tensor]
"""Preprocessed pictures, which of them make the batch, and their draws."""


@final
class PictureStore:
    """Training pictures: kept decoded where they fit into `cache_gib`, else decoded as needed.

    What `batches` gives is the same either way. Implements `core.images.TrainingImages`.
    """

    def __init__(
        self,
        source: ImageSource,
        view: View,
        *,
        device: torch.device | str = "cpu",
        cache_gib: float = 1.0,
        threads: int = 1,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> None:
        check_view(view)
        self._source = source
        self._view = view
        self._device = torch.device(device)
        self._threads = threads
        self._on_error = on_error
        self._cached = len(source) * self._picture_bytes <= cache_gib * 2**30
        self._cache: UInt8[Tensor, "N C H W"] | None = None
        self._filled: Filled | None = None

    @property
    def source(self) -> ImageSource:
        """The pictures; after `fill` only the readable ones."""
        return self._source

    @property
    def draws(self) -> int:
        """Uniform numbers that the augmentation of one picture takes."""
        return draws_needed(self._view)

    @property
    def views(self) -> int:
        """Tiles that cover a picture once; 1 for whole pictures."""
        pairs = zip(self._view.canvas, self._view.sides, strict=True)
        return math.prod(math.ceil(length / side) for length, side in pairs)

    @property
    def cached(self) -> bool:
        """Whether decoded pictures stay in memory."""
        return self._cached

    def memory_bytes(self) -> int:
        """Bytes of all preprocessed pictures held at a time: the whole cache, or the read-ahead.

        To this come one picture for each thread, decoded in its own resolution, and the batches.
        """
        return (len(self) if self._cached else min(len(self), READ_AHEAD)) * self._picture_bytes

    def fill(self, progress: Callable[[int], None] = lambda done: None) -> Filled:
        """Decode every picture once, and keep it where the cache has room; again is for free.

        `progress` is called with the number of pictures done.

        Raises:
            DataError: a picture is unreadable and `on_error` is `raise`, or all of them are.
        """
        if self._filled is not None:
            return self._filled
        unreadable: list[Unreadable] = []
        readable: list[int] = []
        digests: list[int] = []
        sketches: list[bytes] = []
        pieces: list[bytes] = []
        digest = hashlib.sha256()
        kept = len(self) if self._cached else 0
        cache = torch.empty((kept, self._view.channels, *self._view.canvas), dtype=torch.uint8)
        for position, item in enumerate(self._loaded(self._source)):
            if item.pixels is None:
                if self._on_error == "raise":
                    raise DataError(item.error)
                unreadable.append(Unreadable(item.name, item.error or ""))
            else:
                picture = to_bytes(item.pixels)
                digest.update(picture.numpy().data)
                digests.append(short_digest(item.pixels))
                if len(sketches) < sequence.MOST:
                    sketches.append(sequence.sketch(item.pixels))
                if len(pieces) < overlap.MOST:
                    pieces.append(sequence.sketch(item.pixels, overlap.SIDE))
                if self._cached:
                    cache[len(readable)] = picture
                readable.append(position)
            progress(position + 1)
        if not readable:
            raise DataError(
                f"none of {len(unreadable)} pictures can be read; the first: {unreadable[0].reason}"
            )
        if self._cached:
            self._cache = cache[: len(readable)].to(self._device)
        self._source = self._source.subset(readable)
        self._filled = Filled(unreadable, digest.hexdigest(), digests, sketches, pieces)
        return self._filled

    def __len__(self) -> int:
        return len(self._source)

    def batches(self, plan: Iterable[Pick]) -> Iterator[Images]:
        """Augmented images on the device for each pick, in order; fills the store if need be.

        Reads at most `READ_AHEAD` pictures ahead in `plan` where pictures are not cached.

        Raises:
            DataError: a picture has become unreadable.
        """
        self.fill()
        cache = self._cache
        found = self._streamed(plan) if cache is None else self._looked_up(plan, cache)
        for pictures, indices, draws in found:
            yield augment(pictures, indices.to(self._device), draws.to(self._device), self._view)

    @property
    def _picture_bytes(self) -> int:
        return self._view.channels * math.prod(self._view.canvas)

    def _looked_up(self, plan: Iterable[Pick], cache: Tensor) -> Iterator[_Found]:
        for indices, draws in plan:
            yield cache, indices, draws

    def _streamed(self, plan: Iterable[Pick]) -> Iterator[_Found]:
        picks: deque[Pick] = deque()

        def pictures() -> Iterator[Picture]:
            for pick in plan:
                picks.append(pick)
                yield from (self._source[i] for i in pick.indices.tolist())

        batch: list[Tensor] = []
        for item in self._loaded(pictures()):
            if item.pixels is None:
                raise DataError(item.error)
            batch.append(to_bytes(item.pixels))
            if len(batch) == len(picks[0].indices):
                decoded = torch.stack(batch).to(self._device)
                yield decoded, torch.arange(len(batch)), picks.popleft().draws
                batch = []

    def _loaded(self, pictures: Iterable[Picture]) -> Iterator[Loaded]:
        with Decoders(self._threads) as decoders:
            yield from in_order(decoders.submit(picture, self._view) for picture in pictures)
