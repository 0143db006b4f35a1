"""Closed, full and narrow streams, pipes, wild numbers: one sentence each, or no matter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from onlygood.cli.voice import OutputError, Voice, give_up_output
from tests.command_line import Run

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and /dev")


def shell(line: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a line of a shell in which `og` is onlygood."""
    program = f'og() {{ "{sys.executable}" -m onlygood.cli "$@"; }}; {line}'
    return subprocess.run(
        ["bash", "-c", program],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        timeout=120,
    )


@POSIX
@pytest.mark.parametrize(
    ("line", "status"), [("og --version >&-", 0), ("og score none.onnx none.png --json >&-", 1)]
)
def test_a_closed_standard_output_is_no_matter(line: str, status: int, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == status
    assert done.stderr.count(b"\n") == status


@POSIX
def test_with_standard_error_closed_words_do_not_get_into_the_json(tmp_path: Path) -> None:
    done = shell("og score none.onnx none.png --json 2>&-", tmp_path)
    assert done.returncode == 1
    assert list(json.loads(done.stdout)) == ["error"]


@POSIX
@pytest.mark.parametrize("words", ["--version", "score none.onnx none.png --json"])
def test_a_full_disk_behind_standard_output_is_one_sentence(words: str, tmp_path: Path) -> None:
    done = shell(f"og {words} >/dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: ")
    assert done.stderr.count(b"\n") == 1


@POSIX
@pytest.mark.parametrize("json", [False, True])
def test_an_answer_that_cannot_be_given_is_an_error(
    json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr("sys.stdout", full)
        voice = Voice(json=json)
        with pytest.raises(OutputError, match="standard output: No space left on device"):
            voice.show("much") or voice.answer({"a": 1})
        give_up_output()


@POSIX
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "latin-1"])
def test_a_narrow_encoding_takes_what_it_can(encoding: str, tmp_path: Path) -> None:
    done = shell("og score none.onnx 'ü→.png'", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 1
    assert done.stderr.startswith(b"error: there is no ")
    assert b"\\u2192.png" in done.stderr


@POSIX
def test_a_narrow_file_system_takes_maps_of_any_name(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path; from onlygood.cli.files import map_name;"
        "Path(map_name('\\xfc.png', b'1')).write_bytes(b'')"
    )
    narrow = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=os.environ | narrow, check=True
    )
    (written,) = os.listdir(os.fsencode(tmp_path))
    assert written.startswith("ü-".encode())


@POSIX
@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fit", "good", "-o", "new.safetensors", "--config", "pipe"], "settings file pipe"),
        (["serve", "m.onnx", "--token-file", "pipe"], "cannot read the token in pipe"),
    ],
)
def test_nobody_waits_for_a_pipe(
    run: Run, good: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(good.parent)
    os.mkfifo("pipe")
    done = run(*words)
    assert done.status == 1
    assert says in done.err
    assert "it is no file but a pipe or device" in done.err


@pytest.mark.parametrize("seed", ["99999999999999999999999", "-1"])
def test_a_seed_that_torch_does_not_take(run: Run, good: Path, seed: str) -> None:
    done = run("fit", "pca", good, "-o", good / "m.safetensors", "--seed", seed)
    assert done.status == 1
    assert "Invalid value for '--seed'" in done.err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Failed to allocate memory for requested buffer of size 4"),
    ],
)
def test_no_memory_is_one_sentence(
    run: Run, good: Path, monkeypatch: pytest.MonkeyPatch, fake: type, error: Exception
) -> None:
    def too_large(_: Path) -> None:
        raise error

    monkeypatch.setattr(fake, "load", too_large)
    done = run("score", "m.safetensors", good)
    assert done.status == 1
    assert done.err.count("\n") == 1
    assert "needs more memory than there is" in done.err
