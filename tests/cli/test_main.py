import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.core import TyperGroup

from onlygood.cli import app
from onlygood.core.errors import TrainingInterrupted
from tests.cli.conftest import FakeDetector
from tests.command_line import Run

VERBS = ("fit", "score", "evaluate", "calibrate", "methods", "data", "demo", "doctor")


def test_without_words_it_shows_its_verbs(run: Run) -> None:
    done = run()
    assert done.status == 0
    assert all(verb in done.out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_takes_json(run: Run, verb: str) -> None:
    done = run(verb, "--help")
    assert done.status == 0
    assert "--json" in done.out


@pytest.mark.parametrize("words", [(), ("fit",), ("serve",), ("bench", "run")])
def test_names_of_options_are_whole_in_narrow_terminals(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", run(*words, "--help").out))
    assert {"--help"} < options
    for columns in (40, 69, 70, 80):
        monkeypatch.setenv("COLUMNS", str(columns))
        narrow = run(*words, "--help").out
        assert not [name for name in options if name not in narrow], columns


def test_lines_of_help_that_are_kept_are_sentences() -> None:
    verbs = typer.main.get_command(app)
    assert isinstance(verbs, TyperGroup)
    group = verbs.commands["bench"]
    assert isinstance(group, TyperGroup)
    # Only the first paragraph is filled again.
    for verb in (*verbs.commands.values(), *group.commands.values()):
        for paragraph in (verb.help or "").split("\n\n")[1:]:
            for line in paragraph.strip().splitlines():
                assert line.endswith("."), f"{verb.name} --help: {line}"


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.status, done.out) == (0, "onlygood 0.1.0\n")


def test_python_runs_the_package() -> None:
    command = [sys.executable, "-m", "onlygood", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "onlygood 0.1.0\n")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["scor"], "No such command 'scor'. Did you mean 'score'"),
        (["score", "m", "p", "--jsn"], "No such option: --jsn"),
        (["score", "m"], "Missing argument 'PICTURES...'"),
        (["fit", "x", "-o", "m", "--seed", "one"], "Invalid value for '--seed'"),
    ],
)
def test_misuse_exits_with_1_not_with_2(run: Run, words: list[str], says: str) -> None:
    done = run(*words)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f"error: {says}")


def test_an_error_is_one_json_object_too(run: Run, tmp_path: Path) -> None:
    done = run("score", "--json", tmp_path / "none.safetensors", tmp_path / "none.png")
    assert done.status == 1
    assert list(done.answer) == ["error"]
    assert done.err == f"error: {done.answer['error']}\n"


def test_misuse_is_one_json_object_too(run: Run) -> None:
    assert "No such option" in run("score", "--json", "--nonsense").answer["error"]


def test_an_interrupted_training_exits_with_130(
    run: Run, good: Path, fake: type[FakeDetector]
) -> None:
    fake.failure = TrainingInterrupted("stopped at step 7; go on with --resume")
    done = run("fit", good, "-o", good.parent / "m")
    assert done.status == 130
    assert done.err == "error: stopped at step 7; go on with --resume\n"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (PermissionError(13, "Permission denied", "x/y"), "error: x/y: Permission denied\n"),
        (OSError(28, "No space left on device"), "error: [Errno 28] No space left on device\n"),
    ],
)
def test_what_the_system_refuses_is_said_in_a_line(
    run: Run, good: Path, fake: type[FakeDetector], failure: OSError, says: str
) -> None:
    fake.failure = failure
    done = run("fit", good, "-o", good.parent / "m")
    assert (done.status, done.err) == (1, says)


WITH_NO_METHODS = """
import sys
from types import ModuleType
module = ModuleType("onlygood.methods")
def asked(name):
    if name != "METHODS":  # whoever imports torch looks at all modules
        raise AttributeError(name)
    return {ask}
module.__getattr__ = asked
sys.modules["onlygood.methods"] = module
from onlygood.cli import main
sys.exit(main(["methods", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_a_reader_that_goes_away_is_told_nothing(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", WITH_NO_METHODS.format(ask="{}"), *words]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


def test_ctrl_c_is_answered_in_words() -> None:
    # A process that was started in the background ignores it, and so do its children.
    heard = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code = heard + WITH_NO_METHODS.format(ask="signal.raise_signal(signal.SIGINT)")
    command = [sys.executable, "-c", code, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == "error: interrupted; no file was left half written\n"
    assert json.loads(done.stdout) == {"error": "interrupted; no file was left half written"}
