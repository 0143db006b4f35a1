"""Float32 with all its digits, whatever the device would rather do."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from onlygood.core.threads import InCommon


@contextmanager
def _without_tf32() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


_EXACT = InCommon(_without_tf32, threading.Lock())


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
    with _EXACT:
        yield
