"""Float32 with all its digits, whatever the device would rather do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch


@final
class _Inside:
    """How many threads are in the context, and how the switch was before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._count = 0
        self._before = False

    def enter(self) -> None:
        with self._lock:
            if not self._count:
                self._before = torch.backends.cudnn.allow_tf32
                torch.backends.cudnn.allow_tf32 = False
            self._count += 1

    def leave(self) -> None:
        with self._lock:
            self._count -= 1
            if not self._count:
                torch.backends.cudnn.allow_tf32 = self._before


_INSIDE = _Inside()


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """The context in which pictures are scored and measured: float32 with all its digits.

    On a GPU convolutions of float32 keep 10 bits (TF32) unless they are told not to: a thousandth
    of a score, by which a threshold would be off on a processor and in an exported file.

    The switch is that of the whole process: the first thread that comes in turns it off, the last
    that goes puts it back.
    """
    if device.type != "cuda":
        yield
        return
    _INSIDE.enter()
    try:
        yield
    finally:
        _INSIDE.leave()
