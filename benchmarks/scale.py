"""What does it cost to score a folder, and how well do workers share it?

The same JPEG files are scored as one table, by local workers and by Ray on this machine, in
turns. CPU time and memory are sums over each process of a run, read while it goes on: the last
tenth of a second of a process is missed.

    python benchmarks/scale.py --pictures 100000 --json scale.json
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector
from onlygood.deploy.export import export
from scoring import camera_files

PAUSE = 0.1
"""Seconds between looks at the processes."""
MODELS: dict[str, dict[str, object]] = {
    "pca": {"size": 64},
    "reflect": {"size": 224},
}
WAYS = {
    "one table": ["-o", "scores.csv"],
    "1 worker": ["-o", "out/", "--workers", "1"],
    "2 workers": ["-o", "out/", "--workers", "2"],
    "Ray, 1 core": ["-o", "out/", "--ray", "local", "--workers", "1"],
    "Ray, 2 cores": ["-o", "out/", "--ray", "local", "--workers", "2"],
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to score the folder."""

    model: str
    pictures: int
    way: str
    rate: Spread
    """Pictures a second, from the command to its end."""
    cpu_ms: Spread
    """CPU time of a picture, of all processes, in ms."""
    first: Spread | None
    """Seconds until the first unit is written; None: rows come at once."""
    worker_mib: Spread
    """Largest resident memory of any process, in MiB."""
    of_one: float
    """Rate beside that of one worker of the same engine, median of rounds."""


def processes(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(deep for child in below for deep in processes(int(child)))]


@dataclass(frozen=True)
class Run:
    """One command."""

    seconds: float
    cpu: float
    first: float | None
    mib: float


def run(words: Sequence[str], folder: Path) -> Run:
    """Run a command in a folder and look at its processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    cpu: dict[int, float] = {}
    peak, first = 0.0, None
    began = time.perf_counter()
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in processes(process.pid):
                try:
                    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    status = Path(f"/proc/{pid}/status").read_text()
                except OSError:
                    continue
                cpu[pid] = (int(stat[11]) + int(stat[12])) / ticks
                high = status.partition("VmHWM:")[2].split()
                peak = max(peak, float(high[0]) / 1024 if high else 0)
            if first is None and next((folder / "out").glob("parts/*.parquet"), None):
                first = time.perf_counter() - began
            time.sleep(PAUSE)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} has failed with {process.returncode}")
    return Run(time.perf_counter() - began, sum(cpu.values()), first, peak)


def measure(name: str, pictures: Path, count: int, ways: Sequence[str], rounds: int) -> list[Row]:
    """All ways in turn, `rounds` times after one that brings the files into the cache."""
    runs: dict[str, list[Run]] = {way: [] for way in ways}
    for turn in range(rounds + 1):
        for way in ways if turn else ways[:1]:
            with tempfile.TemporaryDirectory() as folder:
                model = str(pictures.parent / f"{name}.onnx")
                words = [sys.executable, "-m", "onlygood.cli", "score", model, str(pictures)]
                found = run([*words, *WAYS[way], "--quiet"], Path(folder))
            if turn:
                runs[way].append(found)
    rows = []
    for way, found in runs.items():
        alone = runs["Ray, 1 core" if way.startswith("Ray") else "1 worker"]
        firsts = [one.first for one in found if one.first is not None]
        rows.append(
            Row(
                model=name,
                pictures=count,
                way=way,
                rate=Spread.of([count / one.seconds for one in found]),
                cpu_ms=Spread.of([1000 * one.cpu / count for one in found]),
                first=Spread.of(firsts) if firsts else None,
                worker_mib=Spread.of([one.mib for one in found]),
                of_one=float(
                    np.median([a.seconds / b.seconds for a, b in zip(alone, found, strict=True)])
                ),
            )
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--camera", type=int, default=300, help="side of the files, pixels")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    counts, models, ways = options.pictures, options.models, list(WAYS)
    if options.quick:
        counts, models, ways = [40], ["pca"], ["one table", "1 worker"]
    facts = machine()
    print(in_words(facts))
    print(f"JPEG, {options.camera} x {options.camera}; {options.rounds} rounds, median (min–max)\n")
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        learnt = Path(folder, "learnt")
        learnt.mkdir()
        camera_files(learnt, 60, options.camera)
        for name in models:
            detector = Detector.fit(name, learnt, settings=MODELS[name])
            export(detector, Path(folder, f"{name}.onnx"))
        for count in counts:
            scored = Path(folder, f"scored{count}")
            scored.mkdir()
            camera_files(scored, count, options.camera)
            for name in models:
                rows += measure(name, scored, count, ways, options.rounds)
    print(
        table(
            (
                *("model", "pictures", "way", "images/s", "of one", "CPU ms a picture"),
                *("first result, s", "largest process, MiB"),
            ),
            [
                (
                    *(row.model, str(row.pictures), row.way, f"{row.rate:.0f}"),
                    *(f"{row.of_one:.2f}", f"{row.cpu_ms:.2f}"),
                    "" if row.first is None else f"{row.first:.1f}",
                    f"{row.worker_mib:.0f}",
                )
                for row in rows
            ],
        )
    )
    if options.json:
        settings = {"rounds": options.rounds, "camera": options.camera}
        figures = {"machine": facts, "settings": settings, "rows": [asdict(row) for row in rows]}
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
