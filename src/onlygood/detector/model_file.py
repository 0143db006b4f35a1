"""A detector on disk: one safetensors file, JSON in its header, no pickle anywhere.

The header entry `onlygood` holds the JSON, `sha256` a digest of that JSON and of every tensor. The
digest finds damage and careless edits; it is no signature.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from onlygood.core.digest import digest
from onlygood.core.errors import ModelFileError
from onlygood.core.files import replacing, require_file

FORMAT = 1
"""Raised whenever an older onlygood could misread a newer file."""


class ModelFile(NamedTuple):
    """What a file holds."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    sha256: str


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Write a model file, atomically; gives its digest.

    Raises:
        ModelFileError: it cannot be written; what was at `path` is there still.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = json.dumps({"format": FORMAT, **facts}, allow_nan=False, sort_keys=True)
    sha256 = digest(whole, header)
    try:
        with replacing(path, lasting=True) as temporary:
            save_file(whole, temporary, {"onlygood": header, "sha256": sha256})
    except (OSError, SafetensorError) as error:
        raise ModelFileError(
            f"cannot write {path}: {error}; nothing was left half written: free some space or "
            "choose another folder"
        ) from error
    return sha256


def read(path: Path) -> ModelFile:
    """Read a model file and check it whole.

    Raises:
        ModelFileError: it is missing, foreign, truncated, changed, or of another format.
    """
    try:
        require_file(path)
        with path.open("rb") as file:
            start = file.read(9)
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror}") from error
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            # Copies: what is given lies in the file itself, and would change or go with it.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
    except (OSError, SafetensorError) as error:
        if path.suffix.lower() == ".onnx":
            raise ModelFileError(
                f"{path} is named like an exported model, which is for scoring alone; give the "
                "model that it was exported from (.safetensors)"
            ) from error
        # Only of what is no safetensors file: it begins with a length, any 8 bytes, then a brace.
        if start.startswith((b"PK", b"\x80")) and start[8:] not in (b"", b"{"):
            raise ModelFileError(
                f"{path} is a pickle or zip, which could run code when loaded; onlygood reads only "
                "files that `onlygood fit` has written"
            ) from error
        raise ModelFileError(
            f"{path} is damaged or no model of onlygood ({error}); copy it again or fit anew"
        ) from error
    if "onlygood" not in header:
        raise ModelFileError(
            f"{path} holds tensors, but not of onlygood; give a file that `onlygood fit` has "
            "written"
        )
    facts = _facts(header["onlygood"])
    version = facts.pop("format", FORMAT)
    # Before the checksum, which another format may take in another way.
    if version != FORMAT:
        raise ModelFileError(
            f"{path} has format {version}, this onlygood reads format {FORMAT}; upgrade onlygood, "
            "or fit anew"
        )
    if header.get("sha256") != digest(tensors, header["onlygood"]):
        raise ModelFileError(
            f"{path} was changed after it was written: its contents do not match its checksum; "
            "copy it again or fit anew"
        )
    return ModelFile(tensors, facts, header["sha256"])


def _facts(header: str) -> dict[str, Any]:
    """What the header says; nothing where it says nothing that makes sense."""
    try:
        facts = json.loads(header)
    except (ValueError, RecursionError):  # also numbers of 5,000 digits, and brackets in brackets
        return {}
    return facts if isinstance(facts, dict) else {}
