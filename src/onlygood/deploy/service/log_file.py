"""An SQLite file that is written while others do with it what they like.

They may move it, remove it or put another one in its place, as logrotate does; they may hold its
lock. SQLite writes on to the file that it has opened, wherever that is now, so rows would end up
where nobody looks for them. Here that is noticed before a transaction counts as done.
"""

import math
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, final

from onlygood.core.errors import ConfigError, OnlygoodError

PATIENCE_S = 10.0
"""For whoever holds the lock, from when the first of those who wait for it began to."""
ENDS = ("", "-wal", "-shm")
"""Of the names of the files that are one database in WAL mode."""

TRIED_BYTES = 65536
"""That are written to see whether there is space: more than the rows of a request take."""
TRIALS = "CREATE TABLE IF NOT EXISTS trials (id INTEGER PRIMARY KEY, content BLOB NOT NULL);"

GONE = (
    "the inspection log was moved, removed, replaced or emptied while it was written; nothing is "
    "decided without it: put it back, or start the service anew, which begins a new one"
)


class LogError(OnlygoodError):
    """The log cannot be read or written."""


@final
class LogFile:
    """One file in WAL mode, with one connection that writes. Any thread may use it."""

    def __init__(self, path: Path, *, tables: str, mark: int, version: int) -> None:
        """Open the file, or make it.

        Args:
            path: SQLite keeps two more beside it, with `-wal` and `-shm` at their ends.
            tables: Statements that make what is not there yet.
            mark: `PRAGMA application_id` of such files.
            version: `PRAGMA user_version` of such files.

        Raises:
            ConfigError: it cannot be opened, or is another program's.
        """
        # SQLite puts the others beside the file that a link leads to.
        self._path = Path(os.path.realpath(path))
        self._tables, self._mark, self._version = tables, mark, version
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[int, int] | None] = {}
        """What `_writer` has open: device and inode. No more than the file itself after it went."""
        self._writer: sqlite3.Connection | None = None
        self._held_since: float | None = None
        """When the first began to wait for a lock that nobody has got since."""
        self._failure = ""
        self._tried = False
        """Whether the space was tried once: opening an old file takes none."""
        if path.name == ":memory:":
            raise ConfigError(
                "a log in memory would be lost with the service; name a file for the inspection log"
            )
        try:
            if path.exists() and not path.is_file():
                raise ConfigError(f"{path} is no file; name a new one for the inspection log")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._opened("rwc")
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{path} cannot be the inspection log ({error}); name a new file in a folder that "
                "can be written"
            ) from error

    @property
    def trouble(self) -> str:
        """Why nothing can be written, as far as is known; empty when it can. Never waits."""
        return GONE if self._gone() else self._failure

    def look(self) -> None:
        """Notice what has become of the file since the last transaction, for the better, too.

        Raises:
            LogError: it cannot be written.
        """
        known = self._tried and not self._failure
        if known and self._writer is not None and not self._gone():
            return
        self._tried = True
        with self.writing() as writer:
            # One row, written anew: a few bytes may find room where no decision does.
            writer.execute(f"REPLACE INTO trials VALUES (1, randomblob({TRIED_BYTES}))")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: whole, in the file of that name and on disk, or an error.

        Raises:
            LogError: it is not.
        """
        began = time.monotonic()
        with self._lock:
            try:
                writer = self._present()
                self._begin(writer, began)
                changed = writer.total_changes
                try:
                    yield writer
                    writer.execute("COMMIT")
                finally:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                # Whoever took the file away before this took the rows with it.
                self._check()
            except (sqlite3.Error, ConfigError) as error:
                self._failure = (
                    f"the inspection log cannot be written ({error}); nothing is decided without "
                    f"it: {_advice(error)}"
                )
                raise LogError(self._failure) from error
            # A transaction that changed nothing has written nothing, so it says nothing of space.
            if writer.total_changes > changed:
                self._failure = ""

    def read(self, question: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Rows, with a connection of their own: readers and the writer do not wait for each other.

        Raises:
            LogError: the log cannot be read.
        """
        if self._gone():
            raise LogError(GONE)
        try:
            with closing(self._connected("ro")) as reader:
                return [dict(row) for row in reader.execute(question, values)]
        except sqlite3.Error as error:
            raise LogError(f"the inspection log cannot be read ({error})") from error

    def close(self) -> None:
        """Write everything into one file and close it."""
        with self._lock:
            self._let_go()

    def _present(self) -> sqlite3.Connection:
        """The connection that writes to the file of that name."""
        self._check()
        if self._writer is None:
            self._writer = self._opened("rw")
            self._check()
        return self._writer

    def _check(self) -> None:
        if self._gone():
            self._let_go()
            raise LogError(GONE)

    def _gone(self) -> bool:
        """Whether other files than those that were opened have their names now, or it is empty."""
        return not all(self._is_there(*each) for each in self._files.items())

    def _is_there(self, path: Path, known: tuple[int, int] | None) -> bool:
        status = _status(path)
        if status is None or _which(status) != known:
            return False
        # An empty log was copied and emptied; SQLite itself never makes it so small.
        return status.st_size > 0 or path != self._path

    def _let_go(self) -> None:
        """Close what is open, with all rows in the file itself, wherever that is now."""
        if self._writer is None:
            return
        left = 1
        with closing(self._writer) as writer, suppress(sqlite3.Error):
            left, *_ = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self._writer = None
        itself, *others = self._files.items()
        if self._is_there(*itself):
            return
        # A new log of the same name must not take the two beside the old one for its own. Those of
        # the old one are new, too, should it come back.
        self._files = dict([itself])
        for path, known in others:
            if not left and self._is_there(path, known):
                path.unlink(missing_ok=True)

    def _begin(self, writer: sqlite3.Connection, began: float) -> None:
        """Take the lock. All who wait have one deadline, or each would wait after the others."""
        since = began if self._held_since is None else self._held_since
        left = max(0.0, since + PATIENCE_S - time.monotonic())
        writer.execute(f"PRAGMA busy_timeout = {math.ceil(1000 * left)}")
        try:
            writer.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if _busy(error):
                self._held_since = since
            raise
        self._held_since = None

    def _opened(self, mode: str) -> sqlite3.Connection:
        """A connection that writes to a file which is ours."""
        writer = self._connected(mode)
        try:
            self._prepare(writer)
        except BaseException:
            writer.close()
            raise
        found = {path: _status(path) for path in map(self._beside, ENDS)}
        opened = {path: status and _which(status) for path, status in found.items()}
        # Of a file that came back it is known already which one it must be.
        self._files = {**opened, **self._files}
        return writer

    def _beside(self, end: str) -> Path:
        return self._path.with_name(self._path.name + end)

    def _connected(self, mode: str) -> sqlite3.Connection:
        """Opened `rwc` (made where there is none), `rw` or `ro`."""
        connection = sqlite3.connect(
            f"{self._path.as_uri()}?mode={mode}",
            timeout=PATIENCE_S,
            isolation_level=None,
            check_same_thread=False,
            uri=True,
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self, writer: sqlite3.Connection) -> None:
        # In one transaction: another service may be making the same file.
        writer.execute("BEGIN")
        (mark,) = writer.execute("PRAGMA application_id").fetchone()
        (version,) = writer.execute("PRAGMA user_version").fetchone()
        (tables,) = writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        writer.execute("COMMIT")
        if tables and (mark, version) != (self._mark, self._version):
            raise ConfigError(
                f"{self._path} is a database, but no inspection log of this onlygood; name a new "
                "file"
            )
        _write_ahead(writer)
        writer.execute("PRAGMA synchronous = FULL")
        writer.executescript(
            f"BEGIN IMMEDIATE; {self._tables} {TRIALS} PRAGMA application_id = {self._mark}; "
            f"PRAGMA user_version = {self._version}; COMMIT;"
        )


