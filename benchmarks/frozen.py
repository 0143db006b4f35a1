"""Methods on frozen features side by side: few pictures, many pictures, kept promises, places.

Solar cells (ELPV, mono), but for `masks`, or with `--made` what onlygood makes: means over all
surfaces or parts of the half to report, or over the textures of `unseen.py`. `few`: all given
pictures train; AUROC on the test pictures over seeds, which draw the pictures. `promise`: false
alarms of the first method, over random splits of all normal pictures. `bad`: what bad pictures
among the good ones do to the first method (with `--made`), and what is left of it after those are
left out that its report shows and that are bad indeed. `masks`: generated cloth with defects of
four kinds, whose places are known; presets `texture`. `specks`: how small a spot the first method
finds, at two sizes (with `--made`). `kinds`: each kind of defect by itself (with `--made`).
`many`: cost alone, on mirrored, turned and brightened copies, in a process of its own for each
method. How fast they score is told by `deploy.py`.

    python benchmarks/frozen.py --json frozen.json
    python benchmarks/frozen.py --made surfaces --folder unpacked --parts few promise
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

import unseen
from measure import in_words, machine, peak_mib, table, write_json
from onlygood import Detector, ImageSource
from onlygood.data.align import AUTO
from onlygood.data.layout import Labelled, truth
from onlygood.data.readers import mvtec
from onlygood.data.resize import restored
from onlygood.deploy.export import export
from onlygood.detector.learning import learn, settings_of
from onlygood.detector.raw_scores import RawScorer
from onlygood.evaluation import metrics
from onlygood.evaluation.evaluate import evaluate
from onlygood.evaluation.protocols import MADE, Task, open_tasks, solar_cells
from onlygood.evaluation.tables import spread
from onlygood.methods import METHODS
from onlygood.networks.sharing import SharedFeatures, sharing
from small import weave

PARTS = ("few", "promise", "masks", "specks", "kinds", "bad", "many")
COMPARED = ("reflect", "gaussian", "patch_knn", "pca")
FROZEN = ("reflect", "gaussian", "patch_knn")
PLACED: Mapping[str, Mapping[str, object]] = {
    "reflect": {},
    "reflect without detail": {"detail": ""},
    "gaussian": {},
    "patch_knn": {},
}
"""Compared where places are known."""
SPECKS = (0.02, 0.03, 0.04, 0.06, 0.08, 0.12)
"""Diameters of round spots, as shares of a picture's side."""
SIZES = (224, 448)


@dataclass(frozen=True, kw_only=True)
class Few:
    """A method that has seen few pictures."""

    method: str
    pictures: int
    aligned: bool
    """Whether all pictures were turned and shifted first until they lay alike."""
    aurocs: list[float]
    """For each seed, means over tasks."""
    pixel_aurocs: list[float]
    """The same; none where no task has masks."""

    def words(self) -> tuple[str, ...]:
        """A row of a table."""
        method = f"{self.method}, aligned" if self.aligned else self.method
        return method, str(self.pictures), spread(self.aurocs), spread(self.pixel_aurocs)


@dataclass(frozen=True, kw_only=True)
class Many:
    """What many pictures cost a method, in a process of its own."""

    method: str
    pictures: int
    seconds: float
    """Of training, features included."""
    peak_gib: float
    exported_mb: float


class Masks(NamedTuple):
    """How a method does where the places of defects are known; means over tasks."""

    method: str
    settings: str
    auroc: float
    pixel_auroc: float
    aupro: float
    pixel_ap: float
    """Average precision of pixels, those of every second row and column."""
    best_f1: float
    """Of the same, at the best threshold."""
    area: float
    """Of what is outlined in units of the defect's: median over pictures where it is touched."""


class Speck(NamedTuple):
    """How well the first method finds a round spot; means over tasks."""

    size: int
    """At which pictures are seen."""
    diameter: float
    """Of the spot, as a share of the picture's side."""
    auroc: float


class Kind(NamedTuple):
    """How well a method tells one kind of defect from normal pictures; means over tasks."""

    method: str
    kind: str
    tasks: int
    """Those that have it."""
    auroc: float


