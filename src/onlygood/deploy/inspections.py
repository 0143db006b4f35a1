"""The inspection log: one row for each decision, in SQLite, appended and never changed.

A row is on disk (WAL, `synchronous=FULL`) before its decision is told, so neither `kill -9` nor a
power cut loses what was answered. Several services may share one log. Old rows leave by age and
by size; nothing else is ever deleted.
"""

import csv
import io
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from onlygood.core.errors import ConfigError, OnlygoodError

VERSION = 1
"""Of the tables."""
MARK = 0x6F676C31
"""`PRAGMA application_id`: whose file it is."""
PATIENCE_S = 10.0
"""For another service that is writing."""
PART = 5000
"""Rows that are deleted, or exported, in one transaction."""

Verdict = Literal["false_alarm", "miss", "correct"]

TABLES = f"""
CREATE TABLE IF NOT EXISTS inspections (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    model TEXT NOT NULL,
    model_sha256 TEXT NOT NULL,
    picture_sha256 TEXT NOT NULL,
    name TEXT NOT NULL,
    score REAL NOT NULL,
    p_value REAL NOT NULL,
    decision TEXT NOT NULL,
    latency_ms REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS feedback (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    inspection INTEGER NOT NULL,
    verdict TEXT NOT NULL,
    comment TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS feedback_of ON feedback (inspection);
CREATE TRIGGER IF NOT EXISTS inspections_stay BEFORE UPDATE ON inspections
    BEGIN SELECT RAISE(ABORT, 'inspections are never changed'); END;
CREATE TRIGGER IF NOT EXISTS feedback_stays BEFORE UPDATE ON feedback
    BEGIN SELECT RAISE(ABORT, 'feedback is never changed'); END;
PRAGMA application_id = {MARK};
PRAGMA user_version = {VERSION};
"""

COLUMNS = (
    *("id", "time", "model", "model_sha256", "picture_sha256", "name", "score", "p_value"),
    *("decision", "latency_ms", "feedback"),
)


class LogError(OnlygoodError):
    """The log cannot be read or written."""


class Row(NamedTuple):
    """A decision."""

    model: str
    model_sha256: str
    picture_sha256: str
    name: str
    score: float
    p_value: float
    decision: str
    latency_ms: float


