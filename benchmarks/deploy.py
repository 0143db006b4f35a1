"""How fast does an exported model score, beside the one that it was made of?

The same pictures go to torch and to ONNX Runtime, in float32 and in 8 bits, in alternating rounds.
Networks are fitted with a single step, as speed does not depend on what they have learnt; what 8
bits cost in AUROC is told by `onlygood validate` on real pictures.

    python benchmarks/deploy.py --json deploy.json
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector, ImageSource
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from scoring import BATCH, camera_files, drain, singly


@dataclass(frozen=True, kw_only=True)
class Case:
    """A method and the side that it sees."""

    method: str
    size: int
    batches: int
    """Of `BATCH` pictures, in one round."""
    singles: int
    """Pictures scored one by one, in all rounds together; rounded up for rounds of equal size."""
    settings: dict[str, object]


_EACH: dict[str, object] = {"positions": "each"}
"""As of aligned parts; the arrays are noise, of which one statistic would be learned."""
CASES: tuple[Case, ...] = (
    Case(
        method="cbigan",
        size=128,
        batches=2,
        singles=60,
        settings={"steps": 1, "batch_size": 2, "width": 16},
    ),
    Case(method="reflect", size=224, batches=2, singles=60, settings=_EACH),
    Case(method="reflect", size=160, batches=2, singles=60, settings=_EACH),
    Case(method="gaussian", size=224, batches=2, singles=60, settings={}),
    Case(method="patch_knn", size=224, batches=1, singles=20, settings={}),
)
QUICK: tuple[Case, ...] = (
    Case(method="pca", size=16, batches=1, singles=3, settings={"components": 2}),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to score; rates in images/s, latencies in milliseconds."""

    method: str
    size: int
    way: str
    arrays: Spread
    files: Spread
    latency_ms: float
    """Median of single arrays."""
    latency_p95_ms: float
    megabytes: float | None
    """Of the exported file."""
    ratio: float
    """Images/s of arrays, beside torch's in the same run; medians."""


def measure(case: Case, folder: Path, camera: int, rounds: int) -> list[Row]:
    """Fit with one step, export twice, and score with all three."""
    random = np.random.default_rng(0)
    count = BATCH * case.batches
    arrays = list(random.integers(0, 256, (count, case.size, case.size, 3), dtype=np.uint8))
    files = camera_files(folder, count, camera)
    detector = Detector.fit(case.method, arrays[:24], settings={"size": case.size, **case.settings})
    targets = {"ONNX": folder / "model.onnx", "ONNX, 8 bits": folder / "model-int8.onnx"}
    export(detector, targets["ONNX"])
    export(detector, targets["ONNX, 8 bits"], int8=ImageSource.of(arrays[24:32]))
    ways: dict[str, Detector | Runtime] = {
        "torch": detector,
        **{way: Runtime.load(path) for way, path in targets.items()},
    }
    rates: dict[str, list[float]] = {way: [] for way in ways}
    file_rates: dict[str, list[float]] = {way: [] for way in ways}
    latencies: dict[str, list[float]] = {way: [] for way in ways}
    for scorer in ways.values():
        drain(scorer, arrays[:BATCH], maps=True)
    for _ in range(rounds):
        for way, scorer in ways.items():
            rates[way].append(count / drain(scorer, arrays, maps=True))
            file_rates[way].append(count / drain(scorer, files, maps=True))
            latencies[way] += singly(scorer, arrays, -(-case.singles // rounds))
    return [
        Row(
            method=case.method,
            size=case.size,
            way=way,
            arrays=Spread.of(rates[way]),
            files=Spread.of(file_rates[way]),
            latency_ms=float(np.median(latencies[way])),
            latency_p95_ms=float(np.percentile(latencies[way], 95)),
            megabytes=targets[way].stat().st_size / 1e6 if way in targets else None,
            ratio=float(np.median(rates[way]) / np.median(rates["torch"])),
        )
        for way in ways
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--camera", type=int, default=300, help="side of the files, pixels")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    cases, rounds, camera = CASES, options.rounds, options.camera
    if options.quick:
        cases, rounds, camera = QUICK, 1, 32
    facts = machine()
    print(in_words(facts))
    print(
        f"torch in float32; batch {BATCH}, maps included, {rounds} rounds, median (min–max); "
        f"files: JPEG, {camera} x {camera}; latency: one array without its map, median / 95th "
        "percentile\n"
    )
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            rows += measure(case, Path(folder), camera, rounds)
    print(
        table(
            (
                *("method", "px", "way", "arrays, images/s", "of torch", "files, images/s"),
                *("latency, ms", "file, MB"),
            ),
            [
                (
                    *(row.method, str(row.size), row.way, f"{row.arrays:.0f}"),
                    *(f"{row.ratio:.2f}", f"{row.files:.0f}"),
                    f"{row.latency_ms:.1f} / {row.latency_p95_ms:.1f}",
                    "" if row.megabytes is None else f"{row.megabytes:.1f}",
                )
                for row in rows
            ],
        )
    )
    if options.json:
        settings = {"batch_size": BATCH, "rounds": rounds, "camera": camera}
        write_json(
            options.json,
            {"machine": facts, "settings": settings, "rows": [asdict(row) for row in rows]},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
