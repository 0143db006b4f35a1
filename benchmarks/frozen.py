"""Methods on frozen features side by side: few pictures, many pictures, kept promises.

Solar cells (ELPV, mono). `few`: all given pictures train; AUROC on the test pictures over seeds,
which draw the pictures. `promise`: false alarms of the first method, over random splits of all
normal pictures. `many`: cost alone, on mirrored, turned and brightened copies, in a process of its
own for each method. How fast they score is told by `deploy.py`.

    python benchmarks/frozen.py --json frozen.json
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from measure import in_words, machine, table, write_json
from onlygood import Detector, ImageSource
from onlygood.deploy.export import export
from onlygood.evaluation.protocols import Task, solar_cells
from onlygood.learning import learn, settings_of

METHODS = ("reflect", "gaussian", "patch_knn", "pca")
FROZEN = ("reflect", "gaussian", "patch_knn")


@dataclass(frozen=True, kw_only=True)
class Few:
    """A method that has seen few pictures."""

    method: str
    pictures: int
    aurocs: list[float]

    def words(self) -> tuple[str, ...]:
        """A row of a table."""
        spread = np.std(self.aurocs, ddof=len(self.aurocs) > 1)
        return self.method, str(self.pictures), f"{np.mean(self.aurocs):.3f} ± {spread:.3f}"


@dataclass(frozen=True, kw_only=True)
class Many:
    """What many pictures cost a method, in a process of its own."""

    method: str
    pictures: int
    seconds: float
    """Of training, features included."""
    peak_gib: float
    exported_mb: float


def few(task: Task, counts: Sequence[int], seeds: Sequence[int]) -> list[Few]:
    """Curves over the number of training pictures."""
    rows = []
    for n in counts:
        for method in METHODS:
            aurocs = []
            for seed in seeds:
                drawn = np.random.RandomState(seed).permutation(len(task.train))[:n]
                learned = learn(
                    method,
                    settings_of(method, "default", None),
                    task.train.subset(drawn),
                    seed=seed,
                )
                totals = learned.scorer.survey(task.test.source).totals
                aurocs.append(round(float(roc_auc_score(task.test.labels, totals)), 4))
            rows.append(Few(method=method, pictures=n, aurocs=aurocs))
    return rows


def promise(task: Task, splits: int) -> list[float]:
    """False alarms found among test pictures, for each split."""
    normal = [p for p, bad in zip(task.test.source, task.test.labels, strict=True) if not bad]
    pictures = ImageSource.of([p.load() for p in [*task.train, *normal]])
    found = []
    for seed in range(splits):
        order = np.random.RandomState(seed).permutation(len(pictures))
        detector = Detector.fit(METHODS[0], pictures.subset(order[: len(task.train)]), seed=seed)
        results = detector.score(pictures.subset(order[len(task.train) :]))
        found.append(float(np.mean([result.decision == "anomalous" for result in results])))
        print(f"split {seed}: {100 * found[-1]:.1f} % false alarms", flush=True)
    return found


def copies(folder: Path, n: int) -> None:
    """`n` files: the training pictures, then mirrored, turned and brightened ones."""
    train = list(solar_cells("mono").train)
    draw = np.random.RandomState(0)
    for i in range(n):
        pixels = np.rot90(train[i % len(train)].load(), draw.randint(4))[:, :: draw.choice([-1, 1])]
        bright = np.clip(pixels.astype(float) * draw.uniform(0.9, 1.1), 0, 255).astype(np.uint8)
        Image.fromarray(np.ascontiguousarray(bright.squeeze())).save(folder / f"{i:05d}.png")


def cost(method: str, folder: Path) -> Many:
    """In this process; the peak is that of all it did."""
    pictures = ImageSource.of(folder)
    start = time.perf_counter()
    detector = Detector.fit(method, pictures)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    model = folder.parent / f"{method}.onnx"
    export(detector, model)
    size = model.stat().st_size / 1e6
    return Many(
        method=method,
        pictures=len(pictures),
        seconds=round(seconds, 1),
        peak_gib=round(peak, 2),
        exported_mb=round(size, 1),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", default=["few", "promise", "many"])
    parser.add_argument("--few", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--many", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--methods", nargs="+", default=list(FROZEN), help="of the part `many`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--cost", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    if options.cost:
        print(asdict(cost(options.cost[0], Path(options.cost[1]))))
        return 0
    facts = machine()
    print(in_words(facts), flush=True)
    figures: dict[str, object] = {"machine": facts}
    task = solar_cells("mono")
    if options.quick:
        ends = [*range(10), *range(len(task.test.labels) - 10, len(task.test.labels))]
        test = task.test._replace(
            source=task.test.source.subset(ends), labels=task.test.labels[ends]
        )
        task = task._replace(test=test)
        options.parts, options.few, options.seeds = ["few"], [4], [0]
    if "few" in options.parts:
        rows = few(task, options.few, options.seeds)
        figures["rows"] = [asdict(row) for row in rows]
        print(table(("method", "pictures", "AUROC"), [row.words() for row in rows]), flush=True)
    if "promise" in options.parts:
        figures["promise"] = promise(task, options.splits)
    if "many" in options.parts:
        costs = []
        for n in options.many:
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "pictures"
                folder.mkdir()
                copies(folder, n)
                for method in options.methods:
                    # The peak is a process's own: one process for each method.
                    command = [sys.executable, __file__, "--cost", method, str(folder)]
                    done = subprocess.run(command, capture_output=True, text=True, check=True)
                    costs.append(done.stdout.strip().splitlines()[-1])
                    print(costs[-1], flush=True)
        figures["many"] = costs
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
