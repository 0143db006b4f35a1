"""What does it cost to score a folder, and how well do workers share it?

The same JPEG files are scored as one table, by local workers and by Ray on this machine, in
turns, and those of a small folder from tar and Parquet files, too. CPU time is the sum over all
processes of a run, memory that of the largest worker and of the command. Both are read while it
goes on: the last tenth of a second of a process is missed. Each row is written as soon as it is
measured.

    python benchmarks/scale.py --pictures 10000 100000 --json results/scale-cpu.json

Up to 10,000 pictures all models are measured, beyond that pca alone, unless models are named:
reflect takes ten times as long for each. Beyond as many files are copies, as making them takes
longer than scoring them.
"""

import argparse
import csv
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from measure import Spread, family, in_words, machine, peak_mib, table, write_json
from onlygood import Detector
from onlygood.deploy.export import export
from onlygood.scale import tables
from scoring import camera_files

PAUSE = 0.1
"""Seconds between looks at the processes."""
SMALL = 10_000
"""Pictures up to which everything is measured, and no file is a copy."""
SHARDS = 8
"""Tar files, and row groups, that hold the pictures of a folder."""
MODELS: dict[str, dict[str, object]] = {
    "pca": {"size": 64},
    "reflect": {"size": 224},
}


@dataclass(frozen=True)
class Way:
    """How a folder is scored."""

    words: tuple[str, ...]
    source: str = "folder"
    beside: str = "1 worker"
    """Whose rate its own is told in."""


WAYS = {
    "one table": Way(("-o", "scores.csv")),
    "1 worker": Way(("-o", "out/", "--workers", "1")),
    "2 workers": Way(("-o", "out/", "--workers", "2")),
    "Ray, 1 core": Way(("-o", "out/", "--ray", "local", "--workers", "1"), beside="Ray, 1 core"),
    "Ray, 2 cores": Way(("-o", "out/", "--ray", "local", "--workers", "2"), beside="Ray, 1 core"),
    "2 workers, tar": Way(("-o", "out/", "--workers", "2"), "tar"),
    "2 workers, Parquet": Way(("-o", "out/", "--workers", "2"), "parquet"),
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
    """Largest resident memory of a worker, or of the only process, in MiB."""
    driver_mib: Spread
    """The same of the command itself."""
    of_one: float | None
    """Rate beside that of one worker of the same engine, median of rounds.

    None: it is that one's own, or that one was not run.
    """
    difference: float | None
    """Largest relative difference of a score from that of the first way, in the order of scores.

    None: it is the first.
    """


@dataclass(frozen=True)
class Run:
    """One command."""

    seconds: float
    cpu: float
    first: float | None
    worker_mib: float
    driver_mib: float
    scores: np.ndarray
    """Sorted."""


def run(words: Sequence[str], folder: Path) -> Run:
    """Run a command in a folder and look at its processes."""
    ticks = os.sysconf("SC_CLK_TCK")
    cpu: dict[int, float] = {}
    mib: dict[int, float] = {}
    workers: set[int] = set()
    first = None
    began = time.perf_counter()
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            for pid in family(process.pid):
                try:
                    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                    mib[pid] = max(mib.get(pid, 0.0), peak_mib(pid))
                    named = Path(f"/proc/{pid}/cmdline").read_bytes()
                except OSError:
                    continue
                cpu[pid] = (int(stat[11]) + int(stat[12])) / ticks
                if b"spawn_main" in named or named.startswith(b"ray::_do"):
                    workers.add(pid)
            if first is None and next((folder / "out").glob("parts/*.parquet"), None):
                first = time.perf_counter() - began
            time.sleep(PAUSE)
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} has failed with {process.returncode}")
    seconds = time.perf_counter() - began
    driver = mib[process.pid]
    largest = max((mib[pid] for pid in workers), default=driver)
    return Run(seconds, sum(cpu.values()), first, largest, driver, scores_in(folder))


def scores_in(folder: Path) -> np.ndarray:
    """What a command has written, sorted."""
    if (folder / "scores.csv").exists():
        with (folder / "scores.csv").open(newline="") as file:
            found = [float(row["score"]) for row in csv.DictReader(file)]
        return np.sort(found)
    return np.sort(np.concatenate([table["score"].to_numpy() for table in tables(folder / "out")]))


