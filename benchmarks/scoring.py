"""How fast are pictures scored, in batches and one by one?

Networks are fitted with a single step, as speed does not depend on what they have learnt. Arrays
have the size that the method sees, so that no decoding and no resizing is in their figures; files
are JPEG of one camera size, and their figures hold everything from opening a file to the decision.

    python benchmarks/scoring.py --json scoring.json
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector
from onlygood.deploy.runtime import Runtime

METHODS = ("cbigan", "autoencoder", "pca")
BATCH = 32


@dataclass(frozen=True, kw_only=True)
class Case:
    """Which pictures are scored, and how many."""

    name: str
    size: int
    tile: int = 0
    batches: int
    """Of `BATCH` pictures, in one round."""
    singles: int
    """Pictures scored one by one."""


CASES: tuple[Case, ...] = (
    Case(name="object, 128 px", size=128, batches=3, singles=100),
    Case(name="object, 64 px", size=64, batches=8, singles=200),
    Case(name="texture, 64 tiles of 64 px", size=512, tile=64, batches=1, singles=20),
)
QUICK: tuple[Case, ...] = (
    Case(name="object, 32 px", size=32, batches=1, singles=5),
    Case(name="texture, 4 tiles of 32 px", size=64, tile=32, batches=1, singles=5),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method in one case; rates in images/s, latencies in milliseconds."""

    case: str
    method: str
    arrays: Spread
    arrays_with_maps: Spread
    files: Spread
    latency_ms: float
    """Median of single arrays."""
    latency_p95_ms: float
    file_latency_ms: float
    """Median of single files."""
    file_latency_p95_ms: float


def measure(case: Case, method: str, folder: Path, camera: int, rounds: int, quick: bool) -> Row:
    """Fit with one step, then score arrays and files."""
    random = np.random.default_rng(0)
    count = BATCH * case.batches
    shape = (count, case.size, case.size, 3)
    arrays = list(random.integers(0, 256, shape, dtype=np.uint8))
    files = camera_files(folder, count, camera)
    detector = fitted(method, arrays[:8], case, quick)
    rates: dict[str, list[float]] = {"arrays": [], "arrays_with_maps": [], "files": []}
    drain(detector, arrays[:BATCH], maps=True)
    for _ in range(rounds):
        rates["arrays"].append(count / drain(detector, arrays, maps=False))
        rates["arrays_with_maps"].append(count / drain(detector, arrays, maps=True))
        rates["files"].append(count / drain(detector, files, maps=False))
    latencies = singly(detector, arrays, case.singles)
    file_latencies = singly(detector, files, case.singles)
    return Row(
        case=case.name,
        method=method,
        **{name: Spread.of(values) for name, values in rates.items()},
        latency_ms=float(np.median(latencies)),
        latency_p95_ms=float(np.percentile(latencies, 95)),
        file_latency_ms=float(np.median(file_latencies)),
        file_latency_p95_ms=float(np.percentile(file_latencies, 95)),
    )


def fitted(method: str, pictures: list[np.ndarray], case: Case, quick: bool) -> Detector:
    """A detector that has seen one batch of two pictures."""
    settings: dict[str, object] = {"size": case.size, "tile": case.tile}
    if method != "pca":
        settings |= {"steps": 1, "batch_size": 2} | ({"width": 2} if quick else {})
    return Detector.fit(method, pictures, settings=settings)


def camera_files(folder: Path, count: int, side: int) -> list[Path]:
    """Square JPEG pictures, smooth with some grain as photographs are; made where missing."""
    paths = [folder / f"{i:04d}.jpg" for i in range(count)]
    for i, path in enumerate(paths):
        if not path.exists():
            random = np.random.default_rng((1, i))
            coarse = Image.fromarray(random.integers(32, 224, (8, 8, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))
            grain = random.integers(0, 16, smooth.shape, dtype=np.uint8)
            Image.fromarray(smooth // 2 + grain).save(path, quality=90)
    return paths


def drain(detector: Detector | Runtime, pictures: list[Any], *, maps: bool) -> float:
    """Seconds to score all pictures in batches."""
    began = time.perf_counter()
    for result in detector.stream(pictures, maps=maps, batch_size=BATCH):
        assert result.error is None
    return time.perf_counter() - began


def singly(detector: Detector | Runtime, pictures: list[Any], times: int) -> list[float]:
    """Milliseconds from handing over one picture to its decision, after two to warm up."""
    taken = []
    for i in range(times + 2):
        began = time.perf_counter()
        detector.score(pictures[i % len(pictures)], maps=False)
        taken.append(1000 * (time.perf_counter() - began))
    return taken[2:]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all cases and methods."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--camera", type=int, default=512, help="side of the files, pixels")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    cases, rounds, camera = CASES, options.rounds, options.camera
    if options.quick:
        cases, rounds, camera = QUICK, 1, 64
    facts = machine()
    print(in_words(facts))
    print(
        f"float32, batch {BATCH}, 3 channels, {rounds} rounds, median (min–max); files: JPEG, "
        f"{camera} x {camera}, read and decoded by {facts['cores']} threads; latency: batch 1, "
        "median / 95th percentile\n"
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases:
            for method in METHODS:
                rows.append(measure(case, method, Path(folder), camera, rounds, options.quick))
    print(
        table(
            (
                *("case", "method", "arrays, images/s", "arrays with maps", "files"),
                *("latency of an array, ms", "of a file, ms"),
            ),
            [
                (
                    row.case,
                    row.method,
                    f"{row.arrays:.0f}",
                    f"{row.arrays_with_maps:.0f}",
                    f"{row.files:.0f}",
                    f"{row.latency_ms:.1f} / {row.latency_p95_ms:.1f}",
                    f"{row.file_latency_ms:.1f} / {row.file_latency_p95_ms:.1f}",
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
