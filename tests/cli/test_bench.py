import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from onlygood.core.errors import DataError
from onlygood.data.readers import LabelledSet
from onlygood.evaluation import bench, protocols
from onlygood.evaluation.paper_tables import TABLES
from onlygood.evaluation.protocols import PROTOCOLS
from onlygood.evaluation.records import append
from onlygood.scale import Ray
from onlygood.scale import bench as scale_bench
from onlygood.scale.bench import Share
from onlygood.training import distributed
from tests import parts
from tests.command_line import Run
from tests.evaluation.lines import line
from tests.evaluation.toysets import toy

assert bench  # Imported before fakes take the place of what it needs.


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(protocols, "read_set", lambda name, folder: toy(name))
    monkeypatch.chdir(tmp_path)


WORDS = ("--protocol", "gpnd", "--dataset", "toy", "--set", "size=8", "--set", "components=2")


@pytest.mark.parametrize("verb", ["run", "show", "protocols", "tables", "table", "results"])
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
    assert json.loads((tmp_path / "r").read_text())["seed"] == 0
    assert len((tmp_path / "r").read_text().splitlines()) == 1


def test_a_protected_file_is_refused_before_anything_is_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append(tmp_path / "r.jsonl", line())
    allowed = os.access  # Of root no file is protected.

    def access(file: Path, mode: int) -> bool:
        return (Path(file).name, mode) != ("r.jsonl", os.W_OK) and allowed(file, mode)

    monkeypatch.setattr(os, "access", access)
    done = run("bench", "run", *WORDS, "--methods", "pca", "--results", "r.jsonl")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert done.err.startswith("error: r.jsonl is write-protected")


@pytest.mark.parametrize("words", [["--share-features"], ["--tracker", "mlflow"]])
def test_nodes_share_no_features_and_tell_of_no_training(run: Run, words: list[str]) -> None:
    done = run("bench", "run", *WORDS, "--methods", "pca", "--ray", "local", *words)
    assert done.status == 1 and f"--ray and {words[0]} exclude each other" in done.err


def test_what_nodes_do_is_as_it_was_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def run_on_ray(
        cells: list[Any], dataset: str, folder: Path | None, file: Path, **options: Any
    ) -> Iterator[Any]:
        asked.append({"cells": len(cells), "dataset": dataset, "folder": folder} | options)
        append(file, line())
        yield line()

    monkeypatch.setattr(scale_bench, "run", run_on_ray)
    words = ("--methods", "pca", "--classes", "0,long", "--ray", "auto", "--curve", "2")
    share = ("--gpus-per-cell", "0.5", "--cpus-per-cell", "3")
    assert run("bench", "run", *WORDS, *words, *share).status == 0
    (one,) = asked
    assert callable(one.pop("say"))
    assert one == {
        **{"cells": 2, "dataset": "toy", "folder": None},
        **{"on": Ray("auto"), "share": Share(gpus=0.5, cpus=3), "curve": 2},
    }


def test_cells_that_share_features_follow_each_other_and_tell_no_times(run: Run) -> None:
    words = ("--methods", "pca", "--classes", "0,long", "--seeds", "0,1", "--results", "r")
    assert run("bench", "run", *WORDS, *words, "--share-features").status == 0
    lines = [json.loads(row) for row in Path("r").read_text().splitlines()]
    order = [("round", 0), ("round", 1), ("long", 0), ("long", 1)]
    assert [(one["class"], one["seed"]) for one in lines] == order
    assert {one[name] for one in lines for name in ("training_seconds", "images_per_second")} == {
        None
    }


def test_under_torchrun_one_process_writes_shows_and_tracks(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    words = ("--methods", "pca", "--classes", "long", "--tracker", "tensorboard")
    done = run("bench", "run", *WORDS, *words)
    assert (done.status, done.out, done.err) == (0, "", "")
    assert not list(Path().glob("results/*")) and not Path("runs").exists()


def test_under_torchrun_no_process_goes_on_before_a_record_is_written(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        distributed, "wait", lambda: seen.append(len(Path("r").read_text().splitlines()))
    )
    words = ("--methods", "pca", "--classes", "long,round", "--results", "r")
    assert run("bench", "run", *WORDS, *words).status == 0
    assert seen == [1, 2]


def test_methods_may_name_their_presets(run: Run, tmp_path: Path) -> None:
    words = ("--classes", "0", "--set", "tile=4", "--results", "r")
    assert run("bench", "run", *WORDS, *words, "--methods", "pca:texture").status == 0
    words = ("--classes", "0", "--set", "tile=4", "--results", "s", "--preset", "texture")
    assert run("bench", "run", *WORDS, *words, "--methods", "pca").status == 0
    presets = [
        [json.loads(row)["preset"] for row in (tmp_path / name).read_text().splitlines()]
        for name in ("r", "s")
    ]
    assert presets == [["texture"], ["texture"]]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--methods", "pac"], 'unknown method "pac"; did you mean "pca"'),
        (["--methods", ","], "name at least one method"),
        (["--methods", "pca:papre"], 'method "pca" has no preset "papre"'),
        (["--methods", "pca", "--seeds", "9223372036854775808"], "seeds are in 0..92233720"),
        (["--methods", "pca", "--seeds", "one"], "seeds are in 0..9223372036854775807, got one"),
        (["--methods", "pca", "--classes", "lang"], 'no class "lang"'),
    ],
)
def test_misuse_is_said_before_anything_is_run(run: Run, words: list[str], says: str) -> None:
    done = run("bench", "run", *WORDS, *words)
    assert done.status == 1
    assert done.err.startswith(f"error: {says}")
    assert not Path("results").exists()


def test_two_presets_that_are_the_same_are_run_once(run: Run) -> None:
    words = ("--classes", "long", "--results", "r", "--set", "size=32", "--json")
    both = ("--methods", "mean_picture,mean_picture:small")
    assert run("bench", "run", *WORDS[:-2], *words, *both).answer["cells"] == 1


def test_sweeps_multiply(run: Run, tmp_path: Path) -> None:
    words = ("--classes", "long", "--methods", "pca", "--results", "r", "--json")
    sweeps = ("--sweep", "components=1,2,2.0", "--sweep", "roi=0,0,1,1;0,0,0.5,1")
    done = run("bench", "run", *WORDS[:-2], *words, *sweeps)
    assert done.answer == {"results": "r", "cells": 4, "run": 4}
    resolved = [json.loads(row)["resolved"] for row in (tmp_path / "r").read_text().splitlines()]
    assert [(one["components"], one["roi"]) for one in resolved] == [
        (components, [0, 0, right, 1]) for components in (1, 2) for right in (1, 0.5)
    ]


@pytest.mark.parametrize(
    ("sweep", "says"),
    [
        ("componnts=1,2", 'no setting "componnts" for method "pca"; did you mean "components"?'),
        ("smooth=0,2", "smooth must be in [0, 1], got 2.0"),
        ("smooth=0,much", "smooth takes a number, got 'much'"),
        ("smooth=,", "--sweep smooth=, has no values; write --sweep smooth=A,B,C"),
        ("smooth", 'a setting is written field=value, got "smooth"'),
        (
            "rotate=0,45",
            "rotate takes 2 values, for example rotate=0,0, got '0'; a value of rotate has commas "
            'itself, so write semicolons between values, in quotation marks: --sweep "rotate=0.0,',
        ),
        ("rotate=0,45;0,x", "rotate takes a number, got 'x'\n"),
        ("size=8,16", "size is said twice; one --sweep size=A,B holds all its values"),
    ],
)
def test_a_sweep_that_cannot_be_run_says_why_before_pictures_are_read(
    run: Run, monkeypatch: pytest.MonkeyPatch, sweep: str, says: str
) -> None:
    monkeypatch.setattr(protocols, "read_set", lambda *_: pytest.fail("read pictures"))
    done = run("bench", "run", *WORDS, "--methods", "pca", "--sweep", sweep)
    assert done.status == 1
    assert done.err.startswith(f"error: {says}")
    assert done.err.count("\n") == 1


def test_own_data_have_records_of_their_own(run: Run, tmp_path: Path) -> None:
    nuts = tmp_path / "nuts"
    parts.write(parts.normal(8), nuts / "train" / "good")
    parts.write(parts.normal(3, seed=5), nuts / "test" / "good")
    parts.write(parts.scratched(3), nuts / "test" / "scratch")
    words = ("--protocol", "folder", "--dataset", "nuts", "--folder", nuts, "--methods", "pca")
    words += ("--set", "size=16", "--set", "components=2", "--json")
    file = "results/nuts-folder.jsonl"
    for ran in (1, 0):
        assert run("bench", "run", *words).answer == {"results": file, "cells": 1, "run": ran}
    parts.write(parts.scratched(1, seed=9), nuts / "test" / "scratch", "more")
    assert run("bench", "run", *words).answer == {"results": file, "cells": 1, "run": 1}
    records = run("bench", "show", "--json").answer["records"]
    assert [(one["class"], one["n_anomalous"]) for one in records] == [("all", 3), ("all", 4)]
    names = [one["dataset"] for one in records]
    assert len(set(names)) == 2 and all(name.startswith("nuts@") for name in names)
    done = run("bench", "run", *words[:4], "--methods", "pca")
    assert done.err.startswith('error: own data (called "nuts" in records) need --folder: train/')
    for path in ("of/nuts", "of\\nuts"):
        words = ("--protocol", "folder", "--dataset", path, "--methods", "pca")
        done = run("bench", "run", *words, "--folder", nuts, "--results", "r")
        assert f'is no path, got "{path}"; ' in done.err and done.err.endswith("--dataset nuts\n")


def test_show_all_records_or_some(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "a.jsonl", line())
    append(tmp_path / "results" / "b.jsonl", line(dataset="other"))
    everything = run("bench", "show", "--markdown")
    assert "toy, gpnd. Over all classes:\n\n| method |" in everything.out
    assert "other, gpnd" in everything.out
    append(tmp_path / "results" / "b.jsonl", line(dataset="other", protocol="ood"))
    (tmp_path / "results" / "notes.txt").write_text("are no records")
    assert "other" not in run("bench", "show", "--dataset", "toy").out
    told = run("bench", "show", "--protocol", "ood", "--json").answer["records"]
    assert told == [line(dataset="other", protocol="ood")]
    assert "other" not in run("bench", "show", "--results", "results/a.jsonl").out
    records = run("bench", "show", "--json", "--dataset", "other").answer["records"]
    assert records == [line(dataset="other"), line(dataset="other", protocol="ood")]
    append(tmp_path / "results" / "c.jsonl", line(dataset="nuts@0123456789ab"))
    records = run("bench", "show", "--json", "--dataset", "nuts").answer["records"]
    assert records == [line(dataset="nuts@0123456789ab")]


def test_names_with_brackets_are_shown(run: Run, tmp_path: Path) -> None:
    for name in ("screw [m4]", "long"):
        of_class = line(dataset="nuts [old]", **{"class": name})
        append(tmp_path / "results" / "a.jsonl", of_class)
    shown = run("bench", "show").out
    assert "nuts [old], gpnd. Over" in shown and "screw [m4]" in shown


def test_to_show_nothing_is_said(run: Run) -> None:
    assert run("bench", "show").err == "there are no such records\n"
    done = run("bench", "show", "--results", "none.jsonl")
    assert done.err.startswith("error: there is no none.jsonl")


def test_results_writes_the_page(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "a.jsonl", line())
    done = run("bench", "results", "-o", "docs/page.md")
    assert (done.status, done.out) == (0, "docs/page.md: 1 records\n")
    assert "## toy, gpnd\n" in (tmp_path / "docs" / "page.md").read_text()


