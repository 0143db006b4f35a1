"""A run on disk: tensors and JSON in one safetensors file, never a pickle, never half a file."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onlygood.core.digest import digest
from onlygood.core.errors import ConfigError, ModelFileError
from onlygood.core.files import replacing, require_file

FORMAT = 3

FACTS = "facts"
"""Tensor of the facts, JSON as bytes: a header may not be as long as a long run's log."""

_FOREIGN = (
    *(OSError, SafetensorError, KeyError, ValueError),
    *(AttributeError, TypeError, RecursionError),
)
"""What reading a file raises that `save` has not written."""


class Checkpoint(NamedTuple):
    """Everything a run needs to go on exactly where it was."""

    tensors: dict[str, Tensor]
    """`method.*`, `optimizer.UPDATE.*`, `ema.*`."""
    facts: dict[str, Any]
    """Fingerprint, budget and position of the run, sizes of first losses, balances, log."""

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose names begin with `prefix.`, without it."""
        start = prefix + "."
        return {n[len(start) :]: t for n, t in self.tensors.items() if n.startswith(start)}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically.

    Raises:
        ModelFileError: the file cannot be written (disk full, no permission).
    """
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    words = json.dumps(checkpoint.facts).encode()
    tensors[FACTS] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
    header = json.dumps({"format": FORMAT})
    sha256 = digest({name: tensor.cpu() for name, tensor in tensors.items()}, header)
    try:
        with replacing(path, lasting=True) as temporary:
            save_file(tensors, temporary, {"onlygood_checkpoint": header, "sha256": sha256})
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"cannot write the checkpoint {path}: {error}; free some space or name another folder "
            "with --run-dir"
        ) from error


def load(path: Path, fingerprint: str) -> Checkpoint:
    """Read a checkpoint of the run that `fingerprint` names.

    Raises:
        ModelFileError: the file is missing, damaged, changed or of another format.
        ConfigError: it belongs to a run with other settings or pictures.
    """
    try:
        require_file(path)
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            # Copies: the run that goes on replaces the file, which tensors would lie in.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        version = json.loads(metadata["onlygood_checkpoint"])["format"]
    except FileNotFoundError as error:
        raise ModelFileError(
            f"there is no checkpoint {path} to resume from; start without --resume"
        ) from error
    except _FOREIGN as error:
        raise ModelFileError(
            f"{path} is not a checkpoint of onlygood, or is damaged ({error}); "
            "start without --resume"
        ) from error
    if version != FORMAT:
        raise ModelFileError(f"{path} was written by another version; start without --resume")
    if metadata.get("sha256") != digest(tensors, metadata["onlygood_checkpoint"]):
        raise ModelFileError(
            f"{path} was changed after it was written: its contents do not match its checksum; "
            "start without --resume"
        )
    facts = json.loads(tensors.pop(FACTS).numpy().tobytes())
    if facts["fingerprint"] != fingerprint:
        raise ConfigError(
            f"{path} belongs to a run with another method, settings, seed, pictures or version of "
            "these; repeat the command that began it, or start without --resume"
        )
    return Checkpoint(tensors, facts)


def optimizer_tensors(name: str, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors: `optimizer.NAME.PARAMETER.ENTRY`."""
    return {
        f"optimizer.{name}.{number}.{entry}": value
        for number, state in optimizer.state_dict()["state"].items()
        for entry, value in state.items()
    }


@torch.no_grad()
def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave, without its prefix."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, entry = key.split(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape:
            # Fused Adam walks through memory without a look at strides, and the file has none.
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(number), {})[entry] = value
    whole = optimizer.state_dict()
    whole["state"] = state
    optimizer.load_state_dict(whole)
