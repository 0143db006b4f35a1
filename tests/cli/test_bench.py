import json
from pathlib import Path

import pytest

from onlygood.evaluation import bench, protocols
from onlygood.evaluation.records import append
from tests.command_line import Run
from tests.evaluation.lines import line
from tests.evaluation.toysets import toy

assert bench  # Imported before fakes take the place of what it needs.


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(protocols, "read_set", lambda name, folder: toy(name))
    monkeypatch.chdir(tmp_path)


WORDS = ("--protocol", "gpnd", "--dataset", "toy", "--set", "size=8", "--set", "components=2")


@pytest.mark.parametrize("verb", ["run", "table", "results"])
def test_every_part_explains_itself_and_takes_json(run: Run, verb: str) -> None:
    done = run("bench", verb, "--help")
    assert done.status == 0
    assert "--json" in done.out


def test_run_adds_records_and_shows_the_table(run: Run, tmp_path: Path) -> None:
    done = run("bench", "run", *WORDS, "--methods", "pca", "--classes", "0,long", "--seeds", "0,1")
    assert done.status == 0, done.err
    lines = (tmp_path / "results" / "toy-gpnd.jsonl").read_text().splitlines()
    cells = [(json.loads(row)["seed"], json.loads(row)["class"]) for row in lines]
    assert cells == [(0, "round"), (0, "long"), (1, "round"), (1, "long")]
    assert "toy, gpnd. Over all classes:" in done.out
    assert "4/4 toy gpnd long: pca:default seed 1: AUROC" in done.err


def test_run_again_runs_nothing(run: Run, tmp_path: Path) -> None:
    words = ("bench", "run", *WORDS, "--methods", "pca", "--classes", "long", "--results", "r")
    assert run(*words, "--json").answer == {"results": "r", "cells": 1, "run": 1}
    assert run(*words, "--json").answer == {"results": "r", "cells": 1, "run": 0}
    assert len((tmp_path / "r").read_text().splitlines()) == 1


def test_methods_may_name_their_presets(run: Run, tmp_path: Path) -> None:
    both = "pca:texture, pca"
    words = ("--classes", "0", "--set", "tile=4", "--results", "r")
    assert run("bench", "run", *WORDS, *words, "--methods", both).status == 0
    presets = [json.loads(row)["preset"] for row in (tmp_path / "r").read_text().splitlines()]
    assert presets == ["texture", "default"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "pac"], 'unknown method "pac"; did you mean "pca"'),
        (["--methods", ","], "name at least one method"),
        (["--methods", "pca:papre"], 'method "pca" has no preset "papre"'),
        (["--methods", "pca", "--seeds", "one"], "seeds are whole numbers of 0 or more, got one"),
        (["--methods", "pca", "--classes", "lang"], 'no class "lang"'),
    ],
)
def test_misuse_is_said_before_anything_is_run(run: Run, words: list[str], says: str) -> None:
    done = run("bench", "run", *WORDS, *words)
    assert done.status == 1
    assert done.err.startswith(f"error: {says}")
    assert not Path("results").exists()


def test_table_of_all_records_or_some(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "a.jsonl", line())
    append(tmp_path / "results" / "b.jsonl", line(dataset="other"))
    everything = run("bench", "table", "--markdown")
    assert "toy, gpnd. Over all classes:\n\n| method |" in everything.out
    assert "other, gpnd" in everything.out
    assert "other" not in run("bench", "table", "--dataset", "toy").out
    assert "other" not in run("bench", "table", "--results", "results/a.jsonl").out
    [record] = run("bench", "table", "--json", "--dataset", "other").answer["records"]
    assert record == line(dataset="other")


def test_a_table_of_nothing_says_so(run: Run) -> None:
    assert run("bench", "table").err == "there are no such records\n"
    done = run("bench", "table", "--results", "none.jsonl")
    assert done.err.startswith("error: there is no none.jsonl")


def test_results_writes_the_page(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "a.jsonl", line())
    done = run("bench", "results", "-o", "docs/page.md")
    assert (done.status, done.out) == (0, "docs/page.md: 1 records\n")
    assert "## toy, gpnd\n" in (tmp_path / "docs" / "page.md").read_text()
