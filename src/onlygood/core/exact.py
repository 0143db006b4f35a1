"""Float32 with all its digits, whatever the device would rather do."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """The context in which pictures are scored and measured: float32 with all its digits.

    On a GPU convolutions of float32 keep 10 bits (TF32) unless they are told not to: a thousandth
    of a score, by which a threshold would be off on a processor and in an exported file.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    before, cudnn.allow_tf32 = cudnn.allow_tf32, False
    try:
        yield
    finally:
        cudnn.allow_tf32 = before
