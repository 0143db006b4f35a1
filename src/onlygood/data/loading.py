"""Pictures that are to be scored: decoded and resized in the background. Needs no torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, ParamSpec, TypeVar, final

import numpy as np
from jaxtyping import UInt8

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.data.align import Pose, pose_in
from onlygood.data.apart import COMMON, HUGE, Budget, Decoded, decode_apart, opened
from onlygood.data.decode import Pixels, decode
from onlygood.data.items import Deferred
from onlygood.data.resize import viewed
from onlygood.data.source import Picture

READ_AHEAD = 64
"""Pictures that are decoded before they are asked for, at most."""

KEPT_BYTES = 2**28
"""Of whole pictures that a batch keeps, about."""

MOST_PROCESSES = 8
"""Of either kind; more would be of use to few, and each takes 40 MB."""

P = ParamSpec("P")
Result = TypeVar("Result")


class Loaded(NamedTuple):
    """A picture to be scored, or why it cannot be."""

    name: str
    path: Path | None
    pixels: UInt8[np.ndarray, "h w C"] | None
    """On the canvas of the view."""
    size: tuple[int, int] | None
    """Height and width of the picture itself; None where it cannot be read."""
    error: str | None
    whole: Pixels | None = None
    """The picture itself, where it was to be kept."""
    pose: Pose | None = None
    """How the part lies in it, where the view aligns."""


@final
class Decoders:
    """Decode pictures in the background; what is wrong with one becomes part of its result.

    A picture waits for its equals only: light ones are decoded on threads, others apart, and huge
    ones apart from these (`onlygood.data.apart`). Use as a context manager, or close it.
    """

    def __init__(self, threads: int) -> None:
        """Begin.

        Args:
            threads: For light pictures; as many processes for others, up to `MOST_PROCESSES`.
        """
        processes = min(max(threads, 1), MOST_PROCESSES)
        self._light = ThreadPoolExecutor(max(threads, 1), "decoder")
        self._common = ThreadPoolExecutor(processes, "decoder apart")
        self._huge = ThreadPoolExecutor(processes, "decoder of huge pictures")

    def submit(self, picture: Picture, view: View, *, keep: bool = False) -> Future[Loaded]:
        """Decode a picture and bring it to its view.

        Args:
            picture: A file, an array or whatever it is.
            view: How it is seen.
            keep: Whether the whole picture is wanted, too.
        """
        job = _Job(picture, view, keep, _Asked())
        self._light.submit(self._begin, job)
        return job.result

    def run(
        self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs
    ) -> Future[Result]:
        """Do other work on the threads for light pictures."""
        return self._light.submit(function, *args, **kwargs)

    def close(self) -> None:
        """Finish what was asked for; what was cancelled is not begun, or not gone on with."""
        # In this order: one hands over to the next.
        for pool in (self._light, self._common, self._huge):
            pool.shutdown()

    def __enter__(self) -> "Decoders":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin(self, job: "_Job") -> None:
        if job.result.set_running_or_notify_cancel() and not job.settled(job.here):
            self._common.submit(self._go_on, job)

    def _go_on(self, job: "_Job") -> None:
        if job.wanted() and not job.settled(lambda: job.apart(COMMON)):
            self._huge.submit(self._end, job)

    def _end(self, job: "_Job") -> None:
        if job.wanted():
            job.settled(lambda: job.apart(HUGE))


@final
class _Asked(Future[Loaded]):
    """A result that can be given up also while its picture waits for its equals."""

    given_up = False

    def cancel(self) -> bool:
        """As of every future; one that runs is not cancelled, but ends as soon as it can."""
        self.given_up = True
        return super().cancel()


@final
class _Job(NamedTuple):
    """A picture on its way."""

    picture: Picture
    view: View
    keep: bool
    result: _Asked

    def wanted(self) -> bool:
        """Whether somebody still waits for it; else it is over."""
        if self.result.given_up:
            self.result.set_exception(CancelledError())
        return not self.result.given_up

    def settled(self, attempt: Callable[[], Loaded | None]) -> bool:
        """Try one way; whether there is a result."""
        try:
            loaded = attempt()
        except DataError as error:
            loaded = self._refused(str(error))
        except MemoryError:
            loaded = self._refused("needs more memory than there is; scale it down")
        except BaseException as error:
            self.result.set_exception(error)
            return True
        if loaded is not None:
            self.result.set_result(loaded)
        return loaded is not None

    def here(self) -> Loaded | None:
        """Decode it on this thread; None if it is not light."""
        content, max_pixels = self.picture.content, self.picture.max_pixels
        if isinstance(content, Deferred):
            return self._fitted(self.picture.decoded())
        if not isinstance(content, Path | bytes):
            return self._fitted(decode(content, max_pixels))
        encoded = opened(content, max_pixels)
        return None if encoded is None else self._fitted(encoded.decode())

    def apart(self, budget: Budget) -> Loaded | None:
        """Decode it in another process; None if it is too large for the budget."""
        content = self.picture.content
        assert isinstance(content, Path | bytes)
        fit = None if self.keep else self.view
        found = decode_apart(content, self.picture.max_pixels, fit=fit, budget=budget)
        if found is None:
            return None
        return self._fitted(found.pixels) if self.keep else self._loaded(found)

    def _fitted(self, pixels: Pixels) -> Loaded:
        pose = pose_in(pixels, self.view)
        found = Decoded(viewed(pixels, self.view, pose), pixels.shape[:2], pose)
        return self._loaded(found, pixels if self.keep else None)

    def _loaded(self, found: Decoded, whole: Pixels | None = None) -> Loaded:
        picture = self.picture
        return Loaded(picture.name, picture.path, found.pixels, found.size, None, whole, found.pose)

    def _refused(self, why: str) -> Loaded:
        name = self.picture.name
        return Loaded(name, self.picture.path, None, None, f"{name}: {why}")


def iterate(
    source: Iterable[Picture],
    view: View,
    batch_size: int,
    threads: int = 1,
    *,
    keep: bool = False,
) -> Iterator[list[Loaded]]:
    """Batches of pictures for scoring, in order, unreadable ones in their places.

    Holds `batch_size + READ_AHEAD` preprocessed pictures at most. With `keep` also the pictures
    themselves: of a batch, which is smaller where they are large, and one for each thread.
    Of an iterator in batches of 1 no picture is asked for before the one before it was given.

    Raises:
        ConfigError: no batch has such a size.
        DataError: a stream fails; after what it gave before.
    """
    if not batch_size >= 1:
        raise ConfigError(f"batch_size must be 1 or more, got {batch_size}")
    batch: list[Loaded] = []
    kept = 0
    ahead = threads + 1 if keep else READ_AHEAD
    if batch_size == 1 and isinstance(source, Iterator):
        ahead = 1  # the next one may be a camera's, which comes when the part does
    with Decoders(threads) as decoders:
        found = (decoders.submit(picture, view, keep=keep) for picture in source)
        try:
            for item in in_order(found, ahead):
                batch.append(item)
                kept += 0 if item.whole is None else item.whole.nbytes
                if len(batch) >= batch_size or kept >= KEPT_BYTES:
                    yield batch
                    batch, kept = [], 0
        except DataError:
            if batch:
                yield batch
            raise
    if batch:
        yield batch


def threads() -> int:
    """Threads that decode pictures beside the one that scores them."""
    return os.cpu_count() or 1


def in_order(futures: Iterable[Future[Result]], ahead: int = READ_AHEAD) -> Iterator[Result]:
    """The results of futures that begin when they are taken, at most `ahead` of them at a time.

    Raises:
        DataError: what gives the futures fails; after the results of those that it gave before.
    """
    waiting: deque[Future[Result]] = deque()
    taken = iter(futures)
    failure: DataError | None = None
    try:
        while True:
            try:
                waiting.append(next(taken))
            except StopIteration:
                break
            except DataError as error:
                failure = error
                break
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        # Also when the caller stops early: closing the decoders waits for what is not cancelled.
        for future in waiting:
            future.cancel()
