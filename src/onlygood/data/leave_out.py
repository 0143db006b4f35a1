"""Pictures that a person sets aside before anything is learnt from a folder."""

import os
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable
from pathlib import Path
from unicodedata import normalize

from onlygood.core.errors import DataError, suggestion
from onlygood.core.files import read_regular
from onlygood.data.source import ImageSource, printable

LARGEST = 2**26
"""Bytes of a list of names."""


def read_names(file: str | Path) -> list[str]:
    """Lines of a text file that names pictures, one a line, as a report lists them.

    The text is UTF-8, or UTF-16 that begins with its mark.

    Raises:
        DataError: it cannot be read, is no file but a pipe, or no text.
    """
    path = Path(file)
    try:
        content = read_regular(path, LARGEST)
        # What `echo NAME > FILE` writes in the PowerShell that comes with Windows is UTF-16.
        wide = content[:2] in (BOM_UTF16_LE, BOM_UTF16_BE)
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{printable(path)}: cannot be read as a list of names ({error})"
        ) from error
    # Not `splitlines`: it also parts where a name has one of the rarer line ends of Unicode.
    return [line for line in re.split("\r\n|\r|\n", text) if line.strip()]


def remaining(source: ImageSource, names: Iterable[str | os.PathLike[str]]) -> list[int]:
    """Positions of the pictures but those of these names or paths, ascending.

    Blanks around a name are not of it, unless there is such a picture; nor is one meant that begins
    with `#`, which is a remark. Some systems write an umlaut as one sign, some as two: where no
    picture is called exactly so, those are meant whose names look the same.

    Raises:
        DataError: no picture has one of the names, none would be left, or it is no list of names.
    """
    if isinstance(names, str):  # else each of its letters would be a name
        raise DataError(f'leave_out takes a list of names, got "{names}"; write ["{names}"]')
    try:
        wanted = {os.fspath(name) for name in names}
    except TypeError as error:
        raise DataError(f"leave_out takes a list of names or paths, got {names!r}") from error
    known = {
        spelling: position
        for position, picture in enumerate(source)
        if picture.path is not None
        for spelling in (os.fspath(picture.path), os.fspath(picture.path.absolute()))
    }
    named: dict[str, list[int]] = {}
    for position, name in enumerate(source.names):
        named.setdefault(name, []).append(position)
    alike: dict[str, set[int]] = {}
    for spelling, positions in (*named.items(), *((path, [at]) for path, at in known.items())):
        alike.setdefault(normalize("NFC", spelling), set()).update(positions)
    out: set[int] = set()
    for line in wanted:
        name = line if line in named else line.strip()
        spellings = (name, os.path.abspath(name))
        found = named.get(name) or [known[spelling] for spelling in spellings if spelling in known]
        for spelling in () if found else spellings:
            found += alike.get(normalize("NFC", spelling), ())
        if not found:
            if name.startswith("#"):
                continue
            hint = suggestion(name, named) or " names are as the report has them"
            raise DataError(f'no picture to leave out is called "{name}";{hint}')
        out.update(found)
    if len(out) == len(source):
        raise DataError(
            f"all {len(source)} pictures are to be left out; keep those that are normal"
        )
    return [i for i in range(len(source)) if i not in out]
