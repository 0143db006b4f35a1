"""The bench: methods on the tasks of protocols, cell by cell, one line of figures for each.

A cell that has its line already is not run again, so an interrupted bench goes on where it was, in
the middle of a training where there is a checkpoint; nor is one that another process is at. Nothing
is selected by the test pictures.
"""

import hashlib
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from onlygood.core.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    OtherBudget,
    TrainingInterrupted,
)
from onlygood.core.files import held, remove_empty
from onlygood.core.resolving import Resolved, to_json
from onlygood.core.text import fixed
from onlygood.data.layout import Labelled
from onlygood.detector.detector import Detector, device_name
from onlygood.detector.learning import (
    learn,
    package_of,
    require_uses_anomalous,
    settings_of,
    takes_steps,
    text_of,
)
from onlygood.detector.raw_scores import RawScorer, joined
from onlygood.evaluation import metrics
from onlygood.evaluation.evaluate import evaluate
from onlygood.evaluation.protocols import PROTOCOLS, Task, Tasks
from onlygood.evaluation.records import (
    DIAGNOSTIC,
    NO_STEPS,
    Key,
    Line,
    append,
    key_of,
    read,
    schedule,
)
from onlygood.networks.sharing import SharedFeatures, sharing
from onlygood.tracking import Name, tracking
from onlygood.training import distributed
from onlygood.training.reporting import Once, Reporter, Silent
from onlygood.training.trainer import CHECKPOINT

LIBRARIES = ("onlygood", "torch", "numpy", "pillow", "scikit-learn")
"""Of which a line tells the version."""
TIMES = ("training_seconds", "images_per_second")
"""What a line does not tell where features were shared: another cell may have paid for them."""
LOCK = "lock"
"""File beside the checkpoints of a cell that who runs it holds."""
POINT = ("steps", "images", "auroc", "parts")
"""What is kept of each point of a learning curve."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: all that its figures depend on, but for the machine."""

    method: str
    preset: str
    settings: dict[str, object]
    """What was said beyond the preset."""
    dataset: str
    protocol: str
    normal: str
    """The class that is normal."""
    seed: int
    """Of training; what the protocol draws has a seed of its own."""

    @cached_property
    def resolved(self) -> Resolved:
        """Complete settings.

        Raises:
            ConfigError: an unknown method, preset or setting, or a value out of its range.
        """
        return settings_of(self.method, self.preset, self.settings)

    @property
    def complete(self) -> dict[str, object]:
        """Every setting as JSON data, wherever it came from; and the hash of a method's file.

        That has the name of the file, `mine.py`, which no setting can have.
        """
        said = {name: value for part in self.resolved for name, value in to_json(part).items()}
        return said | text_of(self.method)

    @property
    def config_hash(self) -> str:
        """Of all settings that are not at their default: 12 hexadecimal digits.

        So that a field that is new, and does nothing by default, makes no new cells. A file that
        has changed makes none either: it is like a default that has.
        """
        usual = {k: v for part in self.resolved for k, v in to_json(type(part)()).items()}
        complete = self.complete
        chosen = {name: complete[name] for name in usual if complete[name] != usual[name]}
        return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def identity(self) -> Line:
        """The head of its line."""
        return {
            "method": self.method,
            "config_hash": self.config_hash,
            "dataset": self.dataset,
            "protocol": self.protocol,
            "class": self.normal,
            "seed": self.seed,
        }

    @property
    def key(self) -> Key:
        """What tells cells apart."""
        return key_of(self.identity)

    @property
    def title(self) -> str:
        """What its run is called where it is tracked; two cells have two."""
        where = f"{self.dataset} {self.protocol} {self.normal}"
        return f"{where} {self.method} {self.preset} {self.config_hash} seed {self.seed}"

    @property
    def words(self) -> str:
        """For people."""
        where = f"{self.dataset} {self.protocol} {self.normal}"
        return f"{where}: {self.method}:{self.preset} seed {self.seed}"


class Place(NamedTuple):
    """Where a training leaves its checkpoints."""

    folder: Path | None
    resume: bool = False


class Due(NamedTuple):
    """A cell that has no line yet."""

    cell: Cell
    curve: int
    """At how many growing budgets to evaluate it."""
    words: str
    """Which one it is of how many, for people."""
    folder: Path
    """For its checkpoints."""