class Bad(NamedTuple):
    """The first method after a fit with bad pictures; means over tasks and seeds."""

    share: float
    """Of bad pictures among those that it was given at first."""
    looks: int
    """How often its report was looked at, and the bad ones it shows were left out."""
    left: float
    """Bad pictures that are still in."""
    auroc: float
    found: float
    """Share of anomalous pictures that are called so."""
    false_alarms: float


def few(
    tasks: Mapping[str, Task],
    counts: Sequence[int],
    seeds: Sequence[int],
    methods: Sequence[str],
    *,
    align: bool,
) -> list[Few]:
    """Curves over the number of training pictures."""
    found: dict[tuple[str, int, int], list[tuple[float, float | None]]] = {}
    features = SharedFeatures()
    for task in tasks.values():
        for n, method, seed in product(counts, methods, seeds):
            drawn = np.random.RandomState(seed).permutation(len(task.train))[:n]
            settings = settings_of(method, "default", {"align": AUTO if align else ""})
            with sharing(features):
                learned = learn(method, settings, task.train.subset(drawn), seed=seed)
                found.setdefault((method, n, seed), []).append(judged(learned.scorer, task.test))
    rows = []
    for n, method in product(counts, methods):
        of_seeds = [list(zip(*found[method, n, seed], strict=True)) for seed in seeds]
        row = Few(
            method=method,
            pictures=n,
            aligned=align,
            aurocs=[round(float(np.mean(aurocs)), 4) for aurocs, _ in of_seeds],
            pixel_aurocs=[
                round(float(np.mean(there)), 4)
                for _, pixels in of_seeds
                if (there := [value for value in pixels if value is not None])
            ],
        )
        rows.append(row)
    return rows


def judged(scorer: RawScorer, test: Labelled) -> tuple[float, float | None]:
    """AUROC of pictures, and of the pixels of those that are normal or have a mask."""
    totals, maps, masks = [], [], []
    labels = iter(zip(test.labels, test.masks, strict=True))
    with_masks = any(mask is not None for mask in test.masks)
    for batch in scorer.load(test.source):
        raw = scorer.score(batch, maps=with_masks)
        totals.append(raw.totals)
        for i, (item, (label, mask)) in enumerate(zip(batch, labels, strict=False)):
            if raw.maps is None:
                continue
            assert item.size is not None
            heat = restored(raw.maps[i], item.size, scorer.view, pose=item.pose)
            if (anomalous := truth(mask, bool(label), heat.shape)) is not None:
                maps.append(heat)
                masks.append(anomalous)
    pixels = metrics.PixelCurve.of(masks, maps)
    auroc = float(roc_auc_score(test.labels, np.concatenate(totals)))
    return auroc, None if pixels is None else pixels.auroc


def promise(tasks: Mapping[str, Task], splits: int) -> dict[str, list[float]]:
    """False alarms found among normal pictures, for each split of each task."""
    found: dict[str, list[float]] = {}
    for name, task in tasks.items():
        normal = [p for p, bad in zip(task.test.source, task.test.labels, strict=True) if not bad]
        pictures = ImageSource.of([p.load() for p in [*task.train, *normal]])
        alarms = found[name] = []
        with sharing(SharedFeatures()):
            for seed in range(splits):
                order = np.random.RandomState(seed).permutation(len(pictures))
                train = pictures.subset(order[: len(task.train)])
                detector = Detector.fit(COMPARED[0], train, seed=seed)
                results = detector.score(pictures.subset(order[len(task.train) :]), maps=False)
                alarms.append(float(np.mean([r.decision == "anomalous" for r in results])))
        print(f"{name}: {100 * np.mean(alarms):.1f} % false alarms", alarms, flush=True)
    return found


