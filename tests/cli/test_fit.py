from pathlib import Path

import pytest

from onlygood.cli.voice import Voice
from onlygood.core.errors import DataError
from onlygood.decision.calibration import Calibration
from onlygood.training.reporting import Silent
from tests.cli.conftest import FakeDetector
from tests.command_line import Run


def asked(fake: type[FakeDetector], verb: str) -> dict[str, object]:
    """The one call of that name."""
    (options,) = [options for name, options in fake.asked if name == verb]
    return options


def test_one_word_is_the_folder(run: Run, good: Path, fake: type[FakeDetector]) -> None:
    model = good.parent / "m.safetensors"
    done = run("fit", good, "-o", model)
    assert done.status == 0, done.err
    options = asked(fake, "fit")
    assert options.pop("reporter") is not None
    assert options == {
        "method": "reflect",
        "pictures": good,
        "preset": "default",
        "seed": 0,
        "settings": {},
        "anomalous": None,
        "ignore": None,
        "align": None,
        "target_fpr": 0.05,
        "confidence": 0.9,
        "group_by": None,
        "leave_out": (),
        "run_dir": model.with_suffix(".run"),
        "resume": False,
    }
    assert model.read_text() == "model"
    assert model.with_suffix(".html").read_text() == "fitted"
    assert "at most 5 % of normal pictures are called anomalous" in done.out
    assert "training went well" in done.err and "" not in done.err.splitlines()


@pytest.mark.parametrize("named", [False, True])
def test_only_a_run_folder_without_a_name_is_removed(run: Run, good: Path, named: bool) -> None:
    model, folder = good / "m.safetensors", good / "m.run"
    folder.mkdir()
    (folder / "checkpoint.safetensors").touch()
    assert run("fit", good, "-o", model, *(["--run-dir", folder] if named else [])).status == 0
    assert folder.exists() == named


