"""Methods on frozen features side by side: few pictures, many pictures, speed and size.

Solar cells (ELPV, mono). `promise`: false alarms of the first method among test pictures, over
random splits of all normal ones. `few`: all given pictures train; AUROC on the test pictures over seeds,
which draw the pictures. `many`: cost alone, on pictures that are mirrored, turned and brightened
copies. `speed`: the exported file in ONNX Runtime, files of pictures in, decisions out.

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

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector, ImageSource
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from onlygood.evaluation.protocols import Task, solar_cells
from onlygood.learning import learn, settings_of

METHODS = ("reflect", "gaussian", "patch_knn", "pca")
FROZEN = ("reflect", "gaussian", "patch_knn")
SIZES = (160, 224)


@dataclass(frozen=True, kw_only=True)
class Few:
    """A method that has seen few pictures."""

    method: str
    pictures: int
    aurocs: list[float]


@dataclass(frozen=True, kw_only=True)
class Many:
    """What many pictures cost a method, in a process of its own."""

    method: str
    pictures: int
    seconds: float
    """Of training, features included."""
    peak_gib: float
    exported_mb: float


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast an exported method is; images/s and milliseconds."""

    method: str
    size: int
    batches: Spread
    median_ms: float
    p95_ms: float
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
            print(rows[-1], flush=True)
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


def speed(task: Task, sizes: Sequence[int], rounds: int) -> list[Speed]:
    """All exported methods in turns."""
    pictures = list(task.test.source)[:128]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture.load().squeeze()).save(folder / f"{i:03d}.png")
        files = sorted(folder.iterdir())
        runtimes = {}
        for method in FROZEN:
            for size in sizes:
                detector = Detector.fit(method, task.train, settings={"size": size})
                path = folder / f"{method}-{size}.onnx"
                export(detector, path)
                runtimes[method, size] = Runtime.load(path), path.stat().st_size / 1e6
        rates: dict[tuple[str, int], list[float]] = {key: [] for key in runtimes}
        single: dict[tuple[str, int], list[float]] = {key: [] for key in runtimes}
        for _ in range(rounds):
            # In turns, so that a drift of the machine meets all of them alike.
            for key, (runtime, _) in runtimes.items():
                start = time.perf_counter()
                runtime.score(files)
                rates[key].append(len(files) / (time.perf_counter() - start))
                for file in files[:20]:
                    start = time.perf_counter()
                    runtime.score(file)
                    single[key].append(1000 * (time.perf_counter() - start))
    return [
        Speed(
            method=method,
            size=size,
            batches=Spread.of(rates[method, size]),
            median_ms=round(float(np.median(single[method, size])), 1),
            p95_ms=round(float(np.percentile(single[method, size], 95)), 1),
            exported_mb=round(megabytes, 1),
        )
        for (method, size), (_, megabytes) in runtimes.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", default=["few", "speed", "promise", "many"])
    parser.add_argument("--few", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--many", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--methods", nargs="+", default=list(FROZEN), help="of the part `many`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
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
    task, sizes, rounds = solar_cells("mono"), SIZES, options.rounds
    if options.quick:
        task = Task(task.train.subset(range(60)), task.test)
        options.parts, options.few, options.seeds, sizes, rounds = ["speed"], [4], [0], (32,), 1
    if "few" in options.parts:
        figures["few"] = [asdict(row) for row in few(task, options.few, options.seeds)]
    if "speed" in options.parts:
        found = speed(task, sizes, rounds)
        figures["rows"] = [asdict(row) for row in found]
        print(
            table(
                ("method", "size", "images/s", "median, ms", "p95, ms", "exported, MB"),
                [
                    (
                        r.method,
                        str(r.size),
                        f"{r.batches:.0f}",
                        str(r.median_ms),
                        str(r.p95_ms),
                        str(r.exported_mb),
                    )
                    for r in found
                ],
            ),
            flush=True,
        )
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
