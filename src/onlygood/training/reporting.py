"""Who hears of a run's progress while it goes on."""

from collections.abc import Mapping
from typing import Protocol, final, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from onlygood.core.text import visible
from onlygood.training import health


@runtime_checkable
class Reporter(Protocol):
    """What the trainer tells, as it happens."""

    def start(self, words: str) -> None:
        """A stage begins."""

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """`share` of the stage's budget, in [0, 1], is used up; `terms` are the newest values."""

    def record(self, record: health.Record) -> None:
        """A line of the log, see `onlygood.training.health`."""

    def note(self, words: str) -> None:
        """A sentence for the user."""

    def finish(self) -> None:
        """The stage is over, or given up."""


class Silent:
    """Tells nobody."""

    def start(self, words: str) -> None:
        """Nothing."""

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Nothing."""

    def record(self, record: health.Record) -> None:
        """Nothing."""

    def note(self, words: str) -> None:
        """Nothing."""

    def finish(self) -> None:
        """Nothing."""


@final
class Once:
    """Passes on what it hears, the same note a single time."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._noted: set[str] = set()

    def start(self, words: str) -> None:
        """Passed on."""
        self._reporter.start(words)

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Passed on."""
        self._reporter.advance(share, images_per_second, terms)

    def record(self, record: health.Record) -> None:
        """Passed on."""
        self._reporter.record(record)

    def note(self, words: str) -> None:
        """Passed on, if it is new."""
        if words not in self._noted:
            self._noted.add(words)
            self._reporter.note(words)

    def finish(self) -> None:
        """Passed on."""
        self._reporter.finish()


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.fields['rate']:,.0f} images/s")


class ProgressBar:
    """A line with a bar, images per second, time left and the newest losses."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._progress: Progress | None = None

    def start(self, words: str) -> None:
        """Show the line."""
        self.finish()
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=False),
            _Rate(),
            TextColumn("{task.fields[terms]}", style="dim"),
            console=self.console,
            # Without a terminal the line would be repeated into a log file, or not be seen.
            disable=not self.console.is_terminal,
        )
        self._progress.add_task(words, total=1.0, rate=0.0, terms="")
        self._progress.start()

    def advance(self, share: float, images_per_second: float, terms: Mapping[str, float]) -> None:
        """Move the bar."""
        if self._progress is not None:
            shown = "  ".join(f"{name} {value:.3g}" for name, value in list(terms.items())[:3])
            self._progress.update(
                self._progress.task_ids[0],
                completed=min(share, 1.0),
                rate=images_per_second,
                terms=shown,
            )

    def record(self, record: health.Record) -> None:
        """Nothing: `advance` shows the newest values."""

    def note(self, words: str) -> None:
        """Print a sentence above the bar."""
        self.console.print(visible(words), highlight=False, markup=False, soft_wrap=True)

    def finish(self) -> None:
        """Leave the line as it is."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
