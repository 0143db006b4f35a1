"""The lines that the bench writes: one JSON object for each cell, in files that only grow.

`dataset`, `protocol`, `class` and `seed` say what was run, `method`, `preset` and `settings` (what
was said beyond the preset) with what. `resolved` is every setting, wherever it came from, and
`config_hash` the hash of those that are not at their default. Of a method in a user's file
`resolved` has the hash of its text, too. No torch here: tables need none.
"""

import errno
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar

from onlygood.core.errors import DataError, OnlygoodError
from onlygood.core.settings import Training
from onlygood.core.text import many

Line = dict[str, Any]
Key = tuple[str, str, str, str, str, int]
Item = TypeVar("Item")
Field = TypeVar("Field")

WHOLE = "all"
"""The one class of a data set that is taken whole."""
DIAGNOSTIC = "diagnostic, selects nothing"
"""What a learning curve says of itself."""
NO_STEPS = "no steps"
"""The schedule of a method that learns without."""

_NUMBER = int | float | None
_READ: dict[str, type | UnionType] = {
    **{"preset": str, "settings": dict, "schedule": str, "auroc": _NUMBER, "parts": dict},
    **{"training_seconds": _NUMBER, "images_per_second": _NUMBER, "device": str, "threads": int},
    "resolved": dict,
}
"""What tables read of each line, besides its key."""
_KEY = ("method", "config_hash", "dataset", "protocol", "class")


def key_of(line: Line) -> Key:
    """What tells cells apart."""
    method, config_hash, dataset, protocol, normal = (str(line[name]) for name in _KEY)
    return method, config_hash, dataset, protocol, normal, int(line["seed"])


def in_words(line: Line) -> str:
    """The preset of a record, and the settings that were said beside it."""
    return ", ".join([line["preset"], *map("=".join, line["settings"].items())])


def parted(
    items: Iterable[Item], resolved: Callable[[Item], Mapping[Field, Any]]
) -> list[tuple[list[Item], dict[Field, Any]]]:
    """Parts of what is equal in words and hash, and the settings that tell a part from the others.

    A default that has changed between two runs is in neither. What one of two does not name is
    newer than it, and no change.
    """
    parts: list[tuple[list[Item], dict[Field, Any]]] = []
    for item in items:
        settings = resolved(item)
        same = next((part for part in parts if not _changed(part[1], settings)), None)
        if same is None:
            parts.append(same := ([], {}))
        same[0].append(item)
        same[1].update(settings)
    changed = {
        field
        for number, (_, one) in enumerate(parts)
        for _, other in parts[:number]
        for field in _changed(one, other)
    }
    return [(own, {f: v for f, v in all_of.items() if f in changed}) for own, all_of in parts]


def _changed(one: Mapping[Field, Any], other: Mapping[Field, Any]) -> list[Field]:
    """Settings that both name, with other values."""
    return [field for field, value in one.items() if other.get(field, value) != value]


def read(*files: Path) -> list[Line]:
    """The lines of result files, the newest of each cell; a file that is not there has none.

    Raises:
        DataError: a line is not what the bench writes.
    """
    found: dict[Key, Line] = {}
    for file in files:
        try:
            text = _content(file).decode() if file.exists() else ""
        except UnicodeDecodeError as error:
            raise DataError(
                f"{file}: is no file of the bench, or is damaged ({error}); name another, or take "
                "the lines that are not text out"
            ) from error
        # Not `splitlines`: a tool that writes JSON anew may leave U+2028 in a name as it is.
        for number, row in enumerate(io.StringIO(text, newline=None), 1):
            if not row.strip():  # An editor has left it, as it may have left other line ends.
                continue
            try:
                # The first lines had neither.
                line = {"class": WHOLE, "resolved": {}, **json.loads(row)}
                found[key_of(line)] = line
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(
                    f"{file}, line {number}: is no line of the bench ({error!r}); take it out"
                ) from error
            if lacking := [name for name in _READ if name not in line]:
                raise DataError(
                    f"{file}, line {number}: is of another version of onlygood "
                    f"({_version(line)}), without {', '.join(lacking)}; take it out and run the "
                    "cell again"
                )
            unsound = (name for name in _READ if not _is_sound(line, name))
            if wrong := [f"{name} {line[name]!r:.40}" for name in unsound]:
                raise DataError(
                    f"{file}, line {number}: was changed or is damaged ({', '.join(wrong)}); take "
                    "it out and run the cell again"
                )
    return list(found.values())


def _version(line: Line) -> str:
    versions = line.get("versions")
    return str(versions.get("onlygood", "unknown")) if isinstance(versions, dict) else "unknown"


def _is_sound(line: Line, name: str) -> bool:
    value, kind = line[name], _READ[name]
    numbers = value.values() if name == "parts" and isinstance(value, dict) else ()
    return isinstance(value, kind) and all(isinstance(each, _NUMBER) for each in numbers)


def append(file: Path, line: Line) -> None:
    """Add a line in a single write, so that two runs may share the file.

    Raises:
        OnlygoodError: it cannot be written; the file is as it was.
    """
    content = (json.dumps(line, allow_nan=False) + "\n").encode()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            _lock(handle, alone=True)
            if os.fstat(handle).st_size:
                # An editor may have left the last line without its end; two in one are lost.
                os.lseek(handle, -1, os.SEEK_END)
                content = content if os.read(handle, 1) == b"\n" else b"\n" + content
            written = os.write(handle, content)
            if written < len(content):
                # A disk that fills up takes the first part, and says nothing.
                os.ftruncate(handle, os.fstat(handle).st_size - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(handle)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free some space" if full else "make it a file that can be written"
        raise OnlygoodError(
            f"cannot write {file}: {error.strerror or error}; {advice} and repeat the command, "
            "which goes on from the cell's checkpoint"
        ) from error


def _content(file: Path) -> bytes:
    with file.open("rb") as opened:
        _lock(opened.fileno(), alone=False)
        return opened.read()


def _lock(handle: int, *, alone: bool) -> None:
    """Wait for who is at the file; while a line is written, others would see a part of it.

    It ends with the handle. Where the file system knows of no locks nothing is waited for.
    """
    if sys.platform == "win32":
        return
    import fcntl

    with suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)


def schedule(training: Training) -> str:
    """The budgets in words; the first that is used up ends the run."""
    batches = f"of {many(training.batch_size, 'image')}"
    budgets: Iterable[tuple[str, float]] = (
        (f"{many(training.steps, 'step', ',')} {batches}", training.steps),
        (many(training.images, "image", ","), training.images),
        (f"{many(training.epochs, 'epoch', ',')} in batches {batches}", training.epochs),
        (many(training.minutes, "minute", "g"), training.minutes),
    )
    return " or ".join(words for words, budget in budgets if budget) or NO_STEPS
