"""What becomes of the promise where each part was photographed more than once?

Sound cells of ELPV, each taken several times: shifted by up to two pixels, in light that differs by
some per cent, with noise. Chance parts the pictures of `onlygood fit` or, with --group-by, the
cells. False alarms are counted on other cells, each taken once.

    python benchmarks/bursts.py --json results/bursts.json
"""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from measure import in_words, machine, table, write_json
from onlygood import Detector, ImageSource
from onlygood.data.decode import Pixels
from onlygood.data.readers.catalogue import DATASETS
from onlygood.data.source import Picture

CELLS = 120
"""That are learnt from and calibrate; the others are tested."""
SHIFT, LIGHT, NOISE = 2, 0.02, 2.0
"""Between shots: pixels, share, and shades of 256."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fit."""

    method: str
    shots: int
    """Of each cell."""
    grouped: bool
    seed: int
    pictures: int
    told: bool
    """Whether `fit` says that the pictures follow each other."""
    promised: float
    """Share of false alarms, at most."""
    found: float
    """That share on the cells that were not given."""


def shot(cell: Pixels, draw: Generator) -> Pixels:
    """A photograph of a cell."""
    shift = draw.integers(-SHIFT, SHIFT + 1, 2)
    moved = np.roll(cell, tuple(shift), (0, 1)) * (1 + draw.normal(0, LIGHT))
    return np.clip(moved + draw.normal(0, NOISE, cell.shape), 0, 255).astype(np.uint8)


def measure(method: str, cells: Sequence[Pixels], shots: int, *, grouped: bool, seed: int) -> Row:
    """Fit on some of the cells, and count false alarms on the others."""
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(cells))
    taken = [
        Picture(f"{place:03d}-{number}.png", shot(cells[i], draw))
        for place, i in enumerate(order[:CELLS])
        for number in range(shots)
    ]
    given = ImageSource(taken)
    others = [shot(cells[i], draw) for i in order[CELLS:]]
    made = Detector.fit(method, given, seed=seed, group_by=r"^\d+" if grouped else None)
    decisions = [result.decision for result in made.score(others, maps=False)]
    return Row(
        method=method,
        shots=shots,
        grouped=grouped,
        seed=seed,
        pictures=len(given),
        told="next to them" in made.provenance.get("calibration_pictures", ""),
        promised=made.calibration.promised_fpr,
        found=float(np.mean([decision == "anomalous" for decision in decisions])),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of elpv-dataset; left out: as installed")
    parser.add_argument("--methods", nargs="+", default=["reflect", "gaussian"])
    parser.add_argument("--shots", nargs="+", type=int, default=[1, 2, 3, 5])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    facts = machine()
    print(in_words(facts), flush=True)
    sound = DATASETS["elpv-mono"].read(options.folder).train
    if options.quick:
        sound, options.methods = sound.subset(range(CELLS + 2)), ["mean_picture"]
        options.shots, options.seeds = [1, 2], [0]
    cells = [picture.load() for picture in sound]
    began, rows = time.time(), []
    for shots in options.shots:
        for grouped in (False, True) if shots > 1 else (False,):
            for method in options.methods:
                for seed in options.seeds:
                    rows.append(measure(method, cells, shots, grouped=grouped, seed=seed))
                    print(rows[-1], f"after {time.time() - began:.0f} s", file=sys.stderr)
    columns = ["shots", "parted by", "method", "said", "promised at most", "found, mean (range)"]
    lines = []
    for first in rows[:: len(options.seeds)]:
        same = [
            row
            for row in rows
            if (row.shots, row.grouped, row.method) == (first.shots, first.grouped, first.method)
        ]
        found = [row.found for row in same]
        lines.append(
            [
                str(first.shots),
                "cell" if first.grouped else "picture",
                first.method,
                f"{sum(row.told for row in same)} of {len(same)}",
                f"{first.promised:.1%}",
                f"{np.mean(found):.1%} ({min(found):.1%} to {max(found):.1%})",
            ]
        )
    print(table(columns, lines))
    if options.json:
        write_json(options.json, {"machine": facts, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
