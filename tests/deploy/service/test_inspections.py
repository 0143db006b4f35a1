import csv
import io
import resource
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from onlygood.core.errors import ConfigError
from onlygood.deploy.service import inspections
from onlygood.deploy.service.inspections import AGREED, USED, Inspections, Row
from onlygood.deploy.service.log_file import LogError

MIB = 2**20


def row(name: str = "a.png", score: float = 1.0, decision: str = "normal") -> Row:
    return Row("nut", "1f" * 32, "9a" * 32, name, score, 0.5, decision, 3.25)


def opened(path: Path, keep_days: float = 365.0, keep_bytes: int = 1024 * MIB) -> Inspections:
    return Inspections(path, keep_days=keep_days, keep_bytes=keep_bytes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "log.sqlite"


@pytest.fixture
def log(path: Path) -> Iterator[Inspections]:
    log = opened(path)
    yield log
    log.close()


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_is_appended_comes_back_newest_first(log: Inspections) -> None:
    assert log.append([row("a.png"), row("b.png", 2.0, "anomalous")]) == [1, 2]
    assert log.append([row("c.png")]) == [3]
    found = log.newest(10)
    assert [each["name"] for each in found] == ["c.png", "b.png", "a.png"]
    assert {name: found[1][name] for name in Row._fields} == row(
        "b.png", 2.0, "anomalous"
    )._asdict()
    assert datetime.fromisoformat(found[0]["time"]).tzinfo == UTC
    assert found[0]["feedback"] is None


def test_rows_can_be_chosen(log: Inspections) -> None:
    log.append([row(f"{i}", decision="anomalous" if i % 2 else "normal") for i in range(10)])
    assert [each["id"] for each in log.newest(2)] == [10, 9]
    assert [each["id"] for each in log.newest(100, after=8)] == [10, 9]
    assert [each["id"] for each in log.newest(2, before=4)] == [3, 2]
    assert len(log.newest(100, decision="anomalous")) == 5
    assert log.newest(100, model="other") == []


def test_the_latest_verdict_counts_and_all_stay(log: Inspections, path: Path) -> None:
    log.append([row(), row()])
    assert log.judge(1, "miss")
    assert log.judge(1, "false_alarm", "dust")
    assert not log.judge(3, "miss")
    assert [each["feedback"] for each in log.newest(10)] == [None, "false_alarm"]
    assert [each["comment"] for each in log.newest(10)] == [None, "dust"]
    assert "".join(log.csv()).splitlines()[2].endswith(",false_alarm,dust")
    with sqlite3.connect(path) as reader:
        said = reader.execute("SELECT verdict, comment FROM feedback ORDER BY id").fetchall()
    reader.close()
    assert said == [("miss", ""), ("false_alarm", "dust")]


@pytest.mark.parametrize("table", ["inspections", "feedback"])
def test_nothing_is_ever_changed(log: Inspections, path: Path, table: str) -> None:
    log.append([row()])
    log.judge(1, "miss")
    other = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="never changed"):
        other.execute(f"UPDATE {table} SET time = ''")
    other.close()


def test_csv_has_all_and_no_formulas(log: Inspections) -> None:
    log.append([row(f"{i}", score=-1.0) for i in range(5001)])
    log.append([row('=HYPERLINK("x")'), row('comma, quote " and\nline.png')])
    lines = list(csv.reader(io.StringIO("".join(log.csv()), newline="")))
    assert len(lines) == 1 + 5003
    assert lines[0][:3] == ["id", "time", "model"]
    assert [line[5] for line in lines[1:3]] == [
        'comma, quote " and\nline.png',
        '\'=HYPERLINK("x")',
    ]
    assert lines[-1][5:7] == ["0", "-1.0"]
    log.append([row("bad", decision="anomalous"), row("other")._replace(model="bolt")])
    for chosen, name in (({"decision": "anomalous"}, "bad"), ({"model": "bolt"}, "other")):
        _, line = csv.reader(io.StringIO("".join(log.csv(**chosen)), newline=""))
        assert line[5] == name


def test_it_is_there_after_closing_and_numbers_go_on(path: Path) -> None:
    log = opened(path)
    log.append([row(), row()])
    log.close()
    log = opened(path)
    assert log.append([row()._replace(p_value=p) for p in (0.1, 0.2)]) == [3, 4]
    assert log.p_values("1f" * 32, 3) == [0.5, 0.1, 0.2]
    assert log.p_values("00" * 32, 2) == []
    log.close()


NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def note(log: Inspections, *days: float) -> None:
    """What the clock said when it was read: days from `NOW`."""
    for day in days:
        log.note_time(NOW + timedelta(days=day))


def names(log: Inspections) -> list[str]:
    return [each["name"] for each in log.newest(100_000)]


