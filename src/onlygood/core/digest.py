"""What tells files of tensors and pictures apart by their contents; no signature."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor


def digest(tensors: Mapping[str, Tensor], header: str) -> str:
    """SHA-256 of a header and of every tensor with its name, dtype and shape."""
    found = hashlib.sha256(header.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def short_digest(picture: UInt8[np.ndarray, "h w C"]) -> int:
    """Of a picture as it is seen, in 64 bits: equal pictures have equal ones, others do not.

    Of a million pictures two that differ have the same with a probability of 3e-8.
    """
    whole = np.ascontiguousarray(picture)
    found = hashlib.blake2b(whole.data, digest_size=8).digest()
    return int.from_bytes(found, "little", signed=True)
