"""From what a user names to inputs: folders, tar files, Parquet files, lists; here or elsewhere."""

import codecs
import glob
import os
import re
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any

from onlygood.core.errors import DataError, in_a_line
from onlygood.data.decode import SUFFIXES
from onlygood.data.items import PICTURE_KEYS
from onlygood.data.source import is_mask, walked
from onlygood.scale.places import (
    file_system,
    is_remote,
    local_path,
    shown,
    up_to_date,
    uri_of,
)
from onlygood.scale.units import Input

PACKED = frozenset({".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip", ".7z"})
"""Suffixes of what is compressed as a whole: as a picture it would be one bad one."""
TOGETHER = 1_000
"""Files of a list that are asked after at a time."""


def inputs_of(sources: Iterable[str | os.PathLike[str]]) -> Iterator[Input]:
    """All inputs of some sources, each once, each source in one order, whatever the disk's.

    A source is a folder, whose pictures at any depth are taken; a picture; a tar file, of which
    members with the suffix of a picture are taken (WebDataset's layout is one); a Parquet file with
    a column of pictures; a text file that names these, one a line; or a pattern, `shards/*.tar`.

    Raises:
        DataError: a source is missing, cannot be looked at, or holds nothing.
    """
    names = dict.fromkeys(os.fspath(source) for source in sources)
    # A folder or a pattern names nothing twice, and may have too many to remember.
    may_repeat = len(names) > 1 or any(_suffix(named) == ".txt" for named in names)
    seen: set[tuple[str, int]] = set()
    for named in names:
        found = False
        for item in _of(named):
            found = True
            if may_repeat:
                if (item.uri, item.group) in seen:
                    continue
                seen.add((item.uri, item.group))
            yield item
        if not found:
            suffixes = " ".join(sorted(SUFFIXES))
            raise DataError(f"there are no pictures in {named}; looked for {suffixes}")


def is_tar(item: Input) -> bool:
    """Whether an input is a tar file."""
    return _suffix(item.uri) == ".tar"


