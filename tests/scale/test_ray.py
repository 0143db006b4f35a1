"""On a cluster of Ray that is this machine alone, in other processes: Ray warns of much."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onlygood.scale import score
from tests.scale.tables import rows, scores, summary, written
from tests.scale.test_local import children, eventually, many

__all__ = ["many"]

pytest.importorskip("ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

SCRIPT = """
import sys
from onlygood.scale import Ray, score
*words, pictures = sys.argv[1:]
score(*words, on=Ray("local", 2), pictures=int(pictures))
"""


def command(*words: object) -> list[str]:
    return [sys.executable, "-c", SCRIPT, *map(str, words)]


def test_killed_tasks_and_a_killed_driver_cost_nothing(
    exported: Path, many: Path, tmp_path: Path
) -> None:
    """The same job twice: its driver dies, then one of its workers, and it is whole."""
    out = tmp_path / "out"
    words = command(exported, many, out, 4)
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as job:
        eventually(lambda: written(out))
        job.kill()
    # Ray's processes take their time to notice; what they finish until then is whole as well.
    before = written(out)
    assert before and not (out / "summary.json").exists()

    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as job:
        busy = eventually(lambda: [pid for pid in children(job.pid) if is_task(pid)])
        os.kill(busy[0], signal.SIGKILL)
        _, told = job.communicate(timeout=60)
    assert job.returncode == 0, told
    after = written(out)
    assert {name: after[name] for name in before} == before
    names = [row["uri"] for row in rows(out)]
    assert len(set(names)) == len(names) == summary(out)["pictures"] == len(list(many.iterdir()))
    score(exported, many, tmp_path / "here")
    assert scores(out) == scores(tmp_path / "here")


def is_task(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_do")
    except FileNotFoundError:
        return False