def run(
    cells: Sequence[Cell],
    tasks: Tasks,
    results: Path,
    *,
    curve: int = 0,
    share_features: bool = False,
    tracker: Name | None = None,
    reporter: Reporter | None = None,
    say: Callable[[str], None] = lambda words: None,
) -> Iterator[Line]:
    """Run every cell that has no line yet, append its line to `results`, and give it.

    Of a cell that another process is at nothing is given: several processes share the cells.

    Args:
        cells: all of one protocol and data set; a cell is run in the order it is named.
        tasks: what the protocol makes of the data set.
        results: file of lines; checkpoints of the cell that runs lie beside it.
        curve: at how many growing budgets to evaluate, the last the cell's own; 0: no curve.
        share_features: what a frozen backbone sees in a picture is computed once for all cells
            that follow each other; then lines tell no times.
        tracker: where each cell that is run is kept as a run of its own; see `tracking`.
        reporter: hears of each training.
        say: hears of each cell.

    Raises:
        ConfigError: the settings of a cell are wrong, or its protocol gives known anomalous
            pictures and its method cannot use them; before anything is run. Or the tracker cannot
            be reached.
        DataError: a picture cannot be read; then it would be another benchmark.
        TrainingDiverged: a loss became NaN or ran away.
        TrainingInterrupted: a signal stopped the run; the same call goes on with this cell.
    """
    # Under torchrun all processes run the same cells, and know of each other from here on.
    distributed.start()
    task_of = lru_cache(1)(tasks.task)  # Cells that follow are mostly of one class.
    features = SharedFeatures() if share_features else None
    for one in due(cells, results, curve=curve, say=say):
        cell = one.cell
        with _at(one) as ours:
            if not ours:
                say(f"{one.words}: another process is at it")
                continue
            # That one may have ended between our look at the records and the lock.
            if distributed.world() == 1 and _is_there(cell, one.curve, _lines(results)):
                say(f"{one.words}: is there")
                continue
            say(f"{one.words}: {_schedule(cell, _takes_steps(cell.method, cell.resolved))}")
            task = task_of(cell.normal)
            kept = tracking(tracker, cell.title, reporter or Silent())
            try:
                with sharing(features), kept as heard:
                    line = run_cell(cell, task, curve=one.curve, run_dir=one.folder, reporter=heard)
                    if share_features:
                        line |= dict.fromkeys(TIMES)
                    heard.keep_cell(line)
            except TrainingInterrupted as error:
                raise TrainingInterrupted(
                    f"stopped in cell {one.words}; repeat the command to go on with it"
                ) from error
            # One writes what all may read next.
            if distributed.rank() == 0:
                record(results, one, line)
            distributed.wait()
        say(f"{one.words}: {result_of(line)}")
        yield line


@contextmanager
def _at(one: Due) -> Iterator[bool]:
    """Keep other runs off a cell; tells whether it is ours.

    Processes of `torchrun` are one run, and none keeps another off.
    """
    if distributed.world() > 1:
        yield True
        return
    lock = one.folder / LOCK
    with suppress(OSError):
        lock.parent.mkdir(parents=True, exist_ok=True)
    with held(lock) as ours:
        try:
            yield ours
        finally:
            if ours:
                lock.unlink(missing_ok=True)
                remove_empty(one.folder)
                remove_empty(one.folder.parent)


def due(
    cells: Sequence[Cell],
    results: Path,
    *,
    curve: int = 0,
    say: Callable[[str], None] = lambda words: None,
) -> Iterator[Due]:
    """The cells that have no line in `results` yet, in their order; `say` hears of the others.

    What another process has done until a cell's turn comes is seen.

    Raises:
        ConfigError: as `run`, before the first.
    """
    for cell in cells:
        if PROTOCOLS[cell.protocol].known:
            require_uses_anomalous(cell.method)
    curves = [_curve_of(cell, curve) for cell in cells]

    done = _lines(results)
    for number, (cell, points) in enumerate(zip(cells, curves, strict=True), 1):
        words = f"{number}/{len(cells)} {cell.words}"
        # Processes of `torchrun` must agree, and may not read at the same time.
        if not _is_there(cell, points, done) and distributed.world() == 1:
            done = _lines(results)
        if _is_there(cell, points, done):
            say(f"{words}: is there")
            continue
        name = hashlib.sha256(repr(cell.key).encode()).hexdigest()
        yield Due(cell, points, words, results.with_suffix(".run") / name)


def _is_there(cell: Cell, points: int, done: Mapping[Key, Line]) -> bool:
    line = done.get(cell.key)
    return line is not None and _has_curve(line, points) and is_of(cell, line)


def _has_curve(line: Line, points: int) -> bool:
    """Whether a line has so many points of a curve, or others between them; 0: none is wanted."""
    there = len(line["curve"]["points"]) if "curve" in line else 0
    return not points or (there > 0 and there % points == 0)


def _lines(results: Path) -> dict[Key, Line]:
    return {key_of(line): line for line in read(results)}


