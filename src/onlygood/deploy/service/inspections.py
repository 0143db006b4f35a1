"""The inspection log: one row for each decision, in SQLite, appended and never changed.

A row is on disk (WAL, `synchronous=FULL`) before its decision is told, so neither `kill -9` nor a
power cut loses what was answered. Several services may share one log. Old rows leave by age and
by size; nothing else is ever deleted.

A clock can be wrong, and what a row says of its time is one reading of it. Ids and sizes are not.
So the log notes the time once an hour of running, beside the id that it has come to, and rows
leave by age when `AGREED` such readings say what time it is now, and as many that they are too old.
"""

import csv
import io
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

from onlygood.core.text import cell
from onlygood.deploy.service.log_file import LogFile

VERSION = 1
"""Of the tables."""
MARK = 0x6F676C31
"""`PRAGMA application_id`: whose file it is."""
PART = 5000
"""Rows that are deleted, or exported, in one transaction."""
AGREED = 24
"""Readings of the clock, an hour apart, that must say the same before a row leaves by age."""
FEEDBACK_SHARE = 8
"""Feedback has this part of the room for inspections, beside it."""

Verdict = Literal["false_alarm", "miss", "correct"]

TABLES = """
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
CREATE TABLE IF NOT EXISTS readings (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time TEXT NOT NULL,
    inspection INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS log (id TEXT NOT NULL);
INSERT INTO log SELECT lower(hex(randomblob(8))) WHERE NOT EXISTS (SELECT 1 FROM log);
CREATE INDEX IF NOT EXISTS feedback_of ON feedback (inspection);
CREATE TRIGGER IF NOT EXISTS inspections_stay BEFORE UPDATE ON inspections
    BEGIN SELECT RAISE(ABORT, 'inspections are never changed'); END;
CREATE TRIGGER IF NOT EXISTS feedback_stays BEFORE UPDATE ON feedback
    BEGIN SELECT RAISE(ABORT, 'feedback is never changed'); END;
"""

USED = (
    "SELECT (page_count - freelist_count) * page_size AS bytes FROM pragma_page_count, "
    "pragma_freelist_count, pragma_page_size"
)
COST = "2 * (length(CAST(comment AS BLOB)) + 64)"
"""Bytes that a row of `feedback` takes, at most: pages are half full at least."""
FEEDBACK_USED = f"SELECT coalesce(sum({COST}), 0) AS bytes FROM feedback"
SHORTEN_FEEDBACK = f"""
DELETE FROM feedback WHERE id IN (
    SELECT id FROM (
        SELECT id, sum(cost) OVER (ORDER BY replaced, id DESC) AS total FROM (
            SELECT id, {COST} AS cost, EXISTS (
                SELECT 1 FROM feedback WHERE inspection = f.inspection AND id > f.id
            ) AS replaced FROM feedback f
        )
    ) WHERE total > ?
)"""
"""Verdicts that a later one has replaced leave first, the oldest before the others."""

