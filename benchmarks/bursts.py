"""What becomes of the promise where pictures follow each other?

Shots: sound cells of ELPV, each taken several times: shifted by up to two pixels, in light that
differs by some per cent, with noise. Chance parts the pictures of `onlygood fit` or, with
--group-by, the cells. False alarms are counted on other cells, each taken once.

Stretches: the same cells as they are, in order of their numbers, where cells of one module follow
each other. Each third in turn is tested after a fit on the other two, whose cells are parted by
chance or in hundreds; beside it a third that chance has drawn. The third's cells are told from the
defective ones with numbers in its range, which are of the same modules; those of a third by chance
from all.

    python benchmarks/bursts.py --json results/bursts.json
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from measure import in_words, machine, table, write_json
from onlygood import Detector, ImageSource, Result
from onlygood.data.decode import Pixels
from onlygood.data.readers.catalogue import DATASETS
from onlygood.data.source import Picture
from onlygood.evaluation.metrics import auroc

CELLS = 120
"""That are learnt from and calibrate; the others are tested."""
SHIFT, LIGHT, NOISE = 2, 0.02, 2.0
"""Between shots: pixels, share, and shades of 256."""
HUNDREDS = r"cell(\d+)\d\d\."
"""Of a cell's name: cells of one module are in one or two of these."""


class Cells(NamedTuple):
    """Of a kind of module, by their numbers."""

    sound: ImageSource
    defective: ImageSource


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


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One fit, and what it says of a third of the cells."""

    data: str
    method: str
    third: int | None
    """Which one in order, from 0; None: drawn by chance."""
    grouped: bool
    """Whether hundreds of cells are kept together."""
    told: bool
    promised: float
    """Share of false alarms at most, of cells or of hundreds with one."""
    found: float
    """Share of false alarms among the cells of the third."""
    auroc: float | None
    """Of the third against defective cells of the same modules; None where there is none."""


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
    found = made.score(others, maps=False)
    return Row(
        method=method,
        shots=shots,
        grouped=grouped,
        seed=seed,
        pictures=len(given),
        told=told(made),
        promised=made.calibration.promised_fpr,
        found=false_alarms(found),
    )


def stretch(data: str, method: str, cells: Cells, third: int | None, *, grouped: bool) -> Stretch:
    """Fit on two thirds of the sound cells, and test the other one."""
    n = len(cells.sound)
    places = np.arange(n)
    if third is None:
        tested = np.random.default_rng(0).permutation(n)[: n // 3]
    else:
        tested = places[third * n // 3 : (third + 1) * n // 3]
    given = cells.sound.subset(np.setdiff1d(places, tested))
    names = [cells.sound.names[place] for place in tested]
    among = [min(names) <= name <= max(names) for name in cells.defective.names]
    made = Detector.fit(method, given, group_by=HUNDREDS if grouped else None)
    sound = made.score(cells.sound.subset(tested), maps=False)
    defective = made.score(cells.defective.subset(np.flatnonzero(among)), maps=False)
    labels = [False] * len(sound) + [True] * len(defective)
    return Stretch(
        data=data,
        method=method,
        third=third,
        grouped=grouped,
        told=told(made),
        promised=made.calibration.promised_fpr,
        found=false_alarms(sound),
        auroc=auroc(labels, [result.score for result in [*sound, *defective]]),
    )


def false_alarms(sound: Sequence[Result]) -> float:
    """Share of sound cells that are called anomalous."""
    return float(np.mean([result.decision == "anomalous" for result in sound]))


def told(made: Detector) -> bool:
    """Whether `fit` has said that pictures follow each other."""
    return "next to them" in made.provenance.get("calibration_pictures", "")


def in_order(data: str, folder: Path | None) -> Cells:
    """All cells of a kind of module, by their numbers; those of doubtful grade are left out."""
    split = DATASETS[data].read(folder)
    tested, anomalous = split.test.source, split.test.labels
    sound = [*split.train, *tested.subset(np.flatnonzero(~anomalous))]
    defective = tested.subset(np.flatnonzero(anomalous))
    ordered = (sorted(cells, key=lambda cell: cell.name) for cells in (sound, defective))
    return Cells(*map(ImageSource, ordered))


def shots_table(rows: Sequence[Row]) -> str:
    """Rows of the same cells, drawn with other seeds, are one line."""
    lines = []
    for kind, found in groupby(rows, lambda row: (row.shots, row.grouped, row.method)):
        same = list(found)
        rates = [row.found for row in same]
        lines.append(
            [
                str(kind[0]),
                "cell" if kind[1] else "picture",
                kind[2],
                f"{sum(row.told for row in same)} of {len(same)}",
                f"{same[0].promised:.1%}",
                f"{np.mean(rates):.1%} ({min(rates):.1%} to {max(rates):.1%})",
            ]
        )
    return table(["shots", "parted by", "method", "said", "promised", "found (range)"], lines)


def stretches_table(rows: Sequence[Stretch]) -> str:
    """A line for each fit."""
    lines = [
        [
            *(row.data, row.method, "by chance" if row.third is None else str(row.third + 1)),
            *("hundred" if row.grouped else "picture", "yes" if row.told else "no"),
            *(f"{row.promised:.1%}", f"{row.found:.1%}"),
            "" if row.auroc is None else f"{row.auroc:.3f}",
        ]
        for row in rows
    ]
    return table(
        ["data", "method", "third", "parted by", "said", "promised", "found", "AUROC"], lines
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="of elpv-dataset; left out: as installed")
    parser.add_argument("--methods", nargs="+", default=["reflect", "gaussian"])
    parser.add_argument("--shots", nargs="*", type=int, default=[1, 2, 3, 5], help="none: no part")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="of the shots")
    parser.add_argument(
        "--stretches", nargs="*", default=["elpv-mono", "elpv-poly"], help="none: no part"
    )
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    facts = machine()
    print(in_words(facts), flush=True)
    sound = DATASETS["elpv-mono"].read(options.folder).train
    thirds: Sequence[int | None] = (0, 1, 2, None)
    if options.quick:
        sound, options.methods = sound.subset(range(CELLS + 2)), ["mean_picture"]
        options.shots, options.seeds = [1, 2], [0]
        options.stretches, thirds = options.stretches[:1], thirds[:1]
    cells = [picture.load() for picture in sound]
    rows = [
        measure(method, cells, shots, grouped=grouped, seed=seed)
        for shots in options.shots
        for grouped in ((False, True) if shots > 1 else (False,))
        for method in options.methods
        for seed in options.seeds
    ]
    print(shots_table(rows), flush=True)
    stretches = [
        stretch(data, method, ordered, third, grouped=grouped)
        for data in options.stretches
        for ordered in [in_order(data, options.folder)]
        for method in options.methods
        for grouped in (False, True)
        for third in thirds
    ]
    print(stretches_table(stretches))
    if options.json:
        figures = {"rows": list(map(asdict, rows)), "stretches": list(map(asdict, stretches))}
        write_json(options.json, {"machine": facts, **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
