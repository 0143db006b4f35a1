"""Where pictures and results are: folders of this machine, and object stores.

Everything is named by a URI. A local file's is `file:///...` with odd bytes as `%FF`, so that every
name of a file system can be written in a table, and read from it; elsewhere the URI is what the
user wrote, `s3://bucket/key`, as it is.
"""

import os
import re
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote_to_bytes

from onlygood.core.errors import DataError, OnlygoodError, in_a_line
from onlygood.core.files import replacing

PREPARING_SECONDS = 3600.0
"""How long parts of a job wait until one of them has listed the pictures."""


class OutputError(OnlygoodError):
    """The folder of results takes no more; what is in it is whole."""


def uri_of(named: str | os.PathLike[str]) -> str:
    """The URI of what a user names: a path, or a URI already."""
    text = os.fspath(named)
    if is_remote(text) or text.startswith("file://"):
        return text.rstrip("/")
    return Path(os.path.abspath(text)).as_uri()


def is_remote(text: str) -> bool:
    """Whether it is a URI of another file system than this machine's."""
    # A letter alone is a disk of Windows.
    return re.match(r"[a-z][a-z0-9+.-]+://", text) is not None and not text.startswith("file://")


def local_path(uri: str) -> Path | None:
    """The file behind a URI of this machine; None: it is somewhere else."""
    if not uri.startswith("file://"):
        return None
    path = os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    # file:///C:/pictures
    return Path(path[1:] if re.match(r"/[A-Za-z]:", path) else path)


def file_system(uri: str) -> tuple[Any, str]:
    """The file system of pyarrow that knows a URI, and its path there.

    Raises:
        DataError: nobody knows such a file system, or where it is.
    """
    path = local_path(uri)
    if path is not None:
        from pyarrow import fs

        return fs.LocalFileSystem(), os.fspath(path)
    scheme, _, rest = uri.partition("://")
    authority, _, within = rest.partition("/")
    system, base = _connected(scheme, authority)
    return system, f"{base.rstrip('/')}/{within}".rstrip("/")


def up_to_date(uri: str) -> tuple[Any, str]:
    """The same, of which nothing is remembered: file systems of fsspec keep what they have listed.

    What other processes write is not in there.

    Raises:
        DataError: see `file_system`.
    """
    from pyarrow import fs

    system, path = file_system(uri)
    if isinstance(system, fs.PyFileSystem) and isinstance(system.handler, fs.FSSpecHandler):
        system.handler.fs.invalidate_cache()
    return system, path


@lru_cache(maxsize=64)
def _connected(scheme: str, authority: str) -> tuple[Any, str]:
    from pyarrow import ArrowException, fs

    own = scheme in ("s3", "gs", "gcs", "abfs", "abfss", "hdfs") or scheme.startswith("fsspec+")
    # Then a small file is one PUT, not the three of a file that may become large.
    options = "?allow_delayed_open=true" if scheme == "s3" else ""
    try:
        found: tuple[Any, str] = fs.FileSystem.from_uri(
            f"{'' if own else 'fsspec+'}{scheme}://{authority}{options}"
        )
    except (ArrowException, ImportError, OSError, ValueError) as error:
        raise DataError(
            f"{scheme}://{authority} cannot be reached ({in_a_line(error)}); check the name, the "
            "credentials and the network, or install the package of fsspec that knows it"
        ) from error
    return found


@final
class Place:
    """A folder of files that are whole or not there, on this machine or on an object store."""

    def __init__(self, named: str | os.PathLike[str]) -> None:
        self.uri = uri_of(named)
        self.path = local_path(self.uri)
        """None: it is somewhere else."""

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a local file to write, and put it into its place when the block succeeds.

        Here it is synced and renamed; on an object store it is seen when all of it is there.

        Raises:
            OutputError: it cannot be written; what was there before is there still.
        """
        try:
            if self.path is not None:
                with replacing(self.path / name) as temporary:
                    yield temporary
                    _sync(temporary)
                return
            system, path = file_system(f"{self.uri}/{name}")
            with tempfile.TemporaryDirectory(prefix="onlygood-") as folder:
                temporary = Path(folder) / "whole"
                yield temporary
                with temporary.open("rb") as file, system.open_output_stream(path) as target:
                    shutil.copyfileobj(file, target, 2**20)
        except OSError as error:
            # What pyarrow says in place of the system's words is long.
            why = os.strerror(error.errno) if error.errno else in_a_line(error)
            raise OutputError(
                f"cannot write {name} to {shown(self.uri)}: {why}; "
                "what is there is whole: make room, and run the same again to do the rest"
            ) from error

    def open(self, name: str) -> Any:
        """A file to read, of pyarrow.

        Raises:
            FileNotFoundError: it is not there.
        """
        system, path = file_system(f"{self.uri}/{name}")
        return system.open_input_file(path)

    def read(self, name: str) -> bytes | None:
        """All of a file; None: it is not there."""
        try:
            with self.open(name) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None

    def names(self, folder: str) -> set[str]:
        """Names of the files in one of its folders; none where that is not there."""
        from pyarrow import fs

        system, path = up_to_date(f"{self.uri}/{folder}")
        found = system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return {info.base_name for info in found}

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        system, path = file_system(f"{self.uri}/{name}")
        with suppress(FileNotFoundError):
            system.delete_file(path)

    def held(self, *, shared: bool) -> AbstractContextManager[None]:
        """Keep other jobs out, or with `shared` those that do not share it.

        An object store has no locks that end with their owner; there two jobs do the same work
        twice, and each unit is one file all the same.

        Raises:
            OutputError: another job is at work here.
        """
        if self.path is None:
            return nullcontext()
        return _locked(
            self.path / ".lock",
            shared,
            0.0,
            f"another job is at work in {self.path}; wait until it ends, or name another folder",
        )

    def preparing(self) -> AbstractContextManager[None]:
        """Wait for whoever else lists the pictures of this job."""
        if self.path is None:
            return nullcontext()
        words = f"another part of the job has been preparing {self.path} for too long; look at it"
        return _locked(self.path / ".preparing", False, PREPARING_SECONDS, words)


def shown(uri: str) -> str:
    """A URI as a user would have written it."""
    path = local_path(uri)
    return uri if path is None else os.fspath(path)


@contextmanager
def _locked(path: Path, shared: bool, seconds: float, words: str) -> Iterator[None]:
    """Hold a lock that the system takes back when this process dies.

    SQLite's, because it knows how each system locks files, shared or not.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=seconds, isolation_level=None)
    except (OSError, sqlite3.OperationalError) as error:
        raise OutputError(f"cannot write to {path.parent}: {in_a_line(error)}") from error
    try:
        connection.execute("BEGIN" if shared else "BEGIN EXCLUSIVE")
        if shared:
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # takes the lock
    except sqlite3.OperationalError as error:
        connection.close()
        busy = error.sqlite_errorcode == sqlite3.SQLITE_BUSY
        raise OutputError(words if busy else f"cannot lock {path}: {in_a_line(error)}") from error
    try:
        yield
    finally:
        connection.close()


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
