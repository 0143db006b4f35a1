"""How long are the methods, and what do they share?

A row is a method: lines of its file, the modules of the shared rooms that it imports and their
lines, lines of its tests, and of its page that are written by hand. Nobody has to read two files of
methods to understand one; this says how much else there is to read.

    python benchmarks/lines.py
    python benchmarks/lines.py --write

The second one writes docs/lines.md; a test says when that is behind.
"""

import argparse
import ast
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from measure import ROOT, table
from onlygood.methods import METHODS

SOURCE = ROOT / "src" / "onlygood"
ROOMS = ("networks", "losses", "core")
PAGE = ROOT / "docs" / "lines.md"
TEXT = """# How long methods are

Made by `make pages`; do not edit. Lines with comments and docstrings: of a method's file, of its
own tests, and of its page without what is made from the class and from records. Beside them the
shared modules that the file imports, and how many lines all of these have; of `core`, the
vocabulary, only how many modules. No method imports another one.

{table}

{words}
"""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method."""

    name: str
    lines: int
    shared: dict[str, list[str]]
    """Modules that its file imports, by room."""
    shared_lines: int
    """Of these modules, without `core`."""
    tests: int
    page: int
    """Without what comes from the class."""


def row(name: str) -> Row:
    """Count what belongs to a method."""
    file = SOURCE / "methods" / f"{name}.py"
    shared = {room: modules(file, room) for room in ROOMS}
    files = [SOURCE / room / f"{one}.py" for room in ROOMS[:2] for one in shared[room]]
    page = (ROOT / "docs" / "methods" / f"{name}.md").read_text("utf-8")
    return Row(
        name=name,
        lines=length(file),
        shared=shared,
        shared_lines=sum(map(length, files)),
        tests=length(ROOT / "tests" / "methods" / f"test_{name}.py"),
        page=len(_by_hand()(page).splitlines()),
    )


def modules(file: Path, room: str) -> list[str]:
    """Modules of a room that a file imports from, in order."""
    package = f"onlygood.{room}."
    nodes = ast.walk(ast.parse(file.read_text("utf-8")))
    sources = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return sorted(name.removeprefix(package) for name in sources if name.startswith(package))


def length(file: Path) -> int:
    """Lines of a module, a file or a folder of files; 0 where there is none."""
    files = [file] if file.exists() else file.with_suffix("").glob("*.py")
    return sum(len(one.read_text("utf-8").splitlines()) for one in files)


def page() -> str:
    """docs/lines.md."""
    rows = [row(name) for name in METHODS]
    heads = ("method", "lines", "networks", "losses", "their lines", "core", "tests", "page")
    cells = [
        (
            f"[`{one.name}`](methods/{one.name}.md)",
            str(one.lines),
            *(", ".join(one.shared[room]) for room in ROOMS[:2]),
            str(one.shared_lines),
            str(len(one.shared["core"])),
            str(one.tests),
            str(one.page),
        )
        for one in rows
    ]
    middle = {
        what: statistics.median(getattr(one, what) for one in rows)
        for what in ("lines", "tests", "page")
    }
    totals = {room: sum(map(length, (SOURCE / room).rglob("*.py"))) for room in ROOMS}
    return TEXT.format(
        table=table(heads, cells),
        words=(
            f"{len(rows)} methods; half of the files have at most {middle['lines']:.0f} lines, of "
            f"their tests {middle['tests']:.0f}, of the pages {middle['page']:.0f}. All of "
            + ", ".join(f"`{room}` has {lines:,}" for room, lines in totals.items())
            + " lines."
        ),
    )


@cache
def _by_hand() -> Callable[[str], str]:
    """What the script says that knows which parts of pages are made."""
    sys.path.append(str(ROOT / "docs" / "make"))  # Scripts there import each other.
    from pages import by_hand

    return by_hand


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the page, or write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="docs/lines.md")
    if parser.parse_args(arguments).write:
        PAGE.write_text(page(), "utf-8")
    else:
        print(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