def bad(
    tasks: Mapping[str, Task], shares: Sequence[float], seeds: Sequence[int], looks: int = 2
) -> list[Bad]:
    """Half of the anomalous pictures are there to be mixed in, the other half is tested."""
    found: dict[tuple[float, int], list[tuple[float, ...]]] = {}
    for task in tasks.values():
        pictures = ImageSource.of([p.load() for p in [*task.train, *task.test.source]])
        n = len(task.train)
        anomalous = n + np.flatnonzero(task.test.labels)
        normal = np.setdiff1d(np.arange(len(pictures)), anomalous)
        names = {name: i for i, name in enumerate(pictures.names)}
        features = SharedFeatures()
        for share, seed in product(shares, seeds):
            draw = np.random.RandomState(seed)
            good, mixed = draw.permutation(normal), draw.permutation(anomalous[::2])
            count = round(share * n)
            given = np.concatenate([good[: n - count], mixed[:count]])
            tested = np.concatenate([good[n:], anomalous[1::2]])
            labels = np.isin(tested, anomalous)
            out: list[str] = []
            for look in range(looks + 1):
                with sharing(features):
                    detector = Detector.fit(
                        COMPARED[0], pictures.subset(given), seed=seed, leave_out=out
                    )
                    results = detector.score(pictures.subset(tested), maps=False)
                called = np.array([result.decision == "anomalous" for result in results])
                auroc = roc_auc_score(labels, [result.score for result in results])
                left = int(np.isin(given, anomalous).sum()) - len(out)
                rates = float(called[labels].mean()), float(called[~labels].mean())
                found.setdefault((share, look), []).append((left, float(auroc), *rates))
                shown = [one.name for one in detector.calibrated_on.unusual]
                out += [name for name in shown if names[name] in anomalous]
    return [
        Bad(*case, *(round(float(value), 4) for value in np.mean(values, 0)))
        for case, values in found.items()
    ]


def cloth(folder: Path, normal: int, each: int) -> None:
    """Pictures of 224 px in the layout of MVTec AD, with masks."""
    draw = np.random.default_rng(0)
    side = 224

    def spot(size: float) -> NDArray[np.bool_]:
        y, x = np.mgrid[:side, :side]
        middle, ratio = draw.uniform(30, side - 30, 2), draw.uniform(0.5, 2)
        apart: NDArray[np.float64] = (y - middle[0]) ** 2 * ratio + (x - middle[1]) ** 2 / ratio
        return apart < size**2

    def scratch() -> NDArray[np.bool_]:
        y, x = np.mgrid[:side, :side]
        angle, start, width = (
            draw.uniform(0, np.pi),
            draw.uniform(60, side - 60, 2),
            draw.uniform(1, 3),
        )
        y, x = y - start[0], x - start[1]
        along: NDArray[np.float64] = y * np.sin(angle) + x * np.cos(angle)
        across: NDArray[np.float64] = y * np.cos(angle) - x * np.sin(angle)
        return (np.abs(along) < draw.uniform(15, 50)) & (np.abs(across) < width)

    kinds: dict[str, Callable[[], tuple[NDArray[np.bool_], NDArray[np.float64]]]] = {
        "stain": lambda: (spot(draw.uniform(8, 25)), weave(draw, side) * 0.75),
        "scratch": lambda: (scratch(), weave(draw, side) + 60),
        "turned": lambda: (spot(draw.uniform(12, 30)), weave(draw, side).T),
        "hole": lambda: (spot(draw.uniform(4, 10)), np.full((side, side), 30.0)),
    }

    def write(name: str, pixels: NDArray[Any]) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)

    for i in range(normal):
        write(f"train/good/{i:03d}.png", weave(draw, side))
    for i in range(2 * each):
        write(f"test/good/{i:03d}.png", weave(draw, side))
    for kind, defect in kinds.items():
        for i in range(each):
            where, what = defect()
            write(f"test/{kind}/{i:03d}.png", np.where(where, what, weave(draw, side)))
            write(f"ground_truth/{kind}/{i:03d}_mask.png", 255.0 * where)


