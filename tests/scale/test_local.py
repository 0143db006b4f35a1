import io
import multiprocessing
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from onlygood.deploy.runtime import Runtime
from onlygood.scale import Local, local
from onlygood.scale.places import Place
from onlygood.scale.sources import inputs_of
from onlygood.scale.units import Unit, cut
from onlygood.scale.work import Task
from tests.deploy.stream import normal
from tests.scale.tables import rows, written

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

SCRIPT = """
import signal, sys
from onlygood.scale import Local, score
if __name__ == "__main__":
    # What a shell starts in the background ignores Ctrl-C, and hands that on.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(score(*sys.argv[1:], on=Local(2), pictures=1).summary["counts"])
"""
UNITS = 120


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    # Large, so that a job goes on for longer than it takes to notice and to stop it.
    with Image.open(io.BytesIO(normal(1))) as small:
        small.resize((1250, 1000)).save(folder / "000.png")
    for i in range(1, UNITS):
        shutil.copyfile(folder / "000.png", folder / f"{i:03}.png")
    return folder


@pytest.fixture
def command(exported: Path, many: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "job.py").write_text(SCRIPT)
    words = (sys.executable, tmp_path / "job.py", exported, many, tmp_path / "out")
    return [str(word) for word in words]


def children(pid: int) -> list[int]:
    """Of a process, with their own."""
    found = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in children(child)]


def workers(pid: int) -> list[int]:
    """The children that do units."""
    return [
        child
        for child in children(pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def eventually(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait until it is true."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "never happened"
        time.sleep(0.005)
    return found


def test_a_killed_worker_costs_nothing(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
        eventually(lambda: len(written(out)) > 3)
        os.kill(workers(job.pid)[0], signal.SIGKILL)
        told, _ = job.communicate(timeout=60)
    assert job.returncode == 0
    assert f"'normal': {UNITS}" in told
    assert len({row["uri"] for row in rows(out)}) == len(rows(out)) == UNITS


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_job_that_is_killed_leaves_nobody_and_goes_on(
    command: list[str], tmp_path: Path, how: signal.Signals
) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as job:
        eventually(lambda: len(written(out)) > 3)
        family = children(job.pid)
        job.send_signal(how)
    assert len(family) >= 2
    eventually(lambda: not [pid for pid in family if Path(f"/proc/{pid}").exists()], 10)
    before = written(out)
    assert 3 < len(before) < UNITS
    assert not (out / "summary.json").exists()
    # Whole, all of them, although nobody was asked.
    assert len(rows(out)) == len(before)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=60)
    after = written(out)
    assert {name: after[name] for name in before} == before
    assert len({row["uri"] for row in rows(out)}) == len(rows(out)) == UNITS


def test_a_worker_ends_quietly_where_its_parent_dies_as_it_gives_a_unit(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    worker = context.Process(target=local._serve, args=(there, None))
    worker.start()
    there.close()
    os.write(here.fileno(), struct.pack("!i", 1000) + b"the beginning")  # of a message
    here.close()
    worker.join(60)
    assert worker.exitcode == 0  # else there is a traceback


class Poison:
    """Whoever receives it dies."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (9,)


def test_a_unit_that_kills_its_workers_is_given_up(
    exported: Path, many: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    task = Task(out=place.uri, model=exported, sha256=Runtime.load(exported).sha256)
    good = list(cut(inputs_of([many]), "job", UNITS // 4))
    inputs: Any = (Poison(),)
    outcomes = {o.unit.name: o.error for o in Local(2).run(task, [Unit("bad", inputs), *good])}
    assert outcomes == {
        **dict.fromkeys((unit.name for unit in good), None),
        "bad": "its worker died (status 9); a lack of memory is the usual reason",
    }
    assert place.names("parts") == {f"{unit.name}.parquet" for unit in good}