def record(results: Path, of: Due, line: Line) -> None:
    """Append the line of a cell, whose checkpoints have served."""
    append(results, line)
    shutil.rmtree(of.folder, ignore_errors=True)
    remove_empty(of.folder.parent)


def result_of(line: Line) -> str:
    """What came out, in short."""
    return f"AUROC {fixed(line['auroc'], 4)}, {line['verdict']}"


def run_cell(
    cell: Cell,
    task: Task,
    *,
    curve: int = 0,
    run_dir: Path | None = None,
    reporter: Reporter | None = None,
) -> Line:
    """Train and test one cell.

    Args:
        cell: what to run.
        task: of its protocol, data set and class.
        curve: at how many growing budgets to evaluate; each goes on from the one before, or begins
            anew where the whole budget counts: several stages share it, learning rates fall by it.
        run_dir: folder for checkpoints; a training that was interrupted goes on from there. One
            with a curve begins anew, and so does one whose checkpoint another version has left.
        reporter: hears of the training.

    Raises:
        As `run`.
    """
    tested = _calibrated if task.calibrates else _trained
    if not curve:
        if run_dir is not None and (run_dir / CHECKPOINT).exists():
            with suppress(ModelFileError, ConfigError):
                return _line(cell, task, tested(cell, task, Place(run_dir, True), reporter))
        return _line(cell, task, tested(cell, task, Place(run_dir), reporter))
    found: Line = {}
    points: list[Line] = []
    budget, total = _budget(cell)
    # Every budget would say anew how many pictures there are.
    reporter = Once(reporter or Silent())
    with TemporaryDirectory() as temporary:
        # Each process of `torchrun` goes on from what one of them has written.
        folder = run_dir or Path(temporary)
        for part in range(1, curve + 1):
            shorter = replace(cell, settings=cell.settings | {budget: total * part // curve})
            try:
                found = tested(shorter, task, Place(folder, part > 1), reporter)
            except OtherBudget:
                found = tested(shorter, task, Place(folder), reporter)
            points.append({name: found[name] for name in POINT})
    return _line(cell, task, found) | {"curve": {"note": DIAGNOSTIC, "points": points}}


def _line(cell: Cell, task: Task, found: Line) -> Line:
    return {
        **cell.identity,
        "preset": cell.preset,
        "settings": {name: str(value) for name, value in cell.settings.items()},
        "schedule": _schedule(cell, bool(found["steps"])),
        **found,
        "split_seed": task.split_seed,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in LIBRARIES},
            **package_of(cell.method),
        },
        "commit": commit(),
        "resolved": cell.complete,
    }


def _schedule(cell: Cell, steps: bool) -> str:
    """How long it trains, in words; `steps`: whether it trains in such at all."""
    training = cell.resolved.training
    if not steps:
        return NO_STEPS  # Whatever was said for all methods of a command.
    if not training.ends:
        return f"budgets of its stages in batches of {training.batch_size} images"
    return schedule(training)


def is_of(cell: Cell, line: Line) -> bool:
    """Whether a line of this key has its settings still.

    A default, or the file of the method, may have changed since.
    """
    complete = cell.complete
    return all(complete.get(name, value) == value for name, value in line["resolved"].items())


def _trained(cell: Cell, task: Task, place: Place, reporter: Reporter | None) -> Line:
    """Train on all normal pictures and compare raw scores with labels."""
    learned = learn(
        cell.method,
        cell.resolved,
        task.train,
        seed=cell.seed,
        anomalous=task.known,
        run_dir=place.folder,
        resume=place.resume,
        reporter=reporter,
    )
    if learned.unreadable:
        raise _unreadable(learned.unreadable[0].reason)
    history, device = learned.history, learned.scorer.device
    began = time.perf_counter()
    totals, parts = _scores(learned.scorer, task.test)
    seconds = time.perf_counter() - began
    labels, kinds = task.test.labels, task.test.kinds
    return {
        "steps": history.steps,
        "images": history.images,
        "training_seconds": round(history.seconds, 3),
        "auroc": metrics.auroc(labels, totals),
        "parts": {name: metrics.auroc(labels, values) for name, values in parts.items()},
        "average_precision": metrics.average_precision(labels, totals),
        "f1_max": metrics.f1_max(labels, totals),
        "max_balanced_accuracy": metrics.max_balanced_accuracy(labels, totals),
        "max_balanced_accuracy_by_kind": metrics.max_balanced_accuracy_by_kind(kinds, totals),
        "fpr_at_95_tpr": metrics.fpr_at_tpr(labels, totals),
        "images_per_second": len(totals) / seconds,
        "n_train": learned.n_train,
        "n_known": learned.n_anomalous,
        "n_normal": int((~labels).sum()),
        "n_anomalous": int(labels.sum()),
        "verdict": history.verdict.words,
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "precision": learned.precision,
    }


