"""What a worker does: one unit of pictures into one file. Needs no torch.

A picture that cannot be read becomes a row that says why. What is not the picture's fault, a file
that has gone or a network that fails, fails the unit, which leaves nothing: it is done again later.
"""

import io
import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final
from urllib.parse import quote_from_bytes

from onlygood.core.errors import DataError, in_a_line
from onlygood.data.decode import SUFFIXES, check_bytes
from onlygood.data.items import Deferred, refusing
from onlygood.data.source import Picture
from onlygood.deploy.runtime import BATCH, Runtime
from onlygood.report.heatmap import overlay
from onlygood.report.regions import Region
from onlygood.result import Result
from onlygood.scale.places import Place, file_system, is_remote, local_path, shown
from onlygood.scale.sources import is_tar, picture_column, status
from onlygood.scale.units import Input, Unit

MAPS = ("none", "anomalous", "all")
"""Of which pictures heat maps are kept."""

AWAY = 16
"""Threads that read and decode pictures of an object store: most of their time they wait."""


@final
@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """What is to be done with each unit; all that a worker needs to know of a job."""

    out: str
    """URI of the job's folder."""
    model: Path
    sha256: str
    """Of the model: another one is refused."""
    maps: str = "none"
    """One of `MAPS`."""


class UnitError(Exception):
    """A unit cannot be done now; nothing is wrong with its pictures."""


@final
class Worker:
    """Does one unit after another, on one thread beside the one that decodes."""

    def __init__(self, task: Task) -> None:
        """Read the model.

        Raises:
            ModelFileError: it cannot be used, or is another one.
        """
        self._task, self._place = task, Place(task.out)
        self._runtime = Runtime.load(task.model, threads=1, sha256=task.sha256)

    def do(self, unit: Unit) -> None:
        """Score the pictures of a unit and write what is said of them: `parts/NAME.parquet`.

        Before it comes `maps/NAME.tar`, if maps are wanted: whoever finds the former has both.

        Raises:
            UnitError, OnlygoodError: it could not be done, and there is no such file.
            OutputError: nothing can be written any more.
        """
        if self._task.maps == "none":
            rows = [_row(result) for result in self._results(unit)]
        else:
            with (
                self._place.writing(f"maps/{unit.name}.tar") as path,
                tarfile.open(path, "w") as archive,
            ):
                results = self._results(unit, maps=True)
                rows = [self._mapped(n, result, archive) for n, result in enumerate(results)]
        _check_nothing_is_gone(unit, rows)
        self._write(unit, rows)

    def _results(self, unit: Unit, maps: bool = False) -> Iterator[Result]:
        away = any(is_remote(item.uri) for item in unit.inputs)
        try:
            yield from self._runtime.each(
                pictures_of(unit), maps=maps, keep=maps, decoders=AWAY if away else 1
            )
        except OSError as error:
            raise UnitError(f"its pictures cannot be read: {in_a_line(error)}") from error

    def _mapped(self, number: int, result: Result, archive: tarfile.TarFile) -> dict[str, Any]:
        row = _row(result)
        wanted = self._task.maps == "all" or result.decision == "anomalous"
        if wanted and result.map is not None and result.picture is not None:
            content = io.BytesIO()
            outline = result.decision != "normal"
            overlay(result.picture, result.map, outline=outline).save(content, "PNG")
            entry = tarfile.TarInfo(f"{number:06}.png")
            entry.size = content.tell()
            content.seek(0)
            archive.addfile(entry, content)
            row["map"] = entry.name
            row["regions"] = [region._asdict() for region in result.regions]
        return row

    def _write(self, unit: Unit, rows: list[dict[str, Any]]) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        columns = [("uri", pa.string()), ("score", pa.float64()), ("p_value", pa.float64())]
        columns += [("decision", pa.string()), ("error", pa.string()), ("map", pa.string())]
        *whole, peak = Region._fields
        region = pa.struct([*((name, pa.int64()) for name in whole), (peak, pa.float64())])
        columns += [("regions", pa.list_(region))]
        columns += [(f"part_{name}", pa.float64()) for name in self._runtime.terms]
        table = pa.Table.from_pylist(rows, schema=pa.schema(columns))
        with self._place.writing(f"parts/{unit.name}.parquet") as path:
            parquet.write_table(table, path, compression="zstd")


def pictures_of(unit: Unit) -> Iterator[Picture]:
    """The pictures of a unit, in order, each named by its URI.

    Inside of a file it is the file's, `#`, and the member's name or the row.

    Raises:
        UnitError: a tar or Parquet file cannot be read, or a tar has no pictures.
    """
    for item in unit.inputs:
        if is_tar(item):
            yield from _members(item)
        elif item.group >= 0:
            yield from _cells(item)
        else:
            path = local_path(item.uri)
            fetch = partial(_fetched, item)
            yield Picture(item.uri, Deferred(fetch) if path is None else path)


def _fetched(item: Input) -> bytes:
    check_bytes(item.size)
    system, path = file_system(item.uri)
    with system.open_input_stream(path) as file:
        return bytes(file.read())