def masks(
    tasks: Mapping[str, Task], variants: Mapping[str, Mapping[str, object]], preset: str
) -> list[Masks]:
    """How well defects are found, and where they are; variants are `METHOD words` and settings."""
    rows = []
    shown = [task for task in tasks.values() if any(mask is not None for mask in task.test.masks)]
    features = SharedFeatures()
    for variant, settings in variants.items():
        method, _, words = variant.partition(" ")
        own = preset if preset in METHODS[method].presets else "default"
        figures = []
        for task in shown:
            with sharing(features):
                detector = Detector.fit(method, task.train, preset=own, settings=settings)
                found = evaluate(detector, task.test)
                figures.append(
                    (found.auroc, found.pixel_auroc, found.aupro, *placed(detector, task.test))
                )
        means = [round(float(np.mean(values)), 4) for values in zip(*figures, strict=True)]
        rows.append(Masks(method, words or own, *means))
        print(rows[-1], flush=True)
    return rows


def specks(tasks: Mapping[str, Task], sizes: Sequence[int]) -> list[Speck]:
    """AUROC of normal test pictures against the same with one round spot, by its diameter.

    The spot is darker or brighter than what is around it, by 2.5 standard deviations of the
    picture and by 45 of 255 at least; by less where black or white is nearer.
    """
    rows = []
    for size in sizes:
        aurocs = []
        for task in tasks.values():
            detector = Detector.fit(COMPARED[0], task.train, settings={"size": size})
            normal = task.test.source.subset(np.flatnonzero(task.test.labels == 0))
            pictures = [picture.load() for picture in normal]
            plain = scores(detector, pictures)
            draw = np.random.default_rng(0)
            spotted = [[speckled(p, share, draw) for p in pictures] for share in SPECKS]
            labels = np.repeat([0, 1], len(pictures))
            aurocs.append(
                [roc_auc_score(labels, plain + scores(detector, part)) for part in spotted]
            )
        for share, auroc in zip(SPECKS, np.mean(aurocs, 0), strict=True):
            rows.append(Speck(size, share, round(float(auroc), 4)))
            print(rows[-1], flush=True)
    return rows


def kinds(tasks: Mapping[str, Task], methods: Sequence[str]) -> list[Kind]:
    """AUROC of each kind of defect against the normal test pictures."""
    found: dict[tuple[str, str], list[float]] = {}
    for task in tasks.values():
        test = task.test._replace(masks=[None] * len(task.test.masks))  # No maps are needed.
        with sharing(SharedFeatures()):
            for method in methods:
                for kind, told in evaluate(Detector.fit(method, task.train), test).kinds.items():
                    assert told.auroc is not None, "evaluation has normal pictures"
                    found.setdefault((method, kind), []).append(told.auroc)
    return [
        Kind(*case, len(aurocs), round(float(np.mean(aurocs)), 4))
        for case, aurocs in sorted(found.items())
    ]


def scores(detector: Detector, pictures: Sequence[NDArray[np.uint8]]) -> list[float]:
    """Of pictures in memory."""
    return [result.score for result in detector.score(pictures)]


