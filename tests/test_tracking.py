import os
import struct
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onlygood.cli import main
from onlygood.core.errors import ConfigError
from onlygood.detector import Detector
from onlygood.evaluation.records import read
from onlygood.report.content import Item
from onlygood.report.filling import fit_report
from onlygood.report.heatmap import overlay
from onlygood.tracking import PICTURE, MLflow, Name, Tracker, _panels, tracking
from onlygood.training.health import Record
from onlygood.training.reporting import Silent
from tests import parts
from tests.evaluation.lines import line

NET = {"size": 32, "width": 2, "latent": 4, "batch_size": 4, "steps": 4, "log_every": 2}


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "mlruns").as_uri())
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")


def fitted(name: Name) -> Detector:
    """A run that is tracked, with its report."""
    with tracking(name, "nuts", Silent()) as tracker:
        pictures = list(parts.normal(120))
        detector = Detector.fit("autoencoder", pictures, settings=NET, reporter=tracker)
        page = Path("nuts.html")
        page.write_text("the report")
        tracker.keep(detector, fit_report(detector), page)
    return detector


def curve(detector: Detector, name: str) -> list[tuple[int, float]]:
    return [(int(r["step"]), float(r[name])) for r in detector.history if name in r]


def test_tensorboard_shows_what_the_log_says() -> None:
    from tensorboardX.proto.event_pb2 import Event

    detector = fitted("tensorboard")
    [folder] = Path("runs").glob("nuts-*")
    assert (folder / "nuts.html").read_text() == Path("nuts.html").read_text() == "the report"
    [file] = folder.glob("events.*")
    content, found, place = file.read_bytes(), {}, 0
    while place < len(content):  # a length and its checksum, an event and its checksum
        [length] = struct.unpack_from("<Q", content, place)
        event = Event.FromString(content[place + 12 : place + 12 + length])
        for value in event.summary.value:
            found.setdefault(value.tag, []).append((event.step, value))
        place += 16 + length
    stage = detector.history[-1]["stage"]
    for term in ("autoencoder/reconstruction", "autoencoder/gradient_norm", "validation/total"):
        name = next(key for key in detector.history[0] | detector.history[-1] if key == term)
        shown = [(step, value.simple_value) for step, value in found[f"{stage}/{name}"]]
        assert shown == [(s, pytest.approx(v)) for s, v in curve(detector, name)]
    [(step, threshold)] = found["result/threshold"]
    assert step == NET["steps"]
    assert threshold.simple_value == pytest.approx(detector.calibration.threshold)
    [(_, settings)] = found["settings/text_summary"]
    assert b"| latent | 4 |" in settings.tensor.string_val[0]
    [(_, picture)] = found["unusual/00"]
    # The picture, as it is given back, and with its map, 8 pixels apart.
    assert (picture.image.width, picture.image.height) == (3 * 20 + 2 * 8, 24)


def test_mlflow_holds_what_the_log_says() -> None:
    from mlflow.tracking import MlflowClient

    detector = fitted("mlflow")
    client = MlflowClient()
    experiment = client.get_experiment_by_name("onlygood")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("nuts", "FINISHED")
    name = "autoencoder/reconstruction"
    history = client.get_metric_history(run.info.run_id, f"{detector.history[-1]['stage']}/{name}")
    assert [(m.step, m.value) for m in history] == curve(detector, name)
    assert all(abs(m.timestamp / 1000 - time.time()) < 600 for m in history)
    assert run.data.metrics["result/threshold"] == detector.calibration.threshold
    assert (run.data.params["latent"], run.data.params["verdict"]) == ("4", detector.verdict)
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["nuts.html", "unusual"]
    pictures = client.list_artifacts(run.info.run_id, "unusual")
    assert len(pictures) == len(detector.calibrated_on.unusual)
    file = client.download_artifacts(run.info.run_id, pictures[0].path)
    assert np.asarray(Image.open(file)).shape == (24, 76, 3)


