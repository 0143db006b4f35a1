"""The ten commands of docs/guides/factory.md, as they stand there, on fewer pictures."""

import csv
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "factory.md"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="the guide calls curl"),
]


def ten_commands() -> list[list[str]]:
    block = re.search(r"^```\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    assert block is not None
    return [shlex.split(line) for line in block[1].splitlines()]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def thin_out(folder: Path, keep: int) -> None:
    for picture in sorted(folder.iterdir())[keep:]:
        picture.unlink()


def wait_for(address: str) -> None:
    for _ in range(300):
        try:
            with urlopen(address, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"nothing answers at {address}")


def test_all_ten(tmp_path: Path) -> None:
    port, commands = str(free_port()), ten_commands()
    assert len(commands) == 10
    bin_folder = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    environment["NO_PROXY"] = "127.0.0.1"
    service = None
    try:
        for words in commands:
            words = [word.replace("8000", port) for word in words]
            if words[-1] == "&":
                service = subprocess.Popen(
                    words[:-1], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
                )
                wait_for(f"http://127.0.0.1:{port}/readyz")
                continue
            done = subprocess.run(
                words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{shlex.join(words)}\n{done.stdout}\n{done.stderr}"
            if words[1] == "data":
                thin_out(tmp_path / "cells/train/good", 80)
                thin_out(tmp_path / "cells/test/good", 8)
                thin_out(tmp_path / "cells/test/defective", 8)
    finally:
        if service is not None:
            service.terminate()
            service.wait(30)
    assert (tmp_path / "cell.html").exists()
    with (tmp_path / "decisions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 8
    with (tmp_path / "inspections.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert (row["name"], row["model"]) == ("cell0001.png", "cell")