def speckled(
    pixels: NDArray[np.uint8], share: float, draw: np.random.Generator
) -> NDArray[np.uint8]:
    """The picture with a spot somewhere."""
    height, width = pixels.shape[:2]
    radius = share * max(height, width) / 2
    row, column = draw.uniform(0.1, 0.9, 2) * (height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    apart = np.hypot(y - row, x - column)
    around = pixels[apart < 6 * radius + 4]
    far = np.maximum(2.5 * pixels.std((0, 1)), 45) * draw.choice([-1, 1])
    inside = np.clip(radius - apart + 0.5, 0, 1)[..., None]
    spot = np.clip(around.mean(0) + far, 0, 255)
    spotted: NDArray[np.float64] = np.clip(pixels + (spot - pixels) * inside, 0, 255)
    return spotted.astype(np.uint8)


def placed(detector: Detector, test: Labelled) -> tuple[float, float, float]:
    """Average precision and best F1 of pixels, and how large what is outlined is."""
    maps, truths, areas = [], [], []
    for result, label, mask in zip(
        detector.stream(test.source), test.labels, test.masks, strict=True
    ):
        if result.map is None:
            continue
        anomalous = truth(mask, bool(label), result.map.shape)
        if anomalous is None:
            continue
        outlined = result.map > 1
        if (outlined & anomalous).any():
            areas.append(outlined.sum() / anomalous.sum())
        maps.append(result.map[::2, ::2])
        truths.append(anomalous[::2, ::2])
    pixels = metrics.PixelCurve.of(truths, maps)
    assert pixels is not None, "some pictures have a mask"
    area = float(np.median(areas)) if areas else 0.0
    return pixels.average_precision, pixels.f1_max, area


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
    peak = peak_mib() / 1024
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
    usual = ["few", "promise", "masks", "many"]
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=usual)
    parser.add_argument("--made", choices=[*sorted(MADE), "unseen"], help="not solar cells")
    parser.add_argument("--folder", type=Path, help="of what surfaces, or unseen, are made of")
    parser.add_argument("--compared", nargs="+", default=list(COMPARED), help="of the part `few`")
    parser.add_argument("--few", type=int, nargs="+", default=[20, 50, 100])
    parser.add_argument("--align", action="store_true", help="pictures, in the part `few`")
    parser.add_argument("--bad", type=float, nargs="+", default=[0, 0.01, 0.05, 0.1])
    parser.add_argument("--many", type=int, nargs="+", default=[2000, 20000])
    parser.add_argument("--methods", nargs="+", default=list(FROZEN), help="of the part `many`")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--splits", type=int, default=20)
    parser.add_argument("--cost", nargs=2, metavar=("METHOD", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    if options.cost:
        print(json.dumps(asdict(cost(options.cost[0], Path(options.cost[1])))))
        return 0
    facts = machine()
    print(in_words(facts), flush=True)
    figures: dict[str, object] = {"machine": facts}
    if options.quick or not options.made:
        tasks = {"elpv-mono": solar_cells("mono")}
    elif options.made == "unseen":
        tasks = unseen.tasks(options.folder or Path("/"))
    else:
        of_half = open_tasks(options.made, options.made, options.folder)
        tasks = {name: of_half.task(name) for name in of_half.classes}
    if options.quick:
        task = tasks["elpv-mono"]
        ends = [*range(10), *range(len(task.test.labels) - 10, len(task.test.labels))]
        test = task.test._replace(
            source=task.test.source.subset(ends),
            labels=task.test.labels[ends],
            masks=[None] * len(ends),
        )
        tasks = {"elpv-mono": task._replace(test=test)}
        options.parts, options.few, options.seeds = ["few"], [4], [0]
    if "few" in options.parts:
        there = min(len(task.train) for task in tasks.values())
        if max(options.few) > there:
            parser.error(f"--few {max(options.few)}: there are {there} pictures to learn from")
        rows = few(tasks, options.few, options.seeds, options.compared, align=options.align)
        figures["rows"] = [asdict(row) for row in rows]
        heads = ("method", "pictures", "AUROC", "of pixels")
        print(table(heads, [row.words() for row in rows]), flush=True)
    if "masks" in options.parts:
        with tempfile.TemporaryDirectory() as name:
            if options.made:
                found = masks(tasks, PLACED, "default")
            else:
                cloth(Path(name), 60, 15)
                known = {"cloth": Task(*mvtec(Path(name)))}
                found = masks(known, {method: {} for method in FROZEN}, "texture")
        figures["masks"] = [row._asdict() for row in found]
    if "promise" in options.parts:
        figures["promise"] = promise(tasks, options.splits)
    if "specks" in options.parts:
        figures["specks"] = [row._asdict() for row in specks(tasks, SIZES)]
    if "kinds" in options.parts:
        of_kinds = kinds(tasks, FROZEN)
        figures["kinds"] = [row._asdict() for row in of_kinds]
        print(table(Kind._fields, [tuple(map(str, row)) for row in of_kinds]), flush=True)
    if "bad" in options.parts:
        mixed = bad(tasks, options.bad, options.seeds)
        figures["bad"] = [row._asdict() for row in mixed]
        print(table(Bad._fields, [tuple(map(str, row)) for row in mixed]), flush=True)
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
                    costs.append(json.loads(done.stdout.splitlines()[-1]))
                    print(costs[-1], flush=True)
        figures["many"] = costs
    if options.json:
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
