"""What a process has once for all its threads."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import final


@final
class InCommon:
    """A context of the whole process: the first thread that comes enters it, the last leaves it.

    They need not go in the order in which they came.
    """

    def __init__(
        self, made: Callable[[], AbstractContextManager[None]], lock: threading.Lock
    ) -> None:
        self._made, self._lock = made, lock
        self._inside = 0
        self._context: AbstractContextManager[None] = nullcontext()

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._context = self._made()
                self._context.__enter__()
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._context.__exit__(None, None, None)
