"""How well are defective solar cells found? Methods, module types and seeds, cell by cell.

Each cell is fitted and evaluated as a user would do it, on the split of `onlygood data`, and adds
one line to the results. A cell that is there already, with equal settings, is not run again, so an
interrupted run goes on where it was. Nothing is selected by the test pictures.

    python benchmarks/elpv.py --folder elpv --methods cbigan autoencoder --set steps=2000
    python benchmarks/elpv.py --table
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from measure import ROOT, commit, table, versions
from onlygood import METHODS, Detector
from onlygood.core.errors import ConfigError, OnlygoodError, TrainingInterrupted
from onlygood.core.settings import Training
from onlygood.data.readers import write_dataset
from onlygood.evaluation.evaluate import Evaluation, evaluate
from onlygood.settings import Resolved, parse_assignment, resolve, to_json

DATASETS = ("elpv-mono", "elpv-poly")
RESULTS = ROOT / "results" / "elpv.jsonl"
DIAGNOSTIC = "diagnostic, selects nothing"

Line = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run: all that its figures depend on, but for the machine."""

    method: str
    dataset: str
    seed: int
    preset: str
    settings: dict[str, object]
    """What was said beyond the preset."""

    @property
    def resolved(self) -> Resolved:
        """Complete settings."""
        cls = METHODS[self.method]
        return resolve(
            self.method,
            cls.config_class,
            cls.presets,
            preset=self.preset,
            overrides=self.settings,
        )

    @property
    def config_hash(self) -> str:
        """Of all settings, wherever they came from: 12 hexadecimal digits."""
        parts = [to_json(part) for part in self.resolved]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def key(self) -> tuple[str, str, str, int]:
        """What tells cells apart."""
        return self.method, self.config_hash, self.dataset, self.seed

    def fit(self, pictures: Path, **options: Any) -> Detector:
        """Fit it; `options` as of `Detector.fit`, `settings` in addition to the cell's own."""
        settings = self.settings | options.pop("settings", {})
        return Detector.fit(
            self.method, pictures, preset=self.preset, seed=self.seed, settings=settings, **options
        )


def run(cell: Cell, pictures: Path, curve: int) -> Line:
    """Fit and evaluate one cell; with `curve`, at so many budgets on the way, the last its own."""
    points: list[dict[str, Any]] = []
    line: Line = {}
    for detector in growing(cell, pictures, curve) if curve else [cell.fit(pictures)]:
        line = line_of(cell, detector, evaluate(detector, pictures))
        points.append({name: line[name] for name in ("steps", "images", "auroc", "parts")})
    return line | ({"curve": {"note": DIAGNOSTIC, "points": points}} if curve else {})


