"""The log of a run, and what it says about the game in words.

A record is a dict: `stage`, `step`, `images`, `seconds`, `images_per_second`, then for each update
`UPDATE/TERM` (batch mean of the term before its weight) and `UPDATE/gradient_norm`, and now and
then `validation/TERM` (mean score part of held-out normal pictures).
"""

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path
from statistics import mean, variance
from typing import NamedTuple, TextIO

from onlygood.core.errors import ModelFileError

Record = dict[str, int | float | str]

SWING = 0.1
"""Of its mean, by which a curve that has settled no longer goes up and down."""
ALL_ALIKE = 3
"""How many batches at least tell that a critic says the same of everything."""
LOOKS, PARTS = 5, 6
"""How many looks at held-out pictures, or means over batches, are the end of a curve at least."""


class Log:
    """Keeps records in memory, and as JSON lines on disk when there is a run folder."""

    def __init__(self, path: Path | None, records: Sequence[Record] = ()) -> None:
        """Begin the file, in a folder that is made where it is missing.

        Raises:
            ModelFileError: it cannot be written.
        """
        self.records: list[Record] = []
        self._path = path
        self._file: TextIO | None = None
        if path is not None:
            with self._writing():
                path.parent.mkdir(parents=True, exist_ok=True)
                # Rewritten on resume: lines after the checkpoint are of steps that are run again.
                self._file = path.open("w", encoding="utf-8")
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Append a record, without what is no number: it says nothing, and JSON has none.

        Raises:
            ModelFileError: it cannot be written; the records in memory have it.
        """
        kept = {k: v for k, v in record.items() if isinstance(v, str) or math.isfinite(v)}
        self.records.append(kept)
        if self._file is not None:
            with self._writing():
                self._file.write(json.dumps(kept) + "\n")
                self._file.flush()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with suppress(OSError):  # What could not be written was said so.
                self._file.close()
            self._file = None

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.close()
            raise ModelFileError(
                f"cannot write the log {self._path}: {error.strerror or error}; free some space or "
                "name another folder with --run-dir"
            ) from error


class Verdict(NamedTuple):
    """Whether the run looks sound, and why, in words."""

    healthy: bool
    words: str


FINITE = "all losses are finite; whether anything was learnt is not judged"
WITHOUT_STEPS = "learnt from the pictures directly, without training steps that could go wrong"


def verdict(records: Sequence[Record]) -> Verdict:
    """Read a finished run's log.

    Each stage is judged by its own records; what held-out pictures score speaks for the last one
    alone. Thresholds are rules of thumb, wide enough that a run they fault is worth a look.
    """
    parts = [list(part) for _, part in groupby(records, key=lambda record: record["stage"])]
    stages = [part for part in parts if names(part)]
    if not stages:
        return Verdict(True, WITHOUT_STEPS)
    complaints = []
    for number, stage in enumerate(stages, 1):
        unlearned = _unlearned(stage)
        found = [*_dead(stage), *unlearned, *_collapsed(stage), *_indifferent(stage)]
        if number == len(stages):
            # What swings may well be far from its best, and has learnt nothing by heart; no more
            # has what does not give back what it learns from.
            found += _unsettled(stage) or ([] if unlearned else _overfitted(stage))
        where = f"stage {stage[0]['stage']}: " if len(stages) > 1 else ""
        complaints += [where + complaint for complaint in found]
    if complaints:
        return Verdict(False, "; ".join(complaints))
    return Verdict(True, "training looks sound: " + (_progress(stages[-1]) or FINITE))


def curves(records: Sequence[Record]) -> dict[str, list[tuple[int, float]]]:
    """`(step of the run, value)` of each entry that is a curve, all stages one after another."""
    found: dict[str, list[tuple[int, float]]] = {name: [] for name in names(records)}
    before = 0
    for _, stage in groupby(records, key=lambda record: record["stage"]):
        last = 0
        for record in stage:
            step = int(record["step"])
            last = max(last, step)  # A pass behind the steps is at step 0.
            for name in found.keys() & record.keys():
                found[name].append((before + step, float(record[name])))
        before += last
    return found


def series(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """`(step, value)` of one entry of a stage, where it was recorded."""
    return [(int(record["step"]), float(record[name])) for record in records if name in record]


def names(records: Sequence[Record]) -> list[str]:
    """Entries that are curves: all with a slash, in order of appearance."""
    return list(dict.fromkeys(name for record in records for name in record if "/" in name))


def _ends(records: Sequence[Record], name: str) -> tuple[float, float] | None:
    """First value and mean of the last fifth; None when there is too little to say anything."""
    values = [value for _, value in series(records, name)]
    if len(values) < 5:
        return None
    tail = values[-max(1, len(values) // 5) :]
    return values[0], sum(tail) / len(tail)


def _reconstructions(records: Sequence[Record]) -> list[str]:
    return [n for n in names(records) if n.endswith(("/reconstruction", "/consistency_x"))]


def _progress(records: Sequence[Record]) -> str:
    for name in _reconstructions(records):
        if ends := _ends(records, name):
            return f"{name} fell from {ends[0]:.3g} to {ends[1]:.3g}"
    return ""


def _dead(records: Sequence[Record]) -> list[str]:
    return [
        f"no gradient is left ({name} is 0): the networks are saturated and have stopped learning; "
        "take another seed or a lower learning rate"
        for name in names(records)
        if name.endswith("/gradient_norm") and (ends := _ends(records, name)) and ends[1] == 0
    ]


def _unlearned(records: Sequence[Record]) -> list[str]:
    complaints = []
    for name in _reconstructions(records):
        if (ends := _ends(records, name)) and ends[1] > 0.9 * ends[0]:
            # What rises goes too far with each step, or something else moves it.
            how = "lower" if ends[1] > 1.1 * ends[0] else "higher"
            complaints.append(
                f"{name} did not fall ({ends[0]:.3g} at first, {ends[1]:.3g} at the end): the "
                f"networks do not learn to give pictures back; train longer, at a {how} learning "
                "rate or, where it has a weight, with a larger one"
            )
    return complaints


ALIKE = {
    # Of the pixel range.
    "diversity": (0.01, "generated pictures are all alike", "the generator has collapsed"),
    # Of what they should have.
    "code_spread": (0.02, "all pictures have one code", "the encoder has collapsed"),
    "reconstruction_spread": (
        0.02,
        "all pictures are given back alike",
        "nothing of a picture comes through",
    ),
}
"""Entries that tell how far apart what a network gives is, below what they tell of a collapse, and
that in words."""


def _collapsed(records: Sequence[Record]) -> list[str]:
    complaints = []
    for name in names(records):
        entry, ends = name.rpartition("/")[2], _ends(records, name)
        if entry not in ALIKE or ends is None or ends[1] >= ALIKE[entry][0]:
            continue
        least, seen, meaning = ALIKE[entry]
        when, change = "", "take a lower"
        if ends[0] < least:
            # Rates may be too low as well, or steps too few.
            when, change = ", as at first", "train longer, or take another"
            if entry != "diversity":  # Pictures that are equal have equal codes.
                meaning += ", or the pictures to learn from are all alike"
            meaning += ", or nothing is learnt yet"
        complaints.append(
            f"{seen} ({name} is {ends[1]:.2g}{when}): {meaning}; {change} learning rate, another "
            "seed or, where there are such weights, a stronger penalty or more weight on "
            "consistency"
        )
    for name in names(records):
        if name.endswith("/real"):
            real, fake = _ends(records, name), _ends(records, name[:-4] + "fake")
            if real and fake and abs(real[1] - fake[1]) > 1e4 * max(1, abs(real[0] - fake[0])):
                complaints.append(
                    f"the critic's gap ran away ({abs(real[1] - fake[1]):.3g}): take a lower "
                    "learning rate or, where there is one, a stronger penalty"
                )
    return complaints


def _indifferent(records: Sequence[Record]) -> list[str]:
    """Of critics that say the same of everything, as units that are off say nothing.

    Values of one that tells pictures apart are never equal to six digits in so many batches.
    """
    complaints = []
    for name in names(records):
        if not name.endswith("/real"):
            continue
        fake = name[:-4] + "fake"
        pairs = [(float(r[name]), float(r[fake])) for r in records if name in r and fake in r]
        end = pairs[-max(ALL_ALIKE, len(pairs) // 5) :]
        if len(pairs) >= 5 and all(math.isclose(*pair, rel_tol=1e-6) for pair in end):
            complaints.append(
                f"the critic says the same of what is real and what is made ({name} and {fake} are "
                f"both {end[-1][0]:.3g}): it has died; take a lower learning rate or another seed"
            )
    return complaints


def _looks(records: Sequence[Record]) -> list[str]:
    """Entries of held-out pictures that speak for what is left of the run.

    A pass at the end of a stage may change what scores are made of, statistics of normalisation
    for example. There are looks before and after it, in the same step, and where they differ those
    before it have been at something else. The whole score comes first where it speaks.
    """
    speaking = []
    for name in names(records):
        last = series(records, name)[-2:]
        changed = len(last) == 2 and last[0][0] == last[1][0] and last[0][1] != last[1][1]
        if name.startswith("validation/") and not changed:
            speaking.append(name)
    return ["validation/total"] if "validation/total" in speaking else speaking


def _overfitted(records: Sequence[Record]) -> list[str]:
    complaints = []
    for name in _looks(records):
        values = [value for _, value in series(records, name)]
        # "So many times as large" means nothing of scores that can be zero or negative.
        if len(values) >= 5 and values[-1] > 1.5 * min(values) > 0:
            complaints.append(
                f"held-out normal pictures score {values[-1] / min(values):.3g} times their best: "
                "the networks learn the training pictures by heart or, where these score as high, "
                "have not settled; train shorter or on more or, in the second case, longer at a "
                "lower learning rate"
            )
    return complaints


def _unsettled(records: Sequence[Record]) -> list[str]:
    curves = {name: _end_of(records, name, LOOKS) for name in _looks(records)}
    sizes = {name: SWING * mean(values) for name, values in curves.items() if values}
    if not sizes:
        # Batches differ besides: means of some of them are compared, and what may be chance is not.
        for name in _reconstructions(records):
            values = _end_of(records, name, PARTS * 3)
            if values:
                each = len(values) // PARTS
                parts = [values[i : i + each] for i in range(0, each * PARTS, each)]
                chance = math.sqrt(mean(variance(part) for part in parts) / each)
                curves[name] = [mean(part) for part in parts]
                sizes[name] = max(SWING * mean(values), 4 * chance)
    return [
        f"{name} still goes up and down by {size:.2g} or more at the end: the networks have not "
        "settled, and a little shorter or longer they would give other scores; train longer, with "
        "a learning rate that is lower or falls to 0 or, of methods that have them, with averaged "
        "weights"
        for name, size in sizes.items()
        if _legs(curves[name], size) >= 3
    ]


def _end_of(records: Sequence[Record], name: str, least: int) -> list[float]:
    """The last third of a curve, `least` values or more; none of a curve that is too short for it.

    Nor of values that may be 0 or negative, of which no share says anything.
    """
    values = [value for _, value in series(records, name)]
    end = values[-max(least, len(values) // 3) :]
    return end if len(values) >= 1.5 * least and min(end) > 0 else []


def _legs(values: Sequence[float], size: float) -> int:
    """How often a curve goes up or down by at least `size`, alternately."""
    low = high = values[0]
    up: bool | None = None
    legs = 0
    for value in values:
        if up is not True and value >= low + size:
            up, high, legs = True, value, legs + 1
        elif up is not False and value <= high - size:
            up, low, legs = False, value, legs + 1
        low, high = min(low, value), max(high, value)
    return legs
