"""How much memory does fitting on many files take, and how fast are they read?

Pictures are generated into a temporary folder. For each way of keeping them (all in memory, or
read from disk whenever needed) a fresh process fits cbigan at 128 px through
`Detector.fit`: every training picture is read once, then come a few steps (an epoch of steps
would take an hour and no more memory), then all calibration pictures are scored. The peak is that
of the process after all of this. Last, the same process reads two whole epochs without training:
the first fills the store, the second comes from it, shuffled in batches.

    python benchmarks/memory.py --json memory.json
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from measure import in_words, machine, peak_mib, table, write_json

LIMIT_GIB = 2.5
SIDE = 256


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way of keeping the pictures; all rates in images/s."""

    mode: str
    cache_gib: float
    cached: bool
    n_train: int
    n_calibration: int
    steps: int
    peak_gib: float
    """Largest resident size of the process, torch included."""
    peak_before_fitting_gib: float
    """The same when everything was imported and nothing read."""
    fit_seconds: float
    first_read: float
    """Within `fit`: every training picture decoded once."""
    trained: float
    """Within `fit`: images of all updates, reading included."""
    first_epoch: float
    """Reading alone: decoding every picture once, in order."""
    later_epoch: float
    """Reading alone: a whole shuffled epoch in batches, as the networks get them."""


class Phases:
    """A reporter that keeps how long each phase of a fit took."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._began = "", 0.0

    def start(self, words: str) -> None:
        """A phase begins."""
        self.finish()
        self._phase, self._began = words, time.perf_counter()

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Nothing."""

    def record(self, record: Mapping[str, object]) -> None:
        """Nothing."""

    def note(self, words: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """The phase is over."""
        if self._phase:
            self.seconds[self._phase] = time.perf_counter() - self._began
        self._phase = ""


def generate(folder: Path, count: int) -> None:
    """JPEG pictures, 256 x 256, RGB: smooth colours with grain, the same ones every time."""
    folder.mkdir()
    grain = np.random.default_rng(0).integers(0, 32, (2 * SIDE, 2 * SIDE, 3), dtype=np.uint8)

    def write(i: int) -> None:
        random = np.random.default_rng((1, i))
        coarse = Image.fromarray(random.integers(0, 224, (8, 8, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        top, left = random.integers(0, SIDE, 2)
        picture = smooth + grain[top : top + SIDE, left : left + SIDE]
        Image.fromarray(picture).save(folder / f"{i:06d}.jpg", quality=85)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(write, range(count)):
            pass


def modes(pictures: int, size: int) -> dict[str, float]:
    """Ways of keeping so many pictures, and the `cache_gib` that brings them about."""
    gib = pictures * 3 * size**2 / 2**30
    return {"in memory": gib, "from disk": gib / 10}


def child(request: dict[str, Any]) -> dict[str, Any]:
    """Fit and read in this process; gives a row and the view."""
    import torch

    from onlygood import Detector, ImageSource
    from onlygood.data.loading import threads
    from onlygood.data.store import PictureStore
    from onlygood.training.plan import Plan

    before = peak_mib() / 1024
    phases = Phases()
    began = time.perf_counter()
    settings = {
        "channels": 3,
        "steps": request["steps"],
        "cache_gib": request["cache_gib"],
        **request["settings"],
    }
    detector = Detector.fit("cbigan", request["folder"], settings=settings, reporter=phases)
    fit_seconds = time.perf_counter() - began
    # Linux rounds its high mark when memory is given back: it may fall by half a MiB.
    peak = max(before, peak_mib() / 1024)

    provenance, view = detector.provenance, detector.view
    source = ImageSource.of(request["folder"]).subset(range(provenance["n_train"]))
    store = PictureStore(source, view, cache_gib=request["cache_gib"], threads=threads())
    first = timed(store.fill)
    plan = Plan(len(store), detector.training.batch_size, store.draws, seed=0)
    batches = range(-(-len(store) // detector.training.batch_size))
    later = timed(lambda: [torch.sum(x) for x in store.batches(map(plan.pick, batches))])
    row = Row(
        mode=request["mode"],
        cache_gib=request["cache_gib"],
        cached=store.cached,
        n_train=provenance["n_train"],
        n_calibration=provenance["n_calibration"],
        steps=provenance["steps"],
        peak_gib=peak,
        peak_before_fitting_gib=before,
        fit_seconds=fit_seconds,
        first_read=provenance["n_train"] / phases.seconds["reading pictures"],
        trained=provenance["images"] / provenance["training_seconds"],
        first_epoch=len(store) / first,
        later_epoch=len(batches) * detector.training.batch_size / later,
    )
    return {"row": asdict(row), "view": asdict(view)}


def timed(work: Any) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_fresh_process(request: dict[str, Any]) -> dict[str, Any]:
    """`child` where nothing was imported yet."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(request)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of both ways of keeping the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=10, help="of training in each mode")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        print(json.dumps(child(json.loads(options.child))))
        return 0
    pictures, steps, size = options.pictures, options.steps, 128
    settings: dict[str, object] = {}
    if options.quick:
        pictures, steps, size = 120, 1, 32
        settings = {"width": 2, "batch_size": 4}
    facts = machine()
    print(in_words(facts), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "good"
        seconds = timed(lambda: generate(folder, pictures))
        written = sum(path.stat().st_size for path in folder.iterdir())
        answers = [
            in_fresh_process(
                {
                    "mode": mode,
                    "cache_gib": cache_gib,
                    "folder": str(folder),
                    "steps": steps,
                    "settings": {"size": size, **settings},
                }
            )
            for mode, cache_gib in modes(pictures, size).items()
        ]
    view = answers[0]["view"]
    rows = [Row(**answer["row"]) for answer in answers]
    print(
        f"{pictures:,} JPEG files of {SIDE} x {SIDE} RGB, {written / 2**20:.0f} MiB, generated in "
        f"{seconds:.0f} s; seen at {view['size']} px: {rows[0].n_train:,} to train on, "
        f"{rows[0].n_calibration:,} to calibrate; {steps} training steps. A single run of each; "
        "rates in images/s.\n"
    )
    print(
        table(
            (
                *("pictures", "peak, GiB", f"under {LIMIT_GIB}", "before fitting", "fit, s"),
                *("first read", "training", "first epoch", "later epochs"),
            ),
            [
                (
                    f"{row.mode} (cache_gib={row.cache_gib:.2g})",
                    f"{row.peak_gib:.2f}",
                    "yes" if row.peak_gib < LIMIT_GIB else "NO",
                    f"{row.peak_before_fitting_gib:.2f}",
                    f"{row.fit_seconds:.0f}",
                    f"{row.first_read:.0f}",
                    f"{row.trained:.1f}",
                    f"{row.first_epoch:.0f}",
                    f"{row.later_epoch:.0f}",
                )
                for row in rows
            ],
        )
    )
    print(
        "\nfirst read and training are parts of the fit; first epoch and later epochs are reading "
        "alone, without networks."
    )
    if options.json:
        write_json(
            options.json,
            {
                "machine": facts,
                "settings": {"pictures": pictures, "side": SIDE, "steps": steps, "view": view},
                "bytes_on_disk": written,
                "generation_seconds": seconds,
                "rows": [asdict(row) for row in rows],
            },
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
