"""Work that many ask for at once and one thread does together, with a bound on what may wait."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar, final

from onlygood.core.errors import OnlygoodError

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class BusyError(OnlygoodError):
    """There is no room; ask again later."""


@final
class Batches(Generic[Item, Answer]):
    """A queue and a thread that gives what is in it to a function, several items at a time."""

    def __init__(
        self,
        handle: Callable[[list[Item]], Sequence[Answer]],
        *,
        name: str,
        size: int,
        limit: int,
        wait_s: float = 0.0,
    ) -> None:
        """Start the thread.

        Args:
            handle: Items to one answer each, in order. What it raises, all of them get.
            name: Of the thread.
            size: Items that are handled together, at most.
            limit: Items that have room at a time; see `room`.
            wait_s: How long the first item of a batch waits for others that have room already.
                Nobody waits where nobody is coming.
        """
        self._handle, self._size, self._wait_s = handle, size, wait_s
        self.limit = limit
        self._waiting: deque[tuple[Item, Future[Answer]]] = deque()
        self._changed = threading.Condition()
        self._held = 0
        self._coming = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def held(self) -> int:
        """Items that have room now: coming, waiting, or being worked on."""
        return self._held

    def room(self, count: int) -> "Room[Item, Answer]":
        """Room for so many items, held until its `with` block ends.

        Raises:
            BusyError: there is not that much left.
        """
        with self._changed:
            if self._held + count > self.limit:
                raise BusyError(
                    f"{self._held} pictures are being worked on and at most {self.limit} may be; "
                    "send them again in a second"
                )
            self._held += count
            self._coming += count
        return Room(self, count)

    def submit(self, item: Item) -> Future[Answer]:
        """Put one item into the queue, whether it has room or not."""
        return self._put(item, 0)

    def close(self, timeout_s: float | None = 0.0) -> None:
        """Let the thread end once nothing waits and nobody has room; wait so long for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _put(self, item: Item, arrived: int) -> Future[Answer]:
        future: Future[Answer] = Future()
        with self._changed:
            self._coming -= arrived
            self._waiting.append((item, future))
            self._changed.notify()
        return future

    def _left(self, count: int, coming: int) -> None:
        with self._changed:
            self._held -= count
            self._coming -= coming
            self._changed.notify()

    def _work(self) -> None:
        while batch := self._collected():
            try:
                answers = self._handle([item for item, _ in batch])
                answered = list(zip(batch, answers, strict=True))
            except Exception as error:  # whatever it is, those who wait must hear of it
                for _, future in batch:
                    future.set_exception(error)
                continue
            for (_, future), answer in answered:
                future.set_result(answer)

    def _collected(self) -> list[tuple[Item, Future[Answer]]]:
        """The next batch; empty when there will be none."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._closed and not self._held:
                        return []
                    self._changed.wait()
                until = time.monotonic() + self._wait_s
                while len(self._waiting) < self._size and self._coming:
                    if (left := until - time.monotonic()) <= 0:
                        break
                    self._changed.wait(left)
                count = min(self._size, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                # Those that were cancelled have nobody who waits for them.
                if batch := [pair for pair in batch if pair[1].set_running_or_notify_cancel()]:
                    return batch


@final
class Room(Generic[Item, Answer]):
    """The right to submit some items; a context manager that gives it back."""

    def __init__(self, batches: Batches[Item, Answer], count: int) -> None:
        self._batches, self._count, self._coming = batches, count, count

    def submit(self, item: Item) -> Future[Answer]:
        """Put one of the items into the queue."""
        self._coming -= 1
        return self._batches._put(item, 1)

    def __enter__(self) -> "Room[Item, Answer]":
        return self

    def __exit__(self, *_: object) -> None:
        self._batches._left(self._count, self._coming)
