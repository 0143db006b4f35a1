"""GANomaly of ours beside that of anomalib: the same pictures, the same minutes of training.

Pictures of one class of Fashion-MNIST are normal (protocol `gpnd`), resized to 64 px and written as
PNG files once, which all read. Each run has a process of its own; all take turns, round by round,
in one order and then in the other. Scores go through `Detector.score` and `Engine.predict`, from
files, without maps. What anomalib would clamp is not clamped, and AUROC is computed here for all.

Ours keeps some of the training pictures aside to calibrate on; anomalib learns from all. It is as
it comes, but for what only costs time: it writes no logs, checkpoints and pictures while it learns,
does not validate, and reads pictures in its own process. The peak is that of the process after
scoring.

The clocks of training are not alike: ours starts when the pictures are decoded and in memory, that
of anomalib has the reading of PNG files in it, 0.20 to 0.26 ms of its 4.1 ms a picture at
`n_features=16`. If ours were charged 0.2 ms too, 1.77 times as fast would be about 1.63.

Anomalib lives in an environment of its own; without it, ours runs alone.

    python benchmarks/beside_anomalib.py --anomalib-python ENVIRONMENT/bin/python --json beside.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import roc_auc_score

from measure import Spread, in_words, table, write_json

# The peak that anomalib's script tells starts at that of this process, which never imports torch.
from onlygood.core.errors import DataError
from onlygood.evaluation.protocols import open_tasks

Parts = Mapping[str, list[NDArray[np.uint8]]]
"""Pictures for `train/good`, `test/good` and `test/bad`."""

NORMAL = "t-shirt"
SIZE = 64
IMPORTS = {
    "onlygood": "from onlygood import Detector",
    "anomalib": (
        "from anomalib.data import Folder; from anomalib.engine import Engine; "
        "from anomalib.models import Ganomaly"
    ),
}
"""What one has to import to fit a model."""
INSTALL = (
    'make an environment of its own, `pip install "anomalib[cpu]" onnx onnxscript` there, and give '
    "its Python as --anomalib-python"
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A library and what is set in it."""

    name: str
    library: str
    preset: str = ""
    settings: Mapping[str, object] = field(default_factory=dict)


