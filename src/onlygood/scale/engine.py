"""What engines have in common: units that are given out, and again when they fail."""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import NamedTuple, Protocol, final, runtime_checkable

from onlygood.core.errors import ModelFileError, in_a_line
from onlygood.scale.places import OutputError
from onlygood.scale.units import Unit
from onlygood.scale.work import Task, Worker

TRIES = 3
"""Of a unit, until it is given up: whatever fails once may be the machine's fault."""


class Outcome(NamedTuple):
    """A unit that is done, or was given up."""

    unit: Unit
    error: str | None = None
    """What it failed of the last time; None: it is done."""


Outcomes = Generator[Outcome, None, None]
"""Closed, it ends what is under way."""


@runtime_checkable
class Engine(Protocol):
    """Has units done, wherever that is."""

    def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
        """Have each unit done, in any order.

        Raises:
            OutputError, ModelFileError: no unit can be done any more; what was done is kept.
        """
        ...


Answer = OutputError | ModelFileError | str | None
"""Of a worker: what no unit can be done for, what this one failed of, or that it is done."""


def attempt(worker: Callable[[], Worker], unit: Unit) -> Answer:
    """Have a unit done by a worker that need not be there yet."""
    try:
        worker().do(unit)
    except (OutputError, ModelFileError) as error:
        return error
    except Exception as error:  # of whatever kind: the others can be done
        return f"{type(error).__name__}: {in_a_line(error, 500)}"
    return None


@final
class Queue:
    """Units that are to be done: each once, and those that fail up to `TRIES` times, at the end."""

    def __init__(self, units: Iterable[Unit]) -> None:
        self._fresh = iter(units)
        self._again: deque[Unit] = deque()
        self._failures: Counter[str] = Counter()

    def take(self) -> Unit | None:
        """The next unit; None: there is none now."""
        unit = next(self._fresh, None)
        if unit is None and self._again:
            return self._again.popleft()
        return unit

    def settle(self, unit: Unit, answer: Answer) -> Iterator[Outcome]:
        """Take a unit back, with its worker's answer; gives its outcome if that is the last word.

        Raises:
            OutputError, ModelFileError: that is the answer.
        """
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            yield Outcome(unit)
            return
        self._failures[unit.name] += 1
        if self._failures[unit.name] < TRIES:
            self._again.append(unit)
        else:
            yield Outcome(unit, answer)
