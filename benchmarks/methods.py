"""How fast do all methods learn and score, side by side?

Each with its preset for minutes on a processor (`small`, else `default`), at 32 and at 64 px, on
grey random pictures that lie in memory. All methods of a size take turns, round by round, in one
process; the ratio to `autoencoder` is that of the same round, so that a drift of the machine meets
both alike.

Learning is what one more step costs, all updates of it: the time of a run of twice as many steps
less that of a run, so that what is done once is in neither. Images/s are pictures of a batch by
that. Methods that learn in one pass are timed as a whole. Scoring goes through the detector, in
batches; who searches for each picture is given fewer of them.

    python benchmarks/methods.py --json results/methods-cpu.json
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from measure import Spread, in_words, machine, table, write_json
from onlygood import Detector, ImageSource
from onlygood.core.method import InputShape
from onlygood.core.resolving import BUDGETS
from onlygood.core.settings import Training
from onlygood.data.store import PictureStore
from onlygood.detector.learning import settings_of
from onlygood.methods import METHODS
from onlygood.training import Trainer
from scoring import drain

REFERENCE = "autoencoder"
"""Whose speed is 1."""
PICTURES = 128
"""To learn from; their content does not change the work."""
SIZES = (32, 64)
BATCH = 32
SCORED = {False: 96, True: 4}
"""Pictures of a round of scoring: of methods that do not search, and of those that do."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method at one size; rates in images/s."""

    method: str
    preset: str
    size: int
    in_steps: bool
    """Whether it learns by gradient steps; else in one pass."""
    searches: bool
    learning: Spread
    learning_ratio: Spread | None
    """To the reference, round by round; above 1 it is faster. None for those of one pass."""
    scoring: Spread
    scoring_ratio: Spread
    seconds_per_picture: Spread
    """Of scoring, in batches."""


class Turn:
    """One method at one size, ready to be timed again and again."""

    def __init__(self, name: str, size: int, steps: int, settings: Mapping[str, object]) -> None:
        self.name, self.size, self.steps = name, size, steps
        self.kind = METHODS[name]
        self.preset = "small" if "small" in self.kind.presets else "default"
        self.in_steps = any(key in self.kind.presets["default"].training for key in BUDGETS)
        chosen = {"size": size, "channels": 1, **(settings if self.in_steps else {})}
        if self.in_steps:
            chosen |= {"batch_size": BATCH, "steps": 2}
        random = np.random.default_rng(0)
        self.pictures: NDArray[np.uint8] = random.integers(0, 256, (PICTURES, size, size), np.uint8)
        self.resolved = settings_of(name, self.preset, chosen)
        self.store = PictureStore(ImageSource.of(self.pictures), self.resolved.view)
        self.store.fill()
        self.detector = Detector.fit(
            name, self.pictures[:16], preset=self.preset, settings={**chosen, "batch_size": 2}
        )
        self.trained(steps)  # To warm up.

    def learning(self) -> float:
        """Images/s."""
        longer, seconds = self.trained(2 * self.steps)
        if not self.in_steps:
            return PICTURES / seconds
        # As many as were made: stages share a budget, and each rounds up.
        shorter, less = self.trained(self.steps)
        return BATCH * (longer - shorter) / (seconds - less)

    def trained(self, steps: int) -> tuple[int, float]:
        """Train a fresh network; steps and seconds that it took."""
        view = self.resolved.view
        method = self.kind(self.resolved.config, InputShape(view.channels, *view.sides))
        training = Training(steps=steps, batch_size=BATCH)
        began = time.perf_counter()
        history = Trainer(training).fit(method, self.store)
        return history.steps, time.perf_counter() - began

    def scoring(self) -> float:
        """Images/s."""
        count = SCORED[self.kind.searches]
        return count / drain(self.detector, list(self.pictures[:count]), maps=False)


def measure(
    size: int, names: Sequence[str], rounds: int, steps: int, settings: Mapping[str, object]
) -> list[Row]:
    """Alternating rounds of all methods at one size; the reference is one of them."""
    turns = [Turn(name, size, steps, settings) for name in names]
    learnt: dict[str, list[float]] = {name: [] for name in names}
    scored: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        for turn in turns:
            learnt[turn.name].append(turn.learning())
            scored[turn.name].append(turn.scoring())
        print(f"{size} px: round {number + 1} of {rounds}", file=sys.stderr)

    def ratio(rates: Mapping[str, list[float]], name: str) -> Spread:
        pairs = zip(rates[name], rates[REFERENCE], strict=True)
        return Spread.of([rate / reference for rate, reference in pairs])

    return [
        Row(
            method=turn.name,
            preset=turn.preset,
            size=size,
            in_steps=turn.in_steps,
            searches=turn.kind.searches,
            learning=Spread.of(learnt[turn.name]),
            learning_ratio=ratio(learnt, turn.name) if turn.in_steps else None,
            scoring=Spread.of(scored[turn.name]),
            scoring_ratio=ratio(scored, turn.name),
            seconds_per_picture=Spread.of([1 / rate for rate in scored[turn.name]]),
        )
        for turn in turns
    ]


def cells(row: Row) -> tuple[str, ...]:
    """A row in words."""

    def rate(spread: Spread) -> str:
        return format(spread, ",.0f" if spread.median >= 10 else ".2g")

    return (
        f"{row.size} px",
        row.method,
        "steps" if row.in_steps else "one pass",
        rate(row.learning),
        "" if row.learning_ratio is None else f"{row.learning_ratio:.2f}",
        rate(row.scoring),
        f"{row.scoring_ratio:.2g}",
        f"{row.seconds_per_picture:.2g}" if row.searches else "",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all methods at both sizes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10, help="of learning, see above")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    names, sizes, rounds, steps = options.methods, options.sizes, options.rounds, options.steps
    settings: dict[str, Any] = {}
    if options.quick:
        names, sizes, rounds, steps, settings = ["pca", "vae_grad"], [32], 1, 1, {"width": 2}
    names = list(dict.fromkeys([REFERENCE, *names]))
    facts = machine()
    print(in_words(facts))
    print(
        f"precision auto, batch {BATCH}, grey, {rounds} rounds, median (min–max); ratios are to "
        f"{REFERENCE}, round by round; learning: of one step, all its updates\n"
    )
    rows = [row for size in sizes for row in measure(size, names, rounds, steps, settings)]
    heads = ("size", "method", "learns in", "learning, images/s", "ratio", "scoring, images/s")
    print(table((*heads, "ratio", "searching, s a picture"), list(map(cells, rows))))
    if options.json:
        how = {
            **{"precision": "auto", "batch_size": BATCH, "channels": 1, "pictures": PICTURES},
            **{"rounds": rounds, "steps": steps, "reference": REFERENCE},
        }
        write_json(
            options.json, {"machine": facts, "settings": how, "rows": list(map(asdict, rows))}
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