def test_the_old_leave_when_a_day_of_readings_says_so(path: Path) -> None:
    log = opened(path, keep_days=10.0)
    log.append([row("old"), row("old")])
    log.judge(2, "miss")
    note(log, -10.01)
    log.append([row("new")])  # after the last reading that surely is too old
    note(log, *[-10.01] * (AGREED - 1))
    log.judge(3, "miss")
    note(log, -9.99, *[0.0] * (AGREED - 1))
    assert log.prune() == 0  # one of those that say what time it is has another opinion
    note(log, 0.0)
    assert log.prune() == 2
    assert names(log) == ["new"]
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT inspection FROM feedback").fetchall() == [(3,)]
    assert log.prune() == 0
    assert log.append([row()]) == [4]
    log.close()


def test_too_few_readings_that_it_is_old_let_nothing_leave(path: Path) -> None:
    log = opened(path, keep_days=10.0)
    log.append([row()])
    note(log, *[-11.0] * (AGREED - 1), *[0.0] * AGREED)
    assert log.prune() == 0
    log.close()


def test_readings_that_are_needed_no_more_leave(path: Path) -> None:
    log = opened(path, keep_days=2.0)
    log.append([row()])
    for hour in range(120):
        note(log, hour / 24)
        log.prune()
    with closing(sqlite3.connect(path)) as other:
        (kept,) = other.execute("SELECT count(*) FROM readings").fetchone()
    assert kept <= 2 * 24 + 2 * AGREED
    log.close()


def test_a_row_stamped_20_years_ago_takes_none_with_it(log: Inspections, path: Path) -> None:
    log.append([row(f"{i}") for i in range(100)])
    with closing(sqlite3.connect(path)) as other:
        other.execute(
            f"INSERT INTO inspections ({', '.join(Row._fields)}, time) "
            f"SELECT {', '.join(Row._fields)}, '2006-01-01' FROM inspections WHERE id = 1"
        )
        other.commit()
    note(log, -8000.0, *[0.0] * AGREED, -8000.0, *[0.0] * AGREED)
    assert log.prune() == 0
    assert len(names(log)) == 101


@pytest.mark.parametrize("when", ["before", "among", "after"])
@pytest.mark.parametrize("off", [400.0, -400.0])
def test_a_clock_that_was_wrong_for_some_hours_deletes_nothing(
    log: Inspections, when: str, off: float
) -> None:
    hours = [hour / 24 for hour in range(2 * AGREED)]
    place = {"before": 0, "among": AGREED, "after": len(hours)}[when]
    wrong = [off + i / 24 for i in range(AGREED - 1)]
    for day in [*hours[:place], *wrong, *hours[place:]]:
        log.append([row()])
        note(log, day)
        assert log.prune() == 0


def test_a_clock_that_was_ahead_does_not_keep_rows_for_ever(path: Path) -> None:
    log = opened(path, keep_days=10.0)
    note(log, 400.0)
    log.append([row()])
    note(log, *[0.0] * AGREED, *[11.0] * AGREED)
    assert log.prune() == 1
    assert log.append([row()]) == [2]  # no number comes twice
    log.close()


def test_a_clock_that_was_behind_for_days_deletes_nothing_that_was_young(log: Inspections) -> None:
    log.append([row()])
    note(log, 0.0, *[-400.0] * AGREED, *[0.0] * AGREED)
    assert log.prune() == 0


def test_rows_leave_in_parts(log: Inspections, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspections, "PART", 2)
    log.append([row()] * 5)
    assert [log._prune_some(5) for _ in range(4)] == [2, 2, 1, 0]


COMMENTS = "SELECT sum(length(CAST(comment AS BLOB))) FROM feedback"


def test_comments_push_no_inspection_out(path: Path) -> None:
    log = opened(path, keep_bytes=16 * MIB)
    log.append([row(f"{i}") for i in range(10_000)])
    log.judge(1, "false_alarm", "dust")
    with closing(sqlite3.connect(path)) as other:
        said = [("2026-11-26", 7, "miss", "é" * 1000)] * 9000
        other.executemany(
            "INSERT INTO feedback (time, inspection, verdict, comment) VALUES (?, ?, ?, ?)", said
        )
        other.commit()
    log.judge(7, "correct", "the last word")
    assert log.prune() == 0
    found = {each["id"]: each["feedback"] for each in log.newest(100_000)}
    assert len(found) == 10_000
    assert (found[1], found[7]) == ("false_alarm", "correct")
    with closing(sqlite3.connect(path)) as other:
        (room,) = other.execute(COMMENTS).fetchone()
        used = other.execute(USED).fetchone()[0]
        of_seven = "SELECT min(id), max(id), count(*) FROM feedback WHERE inspection = 7"
        first, last, count = other.execute(of_seven).fetchone()
        assert last - first + 1 == count < 2000  # the oldest have left
        other.executemany(
            "INSERT INTO feedback (time, inspection, verdict, comment) VALUES (?, ?, ?, ?)",
            said[:2000],
        )
        other.commit()
    assert 0.9 * MIB < room < MIB  # half, at most, of an eighth of 16 MiB
    assert used < 16 * MIB
    log.prune()  # though there is room for all of them in the log
    with closing(sqlite3.connect(path)) as other:
        (room,) = other.execute(COMMENTS).fetchone()
    assert 0.9 * MIB < room < MIB
    log.close()


