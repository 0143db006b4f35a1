"""The bench on a cluster of Ray that is this machine alone, with a GPU that is only a name."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from onlygood.core.errors import ConfigError, DataError
from onlygood.evaluation.bench import Cell, due, run_cell
from onlygood.evaluation.protocols import open_tasks
from onlygood.evaluation.records import Line, read
from onlygood.scale import bench
from onlygood.scale.bench import SIGN, CellsFailed, Share
from onlygood.scale.on_ray import Ray
from tests import parts
from tests.scale.test_local import children, eventually

pytest.importorskip("ray")

SCRIPT = """
import sys, ray
ray.init("local", num_cpus=2, num_gpus=1, log_to_driver=False, include_dashboard=False)
from onlygood.cli import main
sys.exit(main(sys.argv[1:]))
"""
TINY = {"size": "32", "width": "2", "latent": "4", "batch_size": "4", "checkpoint_every": "5"}


@pytest.fixture(scope="module")
def nuts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nuts")
    parts.write(parts.normal(24), folder / "train" / "good")
    parts.write(parts.normal(6, seed=5), folder / "test" / "good")
    parts.write(parts.scratched(6), folder / "test" / "scratch")
    return folder


def cell(nuts: Path, **changes: Any) -> Cell:
    dataset = open_tasks("folder", "nuts", nuts).named("nuts")
    usual: dict[str, Any] = {"method": "pca", "preset": "default", "settings": {"size": 8}}
    return Cell(**usual | changes, dataset=dataset, protocol="folder", normal="all", seed=0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_a_killed_cell_is_run_again_and_the_driver_writes_the_records(
    nuts: Path, tmp_path: Path
) -> None:
    file = tmp_path / "r.jsonl"
    settings = TINY | {"steps": "60"}
    words = ["bench", "run", "--protocol", "folder", "--dataset", "nuts", "--folder", str(nuts)]
    words += ["--methods", "autoencoder", "--seeds", "0,1", "--results", str(file)]
    words += [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    on_ray = ["--ray", "local", "--gpus-per-cell", "0.25"]
    command = [sys.executable, "-c", SCRIPT, *words, *on_ray]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as driver:
        eventually(lambda: list(tmp_path.glob("r.run/*/checkpoint.safetensors")), 240)
        busy = [pid for pid in children(driver.pid) if name_of(pid).startswith(b"ray::_cell")]
        os.kill(busy[0], signal.SIGKILL)
        _, told = driver.communicate(timeout=240)
    assert driver.returncode == 0, told
    assert "its worker died" in told and "once more" in told
    lines = read(file)
    assert sorted(line["seed"] for line in lines) == [0, 1]
    assert {line["shared"] for line in lines} == {"0.25 of a GPU and 1 core"}
    assert {line["steps"] for line in lines} == {60}
    assert not (tmp_path / "r.run").exists()
    first = next(line for line in lines if line["seed"] == 0)
    task = open_tasks("folder", "nuts", nuts).task("all")
    whole = run_cell(cell(nuts, method="autoencoder", settings=dict(settings)), task)
    assert first["auroc"] == pytest.approx(whole["auroc"], abs=0.03)


def name_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""


@pytest.mark.parametrize(("sign", "shared"), [("mine", True), ("of another", False), (None, False)])
def test_checkpoints_are_kept_where_the_drivers_files_are_seen(
    nuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sign: str | None, shared: bool
) -> None:
    (one,) = due([cell(nuts)], tmp_path / "r.jsonl")
    if sign is not None:
        one.folder.parent.mkdir()
        (one.folder.parent / f"{SIGN}{sign}").touch()

    def looked(cell: Cell, task: Any, *, run_dir: Path | None, **_: Any) -> Line:
        return {"run_dir": run_dir, "n": len(task.train)}

    monkeypatch.setattr(bench, "run_cell", looked)
    found = bench._cell(one, bench._Opening("nuts", nuts, "mine"))
    assert found == {"run_dir": one.folder if shared else None, "n": 24}


class Exceptions:
    class RayError(Exception):
        pass

    class RayTaskError(RayError):
        cause = DataError("a picture cannot be read")


class Cluster:
    """One after the other, cells end with what is said."""

    exceptions = Exceptions

    def __init__(self, *ends: Callable[[], Line]) -> None:
        self._ends = iter(ends)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": {"CPU": 2.0}}]

    def remote(self, **_: Any) -> Any:
        return lambda do: SimpleNamespace(remote=lambda *_: object())

    def wait(self, running: list[Any]) -> tuple[list[Any], list[Any]]:
        return running[:1], running[1:]

    def get(self, _: object) -> Line:
        return next(self._ends)()


def test_two_commands_share_a_file_of_records(
    nuts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signs: list[int] = []

    def run(size: int) -> list[Line]:
        cells = [cell(nuts, settings={"size": size})]
        return list(bench.run(cells, "nuts", nuts, tmp_path / "r.jsonl", on=Ray("auto")))

    def seen() -> None:
        signs.append(len(list(tmp_path.glob(f"r.run/{SIGN}*"))))

    def first() -> Line:
        run(16)  # the second, from its beginning to its end
        seen()
        raise Exceptions.RayTaskError

    def second() -> Line:
        seen()
        return {"auroc": 1.0, "verdict": "well"}

    cluster = Cluster(first, second)
    monkeypatch.setattr(Ray, "connected", lambda self: cluster)
    with pytest.raises(CellsFailed, match="a picture cannot be read"):
        run(8)
    assert signs == [2, 1] and not (tmp_path / "r.run").exists()


def test_other_pictures_on_a_node_are_refused(nuts: Path, tmp_path: Path) -> None:
    (one,) = due([cell(nuts)], tmp_path / "r.jsonl")
    for name in ("train/good", "test/good", "test/scratch"):
        parts.write(parts.normal(3, seed=len(name)), tmp_path / name)
    with pytest.raises(DataError, match=r"a node has other pictures of nuts: nuts@.*, not nuts@"):
        bench._cell(one, bench._Opening("nuts", tmp_path, ""))


@pytest.mark.parametrize(
    ("gpus", "words"),
    [(0.0, "2 cores"), (0.5, "0.5 of a GPU and 2 cores"), (1.0, "1 GPU and 2 cores")],
)
def test_a_share_in_words(gpus: float, words: str) -> None:
    assert str(Share(gpus=gpus, cpus=2)) == words


@pytest.mark.parametrize(
    "share", [{"gpus": 1.5}, {"gpus": -1.0}, {"gpus": float("nan")}, {"cpus": 0}]
)
def test_shares_that_there_are_not(share: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a cell has"):
        Share(**share)


def test_a_share_that_no_node_has_is_refused() -> None:
    class Cluster:
        @staticmethod
        def nodes() -> list[dict[str, Any]]:
            return [
                {"Alive": True, "Resources": {"CPU": 2.0}},
                {"Alive": False, "Resources": {"CPU": 8.0, "GPU": 8.0}},
            ]

    bench._check_room(Cluster, Share(cpus=2))
    words = "no node of the cluster has 0.25 of a GPU and 1 core .* they have 2 cores, 0 GPUs"
    with pytest.raises(ConfigError, match=words):
        bench._check_room(Cluster, Share(gpus=0.25))
