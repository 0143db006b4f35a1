"""How long until the command line answers?

Commands take turns, and each runs once before, so that files are in the disk cache.

    python benchmarks/startup.py --json startup.json
    python benchmarks/startup.py --times 15 --beside f669e18

The second one sets the source of another commit beside this one, with the same packages; all take
turns, and the ratio of their medians is what a change of ours made of it.
"""

import argparse
import io
import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import ROOT, Spread, in_words, machine, table, write_json

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
    other: Spread | None = None
    """Of the other commit, in seconds."""

    @property
    def ratio(self) -> float | None:
        """Of the medians, this one by the other."""
        return None if self.other is None else self.seconds.median / self.other.median


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


@contextmanager
def source_of(commit: str) -> Iterator[Path]:
    """The source of another commit, in a temporary folder."""
    packed = subprocess.run(
        ["git", "archive", commit, "src"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder, "src")


def measure(times: int, other: Path | None = None) -> list[Row]:
    """Run every command in turn, `times` times after one to warm up; beside it the other source."""
    chosen = commands()
    sources = [ROOT / "src", *([other] if other else [])]
    taken: dict[str, list[list[float]]] = {name: [[] for _ in sources] for name in chosen}
    for turn in range(times + 1):
        for name, (words, _) in chosen.items():
            for source, seconds in zip(sources, taken[name], strict=True):
                environment = {**os.environ, "PYTHONPATH": str(source)}
                began = time.perf_counter()
                subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=environment)
                if turn:
                    seconds.append(time.perf_counter() - began)
    spreads = {name: [Spread.of(values) for values in both] for name, both in taken.items()}
    return [
        Row(
            command=name,
            seconds=here,
            beyond_python=here.median - spreads[BARE][0].median,
            aim=chosen[name][1],
            other=beside[0] if beside else None,
        )
        for name, (here, *beside) in spreads.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="run each command once")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    parser.add_argument("--beside", metavar="COMMIT", help="run the source of this one, too")
    options = parser.parse_args(arguments)
    times = 1 if options.quick else options.times
    facts = machine()
    print(in_words(facts))
    with source_of(options.beside) if options.beside else nullcontext() as other:
        rows = measure(times, other)
    print(f"{times} runs of each in turn, warm disk; median (min–max)\n")
    print(
        table(
            ("command", "seconds", "beyond bare Python", "aim", options.beside or "other", "ratio"),
            [
                (
                    f"`{row.command}`",
                    f"{row.seconds:.3f}",
                    f"{row.beyond_python:.3f}",
                    "–" if row.aim is None else f"under {row.aim:g}",
                    "–" if row.other is None else f"{row.other:.3f}",
                    "–" if row.ratio is None else f"{row.ratio:.2f}",
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
