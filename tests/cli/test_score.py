import csv
import json
import math
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from onlygood.cli.files import map_name
from tests.cli.conftest import picture
from tests.command_line import Run


def test_json_has_each_picture(run: Run, model: Path, good: Path) -> None:
    picture(good / "scratch.png")
    picture(good / "broken.png")
    done = run("score", model, good, "--json")
    a, b, broken, scratch = done.answer["results"]
    assert a == {
        "path": str(good / "a.png"),
        "score": 1.0,
        "p_value": 200 / 201,
        "decision": "normal",
        "error": None,
        "parts": {"pixels": 0.5},
    }
    assert b["path"] == str(good / "b.png")
    assert (broken["score"], broken["p_value"], broken["error"]) == (None, None, "is damaged")
    assert (scratch["decision"], scratch["p_value"]) == ("anomalous", 1 / 201)
    assert done.answer["counts"] == {"normal": 2, "unsure": 0, "anomalous": 1, "error": 1}


def test_the_table_ranks_and_counts(run: Run, model: Path, good: Path) -> None:
    picture(good / "scratch.png")
    done = run("score", model, good)
    lines = [line for line in done.out.splitlines() if "png" in line]
    assert "scratch.png" in lines[0]
    assert "3 pictures: 2 normal, 1 anomalous" in done.out
    assert "with 90 % confidence" in done.err


def test_the_table_is_short(run: Run, model: Path, good: Path) -> None:
    for n in range(30):
        picture(good / f"{n:02}.png")
    done = run("score", model, good)
    assert sum("png" in line for line in done.out.splitlines()) == 20
    assert "... and 12 with lower scores" in done.out


@pytest.mark.parametrize(
    ("names", "flag", "status"),
    [
        (["a"], True, 0),
        (["a", "scratch"], False, 0),
        (["a", "scratch"], True, 2),
        (["a", "broken"], True, 1),
        (["a", "broken"], False, 1),
        (["a", "broken", "scratch"], True, 2),
    ],
)
def test_exit_status(
    run: Run, model: Path, tmp_path: Path, names: list[str], flag: bool, status: int
) -> None:
    pictures = [picture(tmp_path / f"{name}.png") for name in names]
    assert run("score", model, *pictures, *["--fail-on-anomaly"] * flag).status == status


def test_csv(run: Run, model: Path, good: Path, tmp_path: Path) -> None:
    picture(good / "0 broken, ünder.png")
    run("score", model, good, "-o", tmp_path / "new" / "s.csv")
    with (tmp_path / "new" / "s.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "score", "p_value", "decision", "error", "part_pixels"]
    assert rows[0]["path"] == str(good / "0 broken, ünder.png")
    assert (rows[0]["score"], rows[0]["error"], rows[0]["part_pixels"]) == ("", "is damaged", "")
    assert (float(rows[1]["score"]), rows[1]["error"]) == (1.0, "")
    assert float(rows[1]["p_value"]) == 200 / 201


def test_parquet(run: Run, model: Path, good: Path, tmp_path: Path) -> None:
    picture(good / "0broken.png")
    assert run("score", model, good, "-o", tmp_path / "s.parquet").status == 1
    broken, a, _ = parquet.read_table(tmp_path / "s.parquet").to_pylist()
    assert (broken["score"], broken["error"], broken["part_pixels"]) == (None, "is damaged", None)
    assert (a["score"], a["error"], a["part_pixels"]) == (1.0, None, 0.5)


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
    assert "the suffix says the format, one of .csv, .json, .parquet" in done.err


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


def test_an_interrupted_score_leaves_no_file(run: Run, model: Path, good: Path) -> None:
    picture(good / "interrupt.png")
    (good / "s.csv").write_text("of yesterday")
    done = run("score", model, good, "-o", good / "s.csv")
    assert done.status == 130
    assert done.err == "error: interrupted; no file was left half written\n"
    assert (good / "s.csv").read_text() == "of yesterday"
    assert not list(good.glob(".*"))


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_a_full_disk_leaves_no_file(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    output = good / f"s.{suffix}"
    done = run("score", model, good, "-o", output)
    assert done.status == 1
    assert done.err == (
        f"error: cannot write {output}: No space left on device; nothing was left half written\n"
    )
    assert sorted(path.name for path in good.iterdir()) == ["a.png", "b.png"]


def test_infinite_scores_are_null_in_json(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onlygood.decision.calibration.Calibration.p_values", lambda *_: math.inf)
    assert run("score", model, good, "--json").answer["results"][0]["p_value"] is None
