"""`onlygood serve`, up to the point where it listens."""

import os
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from onlygood.deploy.service import listening, server
from onlygood.deploy.service.settings import ServiceSettings
from tests.command_line import Run
from tests.deploy.stream import Process, files, normal

TOKEN = "a-token-that-nobody-guesses"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["none.safetensors"], "onlygood export none.safetensors"),
        (["none.onnx"], "cannot read the model none.onnx"),
        (["none.onnx", "--host", "0.0.0.0"], "a token is needed"),
        (["none.onnx", "--token-file", "none"], "cannot read the token in none"),
        (["none.onnx", "--pin", "1"], "a pin is"),
        (["none.onnx", "--log", ":memory:"], "a log in memory would be lost"),
        (["none.onnx", "--keep-days", "inf"], "keep_days must be from 1 to 36500, got inf"),
    ],
)
def test_mistakes_are_told_before_it_listens(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run("serve", *words)
    assert done.status == 1 and says in done.err


@pytest.mark.parametrize("said", [False, True])
def test_every_option_arrives(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    made: list[ServiceSettings] = []
    listened: list[tuple[str, int]] = []
    monkeypatch.setattr(server, "create_app", made.append)
    monkeypatch.setattr(listening, "listen", lambda _, *where: listened.append(where))
    (tmp_path / "token").write_text(f" {TOKEN}\n")
    words: list[object] = ["serve", "a.onnx", "b.onnx"]
    if said:
        words += "--host 0.0.0.0 --port 9000 --log l.sqlite --allow-host line --pin".split()
        words += ["abcdef0123456789", "--token-file", tmp_path / "token"]
        words += "--max-megabytes 100 --max-megapixels 3 --max-files 4 --max-seconds 5".split()
        words += "--queue 6 --batch 7 --threads 8 --keep-days 9 --keep-megabytes 17".split()
        words += "--recent-megabytes 11".split()
    assert run(*words).status == 0
    files = (Path("a.onnx"), Path("b.onnx"))
    mine = ServiceSettings(
        models=files,
        log=Path("l.sqlite"),
        host="0.0.0.0",
        token=TOKEN,
        allowed_hosts=("line",),
        pins=("abcdef0123456789",),
        max_bytes=100 * 2**20,
        max_pending_bytes=400 * 2**20,
        max_pixels=3_000_000,
        max_files=4,
        upload_seconds=5.0,
        queue=6,
        batch=7,
        threads=8,
        keep_days=9.0,
        keep_bytes=17 * 2**20,
        recent_bytes=11 * 2**20,
    )
    # What is not said is as it is in Python.
    assert made == [mine if said else ServiceSettings(models=files, log=Path("inspections.sqlite"))]
    assert listened == [("0.0.0.0", 9000) if said else ("127.0.0.1", 8000)]


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "is empty"), ("schlüssel".encode(), "not ASCII"), (b"short\n", "16 or more")],
)
def test_a_token_that_is_none_is_told(run: Run, tmp_path: Path, content: bytes, says: str) -> None:
    token = tmp_path / "token"
    token.write_bytes(content)
    assert says in run("serve", "none.onnx", "--token-file", token).err


def test_a_token_that_nobody_writes_is_not_waited_for(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    assert (
        "it is no file but a pipe or device"
        in run("serve", "none.onnx", "--token-file", tmp_path / "token").err
    )


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys\nsys.modules['uvicorn'] = None\n"
        "from onlygood.cli import main\nsys.exit(main(['serve', 'none.onnx']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'onlygood[serve]'" in done.stderr


@pytest.mark.slow
def test_it_serves_with_a_token_and_without_torch(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = tmp_path / "token"
    token.write_text(TOKEN + "\n")
    (tmp_path / "torch.py").write_text("raise ImportError('there is no torch')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    with Process(model, "--log", tmp_path / "log.sqlite", "--token-file", token) as process:
        assert httpx.get(f"{process.url}/v1/models").status_code == 401
        headers = {"Authorization": f"Bearer {TOKEN}"}
        answer = httpx.post(
            f"{process.url}/v1/score?token={TOKEN}", files=files(normal(1)), headers=headers
        )
        assert answer.json()["results"][0]["decision"] == "normal"
        form = headers | {"Content-Type": "multipart/form-data; boundary=A"}
        refused = httpx.post(f"{process.url}/v1/score", content=b"B", headers=form)
        assert refused.status_code == 400
        process.stop()
    said = "".join(process.said)
    assert TOKEN not in said
    # Whoever sends what is no form fills no journal with it.
    assert "boundary" not in said
