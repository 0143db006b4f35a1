"""Who is told what: answers on standard output, everything else on standard error."""

import io
import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any, final

import typer

from onlygood.core.errors import OnlygoodError
from onlygood.core.text import figure, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

    from onlygood.training.reporting import Reporter

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object, and words on standard error.")
]
Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no notes; results stay.")
]
Force = Annotated[bool, typer.Option("--overwrite", "-f", help="Replace an existing model.")]


WIDE = 1000
"""Columns of a table that nobody looks at in a terminal."""


class OutputError(OnlygoodError):
    """Standard output takes no more."""


@final
class Voice:
    """How a verb speaks.

    With `json` standard output gets exactly one JSON object, from `answer`, and `show` is silent;
    without, standard output gets what `show` is given. Words and progress go to standard error,
    unless `quiet`. What a terminal would obey comes out as escapes: names of files are the words of
    others.
    """

    def __init__(self, *, json: bool = False, quiet: bool = False) -> None:
        self.json = json
        # Under torchrun all processes run the same verb; one speaks.
        self.first = os.environ.get("RANK", "0") == "0"
        self.quiet = quiet or not self.first

    def say(self, words: str) -> None:
        """A sentence for the user."""
        if words and not self.quiet:
            _tell(words)

    def error(self, words: str) -> None:
        """What went wrong; never quiet."""
        _tell(f"error: {words}")

    def show(self, *answers: "str | Table", alarm: bool = False) -> None:
        """The answer for people: lines and tables; an `alarm` is red where there are colours.

        Raises:
            OutputError: standard output takes no more.
        """
        if not self.json and self.first:
            from rich.console import Console

            # In a file or a pipe nothing asks for folding, and a folded path is no path.
            console = Console(width=None if sys.stdout.isatty() else WIDE)
            with _output():
                for answer in answers:
                    plain = visible(answer) if isinstance(answer, str) else answer
                    console.print(
                        plain,
                        style="bold red" if alarm else None,
                        highlight=False,
                        markup=False,
                        soft_wrap=True,
                    )

    def answer(self, data: Mapping[str, Any], **lists: Iterable[Mapping[str, Any]]) -> None:
        """The answer for programs; numbers that JSON does not know become null.

        Args:
            data: One object with an entry or more.
            lists: Further entries of it, which need not be in memory.

        Raises:
            OutputError: standard output takes no more.
        """
        if self.json and self.first:
            with _output():
                text = json.dumps(jsonable(data), allow_nan=False, indent=2)
                print(text.removesuffix("\n}"), end="")
                for name, items in lists.items():
                    print(f',\n  "{name}": [', end="")
                    for i, item in enumerate(items):
                        line = json.dumps(jsonable(item), allow_nan=False)
                        print(f"{',' if i else ''}\n    {line}", end="")
                    print("\n  ]", end="")
                print("\n}")

    def reporter(self) -> "Reporter":
        """Who hears of the training."""
        from onlygood.training.reporting import ProgressBar, Silent

        return Silent() if self.quiet else ProgressBar(self._console())

    def progress(self) -> "Progress":
        """A bar for a loop over pictures; without a terminal nothing is drawn."""
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        console = self._console()
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=self.quiet or not console.is_terminal,
        )

    def _console(self) -> "Console":
        from rich.console import Console

        return Console(stderr=True)


def prepare_streams() -> None:
    """Make standard streams take whatever is said, where they are closed or narrow.

    Closed ones lead nowhere, and what their encoding lacks comes out as an escape.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # Takes the number, which no file should get by accident.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))
        stream = getattr(sys, name)
        if mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def give_up_output() -> None:
    """Lead standard output nowhere: Python would complain once more at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _tell(words: str) -> None:
    with suppress(OSError):  # Nobody can be told that nobody can be told.
        print(visible(words), file=sys.stderr, flush=True)


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"cannot write to standard output: {error.strerror}") from error


def table(*columns: str, rows: Sequence[Sequence[object]], title: str | None = None) -> "Table":
    """A table of text; columns of numbers are set flush right."""
    from rich import box
    from rich.table import Table

    # As text: a name with brackets would be taken for a style, and not shown.
    head = None if title is None else _plain(title)
    sheet = Table(box=box.SIMPLE_HEAD, title=head, title_justify="left", pad_edge=False)
    for column, cells in zip(
        columns, zip(*rows, strict=True) if rows else [()] * len(columns), strict=True
    ):
        numbers = all(isinstance(cell, int | float) for cell in cells)
        sheet.add_column(_plain(column), justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        sheet.add_row(*(_plain(cell) for cell in row))
    return sheet


def jsonable(value: Any) -> Any:
    """`value` with everything that JSON cannot say replaced: NaN and infinities by null."""
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _plain(cell: object) -> Any:
    from rich.text import Text

    if isinstance(cell, float):
        return Text(figure(cell))
    return Text(visible(str(cell)).replace("\n", "\\n"))
