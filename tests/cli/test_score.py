import csv
import json
import math
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from onlygood.cli.files import map_name, partial_of, row_of, writing_rows
from onlygood.core.errors import OnlygoodError
from onlygood.scale import Local, Part, Ray
from tests.cli.conftest import FakeDetector, picture
from tests.cli.conftest import Result as FakeResult
from tests.command_line import Run


def test_json_has_each_picture(run: Run, model: Path, good: Path) -> None:
    picture(good / "scratch.png")
    picture(good / "broken.png")
    done = run("score", model, good, "--json")
    a, b, broken, scratch = done.answer["results"]
    assert a == {
        "path": str(good / "a.png"),
        "score": 1.0,
        "threshold": 194.0,
        "times_threshold": 1 / 194,
        "p_value": 200 / 201,
        "decision": "normal",
        "error": None,
        "parts": {"pixels": 0.5},
    }
    assert b["path"] == str(good / "b.png")
    assert (broken["score"], broken["p_value"], broken["error"]) == (None, None, "is damaged")
    assert (scratch["decision"], scratch["p_value"]) == ("anomalous", 1 / 201)
    assert done.answer["counts"] == {"normal": 2, "unsure": 0, "anomalous": 1, "error": 1}


def test_the_table_ranks_and_counts(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picture(good / "scratch.png")
    picture(good / "broken.png")
    clock = SimpleNamespace(perf_counter=iter([10.0, 12.0]).__next__)
    monkeypatch.setattr(sys.modules["onlygood.cli.score"], "time", clock)
    done = run("score", model, good)
    lines = [line for line in done.out.splitlines() if "png" in line]
    assert "is damaged" in lines[0] and "scratch.png" in lines[1]
    assert "4 pictures: 2 normal, 1 anomalous, 1 unreadable" in done.out
    assert "\n2.0 pictures a second\n" in f"\n{done.err}"
    assert "with 90 % confidence" in done.err


def test_the_table_is_short(run: Run, model: Path, good: Path) -> None:
    for n in range(30):
        picture(good / f"{n:02}.png")
    done = run("score", model, good)
    # Of equal scores those that come first.
    shown = re.findall(r"(\w+)\.png", done.out)
    assert shown == [f"{n:02}" for n in range(20)]
    assert "... and 12 with lower scores" in done.out


def test_what_cannot_be_read_hides_no_anomaly(run: Run, model: Path, good: Path) -> None:
    for n in range(30):
        picture(good / f"broken {n:02}.png")
    picture(good / "scratch.png")
    done = run("score", model, good)
    assert done.out.count("is damaged") == 20
    assert "... and 10 more that cannot be read" in done.out
    assert "scratch.png" in done.out and "with lower scores" not in done.out


@pytest.mark.parametrize("maps", ["maps", "a/b/maps", "."])
def test_maps_do_not_lie_among_the_pictures(run: Run, model: Path, good: Path, maps: str) -> None:
    done = run("score", model, good, "--maps", good / maps)
    assert (done.status, "would take heat maps for pictures" in done.err) == (1, True)
    assert not (good / "maps").exists()


@pytest.mark.parametrize(
    ("names", "flag", "status"),
    [
        (["a"], True, 0),
        (["a", "scratch"], False, 0),
        (["a", "scratch"], True, 2),
        (["a", "broken"], True, 1),
        (["a", "broken"], False, 1),
        (["a", "broken", "scratch"], True, 2),
        (["a", "doubt"], True, 2),
    ],
)
def test_exit_status(
    run: Run,
    model: Path,
    tmp_path: Path,
    names: list[str],
    flag: bool,
    status: int,
    fake: type[FakeDetector],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fake, "strict_fpr", 0.02)
    pictures = [picture(tmp_path / f"{name}.png") for name in names]
    assert run("score", model, *pictures, *["--fail-on-anomaly"] * flag).status == status


def test_csv(run: Run, model: Path, good: Path, tmp_path: Path) -> None:
    picture(good / "0 broken, ünder.png")
    run("score", model, good, "-o", tmp_path / "new" / "s.csv")
    with (tmp_path / "new" / "s.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["path", "score", "threshold", "times_threshold", "p_value", "decision", "error"]
    assert list(rows[0]) == [*columns, "part_pixels"]
    assert rows[0]["path"] == str(good / "0 broken, ünder.png")
    assert (rows[0]["score"], rows[0]["error"], rows[0]["part_pixels"]) == ("", "is damaged", "")
    assert (float(rows[1]["score"]), rows[1]["error"]) == (1.0, "")
    assert float(rows[1]["p_value"]) == 200 / 201


def test_parquet(run: Run, model: Path, good: Path, tmp_path: Path) -> None:
    picture(good / "0broken.png")
    picture(good / "scratch.png")
    words = ("-o", tmp_path / "s.parquet", "--maps", tmp_path / "maps")
    assert run("score", model, good, *words).status == 1
    broken, a, _, scratch = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert Path(scratch["map"]).exists() and scratch["found_in"] == "region"
    height, width = np.asarray(Image.open(scratch["map"])).shape[:2]
    box = [scratch[f"region_{name}"] for name in ("left", "top", "width", "height", "area", "peak")]
    assert 0 <= box[0] < width and 0 < box[4] <= box[2] * box[3] <= width * height and box[5] == 2
    assert [row["regions"] for row in (broken, a, scratch)] == [0, 0, 1]
    assert (broken["region_left"], a["region_peak"]) == (None, None)
    assert (broken["score"], broken["error"], broken["part_pixels"]) == (None, "is damaged", None)
    assert (a["score"], a["error"], a["part_pixels"]) == (1.0, None, 0.5)


def test_a_map_marks_what_the_decision_says(run: Run, model: Path, tmp_path: Path) -> None:
    """The fake's maps are at 2 of what is anomalous, and may be above 1 of what is normal."""
    names = [picture(tmp_path / f"{name}.png") for name in ("a", "scratch", "stain")]
    rows = run("score", model, *names, "--maps", tmp_path / "maps", "--json").answer["results"]
    assert [row["found_in"] for row in rows] == [None, "region", None]
    assert [len(row["regions"]) for row in rows] == [0, 1, 0]
    assert rows[1]["regions"][0]["peak"] == 2
    assert [row["decision"] for row in rows] == ["normal", "anomalous", "normal"]
    stain, scratch = (np.asarray(Image.open(rows[i]["map"])) for i in (2, 1))
    # A rim between what is marked and what is not.
    assert [len(np.unique(image[0], axis=0)) for image in (stain, scratch)] == [2, 3]


def test_json_file(run: Run, model: Path, good: Path, tmp_path: Path) -> None:
    done = run("score", model, good, "-o", tmp_path / "s.json", "--json")
    assert json.loads((tmp_path / "s.json").read_text())["results"] == done.answer["results"]


def test_maps_lie_over_their_pictures(run: Run, model: Path, tmp_path: Path) -> None:
    paths = []
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        paths.append(picture(tmp_path / side / "scratch.png"))
    done = run("score", model, *paths, "--maps", tmp_path / "maps", "--json")
    written = [Path(row["map"]) for row in done.answer["results"]]
    assert sorted(written) == sorted((tmp_path / "maps").iterdir())
    assert len(set(written)) == 2
    with Image.open(written[0]) as image:
        assert (image.mode, image.size) == ("RGB", (8, 6))


def test_maps_of_a_method_without_are_refused(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch, fake: type[FakeDetector]
) -> None:
    monkeypatch.setattr(fake, "localizes", False)
    done = run("score", model, good, "--maps", good.parent / "maps")
    assert (done.status, "gives scores alone, no maps; leave --maps out" in done.err) == (1, True)


def test_map_names_follow_the_content_and_fit_the_file_system() -> None:
    assert map_name("a/x.png", b"1") != map_name("b/x.png", b"1") != map_name("b/x.png", b"2")
    assert map_name("a/x.png", b"1").startswith("x-")
    assert len(map_name("ü" * 300 + ".png", b"1").encode()) <= 255


@pytest.mark.parametrize("suffix", ["", ".xlsx"])
def test_an_unknown_format_is_refused_before_scoring(
    run: Run, model: Path, good: Path, suffix: str
) -> None:
    done = run("score", model, good / "interrupt.png", "-o", good / f"s{suffix}")
    assert done.status == 1
    assert "the suffix says the format, one of .csv, .json, .jsonl, .parquet" in done.err


def test_parquet_without_its_library_is_refused_before_scoring(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = run("score", model, good, "-o", good / "s.parquet")
    assert "pip install 'onlygood[parquet]'" in done.err


def test_a_missing_picture_is_refused_before_scoring(run: Run, model: Path, good: Path) -> None:
    done = run("score", model, good, good / "none.png")
    assert (done.status, done.out) == (1, "")
    assert f"there is no {good / 'none.png'}" in done.err


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_a_stopped_score_leaves_what_it_has_and_says_where(
    run: Run, model: Path, good: Path, suffix: str
) -> None:
    picture(good / "interrupt.png")
    output = good / f"s.{suffix}"
    output.write_text("of yesterday")
    done = run("score", model, good, "-o", output)
    assert done.status == 130
    partial = good / f"s.{suffix}.partial"
    assert done.err == f"error: interrupted; what was scored until then is in {partial}\n"
    assert output.read_text() == "of yesterday"
    match suffix:
        case "csv":
            paths = [row["path"] for row in csv.DictReader(partial.read_text().splitlines())]
        case "json":
            paths = [row["path"] for row in json.loads(partial.read_text())["results"]]
        case "jsonl":
            paths = [json.loads(line)["path"] for line in partial.read_text().splitlines()]
        case _:
            paths = parquet.read_table(partial)["path"].to_pylist()
    assert paths == [str(good / "a.png"), str(good / "b.png")]


def test_a_score_that_nobody_keeps_leaves_nothing(run: Run, model: Path, good: Path) -> None:
    done = run("score", model, picture(good / "interrupt.png"))
    assert (done.status, done.err) == (130, "error: interrupted; no file was left half written\n")


def test_a_link_that_leads_nowhere_is_a_picture_that_cannot_be_read(
    run: Run, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").symlink_to("nowhere.png")
    done = run("score", model, tmp_path / "broken.png")
    assert (done.status, "1 picture: 1 unreadable" in done.out) == (1, True)


def test_no_ratio_to_a_threshold_that_is_not_above_zero() -> None:
    result: Any = FakeResult("a.png", 1.0, 0.5, "anomalous", {}, None, None)
    assert [row_of(result, at)["times_threshold"] for at in (2.0, 0.0, -2.0)] == [0.5, None, None]


def test_a_table_may_have_the_longest_name(tmp_path: Path) -> None:
    path = tmp_path / f"{'n' * 251}.csv"
    with writing_rows(path) as write:
        write({"path": "a", "score": 1.0, "error": None, "parts": {}})
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("out", ["out/", "s3://bucket/out", "."])
def test_a_folder_as_output_is_a_job(run: Run, model: Path, good: Path, out: str) -> None:
    done = run("score", model, good, "-o", out)
    assert done.status == 1
    assert "a job runs where there is no torch, and takes what `onlygood export`" in done.err


def test_the_engine_of_a_job_is_the_one_that_was_asked_for() -> None:
    engine = sys.modules["onlygood.cli.score"]._engine
    assert [engine(n, None, None) for n in (None, 3)] == [Local(1), Local(3)]
    assert [engine(n, "auto", None) for n in (None, 3)] == [Ray("auto", 0), Ray("auto", 3)]
    assert [engine(n, None, "1/4") for n in (None, 3)] == [Part(1, 4, 1), Part(1, 4, 3)]


def test_a_table_is_written_by_one_run(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    row = {"path": "a", "score": 1.0, "error": None, "parts": {}}
    with writing_rows(path) as write:
        write(row)
        with (
            pytest.raises(OnlygoodError, match=r"another run is writing .*s\.csv; wait"),
            writing_rows(path),
        ):
            pass
        write(row)
    assert len(path.read_text().splitlines()) == 3
    with writing_rows(path) as write:
        write(row)
    assert len(path.read_text().splitlines()) == 2


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl"])
def test_rows_are_on_disk_as_they_come(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"s.{suffix}"
    row = {"path": "a", "score": 1.0, "p_value": 0.5, "decision": "normal", "error": None}
    with writing_rows(path) as write:
        for n in range(1, 4):
            write({**row, "parts": {"pixels": 0.5}})
            # What a process leaves that is killed now.
            assert partial_of(path).read_text().count("normal") == n
        assert not path.exists()
    assert path.read_text().count("normal") == 3
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_a_table_of_unreadable_pictures_alone(
    run: Run, model: Path, tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"s.{suffix}"
    assert run("score", model, picture(tmp_path / "broken.png"), "-o", output).status == 1
    if suffix == "parquet":
        assert parquet.read_table(output)["error"].to_pylist() == ["is damaged"]
    else:
        assert output.read_text().count("is damaged") == 1


def test_a_group_of_parquet_begins_with_the_first_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onlygood.cli.files.ROWS_OF_A_GROUP", 2)
    bad = {"path": "a", "score": None, "p_value": None, "decision": "error", "error": "is damaged"}
    good = {"path": "b", "score": 1.0, "p_value": 0.5, "decision": "normal", "error": None}
    with writing_rows(tmp_path / "s.parquet") as write:
        for row in (bad, bad, bad, good, good, bad):
            write({**row, "parts": {} if row is bad else {"pixels": 0.5}})
    table = parquet.ParquetFile(tmp_path / "s.parquet")
    assert table.num_row_groups == 2
    assert table.read()["part_pixels"].to_pylist() == [None, None, None, 0.5, 0.5, None]


def test_formulas_and_commands_in_names_stay_words(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["=HYPERLINK(1).png", "-1+1.png", "@a.png", "\x1b]0;title\x07\x1b[2J.png"]
    monkeypatch.chdir(tmp_path)
    for name in names:
        picture(Path(name))
    done = run("score", model, *names[:1], "./" + names[1], *names[2:], "-o", "s.csv")
    assert "\x1b" not in done.out + done.err
    assert "\\x1b]0;title\\x07\\x1b[2J.png" in done.out
    with open("s.csv", encoding="utf-8", newline="") as file:
        paths = [row["path"] for row in csv.DictReader(file)]
    assert paths == ["'=HYPERLINK(1).png", "'-1+1.png", "'@a.png", names[3]]
    assert "two\\nlines.png" in run("score", model, picture(tmp_path / "two\nlines.png")).out
    done = run("score", model, tmp_path / f"\x1b[2J{names[3]}")
    assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_full_disk_leaves_the_old_file(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    output = good / f"s.{suffix}"
    output.write_text("of yesterday")
    done = run("score", model, good, "-o", output)
    assert done.status == 1
    assert done.err == (
        f"error: cannot write {output}: No space left on device; what was scored is in "
        f"{output}.partial\n"
    )
    assert output.read_text() == "of yesterday"


def test_infinite_scores_are_null_in_json(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onlygood.decision.calibration.Calibration.p_values", lambda *_: math.inf)
    assert run("score", model, good, "--json").answer["results"][0]["p_value"] is None
