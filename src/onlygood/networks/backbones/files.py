"""Files of weights: read, compared with the checksum in their name, and filled into a network."""

import hashlib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from onlygood.core.errors import ModelFileError, in_a_line

CHECKSUM = re.compile(r"-([0-9a-f]{8})\.\w+$")
"""At the end of a file's name, as torch.hub has it."""


def check_file(name: str, path: Path, stated: re.Match[str] | None = None) -> None:
    """Compare a file with the checksum that is stated, or that its own name states."""
    if not path.is_file():
        raise ModelFileError(f"there is no file of weights of {name} at {path}; check the path")
    stated = stated or CHECKSUM.search(path.name)
    if stated is None:
        return
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"cannot read {path}: {error.strerror}; check its disk") from error
    if not found.startswith(stated[1]):
        raise ModelFileError(
            f"{path} is damaged: its sha256 begins with {found[:8]}, not with {stated[1]} as the "
            "name says; remove it and get it again"
        )


def read(name: str, path: Path) -> dict[str, object]:
    """The tensors of a file by their names in it.

    Raises:
        ModelFileError: it is not there, damaged, or no file of tensors.
    """
    check_file(name, path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # the reader raises all kinds, among them KeyError and EOFError
        raise damaged(name, path, error) from error
    return dict(state) if isinstance(state, Mapping) else {}


def damaged(name: str, path: Path, error: Exception) -> ModelFileError:
    """What is said of a file that some reader could not read."""
    what = in_a_line(error, 120)
    return ModelFileError(
        f"{path} is damaged or holds no weights of {name} ({type(error).__name__}: {what}); get "
        "it again"
    )


def fill(
    network: nn.Module, state: Mapping[str, object], key: Callable[[str], str], refusal: str
) -> None:
    """Give `network` the weights of a file, and leave what it does not need.

    Raises:
        ModelFileError: one is missing or of another shape; begins with `refusal`.
    """
    found = {}
    for ours, blank in network.state_dict().items():
        tensor = state.get(key(ours))
        if not isinstance(tensor, Tensor) or tensor.shape != blank.shape:
            has = tuple(tensor.shape) if isinstance(tensor, Tensor) else "missing"
            raise ModelFileError(
                f"{refusal}: {key(ours)} is {has}, not {tuple(blank.shape)}; give the file that "
                "was published for it"
            )
        found[ours] = tensor.to(blank.dtype)
    network.load_state_dict(found, assign=True)