class _Whole(tarfile.TarInfo):
    """A member of a tar that is read to its end mark.

    The library takes a header that is damaged, cut off or missing for the end, and whatever
    follows would be lost without a word.
    """

    @classmethod
    def fromtarfile(cls, tarfile_: tarfile.TarFile) -> "_Whole":
        """Raises ReadError where the archive breaks off."""
        try:
            return super().fromtarfile(tarfile_)
        except (
            tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
            tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
            tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
        ) as error:
            raise tarfile.ReadError(
                f"it is damaged or cut off, or has no end mark ({error}); copy it again"
            ) from error


def _members(item: Input) -> Iterator[Picture]:
    system, path = file_system(item.uri)
    try:
        with (
            system.open_input_stream(path) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=_Whole) as archive,
        ):
            stored: dict[str, tarfile.TarInfo] = {}
            found = False
            for member in archive:
                if member.islnk():
                    file = stored.get(posixpath.normpath(member.linkname), member)
                else:
                    file = member
                stored[posixpath.normpath(member.name)] = file
                if member.isdir() or Path(member.name).suffix.lower() not in SUFFIXES:
                    continue
                found = True
                name = quote_from_bytes(member.name.encode("utf-8", "surrogateescape"))
                content = _content(archive, file) if file is member else _elsewhere(item, file)
                yield Picture(f"{item.uri}#{name}", content)
            _check_ended(archive)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise UnitError(f"{shown(item.uri)} cannot be read: {in_a_line(error)}") from error
    if not found:
        suffixes = " ".join(sorted(SUFFIXES))
        raise UnitError(f"there are no pictures in {shown(item.uri)}; looked for {suffixes}")


def _check_ended(archive: tarfile.TarFile) -> None:
    """The library takes a block of zeros for the end, which a hole in the middle has, too.

    Raises:
        ReadError: something follows.
    """
    assert archive.fileobj is not None, "it is open"
    while rest := archive.fileobj.read(2**20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError(
                "it goes on behind its end mark: it has a hole, or is several that were joined; "
                "copy it again, or give each by itself"
            )


def _elsewhere(item: Input, file: tarfile.TarInfo) -> bytes | Deferred:
    """What a hard link shares with a member that the stream has passed."""
    system, path = file_system(item.uri)
    with system.open_input_file(path) as whole, tarfile.open(fileobj=whole, mode="r:") as archive:
        return _content(archive, file)


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes | Deferred:
    try:
        if not member.isfile():
            raise DataError(_not_a_file(member))
        check_bytes(member.size)
    except DataError as error:
        return refusing(str(error))
    file = archive.extractfile(member)
    assert file is not None, "it is a file"
    return file.read()


def _not_a_file(member: tarfile.TarInfo) -> str:
    if member.issym():
        what = f"is a symbolic link to {member.linkname}, which a tar that is gone through once"
        what += " cannot follow"
    elif member.islnk():
        what = f"is a hard link to {member.linkname}, which is not stored before it"
    else:
        what = "is no file"
    # A name in it need not be valid text, and tables are UTF-8.
    words = f"{what}; store the file itself (tar --dereference)"
    return words.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _cells(item: Input) -> Iterator[Picture]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    system, path = file_system(item.uri)
    try:
        with system.open_input_file(path) as source, ParquetFile(source) as file:
            column = picture_column(file.schema_arrow, item.uri)
            groups = list(map(file.metadata.row_group, range(file.num_row_groups)))
            here = groups[item.group : item.group + 1]
            if [(g.num_rows, g.total_byte_size) for g in here] != [(item.pictures, item.size)]:
                # Rows of another group would be lost, or be there twice.
                raise UnitError(
                    f"{shown(item.uri)} has changed since it was listed; put the earlier file back "
                    "and run the same again, or take in what it is now with --update"
                )
            number = sum(group.num_rows for group in groups[: item.group])
            for batch in file.iter_batches(BATCH, [item.group], [column]):
                for cell in batch.column(0):
                    value = cell.as_py()
                    content = value["bytes"] if isinstance(value, dict) else value
                    yield Picture(
                        f"{item.uri}#{number}",
                        refusing("has no bytes") if content is None else content,
                    )
                    number += 1
    except (OSError, ArrowException) as error:
        raise UnitError(f"{shown(item.uri)} cannot be read: {in_a_line(error)}") from error


def _row(result: Result) -> dict[str, Any]:
    readable = result.error is None
    return {
        "uri": result.name,
        "score": result.score if readable else None,
        "p_value": result.p_value if readable else None,
        "decision": result.decision,
        "error": result.error,
        "map": None,
        "regions": None,
        **{f"part_{name}": value for name, value in result.parts.items()},
    }


def _check_nothing_is_gone(unit: Unit, rows: list[dict[str, Any]]) -> None:
    """A picture that was there when it was listed and is no more is not bad, it is missing.

    Raises:
        UnitError: names one.
    """
    bad = {row["uri"] for row in rows if row["error"] is not None}
    gone = [i for i in unit.inputs if i.uri in bad and i.size >= 0 and status(i.uri)[0] < 0]
    if gone:
        raise UnitError(
            f"{len(gone)} of {len(unit.inputs)} pictures are gone since they were listed, the "
            f"first is {shown(gone[0].uri)}; bring them back and run the same again, or go on "
            "without them with --update"
        )