def _status(path: Path) -> os.stat_result | None:
    """Of what has this name; never by opening it: closing would drop SQLite's locks on it."""
    try:
        return os.stat(path)
    except OSError:
        return None


def _which(status: os.stat_result) -> tuple[int, int]:
    """The file itself, whatever its name: device and inode."""
    return status.st_dev, status.st_ino


def _write_ahead(writer: sqlite3.Connection) -> None:
    """Of two that want this at once SQLite refuses one at once, where else it would wait.

    Raises:
        ConfigError: SQLite has no such mode there.
    """
    until = time.monotonic() + PATIENCE_S
    mode = ""
    while not mode:
        try:
            (mode,) = writer.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if not _busy(error) or time.monotonic() > until:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise ConfigError(
            "the inspection log cannot be kept where it is, as SQLite has no write-ahead log "
            f"there (mode {mode}); name a file on a disk of this machine"
        )


def _busy(error: Exception) -> bool:
    # The last byte is the kind, the others say more; what Python itself raises has none.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _damaged(error: Exception) -> bool:
    kind = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _advice(error: Exception) -> str:
    if _busy(error):
        return "another program holds its lock, such as a database shell in a transaction; end that"
    if _damaged(error):
        return (
            "it is damaged: put it and what lies beside it (-wal, -shm) away, and start the "
            "service anew, which begins a new one"
        )
    return "look at the disk's space and permissions"
