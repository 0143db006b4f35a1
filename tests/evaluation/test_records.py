import errno
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from onlygood.core.errors import DataError, OnlygoodError
from onlygood.core.settings import Training
from onlygood.evaluation.records import append, key_of, read, schedule

LINE = {
    "method": "pca",
    "config_hash": "0",
    "dataset": "toy",
    "protocol": "gpnd",
    "class": "round",
    "seed": 0,
    "resolved": {"size": 8},
    "preset": "default",
    "settings": {},
    "schedule": "no steps",
    "auroc": 0.5,
    "parts": {},
    "training_seconds": 1.0,
    "images_per_second": 9.0,
    "device": "a processor",
    "threads": 1,
}


def test_lines_come_back_and_the_newest_of_a_cell_counts(tmp_path: Path) -> None:
    file = tmp_path / "new" / "r.jsonl"
    for line in (LINE, LINE | {"seed": 1}, LINE | {"auroc": 0.7}):
        append(file, line)
    assert read(file) == [LINE | {"auroc": 0.7}, LINE | {"seed": 1}]
    assert len(file.read_text().splitlines()) == 3


def test_a_last_line_without_its_end_is_ended_first(tmp_path: Path) -> None:
    file = tmp_path / "r"
    file.write_text(json.dumps(LINE))
    append(file, LINE | {"seed": 1})
    append(file, LINE | {"seed": 2})
    assert [line["seed"] for line in read(file)] == [0, 1, 2]


def test_other_line_ends_and_empty_lines_are_no_lines(tmp_path: Path) -> None:
    row = json.dumps(LINE).encode()
    (tmp_path / "r").write_bytes(row + b"\r\n\r\n" + row + b"\r\n \r\n")
    append(tmp_path / "r", LINE | {"seed": 9})
    assert read(tmp_path / "r") == [LINE, LINE | {"seed": 9}]
    named = LINE | {"class": "a\u2028b"}
    (tmp_path / "r").write_text(json.dumps(named, ensure_ascii=False) + "\n", "utf-8")
    assert read(tmp_path / "r") == [named]


def test_a_line_that_another_process_is_writing_is_waited_for(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    append(tmp_path / "r", LINE)
    other = json.dumps(LINE | {"seed": 9}) + "\n"
    with ThreadPoolExecutor() as pool, (tmp_path / "r").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(other[:20])
        file.flush()
        found = pool.submit(read, tmp_path / "r")
        with pytest.raises(TimeoutError):
            found.result(timeout=0.2)
        file.write(other[20:])
        file.flush()
        fcntl.flock(file, fcntl.LOCK_UN)
        assert len(found.result(timeout=30)) == 2


def test_a_line_is_not_written_while_others_read(tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    append(tmp_path / "r", LINE)
    with ThreadPoolExecutor() as pool, (tmp_path / "r").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        done = pool.submit(append, tmp_path / "r", LINE | {"seed": 9})
        with pytest.raises(TimeoutError):
            done.result(timeout=0.2)
        fcntl.flock(file, fcntl.LOCK_UN)
        done.result(timeout=30)
    assert len(read(tmp_path / "r")) == 2


def test_several_files_and_one_that_is_not_there(tmp_path: Path) -> None:
    append(tmp_path / "a", LINE)
    append(tmp_path / "b", LINE | {"class": "long"})
    files = (tmp_path / "a", tmp_path / "none", tmp_path / "b")
    assert [line["class"] for line in read(*files)] == ["round", "long"]


@pytest.mark.parametrize("field", ["method", "config_hash", "dataset", "protocol", "class", "seed"])
def test_each_of_the_key_makes_another_cell(field: str) -> None:
    assert key_of(LINE) != key_of(LINE | {field: "9"})


def test_the_first_lines_said_neither_class_nor_all_settings(tmp_path: Path) -> None:
    old = {k: v for k, v in LINE.items() if k not in ("class", "resolved")}
    append(tmp_path / "r", old)
    assert read(tmp_path / "r") == [{**old, "class": "all", "resolved": {}}]


@pytest.mark.parametrize("row", ["{", "[]", '{"method": "pca"}', "1"])
def test_what_is_no_line_is_said_with_its_place(tmp_path: Path, row: str) -> None:
    (tmp_path / "r").write_text(json.dumps(LINE) + "\n" + row + "\n")
    with pytest.raises(DataError, match="r, line 2: is no line of the bench"):
        read(tmp_path / "r")


def test_a_file_that_is_no_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"\x89PNG\r\n\xff")
    with pytest.raises(DataError, match="r: is no file of the bench, or is damaged"):
        read(tmp_path / "r")


def test_a_line_of_another_version_says_which_and_what_it_lacks(tmp_path: Path) -> None:
    other = {k: v for k, v in LINE.items() if k not in ("parts", "auroc")}
    append(tmp_path / "r", other | {"versions": {"onlygood": "9.9"}})
    with pytest.raises(
        DataError, match=r"line 1: is of another version .*\(9.9\), without auroc, parts"
    ):
        read(tmp_path / "r")


def test_nothing_that_is_no_json_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        append(tmp_path / "r", LINE | {"auroc": float("nan")})


@pytest.mark.parametrize(
    ("training", "words"),
    [
        (Training(), "no steps"),
        (Training(steps=2000, batch_size=8), "2,000 steps of 8 images"),
        (Training(epochs=50), "50 epochs in batches of 32 images"),
        (Training(images=64, minutes=1.5), "64 images or 1.5 minutes"),
        (
            Training(steps=1, epochs=1, batch_size=1),
            "1 step of 1 image or 1 epoch in batches of 1 image",
        ),
        (Training(minutes=1.0), "1 minute"),
    ],
)
def test_schedule_in_words(training: Training, words: str) -> None:
    assert schedule(training) == words


def test_a_disk_that_fills_up_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "r", LINE)
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, content: write(handle, content[:100]))
    with pytest.raises(OnlygoodError, match="free some space and repeat the command"):
        append(tmp_path / "r", LINE | {"class": "long"})
    monkeypatch.undo()
    assert read(tmp_path / "r") == [LINE]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EIO, "make it a file that can be written"),
    ],
)
def test_why_a_line_is_not_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, advice: str
) -> None:
    def refused(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refused)
    with pytest.raises(OnlygoodError, match=rf"{os.strerror(number)}; {advice} and repeat the"):
        append(tmp_path / "r", LINE)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"auroc": "0,93"}, "auroc '0,93'"),
        ({"parts": None}, "parts None"),
        ({"parts": {"pixels": "much"}}, "parts {'pixels': 'much'}"),
        ({"resolved": None}, "resolved None"),
        ({"threads": "two", "settings": []}, "settings [], threads 'two'"),
    ],
)
def test_a_damaged_value_is_said_with_its_place(
    tmp_path: Path, wrong: dict[str, Any], said: str
) -> None:
    append(tmp_path / "r", LINE | wrong)
    with pytest.raises(
        DataError, match=re.escape(f"r, line 1: was changed or is damaged ({said})")
    ):
        read(tmp_path / "r")


def test_a_line_without_versions_is_of_an_unknown_one(tmp_path: Path) -> None:
    old = {k: v for k, v in LINE.items() if k != "parts"}
    append(tmp_path / "r", old | {"versions": None})
    with pytest.raises(DataError, match=r"another version of onlygood \(unknown\), without parts"):
        read(tmp_path / "r")
