import os
import resource
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from onlygood.core.errors import ConfigError
from onlygood.deploy.service import log_file
from onlygood.deploy.service.log_file import LogError, LogFile

MARK, VERSION = 7, 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a log?%20#1.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[LogFile]:
    log = opened(path)
    yield log
    log.close()


def opened(path: Path) -> LogFile:
    tables = "CREATE TABLE IF NOT EXISTS words (word TEXT);"
    return LogFile(path, tables=tables, mark=MARK, version=VERSION)


def write(log: LogFile, word: str) -> None:
    with log.writing() as writer:
        writer.execute("INSERT INTO words VALUES (?)", (word,))


def words(path: Path) -> list[str]:
    """As another program reads them."""
    with closing(sqlite3.connect(path)) as reader:
        return [word for (word,) in reader.execute("SELECT word FROM words ORDER BY rowid")]


@contextmanager
def held(path: Path) -> Iterator[sqlite3.Connection]:
    """By another program, which has begun to write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield other


def damage(path: Path, how: str) -> None:
    aside = path.with_name("aside")
    match how:
        case "moved" | "replaced" | "created anew":
            path.rename(aside)
        case "removed":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case "-wal" | "-shm":
            path.with_name(path.name + how).unlink()
    if how == "replaced":
        path.write_bytes(aside.read_bytes())
    if how == "created anew":
        path.touch()


DAMAGE = ["moved", "replaced", "created anew", "removed", "emptied", "-wal", "-shm"]


@pytest.mark.parametrize("how", DAMAGE)
def test_a_file_that_goes_is_noticed_by_the_next_who_writes(
    log: LogFile, path: Path, how: str
) -> None:
    write(log, "before")
    damage(path, how)
    assert "was moved, removed, replaced" in log.trouble
    for _ in range(3):
        with pytest.raises(LogError, match="start the service anew"):
            write(log, "after")
    with pytest.raises(LogError, match="start the service anew"):
        log.read("SELECT * FROM words")
    with pytest.raises(LogError):
        log.look()
    if how in ("moved", "removed"):
        assert not path.exists()  # nobody has made a new one, which would look like the log
    log.close()
    if how in ("moved", "replaced", "created anew"):
        assert words(path.with_name("aside")) == ["before"]
    if how in ("-wal", "-shm"):
        assert words(path) == ["before"]


def test_a_file_that_goes_while_it_is_written_is_noticed(log: LogFile, path: Path) -> None:
    with pytest.raises(LogError), log.writing() as writer:
        writer.execute("INSERT INTO words VALUES ('into nowhere')")
        path.unlink()


def test_a_file_that_comes_back_is_written_again(log: LogFile, path: Path) -> None:
    write(log, "one")
    aside = path.rename(path.with_name("aside"))
    with pytest.raises(LogError):
        log.look()
    assert not path.with_name(path.name + "-wal").exists()
    aside.rename(path)
    log.look()
    assert not log.trouble
    write(log, "two")
    assert words(path) == ["one", "two"]


def test_a_new_log_of_the_same_name_is_its_own(log: LogFile, path: Path) -> None:
    write(log, "old")
    path.rename(path.with_name("aside"))
    with pytest.raises(LogError):
        log.look()
    another = opened(path)
    write(another, "new")
    with pytest.raises(LogError):
        write(log, "old")
    log.close()
    write(another, "new")
    assert words(path) == ["new", "new"]
    another.close()
    assert words(path.with_name("aside")) == ["old"]


def test_rows_that_a_reader_keeps_out_of_the_file_stay_beside_it(
    log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "PATIENCE_S", 0.1)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM words").fetchall()
        write(log, "kept")
        path.rename(path.with_name("aside"))
        with pytest.raises(LogError):
            log.look()
        assert path.with_name(path.name + "-wal").stat().st_size > 0


def test_what_is_written_is_on_the_disk(log: LogFile) -> None:
    with log.writing() as writer:
        assert writer.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL
        assert writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_readers_never_make_or_change_a_file(log: LogFile, path: Path) -> None:
    with pytest.raises(LogError, match="readonly"):
        log.read("INSERT INTO words VALUES ('x')")


def test_a_lock_that_is_given_up_is_waited_for(log: LogFile, path: Path) -> None:
    with held(path) as other:
        other.execute("INSERT INTO words VALUES ('theirs')")
        waiting = threading.Thread(target=write, args=(log, "ours"))
        waiting.start()
        time.sleep(0.3)
        assert waiting.is_alive()
        other.execute("COMMIT")
        waiting.join(60)
    assert words(path) == ["theirs", "ours"]
    assert not log.trouble


def test_all_who_wait_for_a_lock_are_told_at_the_same_time(
    log: LogFile, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "PATIENCE_S", 0.8)
    write(log, "before")
    assert log._writer is not None
    asked: list[str] = []
    log._writer.set_trace_callback(asked.append)

    def wait() -> None:
        with pytest.raises(LogError, match="another program holds its lock"):
            write(log, "ours")

    with held(path):
        waiting = [threading.Thread(target=wait) for _ in range(20)]
        for thread in waiting:
            thread.start()
        assert len(log.read("SELECT * FROM words")) == 1  # who reads does not wait
        for thread in waiting:
            thread.join()
        # Who comes later need not wait for what all have waited for.
        wait()
        assert log.trouble
    patience = [int(words.split()[-1]) for words in asked if "busy_timeout" in words]
    # Of the first all, in milliseconds, and of the others what it has left: nothing, about.
    assert len(patience) == 21 and max(patience[1:]) < 100
    log.look()
    assert not log.trouble
    write(log, "ours")


@contextmanager
def full(path: Path, room: int = 0) -> Iterator[None]:
    """A disk without space, or little, for whatever would make the log longer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = path.with_name(path.name + "-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_trouble_until_something_can_be_written(log: LogFile, path: Path) -> None:
    with full(path):
        with pytest.raises(LogError):
            write(log, "lost")
        with log.writing() as writer:
            writer.execute("DELETE FROM words WHERE rowid < 0")  # there are none
        assert "look at the disk's space" in log.trouble
        with pytest.raises(LogError):
            log.look()
        assert log.trouble
    log.look()
    assert not log.trouble
    write(log, "kept")
    assert words(path) == ["kept"]


def test_a_disk_that_is_full_from_the_beginning_is_trouble(log: LogFile, path: Path) -> None:
    with full(path):
        with pytest.raises(LogError, match="cannot be written"):
            log.look()
        assert log.trouble


def test_space_for_a_few_bytes_is_not_enough(log: LogFile, path: Path) -> None:
    with full(path, room=30_000):
        write(log, "few")
        with pytest.raises(LogError, match="cannot be written"):
            log.look()


def test_space_is_tried_once_while_all_is_well(log: LogFile, path: Path) -> None:
    log.look()
    with full(path):
        log.look()
    assert not log.trouble


@pytest.mark.parametrize("name", [":memory:", "folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    if name == "pipe":
        os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"is no file; name a|would be lost with the service"):
        opened(path)


@pytest.mark.parametrize(("mark", "version"), [(MARK, VERSION + 1), (MARK + 1, VERSION)])
def test_a_log_of_another_kind_or_version_is_refused(
    log: LogFile, path: Path, mark: int, version: int
) -> None:
    with pytest.raises(ConfigError, match="no inspection log of this onlygood"):
        LogFile(path, tables="", mark=mark, version=version)


def test_a_link_is_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link.sqlite").symlink_to("data/line.sqlite")
    log = opened(tmp_path / "link.sqlite")
    write(log, "one")
    assert log.trouble == ""
    log.close()
    assert words(tmp_path / "data" / "line.sqlite") == ["one"]


def test_a_place_without_a_write_ahead_log_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(sqlite3.Connection):
        def execute(self, sql: str, *values: object) -> sqlite3.Cursor:
            # In memory there is none.
            return super().execute("SELECT 'delete'" if "journal_mode" in sql else sql, *values)

    monkeypatch.setattr(
        log_file.sqlite3,
        "connect",
        partial(sqlite3.connect, factory=Elsewhere),
    )
    with pytest.raises(ConfigError, match=r"no write-ahead log there \(mode delete\)"):
        opened(path)