def make_pictures(folder: Path, count: int, side: int) -> dict[str, str]:
    """A folder of pictures; up to `SMALL` the same in tar and Parquet files. Gives the sources."""
    place = folder / f"{count}"
    place.mkdir()
    paths = camera_files(place, min(count, SMALL), side)
    for number in range(len(paths), count):
        shutil.copyfile(paths[number % len(paths)], place / f"{number:04d}.jpg")
    sources = {"folder": str(place)}
    if count <= SMALL:
        tars = folder / f"{count}-tar"
        tars.mkdir()
        for shard in range(min(SHARDS, count)):
            with tarfile.open(tars / f"{shard}.tar", "w") as archive:
                for path in paths[shard::SHARDS]:
                    entry = tarfile.TarInfo(path.name)
                    entry.size = path.stat().st_size
                    archive.addfile(entry, io.BytesIO(path.read_bytes()))
        images = pa.table({"image": [path.read_bytes() for path in paths]})
        file = folder / f"{count}.parquet"
        parquet.write_table(images, file, row_group_size=-(-count // SHARDS))
        sources |= {"tar": str(tars / "*.tar"), "parquet": str(file)}
    return sources


def row_of(model: str, count: int, way: str, runs: dict[str, list[Run]]) -> Row:
    """What was measured of a way, in as many rounds as it had by now."""
    found = runs[way]
    beside, first_way = WAYS[way].beside, next(iter(runs))
    pairs = list(zip(runs.get(beside, []), found, strict=False)) if beside != way else []
    reference = runs[first_way][0].scores
    differences = [difference(one.scores, reference) for one in found]
    firsts = [one.first for one in found if one.first is not None]
    return Row(
        model=model,
        pictures=count,
        way=way,
        rate=Spread.of([count / one.seconds for one in found]),
        cpu_ms=Spread.of([1000 * one.cpu / count for one in found]),
        first=Spread.of(firsts) if firsts else None,
        worker_mib=Spread.of([one.worker_mib for one in found]),
        driver_mib=Spread.of([one.driver_mib for one in found]),
        of_one=float(np.median([a.seconds / b.seconds for a, b in pairs])) if pairs else None,
        difference=max(differences) if way != first_way else None,
    )


def difference(scores: np.ndarray, reference: np.ndarray) -> float:
    """The largest, relative to the latter."""
    if len(scores) != len(reference):
        raise SystemExit(f"{len(scores)} scores in place of {len(reference)}")
    return float(np.max(np.abs(scores - reference) / np.abs(reference)))


COLUMNS = (
    *("model", "pictures", "way", "images/s", "of one", "CPU ms a picture", "first result, s"),
    *("worker, MiB", "command, MiB", "difference"),
)


def cells(row: Row) -> tuple[str, ...]:
    """A row in words."""
    return (
        *(row.model, str(row.pictures), row.way, f"{row.rate:.0f}"),
        "" if row.of_one is None else f"{row.of_one:.2f}",
        f"{row.cpu_ms:.2f}",
        "" if row.first is None else f"{row.first:.1f}",
        *(f"{row.worker_mib:.0f}", f"{row.driver_mib:.0f}"),
        "" if row.difference is None else f"{row.difference:.0e}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all ways."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--models", nargs="+", choices=MODELS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--camera", type=int, default=300, help="side of the files, pixels")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    counts, ways = options.pictures, options.ways
    models, beyond = options.models or list(MODELS), options.models or ["pca"]
    if options.quick:
        counts, models, ways = [40], ["pca"], ["one table", "1 worker"]
    facts = machine()
    print(in_words(facts))
    print(f"JPEG, {options.camera} x {options.camera}; {options.rounds} rounds, median (min–max)\n")
    rows: dict[tuple[str, int, str], Row] = {}
    figures: dict[str, Any] = {
        "machine": facts,
        "settings": {"rounds": options.rounds, "camera": options.camera, "small": SMALL},
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "learnt").mkdir()
        camera_files(folder / "learnt", 60, options.camera)
        for model in models:
            detector = Detector.fit(model, folder / "learnt", settings=MODELS[model])
            export(detector, folder / f"{model}.onnx")
        for count in counts:
            sources = make_pictures(folder, count, options.camera)
            for model in models if count <= SMALL else beyond:
                runs: dict[str, list[Run]] = {}
                for _ in range(options.rounds):
                    for way in (one for one in ways if WAYS[one].source in sources):
                        words = [sys.executable, "-m", "onlygood.cli", "score"]
                        words += [str(folder / f"{model}.onnx"), sources[WAYS[way].source]]
                        with tempfile.TemporaryDirectory() as out:
                            found = run([*words, *WAYS[way].words, "--quiet"], Path(out))
                        runs.setdefault(way, []).append(found)
                        row = rows[model, count, way] = row_of(model, count, way, runs)
                        print(" | ".join(cells(row)), flush=True)
                        if options.json:
                            told = [asdict(one) for one in rows.values()]
                            write_json(options.json, {**figures, "rows": told})
    print(f"\n{table(COLUMNS, [cells(row) for row in rows.values()])}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
