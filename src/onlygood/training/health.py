"""The log of a run, and what it says about the game in words.

A record is a dict: `stage`, `step`, `images`, `seconds`, `images_per_second`, then for each update
`UPDATE/TERM` (batch mean of the term before its weight) and `UPDATE/gradient_norm`, and now and
then `validation/TERM` (mean score part of held-out normal pictures).
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

Record = dict[str, int | float | str]


class Log:
    """Keeps records in memory, and as JSON lines on disk when there is a run folder."""

    def __init__(self, path: Path | None, records: Sequence[Record] = ()) -> None:
        self.records: list[Record] = list(records)
        self._file = None
        if path is not None:
            # Rewritten on resume: lines after the checkpoint belong to steps that are run again.
            self._file = path.open("w", encoding="utf-8")
            for record in self.records:
                self._write(record)

    def add(self, record: Record) -> None:
        """Append a record."""
        self.records.append(record)
        self._write(record)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, record: Record) -> None:
        if self._file is not None:
            # JSON has no NaN; a value that is none is left out rather than made invalid.
            kept = {k: v for k, v in record.items() if isinstance(v, str) or math.isfinite(v)}
            self._file.write(json.dumps(kept) + "\n")
            self._file.flush()


class Verdict(NamedTuple):
    """Whether the run looks sound, and why, in words."""

    healthy: bool
    words: str


def verdict(records: Sequence[Record]) -> Verdict:
    """Read a finished run's log.

    Compares the mean of the last fifth with the beginning; thresholds are rules of thumb, wide
    enough that a run they fault is worth a look.
    """
    complaints = [
        *_dead(records),
        *_unlearned(records),
        *_collapsed(records),
        *_overfitted(records),
    ]
    if not any("/" in name for record in records for name in record):
        return Verdict(True, "fitted without gradient steps")
    if complaints:
        return Verdict(False, "; ".join(complaints))
    return Verdict(True, "training looks sound: " + (_progress(records) or "all losses finite"))


def series(records: Sequence[Record], name: str) -> list[tuple[int, float]]:
    """`(step, value)` of one entry, where it was recorded."""
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
        "take another seed, a lower lr or another initialisation"
        for name in names(records)
        if name.endswith("/gradient_norm") and (ends := _ends(records, name)) and ends[1] == 0
    ]


def _unlearned(records: Sequence[Record]) -> list[str]:
    return [
        f"{name} did not fall ({ends[0]:.3g} at first, {ends[1]:.3g} at the end): the networks "
        "do not learn to give pictures back; train longer, raise lr, or give the consistency "
        "term more weight"
        for name in _reconstructions(records)
        if (ends := _ends(records, name)) and ends[1] > 0.9 * ends[0]
    ]


def _collapsed(records: Sequence[Record]) -> list[str]:
    complaints = []
    for name in names(records):
        ends = _ends(records, name)
        if name.endswith("/diversity") and ends and ends[1] < 0.01:
            complaints.append(
                f"generated pictures are all alike (spread {ends[1]:.2g} of the pixel range): "
                "the generator has collapsed; lower lr or raise the penalty's weight"
            )
    for name in names(records):
        if name.endswith("/real"):
            real, fake = _ends(records, name), _ends(records, name[:-4] + "fake")
            if real and fake and abs(real[1] - fake[1]) > 1e4 * max(1, abs(real[0] - fake[0])):
                complaints.append(
                    f"the critic's gap ran away ({abs(real[1] - fake[1]):.3g}): raise the "
                    "penalty's weight or lower lr"
                )
    return complaints


def _overfitted(records: Sequence[Record]) -> list[str]:
    complaints = []
    for name in names(records):
        values = [value for _, value in series(records, name)]
        # "So many times as large" means nothing of scores that can be zero or negative.
        if name == "validation/total" and len(values) >= 5 and values[-1] > 1.5 * min(values) > 0:
            complaints.append(
                f"held-out normal pictures score {values[-1] / min(values):.1f} times their best: "
                "the networks learn the training pictures by heart; train shorter or on more"
            )
    return complaints
