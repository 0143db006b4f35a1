"""Runs kept where others look at them: in TensorBoard or MLflow, as extras.

A tracker is a `Reporter`: it passes on what it hears, and keeps it besides. Training never fails
by it: a tracker that cannot be reached any more is said so once, and then left alone.
"""

import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, final, runtime_checkable

import numpy as np
from PIL import Image

from onlygood.core.errors import ConfigError, in_a_line
from onlygood.report.content import Item, ReportContent
from onlygood.report.filling import Reported, settings_told
from onlygood.report.heatmap import overlay, strip
from onlygood.training import health
from onlygood.training.reporting import Reporter

Name = Literal["mlflow", "tensorboard"]

RUNS = Path("runs")
"""Folder of TensorBoard's runs; MLflow's place is said by its own MLFLOW_TRACKING_URI."""
EXPERIMENT = "onlygood"
"""Of MLflow, where MLFLOW_EXPERIMENT_NAME says no other."""
MLFLOW_DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # onlygood tells nobody what it does
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # of some minutes, for which training would wait
}
"""Its environment variables, where nobody has said otherwise."""
WHEN = ("stage", "step", "images", "seconds")
"""Entries of a record that say when, not what."""
FACTS = ("preset", "seed", "training_pictures_sha256", "onlygood", "device")
NUMBERS = ("n_train", "n_calibration", "images", "training_seconds")
"""What is kept of a detector's provenance, as text and as numbers."""
SEEDS = ("seed", "split_seed")
"""Numbers of a record of the bench that are no figures."""
PARAMETERS = 100
"""That MLflow takes at a time."""
PICTURE = 224
"""Side in pixels of the square that a kept picture fits in."""


@runtime_checkable
class Sink(Protocol):
    """Where a run is kept."""

    def values(self, values: Mapping[str, float], step: int) -> None:
        """Finite numbers of a step."""

    def facts(self, facts: Mapping[str, str]) -> None:
        """Settings, and what is said of the run."""

    def picture(self, name: str, picture: Image.Image) -> None:
        """A picture."""

    def file(self, path: Path) -> None:
        """A file, to be copied."""

    def close(self, done: bool) -> None:
        """The run is over; whether it came to its end."""


@final
class Tracker:
    """Passes on what it hears, and keeps it in a sink where there is one."""

    def __init__(self, reporter: Reporter, sink: Sink | None) -> None:
        self._reporter: Reporter = reporter
        self._sink: Sink | None = sink

    def start(self, words: str) -> None:
        """Passed on."""
        self._reporter.start(words)

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Passed on; `record` says the same with its step."""
        self._reporter.advance(share, images_per_second, terms)

    def note(self, words: str) -> None:
        """Passed on."""
        self._reporter.note(words)

    def finish(self) -> None:
        """Passed on."""
        self._reporter.finish()

    def record(self, record: health.Record) -> None:
        """Keep the numbers of a line of the log as `STAGE/UPDATE/TERM`."""
        self._reporter.record(record)
        values = {
            f"{record['stage']}/{name}": float(value)
            for name, value in record.items()
            if name not in WHEN and not isinstance(value, str) and math.isfinite(value)
        }
        if values:
            self._tell(lambda sink: sink.values(values, int(record["step"])))

    def keep(self, detector: Reported, content: ReportContent, page: Path | None) -> None:
        """Keep what came out: settings, verdict, threshold, unusual pictures, and the report.

        Args:
            detector: A fresh one.
            content: What `onlygood.report.filling.fit_report` says of it.
            page: The report as a file, where it was written.
        """
        decision = content.decision
        told = {"method": detector.method, "verdict": content.verdict, **settings_told(detector)}
        told |= {name: detector.provenance[name] for name in FACTS}
        numbers = {name: float(detector.provenance[name]) for name in NUMBERS}
        numbers |= {"threshold": decision.threshold, "promised_fpr": decision.promised_fpr}
        step = int(detector.provenance["steps"])

        def kept(sink: Sink) -> None:
            sink.facts({name: str(value) for name, value in told.items()})
            sink.values({f"result/{name}": value for name, value in numbers.items()}, step)
            for number, item in enumerate(content.unusual):
                if (panels := _panels(item)) is not None:
                    sink.picture(f"unusual/{number:02}", panels)
            if page is not None:
                sink.file(page)

        self._tell(kept)

    def keep_cell(self, record: Mapping[str, Any]) -> None:
        """Keep what a cell of the bench reached: its record, with each of its settings.

        Args:
            record: A line of `onlygood.evaluation.records`.
        """
        parts = {f"part_auroc/{name}": value for name, value in record["parts"].items()}
        numbers = {
            f"result/{name}": float(value)
            for name, value in {**record, **parts}.items()
            if isinstance(value, int | float) and name not in SEEDS
        }
        told = {name: v for name, v in record.items() if name in SEEDS or isinstance(v, str)}

        def kept(sink: Sink) -> None:
            sink.facts({name: str(value) for name, value in (told | record["resolved"]).items()})
            sink.values(numbers, record["steps"])

        self._tell(kept)

    def close(self, done: bool) -> None:
        """The run is over."""
        self._tell(lambda sink: sink.close(done))

    def _tell(self, what: Callable[[Sink], None]) -> None:
        if self._sink is None:
            return
        try:
            what(self._sink)
        except Exception as error:  # a full disk, a server that is gone: what libraries raise
            self._sink = None
            self._reporter.note(f"the run is no longer tracked: {in_a_line(error)}")


@contextmanager
def tracking(name: Name | None, title: str, reporter: Reporter) -> Iterator[Tracker]:
    """A tracker for one run, closed at its end.

    Args:
        name: None: nothing is kept.
        title: What the run is called.
        reporter: Hears what the tracker hears.

    Raises:
        ConfigError: the tracker cannot be reached.
        ModuleNotFoundError: its library is not installed.
    """
    try:
        sink = None if name is None else SINKS[name](title)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # as above, before there is anything to lose
        raise ConfigError(
            f"--tracker {name}: {in_a_line(error, 500)}; see docs/guides/python.md"
        ) from error
    tracker = Tracker(reporter, sink)
    try:
        yield tracker
    except BaseException:
        tracker.close(False)
        raise
    tracker.close(True)


@final
class TensorBoard:
    """Event files in a folder of their own; the report lies beside them."""

    def __init__(self, title: str) -> None:
        from tensorboardX import SummaryWriter

        name = re.sub(r"[^\w\-.]", "_", title)
        self._folder = RUNS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
        self._writer: Any = SummaryWriter(logdir=str(self._folder))

    def values(self, values: Mapping[str, float], step: int) -> None:
        """As curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def facts(self, facts: Mapping[str, str]) -> None:
        """As a table of text."""
        rows = [f"| {name} | {value} |" for name, value in facts.items()]
        self._writer.add_text("settings", "\n".join(["| | |", "| -- | -- |", *rows]))

    def picture(self, name: str, picture: Image.Image) -> None:
        """As an image."""
        self._writer.add_image(name, np.asarray(picture), dataformats="HWC")

    def file(self, path: Path) -> None:
        """Beside the events."""
        shutil.copyfile(path, self._folder / path.name)

    def close(self, done: bool) -> None:
        """Write what is in memory."""
        self._writer.close()