def _calibrated(cell: Cell, task: Task, place: Place, reporter: Reporter | None) -> Line:
    """Fit and evaluate as a user would do it, with the calibration out of the normal pictures."""
    detector = Detector.fit(
        cell.method,
        task.train,
        preset=cell.preset,
        seed=cell.seed,
        settings=cell.settings,
        anomalous=task.known,
        run_dir=place.folder,
        resume=place.resume,
        reporter=reporter,
    )
    provenance = detector.provenance
    evaluation = evaluate(detector, task.test)
    for picture in provenance["unreadable"]:
        raise _unreadable(picture["reason"])
    for result in evaluation.results:
        if result.error is not None:
            raise _unreadable(result.error)
    return {
        **{name: provenance[name] for name in ("steps", "images", "training_seconds")},
        "auroc": evaluation.auroc,
        "parts": evaluation.parts,
        "average_precision": evaluation.average_precision,
        "f1_max": evaluation.f1_max,
        "max_balanced_accuracy": evaluation.max_balanced_accuracy,
        "max_balanced_accuracy_by_kind": evaluation.max_balanced_accuracy_by_kind,
        "fpr_at_95_tpr": evaluation.fpr_at_95_tpr,
        "false_positive_rate": evaluation.false_positive_rate,
        "true_positive_rate": evaluation.true_positive_rate,
        "promised_fpr": detector.calibration.promised_fpr,
        "pixel_auroc": evaluation.pixel_auroc,
        "pixel_average_precision": evaluation.pixel_average_precision,
        "pixel_f1_max": evaluation.pixel_f1_max,
        "aupro": evaluation.aupro,
        "aupro_at_5": evaluation.aupro_at_5,
        "images_per_second": evaluation.images_per_second,
        **{name: provenance[name] for name in ("n_train", "n_calibration")},
        "n_known": provenance["n_anomalous"],
        "n_normal": evaluation.n_normal,
        "n_anomalous": evaluation.n_anomalous,
        "verdict": detector.verdict,
        **{name: provenance[name] for name in ("device", "threads", "precision")},
    }


def _scores(
    scorer: RawScorer, test: Labelled
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Raw scores of all pictures, and their parts."""
    found = []
    for batch in scorer.load(test.source):
        for item in batch:
            if item.error is not None:
                raise _unreadable(item.error)
        found.append(scorer.score(batch, maps=False))
    return joined(found)


def _unreadable(reason: str) -> DataError:
    return DataError(f"{reason}; without this picture the figures would be of another benchmark")


def _budget(cell: Cell) -> tuple[str, int]:
    """The one budget of a cell that is counted, and how much it is."""
    training = cell.resolved.training
    counted = {
        name: getattr(training, name) for name in ("steps", "epochs") if getattr(training, name)
    }
    if len(counted) != 1 or training.images or training.minutes:
        raise ConfigError(
            f"a learning curve needs a budget in steps or in epochs alone; {cell.method} has "
            f"{_schedule(cell, True)}; say --set steps=1000"
        )
    return next(iter(counted.items()))


_steps: dict[str, bool] = {}
"""What `_takes_steps` has found, by method and settings."""


def _takes_steps(method: str, resolved: Resolved) -> bool:
    """As `takes_steps`, whose networks are built once for all classes and seeds."""
    settings = json.dumps([method, text_of(method), *map(to_json, resolved)])
    if settings not in _steps:
        _steps[settings] = takes_steps(method, resolved)
    return _steps[settings]


def _curve_of(cell: Cell, curve: int) -> int:
    """At how many budgets to evaluate a cell: `curve`, or 0 for one that takes no steps.

    Raises:
        ConfigError: its settings are wrong, or it has no budget that `curve` divides.
    """
    resolved = cell.resolved
    if not curve or not _takes_steps(cell.method, resolved):
        return 0
    budget, total = _budget(cell)
    if total % curve:
        raise ConfigError(
            f"a learning curve at {curve} budgets needs {budget} that {curve} divides; "
            f"{cell.method} has {total:,}; say --set {budget}={max(total // curve, 1) * curve}"
        )
    return curve


def commit() -> str:
    """The commit of the source, marked where it has changes; elsewhere the version."""
    folder = Path(__file__).parent.parent

    def git(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True)

    try:
        # The folder of an installed package may lie in the repository of somebody else.
        if git("ls-files", "--error-unmatch", "__init__.py").returncode:
            return version("onlygood")
        changed = git("status", "--porcelain", "--", ".").stdout
        return git("rev-parse", "--short", "HEAD").stdout.strip() + ("-dirty" if changed else "")
    except OSError:
        return version("onlygood")