def test_what_others_have_put_into_a_run_folder_stays(run: Run, good: Path) -> None:
    folder = good / "m.run"
    folder.mkdir()
    (folder / "mine.txt").touch()
    assert run("fit", good, "-o", good / "m.safetensors").status == 0
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("kept", ["", "log.jsonl", "checkpoint.safetensors"])
def test_a_run_that_fails_leaves_no_empty_folder(
    run: Run, good: Path, fake: type[FakeDetector], monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    folder = good / "m.run"

    def fails(*_: object, **__: object) -> None:
        folder.mkdir()
        (folder / "log.jsonl").touch()
        if kept:
            (folder / kept).write_text("{}\n")
        raise DataError("no")

    monkeypatch.setattr(fake, "fit", fails)
    assert run("fit", good, "-o", good / "m.safetensors").status == 1
    assert folder.exists() == bool(kept)


def test_every_option_arrives(run: Run, good: Path, fake: type[FakeDetector]) -> None:
    words = "--preset texture --seed 5 --minutes 2 --steps 9 --target-fpr 0.1 --confidence 0.8"
    words += " --set alpha=3e-3 --set game=hinge --group-by (.*)_ --resume --anomalous bad"
    (good / "out.txt").write_text("# not good\nb.png\n\n")
    words += f" --leave-out {good / 'out.txt'}"
    words += " --ignore mask.png --align auto"
    done = run("fit", "pca", good, "-o", good / "m", "--run-dir", good / "run", *words.split())
    assert done.status == 0, done.err
    options = asked(fake, "fit")
    assert options["method"] == "pca"
    assert (options["preset"], options["seed"], options["resume"]) == ("texture", 5, True)
    assert (options["target_fpr"], options["confidence"]) == (0.1, 0.8)
    assert (options["group_by"], options["run_dir"]) == ("(.*)_", good / "run")
    assert (options["anomalous"], options["ignore"]) == (Path("bad"), Path("mask.png"))
    assert options["align"] == "auto"
    assert options["leave_out"] == ["# not good", "b.png"]
    assert options["settings"] == {"alpha": "3e-3", "game": "hinge", "minutes": 2.0, "steps": 9}


def test_the_command_line_beats_the_file(run: Run, good: Path, fake: type[FakeDetector]) -> None:
    file = good / "run.toml"
    file.write_text('method = "autoencoder"\npreset = "texture"\nsize = 64\nlatent = 8\n')
    run("fit", good, "-o", good / "m", "--config", file, "--set", "size=32", "--preset", "default")
    options = asked(fake, "fit")
    assert (options["method"], options["preset"]) == ("autoencoder", "default")
    assert options["settings"] == {"size": "32", "latent": 8}
    fake.asked.clear()
    run("fit", good, "-o", good / "n", "--config", file)
    assert asked(fake, "fit")["preset"] == "texture"


def test_json(run: Run, good: Path) -> None:
    model = good.parent / "m.safetensors"
    done = run("fit", good, "-o", model, "--json", "--seed", 3)
    answer = done.answer
    assert (answer["model"], answer["report"]) == (str(model), str(model.with_suffix(".html")))
    assert (answer["method"], answer["seed"], answer["n_calibration"]) == ("reflect", 3, 200)
    assert answer["threshold"] == 194.0
    calibration = FakeDetector().calibration
    for name in ("target_fpr", "confidence", "promised_fpr", "guarantee", "note"):
        assert answer[name] == getattr(calibration, name)
    assert answer["provenance"] == FakeDetector.provenance
    assert answer["most_unusual"] == [{"name": "b.png", "score": 198.5}]


def test_what_cannot_be_promised_is_noted(
    run: Run, good: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Calibration, "note", "too few pictures")
    monkeypatch.setattr(Calibration, "promised_fpr", 0.25)
    for words in (("fit", good, "-o", good / "m"), ("calibrate", model)):
        assert "\ntoo few pictures\n" in f"\n{run(*words).err}"
        answer = run(*words, "--overwrite", "--json").answer
        assert (answer["note"], answer["promised_fpr"]) == ("too few pictures", 0.25)


def test_quiet_leaves_only_the_answer(run: Run, good: Path) -> None:
    done = run("fit", good, "-o", good / "m", "--quiet", "--no-report")
    assert (done.status, done.err) == (0, "")
    assert list(good.glob("*.html")) == []


def test_only_the_first_process_of_several_writes(
    run: Run, good: Path, fake: type[FakeDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.chdir(good)
    done = run("fit", good, "-o", good / "m", "--json", "--tracker", "tensorboard")
    assert (done.status, done.out, done.err) == (0, "", "")
    assert not Path("runs").exists()
    assert isinstance(Voice(quiet=False).reporter(), Silent)
    assert [name for name, _ in fake.asked] == ["fit"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "fit needs a folder of normal pictures"),
        (["cbigan"], "the folder of normal pictures comes last: onlygood fit cbigan FOLDER -o"),
        (["GOOD", "pca"], "the folder of normal pictures comes last: onlygood fit pca GOOD -o"),
        (["nowhere"], "there is no nowhere"),
        (["cbigam", "GOOD"], 'unknown method "cbigam"; did you mean "cbigan"? known: reflect,'),
        (["GOOD", "--set", "alpha"], "a setting is written field=value"),
        (["GOOD", "--config", "none.toml"], "cannot read the settings file none.toml"),
    ],
)
def test_refused_before_training(
    run: Run, good: Path, fake: type[FakeDetector], words: list[str], says: str
) -> None:
    named = [str(good) if word == "GOOD" else word for word in words]
    done = run("fit", *named, "-o", good.parent / "m")
    assert done.status == 1
    assert done.err.startswith(f"error: {says.replace('GOOD', str(good))}")
    assert fake.asked == []


def test_a_model_is_not_replaced_by_accident(run: Run, good: Path, model: Path) -> None:
    model.write_text("precious")
    done = run("fit", good, "-o", model)
    assert done.status == 1
    assert "say --overwrite to replace it" in done.err
    assert model.read_text() == "precious"
    assert run("fit", good, "-o", model, "--overwrite").status == 0
    assert model.read_text() == "model"


@pytest.mark.parametrize("option", ["-o", "--report"])
def test_what_cannot_be_written_is_refused_before_training(
    run: Run, good: Path, fake: type[FakeDetector], option: str
) -> None:
    (good.parent / "file").touch()
    words = ["-o", good.parent / "m", option, good.parent / "file" / "x"]
    done = run("fit", good, *words)
    assert done.status == 1
    assert "is no folder that you may write to" in done.err
    assert fake.asked == []


def test_what_stands_in_the_way_is_refused_before_training(
    run: Run, good: Path, fake: type[FakeDetector]
) -> None:
    (good.parent / "m.run").touch()
    assert "m.run is no folder" in run("fit", good, "-o", good.parent / "m.safetensors").err
    assert (
        "is a folder; name a file"
        in run("fit", good, "-o", good.parent / "n", "--report", good).err
    )
    assert fake.asked == []


@pytest.mark.parametrize(("option", "what"), [("--report", "report"), ("--run-dir", "run folder")])
def test_two_files_of_one_name_are_refused_before_training(
    run: Run, good: Path, fake: type[FakeDetector], option: str, what: str
) -> None:
    model = good.parent / "m.html"
    done = run("fit", good, "-o", model, option, model)
    assert done.err == f"error: {model} would be the model and its {what} at once; name two files\n"
    assert fake.asked == []


def test_what_follows_a_dot_is_part_of_the_name(run: Run, good: Path) -> None:
    for name in ("nuts.v1", "nuts.v2.safetensors"):
        assert run("fit", good, "-o", good.parent / name).status == 0
    assert (good.parent / "nuts.v1.html").exists()
    assert (good.parent / "nuts.v2.html").exists()


def test_a_folder_is_no_model(run: Run, good: Path) -> None:
    assert "is a folder; name a file in it" in run("fit", good, "-o", good).err
