"""What to compute in: bf16 where the processor has it in hardware, float32 elsewhere."""

from contextlib import AbstractContextManager

import torch

from onlygood.core.settings import Training


def has_bf16(device: torch.device) -> bool:
    """Whether matrix units of the device work on bf16 (AMX, AVX512-BF16, CUDA from Ampere on)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # On one thread torch 2.13 divides by zero in the bf16 gradient of some convolutions (128 px,
    # batch 32), which ends the process: slow is better than gone.
    if device.type == "cpu" and torch.get_num_threads() > 1:
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def uses_bf16(setting: str, device: torch.device) -> bool:
    """Resolve `Training.precision` on a device."""
    return setting == "bf16" or (setting == "auto" and has_bf16(device))


def autocast(training: Training, device: torch.device) -> AbstractContextManager[None]:
    """The context in which losses are computed."""
    bf16 = uses_bf16(training.precision, device)
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16)
