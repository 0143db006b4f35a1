"""What to compute in: bf16 where the processor has it in hardware, float32 elsewhere."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import torch

from onlygood.core.settings import Training


def has_bf16(device: torch.device) -> bool:
    """Whether the device is faster in bf16: CUDA from Ampere on, AMX, AVX512-BF16 of AMD.

    On CUDA that is said of networks that fill it. Small ones are up to a fifth slower (see
    `docs/speed.md`), large ones more than twice as fast, and which a network is shows as it runs.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # On one thread torch 2.13 divides by zero in the bf16 gradient of some convolutions (128 px,
    # batch 32), which ends the process: slow is better than gone.
    if device.type == "cpu" and torch.get_num_threads() > 1:
        # Intel's AVX512-BF16 without AMX has half the speed of float32: on one thread of a Xeon 84
        # against 162 GFLOP/s in a matrix product, and 1.1 to 1.3 times the time of a step.
        avx512 = torch.cpu._is_avx512_bf16_supported() and not _is_intel()
        return bool(avx512 or torch.cpu._is_amx_tile_supported())
    return False


@cache
def _is_intel() -> bool:
    """Whether Linux calls the processor one of Intel's; elsewhere it is not asked."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False


def uses_bf16(setting: str, device: torch.device) -> bool:
    """Resolve `Training.precision` on a device."""
    return setting == "bf16" or (setting == "auto" and has_bf16(device))


def autocast(training: Training, device: torch.device) -> AbstractContextManager[None]:
    """The context in which losses are computed."""
    bf16 = uses_bf16(training.precision, device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)


@contextmanager
def unaffected(device: torch.device) -> Iterator[None]:
    """The context of all that is learnt and scored: nothing that the caller has turned on holds.

    In a region of his own `torch.autocast` would round scores that a threshold of float32 decides
    on, and `torch.no_grad` and `torch.inference_mode` would leave no gradients to learn or search
    by. Inside gradients are taken, and nothing is cast.
    """
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield
