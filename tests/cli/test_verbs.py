import errno
import json
import math
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest

from onlygood.core import machine
from onlygood.core.errors import DataError
from onlygood.methods import METHODS
from onlygood.training import precision
from tests.cli.conftest import FakeDetector, FakeEvaluation, Result, Unusual
from tests.command_line import Run


def test_evaluate_json(run: Run, model: Path, good: Path) -> None:
    done = run("evaluate", model, good.parent, "--json")
    assert done.status == 0
    assert done.answer == FakeEvaluation().to_json()
    assert done.err.startswith("how the folder was understood\n")


def test_evaluate_table_and_report(run: Run, model: Path, good: Path) -> None:
    done = run("evaluate", model, good.parent, "--report", good / "r.html")
    assert "AUROC of part pixels" in done.out
    assert "pixel AUROC" not in done.out  # there are no masks
    rows = " ".join(done.out.split())
    assert "false-positive rate 0.04" in rows and "true-positive rate 0.7" in rows
    assert "hole 1 0 0.8 cut 1 1 1" in rows
    assert "1 of 2 anomalous pictures is found" in rows
    assert "promised: at most 5 %" in done.err
    assert (good / "r.html").read_text() == "evaluated"


@pytest.mark.parametrize("broken", [True, False])
def test_a_broken_promise_is_said_in_red(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    promise = {"broken": broken, "words": "22 of 40", "advice": "look at light"}
    monkeypatch.setattr(
        FakeEvaluation,
        "to_json",
        lambda self, of=FakeEvaluation.to_json: of(self) | {"promise": promise},
    )
    monkeypatch.setenv("FORCE_COLOR", "1")
    done = run("evaluate", model, good.parent, "--quiet")
    assert ("\x1b[1;31m22 of 40" in done.out) == broken
    assert "22 of 40" in done.out and "look at light" in done.out


def test_evaluate_says_what_it_could_not_read(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Result("a.png", math.nan, math.nan, "error", {}, None, "a.png: is damaged")
    monkeypatch.setattr(FakeEvaluation, "results", [broken])
    words = "left out, as they cannot be read: 1 of them; the first: a.png: is damaged"
    assert words in run("evaluate", model, good.parent).err


def test_evaluate_rounds_neither_counts_nor_up_to_one(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        FakeEvaluation,
        "to_json",
        lambda self, of=FakeEvaluation.to_json: of(self) | {"auroc": 0.99996, "n_normal": 12345},
    )
    out = run("evaluate", model, good.parent).out
    assert "0.99996" in out and "12345" in out


@pytest.mark.parametrize("verb", ["fit", "evaluate"])
def test_a_full_disk_costs_the_report_alone(
    run: Run, model: Path, good: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys.modules["onlygood.report.page"], "write_report", full)
    page, new = good.parent / "r.html", good.parent / "new.safetensors"
    words = (good, "-o", new) if verb == "fit" else (model, good.parent)
    done = run(verb, *words, "--report", page)
    assert done.status == 1
    assert f"cannot write the report {page}" in done.err
    assert "No space left on device; nothing was left half written" in done.err
    assert ("AUROC" if verb == "evaluate" else f"{new}: at most") in done.out
    assert "report:" not in done.out


def test_evaluate_needs_its_folder(run: Run, model: Path) -> None:
    assert "there is no nowhere" in run("evaluate", model, "nowhere").err


def test_calibrate_keeps_what_is_not_said(run: Run, model: Path, fake: type[FakeDetector]) -> None:
    done = run("calibrate", model, "--target-fpr", "0.1", "--json")
    assert fake.asked == [
        (
            "calibrate",
            {"pictures": None, "target_fpr": 0.1, "confidence": 0.9, "strict_fpr": None},
        ),
        ("save", {"path": model}),
    ]
    assert (done.answer["model"], done.answer["target_fpr"]) == (str(model), 0.1)
    assert done.answer["threshold"] < done.answer["previous_threshold"] == 194.0


def test_calibrate_tells_of_a_report_that_is_of_before(run: Run, model: Path) -> None:
    page = model.with_suffix(".html")
    words = f"{page} is as it was and tells of the calibration before"
    assert words not in run("calibrate", model, "--target-fpr", "0.1").err
    page.touch()
    assert words in run("calibrate", model, "--target-fpr", "0.1").err


@pytest.mark.parametrize(
    ("words", "kept"), [([], 0.03), (["--strict-fpr", "0"], None), (["--target-fpr", "0.03"], None)]
)
def test_calibrate_keeps_a_second_threshold(
    run: Run,
    model: Path,
    fake: type[FakeDetector],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    kept: float | None,
) -> None:
    monkeypatch.setattr(fake, "strict_fpr", 0.03)
    done = run("calibrate", model, *words)
    assert done.status == 0, done.err
    assert fake.asked[0][1]["strict_fpr"] == kept
    assert ("no second threshold any more: 0.03" in done.err) == ("--target-fpr" in words)


def test_calibrate_into_another_file(
    run: Run, model: Path, good: Path, fake: type[FakeDetector]
) -> None:
    words = ["--confidence", "0.8", "--strict-fpr", "0.02", "-o", good / "m2"]
    done = run("calibrate", model, good, *words)
    assert done.status == 0, done.err
    assert fake.asked[0][1] == {
        "pictures": good,
        "target_fpr": 0.05,
        "confidence": 0.8,
        "strict_fpr": 0.02,
    }
    assert (good / "m2").exists()
    assert "called unsure or anomalous" in done.out
    assert "highest scores of these: b.png (198.5); look at them" in done.err
    assert "two pictures" in done.err
    assert run("calibrate", model, "-o", good / "m2").status == 1
    answer = run("calibrate", model, good, "--json").answer
    assert answer["most_unusual"] == [{"name": "b.png", "score": 198.5}]
    assert run("calibrate", model, "--json").answer["most_unusual"] == []


def test_calibrate_says_what_was_and_what_is(
    run: Run, model: Path, good: Path, fake: type[FakeDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    several = tuple(Unusual(f"{i}.png", 9.0 - i) for i in range(4))
    monkeypatch.setattr(fake, "calibrated_on", SimpleNamespace(unusual=several))
    words = ("calibrate", model, good, "--target-fpr", "0.1", "--strict-fpr", "0.03")
    now = fake().calibration.with_target(target_fpr=0.1, confidence=0.9, strict_fpr=0.03)
    done = run(*words)
    assert f"threshold 194 -> {now.threshold:.6g}\n" in done.out
    assert "these: 0.png (9), 1.png (8), 2.png (7); look at them" in done.err
    answer = run(*words, "--json").answer
    for name in ("threshold", "strict_threshold", "target_fpr", "strict_fpr", "promised_fpr"):
        assert answer[name] == getattr(now, name)
    assert (answer["n_calibration"], len(answer["most_unusual"])) == (200, 4)


def test_calibrate_says_what_cannot_be_promised(run: Run, model: Path) -> None:
    model.write_text("old")
    done = run("calibrate", model, "--target-fpr", "0.001")
    assert done.status == 1
    assert "needs 2302 normal pictures" in done.err
    assert model.read_text() == "old"


def test_methods_lists_all(run: Run) -> None:
    listed = run("methods", "--json").answer["methods"]
    assert [method["name"] for method in listed] == list(METHODS)
    assert [m["localizes"] for m in listed] == [cls.localizes for cls in METHODS.values()]
    assert "texture" in listed[0]["presets"]
    out = run("methods").out
    assert all(name in out for name in METHODS)
    for method in listed:
        (row,) = (line for line in out.splitlines() if line.split()[:1] == [method["name"]])
        maps = row.rstrip().removesuffix(", ".join(method["presets"])).split()[-1]
        assert maps == ("yes" if method["localizes"] else "no")


@pytest.mark.parametrize("name", METHODS)
def test_a_method_shows_its_paper_presets_and_settings(run: Run, name: str) -> None:
    answer = run("methods", name, "--json").answer
    assert list(answer["presets"]) == list(METHODS[name].presets)
    assert list(answer["settings"]) == [name, "pictures", "training"]
    for key, preset in METHODS[name].presets.items():
        told, bundles = answer["presets"][key], (preset.config, preset.view, preset.training)
        said = json.loads(json.dumps([dict(bundle) for bundle in bundles]))
        assert [told["config"], told["view"], told["training"]] == said
    done = run("methods", name)
    assert answer["page"].splitlines()[0] in done.out
    for group in answer["settings"].values():
        assert all(setting["name"] in done.out for setting in group)
    usual = METHODS[name].presets["default"]
    for bundle in (usual.config, usual.view, usual.training):
        assert all(f"{field}={value}" in done.out for field, value in bundle.items())


def test_unknown_method(run: Run) -> None:
    assert 'unknown method "pcb"; did you mean "pca"?' in run("methods", "pcb").err


def readers(monkeypatch: pytest.MonkeyPatch, **content: object) -> None:
    module = ModuleType("onlygood.data.readers")
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, module.__name__, module)


class Summary(NamedTuple):
    name: str
    folder: Path
    train: int = 3
    test_normal: int = 1
    test_anomalous: int = 2
    description: str = "a toy"


def test_data(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(name: str, folder: Path, *, source: Path | None) -> Summary:
        assert source == Path("there")
        return Summary(name, folder)

    readers(monkeypatch, write_dataset=write)
    words = ("data", "toy", tmp_path, "--source", "there")
    assert run(*words, "--json").answer == {
        "name": "toy",
        "folder": str(tmp_path),
        "train": 3,
        "test_normal": 1,
        "test_anomalous": 2,
        "description": "a toy",
    }
    done = run(*words)
    assert "3 in train/good, 1 normal and 2 anomalous in test" in done.out
    assert done.err == "a toy\n"


class Dataset(NamedTuple):
    family: str
    found: bool
    find: None = None

    def read(self, source: Path | None) -> None:
        assert source is None
        if not self.found:
            raise DataError("not here")


def test_doctor(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    readers(
        monkeypatch, DATASETS={"toy-a": Dataset("toy", True), "other-0": Dataset("other", False)}
    )
    answer = run("doctor", "--json").answer
    assert answer["datasets"] == {"toy": True, "other": False}
    assert answer["cores"] >= 1
    assert answer["memory_gib"] > answer["free_memory_gib"] > 0
    assert answer["extras"]["parquet"] is True
    assert set(answer["versions"]) > {"onlygood", "torch", "numpy", "scikit-learn"}
    done = run("doctor")
    assert done.status == 0
    assert "bf16 in hardware" in done.out


def test_doctor_shows_what_there_is(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    readers(
        monkeypatch, DATASETS={"toy-a": Dataset("toy", True), "other-0": Dataset("other", False)}
    )
    monkeypatch.setattr(machine, "memory", lambda: (3 * 2**30, 2**30))
    monkeypatch.setattr(precision, "has_bf16", lambda _: True)
    there = ("onnx", "onnxruntime", "pyarrow")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in there else None)
    rows = [" ".join(row.split()) for row in run("doctor").out.splitlines()]
    for row in (
        *("memory 3.0 GiB", "of it free 1.0 GiB", "bf16 in hardware yes"),
        *("data set toy found", "data set other not found", "extra scale installed"),
        "extra onnx missing: pip install 'onlygood[onnx]'",  # of which a part is there
    ):
        assert row in rows
    monkeypatch.setitem(sys.modules, "torch", None)
    answer = run("doctor", "--json").answer
    assert (answer["threads"], answer["gpus"], answer["bf16"]) == (None, [], None)


def _demo(monkeypatch: pytest.MonkeyPatch, *aurocs: float) -> None:
    """A data set that is written at once, and these figures one after the other."""
    readers(monkeypatch, write_dataset=lambda name, folder: folder.mkdir(parents=True))
    given = iter(aurocs)
    monkeypatch.setattr(
        FakeEvaluation,
        "to_json",
        lambda self, of=FakeEvaluation.to_json: of(self) | {"auroc": next(given)},
    )


def test_demo_compares_and_says_who_wins(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: type[FakeDetector]
) -> None:
    _demo(monkeypatch, 0.7, 0.8, 0.9)
    words = ["--with", "cbigan", "--with", "pca", "--minutes", "0.5", "--seed", "4"]
    done = run("demo", tmp_path / "demo", *words)
    assert done.status == 0, done.err
    assert "cbigan wins here" in done.out
    assert "at most 2.78 %" in done.out
    fits = [options for name, options in fake.asked if name == "fit"]
    assert [options["method"] for options in fits] == ["reflect", "pca", "cbigan"]
    assert [options["preset"] for options in fits] == ["default", "default", "small"]
    assert all(options["settings"] == {"minutes": 0.5} for options in fits)
    assert all(options["seed"] == 4 for options in fits)
    assert len({options["pictures"] for options in fits}) == 1
    for method in ("reflect", "pca", "cbigan"):
        assert str(tmp_path / "demo" / f"{method}.html") in done.out
        assert (tmp_path / "demo" / f"{method}.html").read_text() == "evaluated"


def test_demo_writes_its_pictures_whole_and_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: type[FakeDetector]
) -> None:
    written = []

    def write(name: str, folder: Path) -> None:
        folder.mkdir(parents=True)
        written.append(folder)
        if len(written) == 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    _demo(monkeypatch, *[0.7] * 4)
    readers(monkeypatch, write_dataset=write)
    assert run("demo", tmp_path).status == 1
    assert not (tmp_path / "elpv-mono").exists()
    for _ in range(2):
        assert run("demo", tmp_path).status == 0
    assert len(written) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".partial")]
    fits = [options["settings"] for name, options in fake.asked if name == "fit"]
    assert fits == [{"minutes": 3.0}] * 4


def test_demo_shows_false_alarms_and_defects_and_a_promise_that_is_broken(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    promise = {"promised": 0.05, "broken": True, "words": "22 of 40", "advice": "look at light"}
    _demo(monkeypatch, 0.7, 0.8)
    told = FakeEvaluation.to_json
    monkeypatch.setattr(FakeEvaluation, "to_json", lambda self: told(self) | {"promise": promise})
    out = run("demo", tmp_path / "demo").out
    (row,) = (" ".join(line.split()) for line in out.splitlines() if line.startswith(" pca "))
    assert row == "pca 0.800 12 at most 5 % 4.0 % 70.0 %"
    assert "pca: 22 of 40\nlook at light\n" in out


def test_demo_keeps_what_it_has_when_it_is_stopped(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fake: type[FakeDetector]
) -> None:
    _demo(monkeypatch, 0.7)
    fit = fake.fit

    def stopped(method: str, pictures: Path, **options: Any) -> FakeDetector:
        if method == "pca":
            raise KeyboardInterrupt
        return fit(method, pictures, **options)

    monkeypatch.setattr(fake, "fit", stopped)
    done = run("demo", tmp_path / "demo")
    assert done.status != 0
    assert "reflect wins here" in done.out
    assert {path.name for path in (tmp_path / "demo").iterdir()} == {
        *("elpv-mono", "reflect.safetensors", "reflect.html")
    }


def test_demo_says_which_report_a_full_disk_has_cost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    _demo(monkeypatch, 0.7)
    monkeypatch.setattr(sys.modules["onlygood.report.page"], "write_report", full)
    done = run("demo", tmp_path / "demo")
    assert done.status == 1
    page = tmp_path / "demo" / "reflect.html"
    assert f"error: cannot write the report {page}: No space left on device; nothing" in done.err
    assert "reflect wins here" in done.out  # the figures are not lost


def test_demo_refuses_a_method_that_it_does_not_know(run: Run, tmp_path: Path) -> None:
    done = run("demo", tmp_path / "demo", "--with", "cbigon")
    assert (done.status, 'did you mean "cbigan"' in done.err) == (1, True)
    assert not (tmp_path / "demo").exists()


def test_fetch_says_where_the_weights_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onlygood.networks import backbones

    monkeypatch.setattr(backbones, "fetch", lambda name, file: file or tmp_path / f"{name}.pth")
    done = run("fetch", "vgg19", "--json")
    assert done.answer == {"backbone": "vgg19", "file": str(tmp_path / "vgg19.pth")}
    done = run("fetch", "vgg19", "--from", tmp_path / "brought.pth", "--json")
    assert done.answer["file"] == str(tmp_path / "brought.pth")


def test_fetch_refuses_what_needs_no_download(run: Run) -> None:
    done = run("fetch", "efficientnet-lite0")
    assert (done.status, "come with a package" in done.err) == (1, True)