COLUMNS = (
    *("id", "time", "model", "model_sha256", "picture_sha256", "name", "score", "p_value"),
    *("decision", "latency_ms", "feedback", "comment"),
)


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
            keep_days: Older rows leave, about a day of running later.
            keep_bytes: The oldest rows leave when rows take more; feedback has an eighth beside.

        Raises:
            ConfigError: it cannot be opened, or is another program's.
            LogError: it cannot be read.
        """
        self._keep_days, self._keep_bytes = keep_days, keep_bytes
        self._file = LogFile(path, tables=TABLES, mark=MARK, version=VERSION)
        self.identity = str(self._file.read("SELECT id FROM log")[0]["id"])
        """Of this log: another one counts its inspections from 1 again."""

    @property
    def trouble(self) -> str:
        """Why nothing can be written, as far as is known; empty when it can. Never waits."""
        return self._file.trouble

    def look(self) -> None:
        """Notice what has become of the file since it was written, for the better, too.

        Raises:
            LogError: it cannot be written.
        """
        self._file.look()

    def append(self, rows: Sequence[Row]) -> list[int]:
        """Write rows in one transaction; gives their numbers. They are on disk afterwards.

        Raises:
            LogError: they cannot be written; then none of them is.
        """
        now = _timestamp(datetime.now(UTC))
        with self._file.writing() as writer:
            numbers = [
                writer.execute(
                    "INSERT INTO inspections (time, model, model_sha256, picture_sha256, name, "
                    "score, p_value, decision, latency_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (now, *row),
                ).lastrowid
                for row in rows
            ]
        return [number for number in numbers if number is not None]

    def judge(
        self, number: int, verdict: Verdict, comment: str = "", picture_sha256: str | None = None
    ) -> bool:
        """Append what a person says of an inspection; False where there is no such one.

        Raises:
            LogError: it cannot be written.
        """
        with self._file.writing() as writer:
            done = writer.execute(
                "INSERT INTO feedback (time, inspection, verdict, comment) "
                "SELECT ?, id, ?, ? FROM inspections "
                "WHERE id = ? AND picture_sha256 = coalesce(?, picture_sha256)",
                (_timestamp(datetime.now(UTC)), verdict, comment, number, picture_sha256),
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
        """Rows as `COLUMNS` names their fields, newest first.

        `feedback` and `comment` are of the latest verdict.

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
        return self._file.read(
            f"SELECT i.*, f.verdict AS feedback, f.comment FROM inspections i LEFT JOIN feedback f "
            f"ON f.id = (SELECT max(id) FROM feedback WHERE inspection = i.id) "
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
            yield _lines([[cell(row[name]) for name in COLUMNS] for row in rows])
            before = rows[-1]["id"]

    def p_values(self, model_sha256: str, count: int) -> list[float]:
        """The latest of a model, oldest first.

        Raises:
            LogError: the log cannot be read.
        """
        rows = self._file.read(
            "SELECT p_value FROM (SELECT id, model_sha256, p_value FROM inspections "
            "ORDER BY id DESC LIMIT ?) WHERE model_sha256 = ? ORDER BY id DESC LIMIT ?",
            (PART, model_sha256, count),
        )
        return [float(row["p_value"]) for row in reversed(rows)]

    def note_time(self, time: datetime) -> None:
        """Note a reading of the clock; to be called once an hour, for rows that leave by age.

        Raises:
            LogError: the log cannot be written.
        """
        with self._file.writing() as writer:
            writer.execute(
                "INSERT INTO readings (time, inspection) "
                "SELECT ?, coalesce(max(id), 0) FROM inspections",
                (_timestamp(time),),
            )

    def prune(self) -> int:
        """Let old rows leave; gives how many inspections.

        Raises:
            LogError: the log cannot be written.
        """
        reading, outdated = self._outdated()
        room = self._keep_bytes // FEEDBACK_SHARE
        with self._file.writing() as writer:
            writer.execute("DELETE FROM readings WHERE id < ?", (reading,))
            if _bytes(writer, FEEDBACK_USED) > room:
                writer.execute(SHORTEN_FEEDBACK, (room,))
        gone = 0
        while removed := self._prune_some(outdated):
            gone += removed
        return gone

    def close(self) -> None:
        """Write everything into one file and close it."""
        self._file.close()

    def _outdated(self) -> tuple[int, int]:
        """The latest reading that is surely too old, and the inspection it was taken at; or zeros.

        Surely: `AGREED` readings say what time it is now, and all that were taken before it and
        `AGREED - 1` that were taken next are too old by that.
        """
        readings = self._file.read("SELECT id, time, inspection FROM readings ORDER BY id")
        if len(readings) < AGREED:
            return 0, 0
        now = min(reading["time"] for reading in readings[-AGREED:])
        oldest = _timestamp(datetime.fromisoformat(now) - timedelta(days=self._keep_days))
        # Those of a clock that was ahead lie in the future now, and say nothing.
        said = (reading for reading in readings if reading["time"] <= now)
        old = list(takewhile(lambda reading: reading["time"] < oldest, said))
        if len(old) < AGREED:
            return 0, 0
        return old[-AGREED]["id"], old[-AGREED]["inspection"]

    def _prune_some(self, outdated: int) -> int:
        """Delete one part of what is too old or too much."""
        with self._file.writing() as writer:
            used = _bytes(writer, USED)
            too_much = used > self._keep_bytes and (
                used - _bytes(writer, FEEDBACK_USED) > self._keep_bytes
            )
            part = f"SELECT max(id) FROM (SELECT id FROM inspections ORDER BY id LIMIT {PART})"
            (last,) = writer.execute(part).fetchone()
            if last is None:
                return 0
            last = last if too_much else min(last, outdated)
            writer.execute("DELETE FROM feedback WHERE inspection <= ?", (last,))
            return writer.execute("DELETE FROM inspections WHERE id <= ?", (last,)).rowcount


def _bytes(writer: sqlite3.Connection, question: str) -> int:
    return int(writer.execute(question).fetchone()["bytes"])


def _timestamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds")


def _lines(rows: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()
