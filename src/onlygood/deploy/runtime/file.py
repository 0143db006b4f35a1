"""An exported detector on disk: an ONNX file that any runtime reads, with our facts in it.

The metadata entry `onlygood` holds JSON: all that turns a score into a decision, and where it came
from. The file ends with an entry `sha256`, the digest of all bytes before it. It finds damage and
careless edits; it is no signature. Needs neither torch nor the `onnx` package.
"""

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from onlygood.core.errors import ModelFileError
from onlygood.core.files import regular, replacing
from onlygood.core.settings import View

FORMAT = 1
"""Raised whenever an older onlygood could misread a newer file."""

LARGEST = 2**31 - 1
"""Bytes that one ONNX file can have."""

SIDES = range(4, 4097)
"""Of what a method sees; the memory of a network grows with the square of it. What is cut out first
(`crop`) can be larger: that takes no memory."""

# A last entry of `ModelProto.metadata_props` (field 14): appended bytes add to a repeated field,
# so the model is the same with and without it.
_HEAD = b"\x72\x4a\x0a\x06sha256\x12\x40"
_LENGTH = len(_HEAD) + 64


class Content(NamedTuple):
    """What a file holds."""

    model: bytes
    """All of it."""
    sha256: str


def write(path: Path, model: bytes) -> str:
    """Write a serialised model and its digest, atomically; gives the digest.

    Raises:
        ModelFileError: it cannot be written; what was at `path` is there still.
    """
    digest = hashlib.sha256(model).hexdigest()
    try:
        with replacing(path, lasting=True) as temporary:
            temporary.write_bytes(model + _HEAD + digest.encode())
    except OSError as error:
        raise ModelFileError(
            f"cannot write {path}: {error.strerror or error}; nothing was left half written: free "
            "some space or choose another folder"
        ) from error
    return digest


def read(path: Path) -> Content:
    """Read a file and check it whole.

    Raises:
        ModelFileError: it is missing, no file that `write` has written, or damaged.
    """
    try:
        with regular(path, LARGEST + _LENGTH) as file:
            # What does not end like a model is not read: a file with a hole can be any size.
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LENGTH))
            end = file.read(_LENGTH)
            file.seek(0)
            whole = file.read(LARGEST + _LENGTH) if end.startswith(_HEAD) else b""
    except OSError as error:
        raise ModelFileError(f"cannot read the model {path}: {error.strerror}") from error
    except MemoryError as error:
        raise ModelFileError(f"there is not enough memory to read the model {path}") from error
    if not whole.endswith(end) or len(end) < _LENGTH:
        if path.suffix.lower() == ".safetensors":
            raise ModelFileError(
                f"{path} is no exported model (.onnx); make one: onlygood export {path}"
            )
        raise ModelFileError(
            f"{path} is cut off, or no file that `onlygood export` has written; copy it again, or "
            "export the model anew"
        )
    digest = hashlib.sha256(memoryview(whole)[:-_LENGTH]).hexdigest()
    if end[len(_HEAD) :] != digest.encode():
        raise ModelFileError(
            f"{path} was changed after it was written: its contents do not match its checksum; "
            "copy it again or export the model anew"
        )
    return Content(whole, digest)


def facts_of(path: Path, metadata: dict[str, str]) -> dict[str, Any]:
    """What the entry `onlygood` says.

    Raises:
        ModelFileError: it is missing, or of another format.
    """
    try:
        facts = json.loads(metadata["onlygood"])
        found = facts.pop("format")
    except (KeyError, AttributeError, TypeError, ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{path} holds a network, but not of onlygood; give a file that `onlygood export` has "
            "written"
        ) from error
    if found != FORMAT:
        raise ModelFileError(
            f"{path} has format {found}, this onlygood reads format {FORMAT}; upgrade onlygood, or "
            "export the model anew"
        )
    return dict(facts)


def given(view: View) -> View:
    """How pictures are best brought to an exported graph, which takes them as they are, too.

    On their canvas already, but for a square to be cut out that the graph would enlarge: there a
    picture of the final size could be one that is still to be cut.
    """
    if not 0 < view.crop < view.size:
        return view
    return replace(view, size=view.crop, aspect=1.0, pad="none", tile=0)