def test_a_page_is_not_replaced_by_an_empty_one(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "docs" / "results.md"
    page.parent.mkdir()
    page.write_text("all of it")
    done = run("bench", "results")
    assert done.status == 1
    assert done.err.startswith("error: there are no such records in results, and nothing is")
    append(tmp_path / "results" / "a.jsonl", line())
    assert run("bench", "results", "--dataset", "other").status == 1
    assert page.read_text() == "all of it"


def test_a_part_of_the_records_is_no_page_of_all(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "r.jsonl", line())
    for part in ("dataset", "protocol"):
        done = run("bench", "results", f"--{part}", line()[part])
        assert done.status == 0 and line()["method"] in done.out
    assert not (tmp_path / "docs").exists()


def test_records_are_not_called_as_their_checkpoints(run: Run) -> None:
    done = run("bench", "run", *WORDS, "--methods", "pca", "--results", "mine.run")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "mine.jsonl" in done.err


def test_results_for_a_paper_and_for_programs(run: Run, tmp_path: Path) -> None:
    append(tmp_path / "results" / "a.jsonl", line(settings={"steps": "9"}))
    append(tmp_path / "results" / "a.jsonl", line(seed=1, dataset="other"))
    [row] = csv.DictReader(
        run("bench", "results", "--format", "csv", "--dataset", "toy").out.splitlines()
    )
    assert (row["auroc"], row["part_features"], row["settings"]) == ("0.5", "0.25", "steps=9")
    done = run("bench", "results", "--format", "latex", "-o", "paper.tex")
    assert (done.status, done.out) == (0, "paper.tex: 2 records\n")
    assert (tmp_path / "paper.tex").read_text().count("\\begin{tabular}") == 2


def test_protocols_are_listed_with_what_they_take(run: Run) -> None:
    listed = {one["name"]: one for one in run("bench", "protocols", "--json").answer["protocols"]}
    assert set(listed) == set(PROTOCOLS)
    assert listed["elpv"]["datasets"] == "elpv-mono, elpv-poly"
    shown = run("bench", "protocols").out
    assert "gpnd" in shown
    assert "80 % of a class" in " ".join(shown.split())


def test_tables_are_listed_with_what_is_here_and_what_is_not(run: Run, tmp_path: Path) -> None:
    (tmp_path / "data" / "cifar10").mkdir(parents=True)
    found = {
        one["name"]: one
        for one in run("bench", "tables", "--folder", "data", "--json").answer["tables"]
    }
    assert list(found) == list(TABLES)
    assert (found["ama-1"]["rows"], found["ama-1"]["rows_with_a_method"]) == (10, 9)
    assert "WAIC on WGAN ensemble" in found["ama-1"]["missing_methods"]
    assert found["piad-fig-5"]["data"] == ["cifar10"]
    assert "imagenet" in found["ama-1"]["missing_data"]
    shown = run("bench", "tables", "--folder", "data").out
    [row] = [row for row in shown.splitlines() if row.startswith(" piad-fig-5 ")]
    assert row.split()[-7:] == ["3", "of", "3", "cifar10", "–", "vgg19", "–"]
    [row] = [row for row in shown.splitlines() if row.startswith(" cbigan-1 ")]
    assert " counts " in row


def test_a_table_is_run_and_shown_beside_what_is_printed(run: Run, tmp_path: Path) -> None:
    words = ("bench", "table", "ama-2", "--classes", "long", "--set", "steps=1", "--set", "width=2")
    answer = run(
        *words, "--set", "batch_size=4", "--rows", "ama", "--results", "r", "--json"
    ).answer
    assert (answer["table"], answer["cells"], answer["run"]) == ("ama-2", 4, 4)
    again = run(*words, "--set", "batch_size=4", "--rows", "ama", "--results", "r", "--json").answer
    assert (again["cells"], again["run"]) == (4, 0)
    ours = {row["run as"]: row for row in answer["sheets"][0]["rows"]}
    assert ours["as printed"]["mean"] == "0.938"
    said = "ama:paper, steps=1, width=2, batch_size=4"
    assert ours[said]["schedule"] == "1 step of 4 images"
    records = [json.loads(row) for row in (tmp_path / "r").read_text().splitlines()]
    [mine] = [r for r in records if (r["method"], r["dataset"]) == ("ama", "mnist")]
    assert ours[said]["long"] == f"{mine['auroc']:.3f}"


def test_what_is_missing_is_a_plain_list(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, folder: Path | None) -> LabelledSet:
        raise DataError(f"{name} is not here")

    monkeypatch.setattr(protocols, "read_set", absent)
    done = run("bench", "table", "ama-2")
    assert done.status == 0
    assert done.out.splitlines()[-2:] == [
        "missing data: mnist is not here",
        "missing data: cifar10 is not here",
    ]
    assert "0.938" in done.out
    missing = run("bench", "table", "ama-2", "--json").answer["missing"]
    assert missing == [{"what": "data", "words": f"{n} is not here"} for n in ("mnist", "cifar10")]


def test_numbers_of_pictures_are_counted(run: Run) -> None:
    out = run("bench", "table", "cbigan-1", "--markdown").out
    assert "| bottle | as printed | 209 | 20 | 63 | 900 |" in out
    assert out.splitlines()[-1].startswith("missing data: mvtec: no folder ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["ama-9"], 'unknown table "ama-9"; did you mean "ama-2"? known: ce-bigan-1, '),
        (["ama-2", "--folder", "none"], "there is no folder none; give the one that holds"),
        (["cbigan-2", "--folder", "."], ".: has no folder of MVTec AD; give the one that holds"),
        (["cbigan-1", "--folder", "."], ".: has no folder of MVTec AD; give the one that holds"),
        (["ama-2", "--rows", "AME"], 'no row "AME"; did you mean "AMA"? known: '),
        (["ama-2", "--classes", "lang"], 'no class "lang" in the data sets that are here; did'),
        (["ama-2", "--set", "wdth=2"], 'no row has a setting "wdth"; did you mean "width"?'),
        (["ama-2", "--seeds", "x"], "seeds are in 0..9223372036854775807, got x"),
    ],
)
def test_a_table_that_cannot_be_run_says_why(run: Run, words: list[str], says: str) -> None:
    done = run("bench", "table", *words)
    assert done.status == 1
    assert done.err.startswith(f"error: {says}")
    assert done.err.count("\n") == 1
    assert not Path("results").exists()


def test_a_record_of_another_version_is_named(run: Run, tmp_path: Path) -> None:
    old = {k: v for k, v in line().items() if k != "images_per_second"}
    append(tmp_path / "results" / "a.jsonl", old | {"versions": {"onlygood": "9.9"}})
    done = run("bench", "show")
    assert done.err == (
        "error: results/a.jsonl, line 1: is of another version of onlygood (9.9), without "
        "images_per_second; take it out and run the cell again\n"
    )