@final
class MLflow:
    """A run of MLflow, wherever MLFLOW_TRACKING_URI leads."""

    def __init__(self, title: str) -> None:
        for variable, value in MLFLOW_DEFAULTS.items():
            os.environ.setdefault(variable, value)
        from mlflow.tracking import MlflowClient

        self._client: Any = MlflowClient()
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self._client.get_experiment_by_name(experiment)
        number = found.experiment_id if found else self._client.create_experiment(experiment)
        self._run: str = self._client.create_run(number, run_name=title).info.run_id

    def values(self, values: Mapping[str, float], step: int) -> None:
        """As metrics."""
        from mlflow.entities import Metric

        now = round(1000 * time.time())
        metrics = [Metric(_plain(name), value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def facts(self, facts: Mapping[str, str]) -> None:
        """As parameters."""
        from mlflow.entities import Param

        found = [Param(_plain(name), value) for name, value in facts.items()]
        for first in range(0, len(found), PARAMETERS):
            self._client.log_batch(self._run, params=found[first : first + PARAMETERS])

    def picture(self, name: str, picture: Image.Image) -> None:
        """As an artefact."""
        with tempfile.TemporaryDirectory() as temporary:
            path = Path(temporary, f"{Path(name).name}.png")
            picture.save(path)
            self._client.log_artifact(self._run, path, str(Path(name).parent))

    def file(self, path: Path) -> None:
        """As an artefact."""
        self._client.log_artifact(self._run, path)

    def close(self, done: bool) -> None:
        """End the run."""
        self._client.set_terminated(self._run, "FINISHED" if done else "FAILED")


SINKS: dict[Name, Callable[[str], Sink]] = {"mlflow": MLflow, "tensorboard": TensorBoard}


def _panels(item: Item) -> Image.Image | None:
    """A picture, as it is given back, and with its heat map, side by side, where there are such."""
    if item.picture is None:
        return None
    panels = [item.picture.convert("RGB")]
    if item.reconstruction is not None:
        panels.append(item.reconstruction.convert("RGB"))
    if item.map is not None:
        outline = item.decision != "normal"
        panels.append(overlay(np.asarray(panels[0]), item.map, outline=outline))
    for panel in panels:
        panel.thumbnail((PICTURE, PICTURE))
    return strip(*panels)


def _plain(name: str) -> str:
    """A name that MLflow takes."""
    return re.sub(r"[^\w\-. /]", "_", name)