def test_each_cell_of_the_bench_is_a_run() -> None:
    from mlflow.tracking import MlflowClient

    parts.write(parts.normal(60), Path("nuts/train/good"))
    parts.write(parts.normal(3, seed=3), Path("nuts/test/good"))
    parts.write(parts.scratched(3), Path("nuts/test/scratched"))
    command = "bench run --protocol folder --dataset nuts --folder nuts --methods pca --quiet"
    sweep = ["--sweep", "components=2,3", "--tracker", "mlflow"]
    assert main([*command.split(), *sweep]) == main([*command.split(), *sweep]) == 0
    records = {
        str(line["resolved"]["components"]): line for line in read(*Path("results").iterdir())
    }
    client = MlflowClient()
    experiment = client.get_experiment_by_name("onlygood")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    # Those that have their line are not run again.
    assert {run.data.params["components"] for run in runs} == set(records) == {"2", "3"}
    for run in runs:
        record = records[run.data.params["components"]]
        assert run.info.status == "FINISHED"
        assert run.data.metrics["result/auroc"] == record["auroc"]
        [(part, auroc), *_] = record["parts"].items()
        assert run.data.metrics[f"result/part_auroc/{part}"] == auroc
        assert run.data.metrics["result/n_train"] == record["n_train"]
        assert run.data.params["dataset"] == record["dataset"] != "nuts"
        assert run.info.run_name == (
            f"{record['dataset']} folder all pca default {record['config_hash']} seed 0"
        )


def test_a_run_that_fails_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "ours")
    with pytest.raises(ZeroDivisionError), tracking("mlflow", "nuts", Silent()):
        raise ZeroDivisionError
    client = MlflowClient()
    experiment = client.get_experiment_by_name("ours")
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id])[0].info.status == "FAILED"


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.told: dict[str, str] = {}
        self.numbers: dict[str, tuple[int, float]] = {}
        self.pictures: dict[str, tuple[int, int]] = {}

    def values(self, values: Mapping[str, float], step: int) -> None:
        self.numbers |= {name: (step, value) for name, value in values.items()}

    def facts(self, facts: Mapping[str, str]) -> None:
        self.told |= facts

    def picture(self, name: str, picture: Image.Image) -> None:
        self.pictures[name] = picture.size

    def file(self, path: Path) -> None:
        pytest.fail(f"there is no {path}")

    def close(self, done: bool) -> None:
        pytest.fail("not asked for")


def test_what_a_detector_has_learnt_from_is_kept_and_no_report_that_is_none() -> None:
    detector, kept = parts.fit(parts.normal(12), seed=3), Kept()
    Tracker(Silent(), kept).keep(detector, fit_report(detector), None)
    provenance = detector.provenance
    names = ("preset", "seed", "training_pictures_sha256", "onlygood", "device")
    assert {name: kept.told[name] for name in names} == {n: str(provenance[n]) for n in names}
    assert kept.numbers["result/n_train"] == (0, provenance["n_train"])
    assert list(kept.pictures) == [f"unusual/{i:02}" for i in range(len(kept.pictures))] != []


def test_of_a_cell_seeds_are_no_figures() -> None:
    kept = Kept()
    Tracker(Silent(), kept).keep_cell(line(0.9, seed=3, split_seed=4))
    assert (kept.told["seed"], kept.told["split_seed"], kept.told["alpha"]) == ("3", "4", "0.9")
    assert kept.numbers["result/auroc"] == (10, 0.9)
    assert kept.numbers["result/part_auroc/features"] == (10, 0.25)
    assert not {"result/seed", "result/split_seed"} & set(kept.numbers)


