"""What do threads of ONNX Runtime cost, and what do they bring?

One exported `reflect`; its session has one thread or all cores, and waiting threads spin or sleep.
Three ways to use it: one picture after the other, with a pause between them as at a line; a folder
of files, decoded beside; and, as a service does it, small batches as they come. All variants take
turns, round by round, in one process. Wall time says how fast, processor time what it costs whoever
shares the machine.

    python benchmarks/threads.py --json threads.json
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from scoring import camera_files

PAUSE = 0.05
"""Seconds between pictures at a line."""
SMALL = 4
"""Pictures of a batch of a service."""


class Variant(NamedTuple):
    """How a session is set."""

    threads: int
    spin: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to use a variant; milliseconds a picture."""

    use: str
    threads: int
    spin: bool
    wall_ms: Spread
    cpu_ms: Spread


def measure(model: Path, files: Sequence[Path], size: int, rounds: int) -> list[Row]:
    """All variants in all uses."""
    cores = os.cpu_count() or 1
    variants = [Variant(n, spin) for n in sorted({1, cores}) for spin in (True, False)]
    runtimes = {v: Runtime.load(model, threads=v.threads, spin=v.spin) for v in variants}
    random = np.random.default_rng(0)
    pictures = random.integers(0, 256, (len(files), size, size, 3), dtype=np.uint8)

    def line(runtime: Runtime) -> tuple[float, float]:
        wall, before = 0.0, time.process_time()
        for picture in pictures:
            began = time.perf_counter()
            runtime.run(picture[None])
            wall += time.perf_counter() - began
            time.sleep(PAUSE)
        return wall, time.process_time() - before

    def folder(runtime: Runtime) -> tuple[float, float]:
        return timed(lambda: sum(1 for _ in runtime.stream(list(files))))

    def service(runtime: Runtime) -> tuple[float, float]:
        batches = np.split(pictures, len(pictures) // SMALL)
        return timed(lambda: [runtime.run(batch) for batch in batches])

    uses: Mapping[str, Callable[[Runtime], tuple[float, float]]] = {
        "one picture, then a pause": line,
        "a folder of files": folder,
        f"batches of {SMALL}": service,
    }
    found: dict[tuple[str, Variant], list[tuple[float, float]]] = {}
    for turn in range(rounds + 1):
        for use, run in uses.items():
            for variant, runtime in runtimes.items():
                times = run(runtime)
                if turn:  # The first warms up.
                    found.setdefault((use, variant), []).append(times)
    milliseconds = 1000 / len(files)
    return [
        Row(
            use=use,
            threads=variant.threads,
            spin=variant.spin,
            wall_ms=Spread.of([wall * milliseconds for wall, _ in times]),
            cpu_ms=Spread.of([cpu * milliseconds for _, cpu in times]),
        )
        for (use, variant), times in found.items()
    ]


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the clock, and of all threads of this process."""
    began, before = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - before


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    given = parser.parse_args(arguments)

    facts = machine()
    print(in_words(facts))
    size, count, camera = (32, 4, 40) if given.quick else (224, 64, 300)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = camera_files(folder, count, camera)
        detector = Detector.fit("reflect", files, settings={"size": size, "aspect": 1.0})
        export(detector, folder / "it.onnx")
        rows = measure(folder / "it.onnx", files, size, 1 if given.quick else given.rounds)
    print(
        table(
            ("use", "threads", "waiting threads", "ms a picture", "ms of processors"),
            [
                (
                    *(row.use, str(row.threads), "spin" if row.spin else "sleep"),
                    *(f"{row.wall_ms:.1f}", f"{row.cpu_ms:.1f}"),
                )
                for row in rows
            ],
        )
    )
    if given.json:
        write_json(given.json, {"machine": facts, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