def picture_column(schema: Any, uri: str) -> str:
    """The column of a Parquet file that holds encoded pictures.

    As bytes, or as Hugging Face does it: a struct with `bytes`.

    Raises:
        DataError: there is none.
    """
    from pyarrow import types

    def holds_bytes(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    for name in PICTURE_KEYS:
        place = schema.get_field_index(name)
        if place >= 0 and holds_bytes(schema.field(place).type):
            return name
    raise DataError(
        f"{shown(uri)} has no column of encoded pictures: looked for {', '.join(PICTURE_KEYS)} "
        f"among {', '.join(schema.names)}; rename the one that holds them"
    )


def _of(named: str) -> Iterator[Input]:
    uri = uri_of(named)
    path = local_path(uri)
    if path is None:
        yield from _remote(uri)
    elif os.path.isdir(path):  # Of os.path: pathlib raises where a name is too long.
        yield from _described(_within(path))
    elif os.path.lexists(path):
        yield from _file(uri)
    elif "*" in named:
        matches = sorted(glob.glob(_stars_alone(os.fspath(path))))
        yield from _described(_files_of(uri_of(match) for match in matches))
    else:
        raise DataError(f"there is no {named}; name pictures, folders of pictures, or lists")


def _stars_alone(pattern: str) -> str:
    """The pattern, with brackets and question marks as they are in names."""
    return re.sub(r"[\[?]", r"[\g<0>]", pattern)


def _remote(uri: str) -> Iterator[Input]:
    from pyarrow import fs

    system, path = up_to_date(uri)
    if "*" in path:
        parent = path.rpartition("/")[0]
        found = _asked(uri, lambda: system.get_file_info(fs.FileSelector(parent)))
        wanted = [
            info for info in found if info.is_file and fnmatchcase(info.path, _stars_alone(path))
        ]
        base, uri = parent, uri.rpartition("/")[0]
    else:
        (info,) = _asked(uri, lambda: system.get_file_info([path]))
        if info.is_file:
            yield from _file(uri)
            return
        if info.type == fs.FileType.NotFound:
            raise DataError(f"there is no {uri}; name pictures, folders of pictures, or lists")
        found = _asked(uri, lambda: system.get_file_info(fs.FileSelector(path, recursive=True)))
        base = path
        wanted = [
            info
            for info in found
            if info.is_file
            and _suffix(info.path) in SUFFIXES
            and not is_mask(info.path[len(base) :])
            and not any(part.startswith(".") for part in info.path[len(base) :].split("/"))
        ]
    for info in sorted(wanted, key=lambda info: info.path):
        yield from _input(uri + info.path[len(base) :], info.size, _stamp(info))


def _file(uri: str) -> Iterator[Input]:
    if _suffix(uri) != ".txt":
        yield from _described([uri])
        return
    system, path = file_system(uri)
    try:
        with system.open_input_stream(path) as file:
            # Editors on Windows begin a text with a mark, and its PowerShell writes UTF-16.
            content = bytes(file.read()).removeprefix(codecs.BOM_UTF8)
        if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            content = content.decode("utf-16").encode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the list {shown(uri)} cannot be read: {in_a_line(error)}") from error
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise DataError(
            f"the list {shown(uri)} has a byte 0 in line {line}, and no name has; save it as text "
            "in UTF-8"
        )
    # Nothing else ends a line: a name can have whatever ends one in a text, U+2028 for example.
    lines = (os.fsdecode(line.removesuffix(b"\r")) for line in content.split(b"\n"))
    yield from _described(_files_of(uri_of(line) for line in lines if line.strip()))


def _files_of(uris: Iterable[str]) -> Iterator[str]:
    """The same, with the pictures of a folder of this machine in its place, at any depth."""
    for uri in uris:
        # Most of a long list are files by their names, and need not be looked at.
        folder = None if _suffix(uri) in SUFFIXES else local_path(uri)
        if folder is None or not os.path.isdir(folder):
            yield uri
        else:
            yield from _within(folder)


def _within(folder: Path) -> Iterator[str]:
    for root, names in walked(folder):
        for path in (Path(root, name) for name in names if _suffix(name) in SUFFIXES):
            if not is_mask(path.relative_to(folder).as_posix()):
                yield path.as_uri()


def _described(uris: Iterable[str]) -> Iterator[Input]:
    """Inputs of files; one that cannot be looked at is an input, too, and will be a bad picture."""
    rest = iter(uris)
    while some := list(islice(rest, TOGETHER)):
        elsewhere = {uri: up_to_date(uri) for uri in some if is_remote(uri)}
        stamps: dict[str, tuple[int, str]] = {}
        for system in {id(system): system for system, _ in elsewhere.values()}.values():
            asked = {uri: path for uri, (its, path) in elsewhere.items() if its is system}
            infos = _asked(some[0], lambda s=system, a=asked: s.get_file_info(list(a.values())))
            for uri, info in zip(asked, infos, strict=True):
                stamps[uri] = (info.size, _stamp(info)) if info.is_file else (-1, "")
        for uri in some:
            size, stamp = stamps[uri] if uri in stamps else status(uri)
            yield from _input(uri, size, stamp)


def status(uri: str) -> tuple[int, str]:
    """Size and stamp of a file as it is now; -1 and nothing where it cannot be looked at."""
    path = local_path(uri)
    if path is None:
        system, there = up_to_date(uri)
        (info,) = _asked(uri, lambda: system.get_file_info([there]))
        return (info.size, _stamp(info)) if info.is_file else (-1, "")
    try:
        found = os.stat(path)
    except OSError:
        return -1, ""
    return found.st_size, str(found.st_mtime_ns)


def _input(uri: str, size: int, stamp: str) -> Iterator[Input]:
    match _suffix(uri):
        case ".tar":
            yield Input(uri, size, stamp, pictures=0)
        case ".parquet":
            yield from _row_groups(uri, stamp)
        case suffix if suffix in PACKED:
            raise DataError(
                f"{shown(uri)} is compressed; unpack it, or give its pictures in a plain .tar"
            )
        case _:
            yield Input(uri, size, stamp)


def _row_groups(uri: str, stamp: str) -> Iterator[Input]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    system, path = file_system(uri)
    try:
        with system.open_input_file(path) as source, ParquetFile(source) as file:
            picture_column(file.schema_arrow, uri)
            for number in range(file.num_row_groups):
                group = file.metadata.row_group(number)
                size, rows = group.total_byte_size, group.num_rows
                if rows:
                    yield Input(uri, size, stamp, group=number, pictures=rows)
    except (OSError, ArrowException) as error:
        raise DataError(f"{shown(uri)} is no Parquet file ({in_a_line(error)})") from error


def _asked(uri: str, question: Any) -> Any:
    """What a file system answers.

    Raises:
        DataError: it does not.
    """
    try:
        return question()
    except OSError as error:
        raise DataError(
            f"{uri} cannot be looked at ({in_a_line(error)}); check the name, the credentials and "
            "the network"
        ) from error


def _stamp(info: Any) -> str:
    return "" if info.mtime_ns is None else str(info.mtime_ns)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()