def test_what_is_kept_of_a_picture_is_small_and_marks_what_is_called_anomalous() -> None:
    picture = np.full((600, 300, 3), 100, np.uint8)
    heat = np.zeros((600, 300), np.float32)
    heat[:300] = 1.5
    found = {}
    for decision in ("normal", "anomalous"):
        item = Item(name="a", decision=decision, picture=Image.fromarray(picture), map=heat)
        panels = _panels(item)
        assert panels is not None and panels.size == (2 * 112 + 8, PICTURE)
        marked = overlay(picture, heat, outline=decision != "normal")
        marked.thumbnail((PICTURE, PICTURE))
        found[decision] = np.asarray(panels)[:, -112:]
        np.testing.assert_array_equal(found[decision], np.asarray(marked))
    assert (found["normal"] != found["anomalous"]).any()
    assert _panels(Item(name="a")) is None


def test_a_tracker_passes_on_what_it_hears() -> None:
    heard: list[Any] = []

    class Hearing:
        def start(self, words: str) -> None:
            heard.append(words)

        def advance(self, share: float, rate: float, terms: Mapping[str, float]) -> None:
            heard.append((share, rate, terms))

        def record(self, record: Record) -> None:
            heard.append(record)

        def note(self, words: str) -> None:
            heard.append(words)

        def finish(self) -> None:
            heard.append(None)

    record: Record = {"stage": "train", "step": 1, "images": 4, "seconds": 0.1, "one/loss": 0.5}
    tracker = Tracker(Hearing(), None)
    tracker.start("begins")
    tracker.advance(0.5, 7.0, {"loss": 1.0})
    tracker.record(record)
    tracker.note("a sentence")
    tracker.finish()
    assert heard == ["begins", (0.5, 7.0, {"loss": 1.0}), record, "a sentence", None]


def test_mlflow_takes_so_many_settings_at_a_time() -> None:
    class Client:
        taken: list[int] = []  # noqa: RUF012

        def log_batch(self, run: str, params: list[Any]) -> None:
            self.taken.append(len(params))

    sink = object.__new__(MLflow)
    sink._client, sink._run = Client(), "it"
    sink.facts({f"setting {i}": "1" for i in range(250)})
    assert Client.taken == [100, 100, 50]


def test_the_folder_of_a_run_has_a_name_that_every_file_system_takes() -> None:
    with tracking("tensorboard", "nuts@1/old: seed 0", Silent()):
        pass
    [folder] = Path("runs").iterdir()
    assert folder.name.startswith("nuts_1_old__seed_0-2")


class Broken:
    """A sink that has no room; remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def values(self, *_: object) -> None:
        self.asked.append("values")
        raise OSError(28, "No space left on device")

    facts = picture = file = close = values


def test_training_goes_on_without_its_tracker() -> None:
    notes: list[str] = []

    class Noting(Silent):
        def note(self, words: str) -> None:
            notes.append(words)

    sink = Broken()
    tracker = Tracker(Noting(), sink)
    record: Record = {"stage": "train", "step": 1, "images": 4, "seconds": 0.1, "one/loss": 0.5}
    tracker.record({"stage": "train", "step": 0, "one/loss": float("nan")})  # nothing to keep
    assert sink.asked == []
    tracker.record(record)
    tracker.record(record)
    tracker.close(True)
    assert sink.asked == ["values"]
    assert notes == ["the run is no longer tracked: [Errno 28] No space left on device"]


def test_a_tracker_that_cannot_be_reached_is_said_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nowhere://x")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "7")
    with pytest.raises(ConfigError, match=r"^--tracker mlflow: .*nowhere"):
        with tracking("mlflow", "nuts", Silent()):
            pytest.fail("went on")
    # What the user has said holds.
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "7"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_nothing_is_imported_that_is_not_used(tmp_path: Path) -> None:
    parts.write(parts.normal(20), tmp_path / "good")
    check = (
        "import sys\n"
        "from onlygood.cli import main\n"
        "words = ['fit', 'pca', 'good', '-o', 'm.safetensors', '--set', 'components=2']\n"
        "assert main([*words, '--no-report', '--quiet']) == 0\n"
        "assert not {'mlflow', 'tensorboardX', 'tensorboard'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
