"""Pictures that are to be scored: decoded and squared on threads, in order. Needs no torch."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import UInt8

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.data.resize import squared
from onlygood.data.source import ImageSource, Picture

READ_AHEAD = 64
"""Pictures that are decoded before they are asked for, at most."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Loaded(NamedTuple):
    """A picture to be scored, or why it cannot be."""

    name: str
    path: Path | None
    pixels: UInt8[np.ndarray, "side side C"] | None
    size: tuple[int, int] | None
    """Height and width of the picture itself; None where it cannot be read."""
    error: str | None


def load(picture: Picture, view: View) -> Loaded:
    """Decode and square one picture; what is wrong with it becomes part of the result."""
    try:
        pixels = picture.load()
        fitted = squared(pixels, view, picture.name)
    except DataError as error:
        return Loaded(picture.name, picture.path, None, None, str(error))
    return Loaded(picture.name, picture.path, fitted, pixels.shape[:2], None)


def iterate(
    source: ImageSource, view: View, batch_size: int, threads: int = 1
) -> Iterator[list[Loaded]]:
    """Batches of pictures for scoring, in order, unreadable ones in their places.

    Holds `batch_size + READ_AHEAD` preprocessed pictures at most.
    """
    batch: list[Loaded] = []
    for item in ordered(lambda picture: load(picture, view), source, threads):
        batch.append(item)
        if len(batch) == batch_size:
            yield batch
            batch = []
    if batch:
        yield batch


def threads() -> int:
    """Threads that decode pictures beside the one that scores them."""
    return os.cpu_count() or 1


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int
) -> Iterator[Result]:
    """`map(function, items)` on threads, with at most `READ_AHEAD` results waiting."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(max(threads, 1)) as pool:
        try:
            for item in items:
                if len(waiting) == READ_AHEAD:
                    yield waiting.popleft().result()
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
        finally:
            # Also when the caller stops early: leaving the pool waits for what is not cancelled.
            for future in waiting:
                future.cancel()
