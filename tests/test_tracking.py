import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.cli import main
from onlygood.core.errors import ConfigError
from onlygood.detector import Detector
from onlygood.evaluation.records import read
from onlygood.report.filling import fit_report
from onlygood.tracking import Name, Tracker, tracking
from onlygood.training.health import Record
from onlygood.training.reporting import Silent
from tests import parts

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
    assert (folder / "nuts.html").read_text() == "the report"
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
    [(_, threshold)] = found["result/threshold"]
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


def test_a_run_that_fails_is_marked() -> None:
    from mlflow.tracking import MlflowClient

    with pytest.raises(ZeroDivisionError), tracking("mlflow", "nuts", Silent()):
        raise ZeroDivisionError
    client = MlflowClient()
    experiment = client.get_experiment_by_name("onlygood")
    assert experiment is not None
    assert client.search_runs([experiment.experiment_id])[0].info.status == "FAILED"


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
    with pytest.raises(ConfigError, match=r"^--tracker mlflow: .*nowhere"):
        with tracking("mlflow", "nuts", Silent()):
            pytest.fail("went on")


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
