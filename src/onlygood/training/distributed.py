"""Several processes as one: the same global batch, averaged gradients.

Started by `torchrun`; without it everything here does nothing. No module is wrapped.
"""

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.autograd.function import once_differentiable

from onlygood.core.errors import ConfigError, in_a_line
from onlygood.core.stage import Statistics

S = TypeVar("S", bound=Statistics)


def default_device() -> torch.device:
    """The GPU that belongs to this process, where there are GPUs, else the processor."""
    if torch.cuda.is_available():
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device("cpu")


def device_named(name: str | torch.device | None) -> torch.device:
    """The device of this name, or the default one.

    Raises:
        ConfigError: torch knows none of this name, or this machine has none.
    """
    if not name:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    # Torch asserts that it was built for the device.
    except (RuntimeError, AssertionError, TypeError) as error:
        here = '"cpu" or "cuda"' if torch.cuda.is_available() else '"cpu"'
        raise ConfigError(
            f'device="{name}" cannot be used here ({in_a_line(error)}); take {here}, or none'
        ) from error
    return device


def start() -> None:
    """Join the process group that `torchrun` has described, if it has and none is joined yet."""
    if "WORLD_SIZE" in os.environ and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(default_device())
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """Number of this process, from 0; 0 when it is alone."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def wait() -> None:
    """Until all processes are here."""
    if dist.is_initialized():
        dist.barrier()


def check_batch(batch_size: int, network: nn.Module) -> None:
    """Refuse a batch that the processes cannot share equally, or that a network cannot take.

    Raises:
        ConfigError: `batch_size` is not a multiple of the number of processes; or each has one
            picture, where a layer is normalised that has one number for each picture.
    """
    if batch_size % world():
        raise ConfigError(
            f"batch_size={batch_size} cannot be shared by {world()} processes; "
            f"take a multiple of {world()}"
        )
    if batch_size == world() and any(isinstance(m, nn.BatchNorm1d) for m in network.modules()):
        raise ConfigError(
            f"batch_size={batch_size} leaves each process a single picture, of which nothing can "
            f"be normalised; take {2 * world()} or more"
        )


def broadcast(tensors: Iterable[Tensor]) -> None:
    """Give every process the values of process 0, in place."""
    if world() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def average(tensors: list[Tensor]) -> None:
    """Replace tensors by their mean over the processes, in place and in one message."""
    if world() > 1 and tensors:
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        dist.all_reduce(flat)
        flat /= world()
        parts = flat.split([tensor.numel() for tensor in tensors])
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def whole(rows: Tensor) -> Tensor:
    """The rows of all processes, in the order of their numbers; gradients reach those of each."""
    if world() == 1:
        return rows
    gathered: Tensor = _Whole.apply(rows)  # type: ignore[no-untyped-call]
    return gathered


class _Whole(torch.autograd.Function):
    """All processes make something of all rows; what each makes has a part in every gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(world())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        # Their sum, as gradients of weights are averaged over the processes in the end.
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world())[rank()]


def merged(found: S) -> S:
    """What all processes have found, merged in the order of their numbers: the same in each.

    One part is on its way at a time, so that memory does not grow with their number.
    """
    if world() == 1:
        return found
    mine = found.tensors()
    parts = (
        type(found).of({name: _said(tensor, process) for name, tensor in mine.items()})
        for process in range(world())
    )
    whole = next(parts)
    for part in parts:
        whole.merge(part)
    return whole


def _said(mine: Tensor, process: int) -> Tensor:
    """The tensor of one process; it has as many dimensions, and the type, of this one's."""
    shape = torch.tensor(mine.shape, dtype=torch.int64, device=_messages())
    dist.broadcast(shape, process)
    said = mine.new_empty(shape.tolist(), device=_messages())
    if process == rank():
        said.copy_(mine)
    dist.broadcast(said, process)
    return said.to(mine.device)


def agreed(number: float | bool) -> float | bool:
    """What process 0 says, so that all stop at the same step and step equally far."""
    if world() == 1:
        return number
    said = torch.tensor(number, dtype=torch.float64, device=_messages())
    dist.broadcast(said, 0)
    return said.item()


def _messages() -> str:
    """Where tensors have to be that are sent."""
    return "cuda" if dist.get_backend() == "nccl" else "cpu"
