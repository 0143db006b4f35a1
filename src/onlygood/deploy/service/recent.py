"""The most recent pictures and their maps, in bounded memory."""

import threading
from collections import OrderedDict
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from onlygood.core.settings import View
from onlygood.data.align import Pose

OVERHEAD = 500
"""Bytes that objects take beside what they hold: most of all where pictures are tiny."""


class Kept(NamedTuple):
    """A picture that was decided."""

    content: bytes
    """As it came."""
    sha256: str
    size: tuple[int, int]
    """Height and width."""
    view: View
    """How the model saw it."""
    heat: NDArray[np.float32] | None
    """`(*View.shape)`; None where the method does not localise."""
    normal: bool
    """Whether the picture was called normal."""
    pose: Pose | None = None
    """How the part lies in it, where the model aligns."""

    @property
    def nbytes(self) -> int:
        """Memory that it takes."""
        return OVERHEAD + len(self.content) + (0 if self.heat is None else self.heat.nbytes)


@final
class Recent:
    """By the number of their inspection; the oldest make room."""

    def __init__(self, limit: int) -> None:
        """Hold at most `limit` bytes."""
        self._limit, self._used = limit, 0
        self._kept: OrderedDict[int, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, number: int, kept: Kept) -> None:
        """Keep one more, and drop the oldest where that is too much."""
        with self._lock:
            self._kept[number] = kept
            self._used += kept.nbytes
            while self._used > self._limit:
                _, dropped = self._kept.popitem(last=False)
                self._used -= dropped.nbytes

    def get(self, number: int) -> Kept | None:
        """None where it is gone, or never was."""
        with self._lock:
            return self._kept.get(number)