def growing(cell: Cell, pictures: Path, parts: int) -> Iterator[Detector]:
    """The detectors that one run makes at growing budgets; resuming equals not having stopped."""
    steps = cell.resolved.training.steps
    with tempfile.TemporaryDirectory() as run_dir:
        for part in range(1, parts + 1):
            detector = cell.fit(
                pictures,
                settings={"steps": steps * part // parts, "checkpoint_every": steps // parts},
                run_dir=Path(run_dir),
                resume=part > 1,
            )
            yield detector
            if not detector.provenance["steps"]:
                return  # This method learns without steps.


def line_of(cell: Cell, detector: Detector, evaluation: Evaluation) -> Line:
    """What is kept of a cell."""
    provenance = detector.provenance
    return {
        "method": cell.method,
        "config_hash": cell.config_hash,
        "dataset": cell.dataset,
        "protocol": "elpv",
        "seed": cell.seed,
        "preset": cell.preset,
        "settings": {name: str(value) for name, value in cell.settings.items()},
        "schedule": schedule(cell.resolved.training),
        "steps": provenance["steps"],
        "images": provenance["images"],
        "training_seconds": provenance["training_seconds"],
        "auroc": evaluation.auroc,
        "parts": evaluation.parts,
        "average_precision": evaluation.average_precision,
        "max_balanced_accuracy": evaluation.max_balanced_accuracy,
        "fpr_at_95_tpr": evaluation.fpr_at_95_tpr,
        "false_positive_rate": evaluation.false_positive_rate,
        "true_positive_rate": evaluation.true_positive_rate,
        "promised_fpr": detector.calibration.promised_fpr,
        "images_per_second": evaluation.images_per_second,
        "n_train": provenance["n_train"],
        "n_calibration": provenance["n_calibration"],
        "n_normal": evaluation.n_normal,
        "n_anomalous": evaluation.n_anomalous,
        "verdict": detector.verdict,
        "device": provenance["device"],
        "threads": provenance["threads"],
        "precision": provenance["precision"],
        "versions": versions(),
        "commit": commit(),
    }


def schedule(training: Training) -> str:
    """The budgets in words; the first that is used up ends the run."""
    budgets = {
        f"{training.steps:,} steps of {training.batch_size} images": training.steps,
        f"{training.images:,} images": training.images,
        f"{training.minutes:g} minutes": training.minutes,
    }
    return " or ".join(words for words, budget in budgets.items() if budget) or "no steps"


def read(results: Path) -> list[Line]:
    """The lines of a results file, the newest of each cell; none where there is no file."""
    if not results.exists():
        return []
    lines = [json.loads(text) for text in results.read_text("utf-8").splitlines()]
    return list({_key(line): line for line in lines}.values())


def append(results: Path, line: Line) -> None:
    """Add a line in a single write, so that two runs may share the file."""
    results.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(results, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(handle, (json.dumps(line) + "\n").encode())
    finally:
        os.close(handle)


def tables(lines: list[Line]) -> str:
    """Mean ± standard deviation over seeds, and the learning curves."""
    groups: dict[tuple[str, ...], list[Line]] = {}
    for line in sorted(lines, key=lambda line: (line["dataset"], line["method"])):
        name = tuple(line[k] for k in ("dataset", "method", "preset", "schedule", "config_hash"))
        groups.setdefault(name, []).append(line)
    titles = ("data", "method", "preset", "schedule", "settings")
    found = table(
        (
            *(*titles, "n", "AUROC", "AUROC of parts", "average precision"),
            *("max. balanced accuracy", "FPR at 95 % TPR", "false alarms, promised", "found"),
            *("defects found", "training, min", "scoring, images/s"),
        ),
        [
            (
                *name,
                str(len(group)),
                over_seeds(group, "auroc"),
                ", ".join(f"{p} {over_seeds(group, 'parts', p)}" for p in group[0]["parts"]),
                over_seeds(group, "average_precision"),
                over_seeds(group, "max_balanced_accuracy"),
                over_seeds(group, "fpr_at_95_tpr"),
                f"at most {group[0]['promised_fpr']:.3f}",
                over_seeds(group, "false_positive_rate"),
                over_seeds(group, "true_positive_rate"),
                f"{statistics.mean(line['training_seconds'] for line in group) / 60:.1f}",
                f"{statistics.mean(line['images_per_second'] for line in group):.0f}",
            )
            for name, group in groups.items()
        ],
    )
    curves = [
        (*name, str(len(at)), str(steps), over_seeds(at, "auroc"))
        for name, group in groups.items()
        for steps, at in _by_steps(group).items()
    ]
    if not curves:
        return found
    return f"{found}\n\nLearning curves ({DIAGNOSTIC}):\n\n" + table(
        (*titles, "n", "steps", "AUROC"), curves
    )


def over_seeds(group: list[Line], *keys: str) -> str:
    """Mean ± standard deviation (over n - 1) of an entry; a single value stands alone."""
    values = []
    for line in group:
        value: Any = line
        for key in keys:
            value = value[key]
        values.append(float(value))
    mean = statistics.mean(values)
    return f"{mean:.3f} ± {statistics.stdev(values):.3f}" if len(values) > 1 else f"{mean:.3f}"


def _by_steps(group: list[Line]) -> dict[int, list[dict[str, Any]]]:
    points: dict[int, list[dict[str, Any]]] = {}
    for line in group:
        for point in line.get("curve", {}).get("points", ()):
            points.setdefault(point["steps"], []).append(point)
    return points


def _key(line: Line) -> tuple[str, str, str, int]:
    return line["method"], line["config_hash"], line["dataset"], line["seed"]


def curve_of(cell: Cell, parts: int) -> int:
    """At how many budgets to evaluate a cell: `parts`, or 0 for a method without steps.

    Raises:
        ConfigError: the cell has no budget in steps alone that `parts` divides.
    """
    training = cell.resolved.training
    if not parts or schedule(training) == "no steps":
        return 0
    if training.steps % parts or training.steps == 0 or training.images or training.minutes:
        raise ConfigError(
            f"a learning curve at {parts} budgets needs a budget in steps that {parts} divides; "
            f"{cell.method} has {schedule(training)}; say --set steps={100 * parts}"
        )
    return parts


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """What the command line asks for."""
    settings: dict[str, object] = dict(parse_assignment(text) for text in options.sets)
    methods, datasets, seeds = options.methods, options.datasets, options.seeds
    if options.quick:
        methods, datasets, seeds = ["autoencoder"], ["elpv-mono"], [0]
        settings |= {"size": 32, "width": 2, "latent": 4, "batch_size": 4, "steps": 2}
    return [
        Cell(method=method, dataset=dataset, seed=seed, preset=options.preset, settings=settings)
        for dataset, seed, method in product(datasets, seeds, methods)
    ]


def run_missing(cells: list[Cell], folder: Path, results: Path, parts: int) -> None:
    """Run every cell that has no line yet, or none with the curve that is asked for."""
    curves = [curve_of(cell, parts) for cell in cells]
    done = {_key(line): line for line in read(results)}
    for number, (cell, curve) in enumerate(zip(cells, curves, strict=True), 1):
        words = f"{number}/{len(cells)} {cell.dataset} {cell.method} seed {cell.seed}"
        line = done.get(cell.key)
        if line is not None and (not curve or "curve" in line):
            print(f"{words}: is there", file=sys.stderr)
            continue
        print(f"{words}: {schedule(cell.resolved.training)}", file=sys.stderr)
        pictures = folder / cell.dataset
        if not pictures.exists():
            write_dataset(cell.dataset, pictures)
        line = run(cell, pictures, curve)
        append(results, line)
        print(f"{words}: AUROC {line['auroc']:.4f}, {line['verdict']}", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cells that are missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where the pictures are kept; else nowhere")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--datasets", nargs="+", choices=DATASETS, default=DATASETS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", dest="sets")
    parser.add_argument("--curve", type=int, default=0, metavar="K", help="evaluate K budgets")
    parser.add_argument("--results", type=Path, default=RESULTS, help="results/elpv.jsonl here")
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    options = parser.parse_args(arguments)
    try:
        if not options.table:
            with tempfile.TemporaryDirectory() as temporary:
                folder = options.folder or Path(temporary)
                run_missing(cells_of(options), folder, options.results, options.curve)
    except TrainingInterrupted:
        print("interrupted; repeat the command to go on with this cell", file=sys.stderr)
        return 130
    except OnlygoodError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(tables(read(options.results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
