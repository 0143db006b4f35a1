"""What to compute in: bf16 where the processor has it in hardware, float32 elsewhere."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import torch
from torch.nn import functional as F

from onlygood.core.settings import Training
from onlygood.training import distributed

SAFE_ROWS = 16
"""Pictures of a batch from which on second derivatives in bf16 are right everywhere."""


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


def uses_bf16(training: Training, device: torch.device) -> bool:
    """Resolve `Training.precision` on a device.

    Also where bf16 was asked for it is not used if its gradients would be wrong: on processors with
    AMX, where a process has fewer than `SAFE_ROWS` pictures of a batch.
    """
    wanted = training.precision == "bf16" or (training.precision == "auto" and has_bf16(device))
    if not wanted or device.type != "cpu":
        return wanted
    return training.batch_size // distributed.world() >= SAFE_ROWS or _multiplies_rightly()


@cache
def _multiplies_rightly() -> bool:
    """Whether a convolution as large as its picture is right in bf16.

    The second derivative of a convolution, which a gradient penalty needs, is one whose channels
    are the pictures of the batch. oneDNN 3.12, which torch 2.13 has, gives other numbers on AMX
    where these are even and fewer than 16; with ONEDNN_MAX_CPU_ISA=AVX512_CORE_BF16 right ones.
    """
    random = torch.Generator().manual_seed(0)
    pictures, kernels = (torch.rand(8, 8, 8, 8, generator=random).bfloat16() for _ in range(2))
    with unaffected(torch.device("cpu")):  # Else what is exact may be rounded, too.
        exact = F.conv2d(pictures.float(), kernels.float(), padding=1)
        found = F.conv2d(pictures, kernels, padding=1).float()
    return torch.allclose(found, exact, rtol=0.1)


def autocast(training: Training, device: torch.device) -> AbstractContextManager[None]:
    """The context in which losses are computed."""
    bf16 = uses_bf16(training, device)
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