def test_comments_within_their_room_push_none_out_of_a_full_log(path: Path) -> None:
    log = opened(path)
    log.append([row() for _ in range(4000)])
    with closing(sqlite3.connect(path)) as other:
        used = other.execute(USED).fetchone()[0]
    for number in range(1, 20):
        log.judge(number, "miss", "x" * 2000)
    log.close()
    log = opened(path, keep_bytes=used + 4096)
    assert log.prune() == 0
    log.close()


def test_a_log_that_is_too_large_loses_its_oldest(path: Path) -> None:
    log = opened(path, keep_bytes=4_000_000)
    for _ in range(20):
        log.append([row() for _ in range(1000)])
    gone = log.prune()
    kept = log.newest(100_000)
    assert 0 < len(kept) == 20_000 - gone < 20_000
    assert [each["id"] for each in kept] == list(range(20_000, 20_000 - len(kept), -1))
    for _ in range(20):
        log.append([row() for _ in range(1000)])
        log.prune()
    log.close()
    assert path.stat().st_size < 10_000_000  # what was freed is used again


def test_a_full_disk_is_said_and_loses_nothing(log: Inspections, path: Path) -> None:
    answered = log.append([row()])
    with full_disk(200_000), pytest.raises(LogError, match="look at the disk's space"):
        for _ in range(100):
            answered += log.append([row("x" * 200) for _ in range(100)])
    assert log.trouble
    assert {each["id"] for each in log.newest(100_000)} == set(answered)
    again = log.append([row()])
    assert not log.trouble
    assert {each["id"] for each in log.newest(100_000)} == {*answered, *again}


def test_a_row_that_cannot_be_written_takes_none_with_it(log: Inspections) -> None:
    with pytest.raises(UnicodeEncodeError):
        log.append([row(), row("\ud800")])
    assert log.newest(10) == []
    assert len(log.append([row()])) == 1


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "theirs.db"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE theirs (x)")
        other.close()
    else:
        path.write_bytes(content)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match="name a new file"):
        opened(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="cannot be the inspection log"):
        opened(tmp_path / "file" / "log.sqlite")


def test_two_logs_on_one_file_mix_nothing(path: Path) -> None:
    numbers: list[int] = []

    def write(name: str) -> None:
        log = opened(path)
        for _ in range(20):
            numbers.extend(log.append([row(name), row(name)]))
        log.close()

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == list(range(1, 161))
    log = opened(path)
    names = [each["name"] for each in reversed(log.newest(1000))]
    assert all(first == second for first, second in zip(names[::2], names[1::2], strict=True))
    log.close()


def test_several_logs_begin_one_file_at_once(tmp_path: Path) -> None:
    for i in range(20):
        begin = threading.Barrier(4)

        def start(path: Path = tmp_path / f"{i}.sqlite", begin: threading.Barrier = begin) -> None:
            begin.wait()
            opened(path).close()

        with ThreadPoolExecutor(4) as pool:
            for started in [pool.submit(start) for _ in range(4)]:
                started.result()


def test_what_was_written_survives_a_killed_process(path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from onlygood.deploy.service.inspections import Inspections, Row\n"
        f"log = Inspections(Path({str(path)!r}), keep_days=1, keep_bytes=2**30)\n"
        "while True:\n"
        "    numbers = log.append([Row('m', 'a', 'b', 'n', 1.0, 1.0, 'normal', 1.0)] * 3)\n"
        "    print(*numbers, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answered = [int(number) for _ in range(100) for number in process.stdout.readline().split()]
    process.kill()
    rest = process.stdout.read().rpartition("\n")[0]
    answered += [int(number) for number in rest.split()]
    process.stdout.close()
    process.wait()
    log = opened(path)
    found = [each["id"] for each in log.newest(10**6)]
    assert len(found) == len(set(found)) and set(answered) <= set(found)
    # Of the last transaction either all is there, or nothing.
    assert len(found) % 3 == 0
    log.close()


def test_of_a_damaged_log_it_is_said_what_to_do(path: Path) -> None:
    with closing(opened(path)) as log:
        log.append([row()] * 500)
    with path.open("r+b") as file:
        file.seek(-3 * 4096, 2)
        file.write(b"\xff" * 3 * 4096)
    with closing(opened(path)) as log, pytest.raises(LogError, match="it is damaged: put it and"):
        log.append([row()])