VARIANTS: tuple[Variant, ...] = (
    Variant(
        name="onlygood, `default`",
        library="onlygood",
        preset="default",
        settings={"size": SIZE},
    ),
    Variant(name="onlygood, `small`, 32 px", library="onlygood", preset="small"),
    Variant(
        name="onlygood, `paper` at 64 px",
        library="onlygood",
        preset="paper",
        settings={"size": SIZE},
    ),
    Variant(name="anomalib, as it comes", library="anomalib"),
    Variant(
        name="anomalib, `n_features=16` as in our presets",
        library="anomalib",
        settings={"n_features": 16},
    ),
)
QUICK: tuple[Variant, ...] = (
    Variant(name="onlygood", library="onlygood", preset="small", settings={"width": 2}),
    Variant(name="anomalib", library="anomalib", settings={"n_features": 2}),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One variant."""

    variant: str
    settings: Mapping[str, object]
    precision: str
    """Of training."""
    trained_on: int
    """Pictures that it learns from."""
    images: Spread
    """Pictures that it got to see, again and again."""
    auroc: Spread
    training: Spread
    """Images/s, each counted once in a step of all networks."""
    scoring: Spread
    """Images/s, from files."""
    peak_mib: Spread
    import_seconds: Spread
    """A whole process that imports and ends."""
    model_mb: float
    """What is saved to go on with in the library itself."""
    onnx_mb: float


def clothes() -> Parts:
    """Fashion-MNIST, 28 x 28, grey.

    Raises:
        DataError: it is not installed.
    """
    task = open_tasks("gpnd", "fashion-mnist").task(NORMAL)
    labels = np.asarray(task.test.labels, bool)
    sources = {
        "train/good": task.train,
        "test/good": task.test.source.subset(np.flatnonzero(~labels)),
        "test/bad": task.test.source.subset(np.flatnonzero(labels)),
    }
    return {name: [one.load().squeeze(-1) for one in source] for name, source in sources.items()}


def noise() -> Parts:
    """The same with little of nothing."""
    random = np.random.default_rng(0)
    names = ("train/good", "test/good", "test/bad")
    return {name: list(random.integers(0, 256, (40, 28, 28), np.uint8)) for name in names}


def write(folder: Path, parts: Parts) -> None:
    """As PNG files in the size that is learnt from."""
    for name, pictures in parts.items():
        (folder / name).mkdir(parents=True)
        for i, pixels in enumerate(pictures):
            image = Image.fromarray(pixels).resize((SIZE, SIZE))
            image.save(folder / name / f"{i:05d}.png")


def ours(request: Mapping[str, Any]) -> dict[str, Any]:
    """In this process, what `anomalib_ganomaly.answer` does in one of theirs."""
    from measure import machine, peak_mib
    from onlygood import Detector
    from onlygood.deploy.export import export

    facts = machine()
    folder, work = Path(request["folder"]), Path(request["work"])
    settings = {**request["settings"], "minutes": request["minutes"]}
    detector = Detector.fit(
        "ganomaly",
        folder / "train" / "good",
        preset=request["preset"],
        seed=request["seed"],
        settings=settings,
    )
    parts = [sorted((folder / "test" / kind).iterdir()) for kind in ("good", "bad")]
    began = time.perf_counter()
    results = detector.score([path for part in parts for path in part], maps=False)
    seconds = time.perf_counter() - began
    peak = peak_mib()
    scores = [result.score for result in results]
    model, exported = work / "model", work / "model.onnx"
    detector.save(model)
    export(detector, exported)
    provenance = detector.provenance
    return {
        "normal": scores[: len(parts[0])],
        "anomalous": scores[len(parts[0]) :],
        "trained_on": provenance["n_train"],
        "images": provenance["steps"] * detector.training.batch_size,
        "training_seconds": provenance["training_seconds"],
        "scoring_seconds": seconds,
        "precision": provenance["precision"],
        "peak_mib": peak,
        "model_mb": model.stat().st_size / 1e6,
        "onnx_mb": exported.stat().st_size / 1e6,
        "machine": facts,
    }


def asked(
    python: str, variant: Variant, request: Mapping[str, Any], threads: int
) -> dict[str, Any]:
    """The answer of a process of its own, and how long another one takes to import the library."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    script = {
        "onlygood": [__file__, "--ours"],
        "anomalib": [str(Path(__file__).with_name("anomalib_ganomaly.py"))],
    }[variant.library]
    with tempfile.TemporaryDirectory() as work:
        given = json.dumps({**request, **asdict(variant), "work": work})
        said = subprocess.run(
            [python, *script, given],
            check=True,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
    imports = [python, "-W", "ignore", "-c", IMPORTS[variant.library]]
    began = time.perf_counter()
    subprocess.run(imports, check=True, env=environment)
    seconds = time.perf_counter() - began
    answer: dict[str, Any] = json.loads(said.splitlines()[-1])
    return {**answer, "import_seconds": seconds}


def joined(variant: Variant, answers: Sequence[Mapping[str, Any]]) -> Row:
    """Medians and spreads over rounds."""

    def spread(name: str) -> Spread:
        return Spread.of([answer[name] for answer in answers])

    tested = len(answers[0]["normal"]) + len(answers[0]["anomalous"])
    return Row(
        variant=variant.name,
        settings={**({"preset": variant.preset} if variant.preset else {}), **variant.settings},
        precision=answers[0]["precision"],
        trained_on=answers[0]["trained_on"],
        images=spread("images"),
        auroc=Spread.of([auroc(answer["normal"], answer["anomalous"]) for answer in answers]),
        training=Spread.of([answer["images"] / answer["training_seconds"] for answer in answers]),
        scoring=Spread.of([tested / answer["scoring_seconds"] for answer in answers]),
        peak_mib=spread("peak_mib"),
        import_seconds=spread("import_seconds"),
        model_mb=answers[0]["model_mb"],
        onnx_mb=answers[0]["onnx_mb"],
    )


def auroc(normal: Sequence[float], anomalous: Sequence[float]) -> float:
    """Of scores, the same for all."""
    labels = np.repeat([False, True], [len(normal), len(anomalous)])
    return float(roc_auc_score(labels, [*normal, *anomalous]))


def why_not(python: str) -> str:
    """Why a Python has no anomalib; empty where it has."""
    try:
        tried = subprocess.run(
            [python, "-W", "ignore", "-c", IMPORTS["anomalib"]], capture_output=True, text=True
        )
    except OSError as error:
        return str(error)
    return (tried.stderr.splitlines() or ["it failed"])[-1] if tried.returncode else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all variants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--anomalib-python", help="of an environment that has anomalib")
    parser.add_argument("--minutes", type=float, default=0.5, help="of training, in each run")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.ours:
        print(json.dumps(ours(json.loads(options.ours))))
        return 0
    pythons = {"onlygood": sys.executable}
    if options.anomalib_python is None:
        print(f"ours alone; to set anomalib beside it, {INSTALL}", file=sys.stderr)
    elif reason := why_not(options.anomalib_python):
        parser.error(f"{options.anomalib_python} cannot import anomalib ({reason}): {INSTALL}")
    else:
        pythons["anomalib"] = options.anomalib_python
    variants, rounds, minutes = VARIANTS, options.rounds, options.minutes
    if options.quick:
        variants, rounds, minutes = QUICK, 1, 0.001
    try:
        parts = noise() if options.quick else clothes()
    except DataError as error:
        parser.error(str(error))
    counts = {name: len(pictures) for name, pictures in parts.items()}
    variants = tuple(variant for variant in variants if variant.library in pythons)
    answers: dict[str, list[dict[str, Any]]] = {variant.name: [] for variant in variants}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), parts)
        for number in range(rounds):
            request = {"folder": folder, "size": SIZE, "minutes": minutes, "seed": number}
            for variant in variants if number % 2 == 0 else reversed(variants):
                answer = asked(pythons[variant.library], variant, request, options.threads)
                answers[variant.name].append(answer)
                print(f"round {number + 1} of {rounds}: {variant.name}", file=sys.stderr)
    rows = [joined(variant, answers[variant.name]) for variant in variants]
    facts = answers[variants[0].name][0]["machine"]
    theirs = answers[variants[-1].name][0].get("versions", {})
    print(in_words(facts), *(f"{name} {version}" for name, version in theirs.items()), sep="; ")
    print(
        f"Fashion-MNIST, {NORMAL} is normal, {SIZE} px; {counts['train/good']:,} pictures to fit, "
        f"{counts['test/good']:,} normal and {counts['test/bad']:,} anomalous to test on; "
        f"{minutes:g} minutes of training in each of {rounds} rounds; median (min–max)\n"
    )
    print(
        table(
            (
                *("variant", "AUROC", "pictures seen", "training, images/s", "scoring, images/s"),
                *("peak, MiB", "import, s", "model, MB", "ONNX, MB"),
            ),
            [
                (
                    *(row.variant, f"{row.auroc:.3f}", f"{row.images:,.0f}"),
                    *(f"{row.training:.0f} in {row.precision}", f"{row.scoring:.0f}"),
                    *(f"{row.peak_mib:.0f}", f"{row.import_seconds:.1f}"),
                    *(f"{row.model_mb:.1f}", f"{row.onnx_mb:.1f}"),
                )
                for row in rows
            ],
        )
    )
    if options.json:
        settings = {"minutes": minutes, "rounds": rounds, "normal": NORMAL, "size": SIZE, **counts}
        write_json(
            options.json,
            {
                "machine": facts,
                "anomalib": theirs,
                "settings": settings,
                "rows": [asdict(row) for row in rows],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
