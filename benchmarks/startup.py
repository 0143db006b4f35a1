"""How long until the command line answers?

Commands take turns, and each runs once before, so that files are in the disk cache.

    python benchmarks/startup.py --json startup.json
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from measure import Spread, in_words, machine, table, write_json

BARE = "python -c pass"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One command."""

    command: str
    seconds: Spread
    beyond_python: float
    """Median less that of bare Python, in seconds."""
    aim: float | None
    """What we want it to stay under, in seconds; of `import`, beyond bare Python."""


def commands() -> dict[str, tuple[list[str], float | None]]:
    """What is run, by what it is called, with its aim; the aim for `import` is beyond Python."""
    script = Path(sys.executable).with_name("onlygood")
    # Not installed beside this Python: the module costs the same within milliseconds.
    onlygood = [str(script)] if script.exists() else [sys.executable, "-m", "onlygood.cli"]
    return {
        BARE: ([sys.executable, "-c", "pass"], None),
        "python -c 'import onlygood'": ([sys.executable, "-c", "import onlygood"], 0.1),
        "onlygood --help": ([*onlygood, "--help"], 0.3),
        "onlygood fit --help": ([*onlygood, "fit", "--help"], 0.5),
    }


def measure(times: int) -> list[Row]:
    """Run every command in turn, `times` times after one to warm up."""
    chosen = commands()
    taken: dict[str, list[float]] = {name: [] for name in chosen}
    for turn in range(times + 1):
        for name, (words, _) in chosen.items():
            began = time.perf_counter()
            subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
            if turn:
                taken[name].append(time.perf_counter() - began)
    spreads = {name: Spread.of(values) for name, values in taken.items()}
    return [
        Row(
            command=name,
            seconds=spread,
            beyond_python=spread.median - spreads[BARE].median,
            aim=chosen[name][1],
        )
        for name, spread in spreads.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="run each command once")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    times = 1 if options.quick else options.times
    rows = measure(times)
    facts = machine()
    print(in_words(facts))
    print(f"{times} runs of each in turn, warm disk; median (min–max)\n")
    print(
        table(
            ("command", "seconds", "beyond bare Python", "aim"),
            [
                (
                    f"`{row.command}`",
                    f"{row.seconds:.3f}",
                    f"{row.beyond_python:.3f}",
                    "–" if row.aim is None else f"under {row.aim:g}",
                )
                for row in rows
            ],
        )
    )
    if options.json:
        figures = {"machine": facts, "times": times, "rows": [asdict(row) for row in rows]}
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