@final
class Inspections:
    """The log in one file. Any thread may use it."""

    def __init__(self, path: Path, *, keep_days: float, keep_bytes: int) -> None:
        """Open the file, or make it.

        Args:
            path: The file; SQLite keeps two more beside it, with `-wal` and `-shm` at their ends.
            keep_days: Older rows leave.
            keep_bytes: The oldest rows leave when rows take more.

        Raises:
            ConfigError: it cannot be opened, or is another program's.
        """
        self._path, self._keep_days, self._keep_bytes = path, keep_days, keep_bytes
        self._lock = threading.Lock()
        self.trouble = ""
        """Why the last attempt to write failed; empty when it did not."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = self._connected()
            try:
                self._prepare()
            except BaseException:
                self._writer.close()
                raise
        except (OSError, sqlite3.Error) as error:
            raise ConfigError(
                f"{path} cannot be the inspection log ({error}); name a new file in a folder that "
                "can be written"
            ) from error

    def append(self, rows: Sequence[Row]) -> list[int]:
        """Write rows in one transaction; gives their numbers. They are on disk afterwards.

        Raises:
            LogError: they cannot be written; then none of them is.
        """
        now = _timestamp(datetime.now(UTC))
        with self._writing() as writer:
            numbers = [
                writer.execute(
                    "INSERT INTO inspections (time, model, model_sha256, picture_sha256, name, "
                    "score, p_value, decision, latency_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (now, *row),
                ).lastrowid
                for row in rows
            ]
        return [number for number in numbers if number is not None]

    def judge(self, number: int, verdict: Verdict, comment: str = "") -> bool:
        """Append what a person says of an inspection; False where there is no such one.

        Raises:
            LogError: it cannot be written.
        """
        with self._writing() as writer:
            done = writer.execute(
                "INSERT INTO feedback (time, inspection, verdict, comment) "
                "SELECT ?, id, ?, ? FROM inspections WHERE id = ?",
                (_timestamp(datetime.now(UTC)), verdict, comment, number),
            )
        return done.rowcount == 1

    def newest(
        self,
        limit: int,
        *,
        model: str | None = None,
        decision: str | None = None,
        after: int = 0,
        before: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rows as `COLUMNS` names their fields, newest first; `feedback` is the latest verdict.

        Args:
            limit: Rows, at most.
            model: Of this model alone.
            decision: With this decision alone.
            after: Larger numbers alone.
            before: Smaller numbers alone.

        Raises:
            LogError: the log cannot be read.
        """
        conditions, values = ["i.id > ?"], list[str | int]([after])
        for condition, value in (("i.model", model), ("i.decision", decision)):
            if value is not None:
                conditions.append(f"{condition} = ?")
                values.append(value)
        if before is not None:
            conditions.append("i.id < ?")
            values.append(before)
        return self._read(
            f"SELECT i.*, (SELECT verdict FROM feedback WHERE inspection = i.id "
            f"ORDER BY id DESC LIMIT 1) AS feedback FROM inspections i "
            f"WHERE {' AND '.join(conditions)} ORDER BY i.id DESC LIMIT ?",
            (*values, limit),
        )

    def csv(self, *, model: str | None = None, decision: str | None = None) -> Iterator[str]:
        """All rows as CSV, newest first, in parts; what is written meanwhile is left out.

        Raises:
            LogError: the log cannot be read.
        """
        yield _lines([COLUMNS])
        before: int | None = None
        while rows := self.newest(PART, model=model, decision=decision, before=before):
            yield _lines([[_cell(row[name]) for name in COLUMNS] for row in rows])
            before = rows[-1]["id"]

    def p_values(self, model_sha256: str, count: int) -> list[float]:
        """The latest of a model, oldest first.

        Raises:
            LogError: the log cannot be read.
        """
        rows = self._read(
            "SELECT p_value FROM (SELECT id, model_sha256, p_value FROM inspections "
            "ORDER BY id DESC LIMIT ?) WHERE model_sha256 = ? ORDER BY id DESC LIMIT ?",
            (PART, model_sha256, count),
        )
        return [float(row["p_value"]) for row in reversed(rows)]

    def prune(self) -> int:
        """Let old rows leave; gives how many.

        Raises:
            LogError: the log cannot be written.
        """
        oldest = _timestamp(datetime.now(UTC) - timedelta(days=self._keep_days))
        gone = 0
        while removed := self._prune_some(oldest):
            gone += removed
        return gone

    def close(self) -> None:
        """Write everything into one file and close it."""
        with self._lock:
            self._writer.close()

    def _prune_some(self, oldest: str) -> int:
        """Delete one part of what is too old or too much."""
        with self._writing() as writer:
            pages = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count, "
            pages += "pragma_freelist_count, pragma_page_size"
            (used,) = writer.execute(pages).fetchone()
            # Numbers and times rise together, so the first that stays tells all that go.
            limit = "" if used > self._keep_bytes else "WHERE time < ?"
            ids = writer.execute(
                f"SELECT id FROM (SELECT id, time FROM inspections ORDER BY id LIMIT {PART}) "
                f"{limit} ORDER BY id DESC LIMIT 1",
                (oldest,) if limit else (),
            ).fetchone()
            if ids is None:
                return 0
            writer.execute("DELETE FROM feedback WHERE inspection <= ?", ids)
            return writer.execute("DELETE FROM inspections WHERE id <= ?", ids).rowcount

    def _connected(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=PATIENCE_S, isolation_level=None, check_same_thread=False
        )
        connection.row_factory = sqlite3.Row
        return connection

    def _prepare(self) -> None:
        # In one transaction: another service may be making the same file.
        self._writer.execute("BEGIN")
        (mark,) = self._writer.execute("PRAGMA application_id").fetchone()
        (version,) = self._writer.execute("PRAGMA user_version").fetchone()
        (tables,) = self._writer.execute("SELECT count(*) FROM sqlite_master").fetchone()
        self._writer.execute("COMMIT")
        if tables and (mark, version) != (MARK, VERSION):
            raise ConfigError(
                f"{self._path} is a database, but no inspection log of this onlygood; name a new "
                "file"
            )
        self._write_ahead()
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.executescript(f"BEGIN IMMEDIATE; {TABLES} COMMIT;")

    def _write_ahead(self) -> None:
        """Of two that want this at once SQLite refuses one at once, where else it would wait."""
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._writer.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                    raise
            time.sleep(0.01)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: whole, or not at all."""
        with self._lock:
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                try:
                    yield self._writer
                    self._writer.execute("COMMIT")
                finally:
                    if self._writer.in_transaction:
                        self._writer.execute("ROLLBACK")
            except sqlite3.Error as error:
                self.trouble = (
                    f"the inspection log cannot be written ({error}); nothing is decided without "
                    "it: look at the disk's space and permissions"
                )
                raise LogError(self.trouble) from error
            self.trouble = ""

    def _read(self, question: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        """With a connection of its own: readers and the writer do not wait for each other."""
        try:
            with closing(self._connected()) as reader:
                return [dict(row) for row in reader.execute(question, values)]
        except sqlite3.Error as error:
            raise LogError(f"the inspection log cannot be read ({error})") from error


def _timestamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value
