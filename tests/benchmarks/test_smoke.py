import json
import os
import subprocess
import sys
from collections import Counter
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from queue import Queue
from subprocess import PIPE
from threading import Event, Thread

import numpy as np
import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = (
    *("beside_anomalib", "bursts", "decoding", "deploy", "frozen", "lines", "memory", "methods"),
    *("promise", "reflect_parts", "scale", "scoring", "service", "small", "startup", "threads"),
    "training",
)
SHARED = {"measure", "anomalib_ganomaly", "unseen"}
"""What scripts import, or start elsewhere."""
ASKED_FOR = {"beside_anomalib"}
"""Wants a data set and another environment, which few have."""


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_script_is_known_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SCRIPTS} | SHARED


def test_make_bench_runs_all_that_run_anywhere() -> None:
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    line = next(text for text in makefile.splitlines() if text.startswith("BENCHMARKS :="))
    assert sorted(line.split()[2:]) == sorted({*SCRIPTS} - ASKED_FOR)


@pytest.mark.parametrize(
    "name",
    [
        *("beside_anomalib", "bursts", "decoding", "deploy", "frozen", "methods", "reflect_parts"),
        *("scale", "scoring", "service", "small", "startup", "threads", "training"),
    ],
)
@pytest.mark.usefixtures("without_shape_checks")
def test_quick_run_gives_figures(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert import_module(name).main(["--quick", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["rows"]
    # Some builds name their CUDA in the one and not in the other.
    told = figures["machine"]["versions"]["torch"]
    assert told.split("+")[0] == torch.__version__.split("+")[0]


@pytest.mark.parametrize(
    ("name", "timed"),
    [
        *(("memory", "generate"), ("reflect_parts", "features")),
        *(("startup", "measure"), ("threads", "camera_files")),
    ],
)
def test_the_load_is_looked_at_before_the_benchmark_makes_its_own(
    name: str, timed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def busy(*_: object) -> None:
        raise AssertionError("the load of others cannot be told any more")

    def idle() -> None:
        raise InterruptedError

    script = import_module(name)
    monkeypatch.setattr(script, timed, busy)
    monkeypatch.setattr(script, "machine", idle)
    with pytest.raises(InterruptedError):
        script.main(["--quick"])


def test_what_another_environment_answers_becomes_a_row(tmp_path: Path) -> None:
    beside, python = import_module("beside_anomalib"), tmp_path / "python"
    answer = {
        **{"normal": [0.0, 1.0], "anomalous": [0.5, 2.0], "scoring_seconds": 2.0},
        **{"images": 90, "training_seconds": 3.0, "trained_on": 7, "precision": "32-true"},
        **{"peak_mib": 600.0, "model_mb": 2.0, "onnx_mb": 1.0},
    }
    python.write_text(f"#!/bin/sh\necho 'a warning'\necho '{json.dumps(answer)}'\n")
    python.chmod(0o755)
    variant = beside.Variant(name="theirs", library="anomalib", settings={"n_features": 16})
    row = beside.joined(variant, [beside.asked(str(python), variant, {}, 1)])
    assert (row.auroc.median, row.training.median, row.scoring.median) == (0.75, 30.0, 2.0)
    assert row.settings == {"n_features": 16}


def test_an_environment_without_anomalib_is_told_what_it_needs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        import_module("beside_anomalib").main(["--quick", "--anomalib-python", sys.executable])
    said = capsys.readouterr().err
    assert "No module named 'anomalib'" in said
    assert 'pip install "anomalib[cpu]" onnx onnxscript' in said


def test_a_way_is_not_compared_with_itself() -> None:
    scale = import_module("scale")

    def run(seconds: float, score: float) -> object:
        return scale.Run(seconds, 1.0, 1.0, 1.0, 1.0, np.array([score]))

    runs = {"1 worker": [run(8.0, 1.0), run(6.0, 1.0)], "2 workers": [run(4.0, 1.0), run(4.0, 1.5)]}
    one, two = (scale.row_of("pca", 1, way, runs) for way in runs)
    assert (one.of_one, one.difference) == (None, None)
    assert (two.of_one, two.difference) == (1.75, 0.5)
    assert "" in scale.cells(one)
    del runs["1 worker"]
    alone = scale.row_of("pca", 1, "2 workers", runs)
    assert (alone.of_one, alone.difference) == (None, None)


def test_fewer_pictures_than_shards_are_a_shard_each(tmp_path: Path) -> None:
    sources = import_module("scale").make_pictures(tmp_path, 3, 8)
    assert len(list(Path(sources["tar"]).parent.iterdir())) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_service_that_answers_at_once_and_seldom_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = import_module("service")

    def ask(_: int, requests: list[bytes], __: int) -> object:
        statuses = Counter({200: len(requests)} if requests else {})
        return service.Answers(statuses=statuses, milliseconds=[1.0], seconds=1.0)

    monkeypatch.setattr(service, "ask", ask)
    assert service.beside(0, os.getpid(), [b""], [])["peak_mib"] > 0
    monkeypatch.setattr(service, "serving", lambda *_: nullcontext((0, os.getpid())))
    grown = service.memory(tmp_path, tmp_path, [b""], requests=5, parts=10)
    assert [done for done, _ in grown] == list(range(1, 11))


def test_single_pictures_take_turns_as_batches_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deploy, turns = import_module("deploy"), list[tuple[str, int]]()

    def singly(scorer: object, _: object, times: int) -> list[float]:
        turns.append((str(scorer), times))
        return [float(len(turns))]

    case = deploy.Case(method="pca", size=16, batches=1, singles=5, settings={})
    monkeypatch.setattr(deploy.Detector, "fit", lambda *_, **__: "torch")
    monkeypatch.setattr(deploy, "export", lambda _, path, **__: path.touch())
    monkeypatch.setattr(deploy.Runtime, "load", lambda path: path.stem)
    monkeypatch.setattr(deploy, "drain", lambda *_, **__: 1.0)
    monkeypatch.setattr(deploy, "singly", singly)
    rows = deploy.measure(case, tmp_path, 8, rounds=2)
    assert turns == [("torch", 3), ("model", 3), ("model-int8", 3)] * 2
    assert [row.latency_ms for row in rows] == [2.5, 3.5, 4.5]


def test_frozen_reads_no_solar_cells_for_what_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = import_module("frozen")
    monkeypatch.setattr(frozen, "solar_cells", None)
    with pytest.raises(SystemExit, match=r"there is no textures\.pk3"):
        frozen.main(["--made", "unseen", "--folder", str(tmp_path)])


@pytest.mark.parametrize("words", [["--parts", "fewer"], ["--parts", "few", "--few", "412"]])
def test_frozen_refuses_what_it_would_not_measure(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        import_module("frozen").main(words)
    assert words[-1] in capsys.readouterr().err


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_peak_is_not_that_of_the_parent() -> None:
    words = "import measure, resource; print(measure.peak_mib(), end=' '); "
    words += "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)"
    done = subprocess.run(
        [sys.executable, "-c", words], cwd=BENCHMARKS, check=True, capture_output=True, text=True
    )
    own, inherited = map(float, done.stdout.split())
    assert 0 < own < inherited


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_family_has_what_any_of_its_threads_started() -> None:
    family, started, go_on = import_module("measure").family, Queue[int](), Event()

    def start() -> None:
        with subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=PIPE
        ) as child:
            started.put(child.pid)
            go_on.wait()

    thread = Thread(target=start)
    thread.start()
    pid = started.get()
    try:
        assert pid in family(os.getpid())
    finally:
        go_on.set()
        thread.join()
    assert family(pid) == [pid]


def test_startup_runs_the_source_of_another_commit_beside_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    startup, seen = import_module("startup"), []
    with startup.source_of("HEAD") as other:
        assert (other / "onlygood" / "__init__.py").is_file()
        monkeypatch.setattr(
            startup.subprocess, "run", lambda words, env, **_: seen.append(env["PYTHONPATH"])
        )
        row, *_ = startup.measure(1, other)
    assert seen == [str(startup.ROOT / "src"), str(other)] * 2 * len(startup.commands())
    assert row.ratio == row.seconds.median / row.other.median


def test_the_page_on_lines_is_what_the_script_prints(capsys: pytest.CaptureFixture[str]) -> None:
    assert import_module("lines").main([]) == 0
    page = (BENCHMARKS.parent / "docs" / "lines.md").read_text("utf-8")
    assert capsys.readouterr().out == page + "\n", "make pages"


def test_promise_with_few_draws(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    import_module("promise").main(["--draws", "2", "--json", str(file)])
    assert json.loads(file.read_text())["draws"] == 2


def test_memory_measures_both_ways_of_keeping_pictures(tmp_path: Path) -> None:
    memory = import_module("memory")
    memory.generate(tmp_path / "good", 12)
    settings = {"size": 32, "width": 2, "batch_size": 8}
    modes = memory.modes(12, 32)
    for (mode, cache_gib), cached in zip(modes.items(), (True, False), strict=True):
        answer = memory.child(
            {
                "mode": mode,
                "cache_gib": cache_gib,
                "folder": str(tmp_path / "good"),
                "steps": 1,
                "settings": settings,
            }
        )
        row = memory.Row(**answer["row"])
        assert row.cached is cached
        assert row.n_train == row.n_calibration == 6
        assert min(row.first_read, row.trained, row.first_epoch, row.later_epoch) > 0
        assert 0 < row.peak_before_fitting_gib <= row.peak_gib


def test_plain_loop_draws_pictures_for_each_step(monkeypatch: pytest.MonkeyPatch) -> None:
    training, drawn = import_module("training"), list[int]()
    settings = {"size": 32, "width": 2, "batch_size": 2}
    draw = training.Plain.batch
    monkeypatch.setattr(training.Plain, "batch", lambda loop: drawn.append(1) or draw(loop))
    # All updates of ama's step are on the same pictures; of cbigan's each has its own.
    for method, each in (("ama", 1), ("cbigan", 2)):
        case = training.Case(name="", method=method, preset="small", settings=settings, steps=3)
        network, pictures = training.network(case), np.zeros((4, 32, 32, 3), np.uint8)
        training.plain(case, network, pictures)(3)
        assert len(drawn) == 3 * each
        drawn.clear()


def test_plain_loop_makes_the_steps_that_the_trainer_makes() -> None:
    training = import_module("training")
    settings = {"size": 32, "width": 2, "latent": 4, "batch_size": 2}
    case = training.Case(name="", method="autoencoder", preset="small", settings=settings, steps=3)
    # All alike, so that it does not matter which ones a loop picks.
    pictures = np.full((4, 32, 32, 3), 200, np.uint8)
    by_hand, method = training.network(case), training.network(case)
    by_hand.load_state_dict(method.state_dict())
    training.plain(case, by_hand, pictures)(3)
    training.ours(case, method, pictures, "float32")(3)
    before = training.network(case).state_dict()
    for name, weight in method.state_dict().items():
        torch.testing.assert_close(by_hand.state_dict()[name], weight, msg=name)
        assert not torch.equal(before[name], weight)
