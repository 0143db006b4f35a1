"""Units on the cores of this machine.

Each worker is a process with a pipe of its own, so it is known which unit a worker was at when it
died: one that kills its worker each time is given up, and the others are not blamed.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection, wait
from typing import Any, final

from onlygood.core.errors import ConfigError
from onlygood.scale.engine import Outcomes, Queue, attempt
from onlygood.scale.units import Unit
from onlygood.scale.work import Task, Worker

# Threads of this process do not survive a fork, and locks that they hold are held for ever.
_SPAWN = multiprocessing.get_context("spawn")


@final
@dataclass(frozen=True)
class Local:
    """So many processes of this machine.

    As with `multiprocessing`, a script that uses it keeps its work behind
    `if __name__ == "__main__":`.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"there must be 1 worker or more, got {self.workers}")

    def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
        """See `Engine`. Workers end with this generator, and with this process."""
        queue = Queue(units)
        idle: list[_Process] = []
        # Systems have their own kinds of pipe.
        busy: dict[Any, tuple[_Process, Unit]] = {}
        try:
            while True:
                free = range(self.workers - len(busy))
                ready = [unit for _ in free if (unit := queue.take()) is not None]
                # All begin before the first is given anything: that waits until it has begun.
                while len(idle) < len(ready):
                    idle.append(_Process(task))
                for unit in ready:
                    process = idle.pop()
                    busy[process.pipe] = process, unit
                    process.give(unit)
                if not busy:
                    return
                for pipe in wait(list(busy)):
                    process, unit = busy.pop(pipe)
                    try:
                        answer = process.pipe.recv()
                    except (EOFError, OSError):
                        answer = process.end()
                    else:
                        idle.append(process)
                    yield from queue.settle(unit, answer)
        finally:
            for process in (*idle, *(process for process, _ in busy.values())):
                process.end()


@final
class _Process:
    """A worker, seen from here."""

    def __init__(self, task: Task) -> None:
        self.pipe, there = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(there, task), daemon=True)
        self._process.start()
        there.close()

    def give(self, unit: Unit) -> None:
        with suppress(OSError):  # It is dead, which reading from the pipe will show.
            self.pipe.send(unit)

    def end(self) -> str:
        """End it, if it has not ended; gives how it ended."""
        self.pipe.close()
        self._process.join(0.1)
        self._process.kill()
        self._process.join()
        status = self._process.exitcode
        how = f"signal {-status}" if status is not None and status < 0 else f"status {status}"
        return f"its worker died ({how}); a lack of memory is the usual reason"


def _serve(pipe: Connection, task: Task) -> None:
    """Do units as they come: the life of a worker."""
    # Of Ctrl-C the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    worker = cache(lambda: Worker(task))
    while True:
        try:
            unit = pipe.recv()
        except (EOFError, OSError):  # the parent was killed, perhaps in the middle of a unit
            return
        answer = attempt(worker, unit)
        with suppress(OSError):  # the same
            pipe.send(answer)


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
