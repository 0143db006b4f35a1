"""Cells of the bench on a cluster of Ray: a task for each, on its share of a device.

The driver alone writes records, so they are whole whatever dies. A cell whose worker died is given
out again; it goes on from its checkpoint where nodes see the driver's files, else from the start.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, final
from uuid import uuid4

from onlygood.core.errors import (
    ConfigError,
    DataError,
    OnlygoodError,
    TrainingInterrupted,
    in_a_line,
)
from onlygood.core.files import remove_empty
from onlygood.evaluation.bench import Cell, Due, due, record, result_of, run_cell
from onlygood.evaluation.protocols import Task, open_tasks
from onlygood.evaluation.records import Line
from onlygood.scale.engine import TRIES
from onlygood.scale.on_ray import Ray

SIGN = "driver-"
"""How files beside the checkpoints begin by which a node tells whether it sees its driver's files.

Each driver has one of its own: several may share the file of records.
"""


class CellsFailed(OnlygoodError):
    """Some cells have no line; those that could be run have."""


@final
@dataclass(frozen=True, kw_only=True)
class Share:
    """What a cell has of a node."""

    gpus: float = 0.0
    """So much of a GPU, or so many."""
    cpus: int = 1
    """Cores, and threads of torch."""

    def __post_init__(self) -> None:
        if not (0 <= self.gpus <= 1 or (self.gpus > 1 and self.gpus % 1 == 0)):
            raise ConfigError(
                f"a cell has a share of one GPU, 0.25 for example, or whole ones, got {self.gpus}"
            )
        if self.cpus < 1:
            raise ConfigError(f"a cell has 1 core or more, got {self.cpus}")

    def __str__(self) -> str:
        """In words."""
        cores = _counted(self.cpus, "core")
        if not self.gpus:
            return cores
        gpus = f"{self.gpus:g} of a GPU" if self.gpus < 1 else _counted(self.gpus, "GPU")
        return f"{gpus} and {cores}"


def run(
    cells: Sequence[Cell],
    dataset: str,
    folder: Path | None,
    results: Path,
    *,
    on: Ray,
    share: Share = Share(),
    curve: int = 0,
    say: Callable[[str], None] = lambda words: None,
) -> Iterator[Line]:
    """Run every cell that has no line yet as a task of Ray; append its line, and give it.

    Args:
        cells: all of one protocol and data set; they end in any order.
        dataset: as `open_tasks` takes it, on each node.
        folder: the same; nodes see it by the same name.
        results: file of lines, of which each has a mark, `shared`: its times are those of a
            device, or a node, that others used as well.
        on: the cluster.
        share: what each cell has of it.
        curve: at how many growing budgets to evaluate, see `onlygood.evaluation.bench.run`.
        say: hears of each cell.

    Raises:
        ConfigError: the settings of a cell are wrong, or no node has such a share.
        CellsFailed: when all others are done: some could not be run.
    """
    waiting = list(due(cells, results, curve=curve, say=say))
    if not waiting:
        return
    ray = on.connected()
    _check_room(ray, share)
    do = ray.remote(num_cpus=share.cpus, num_gpus=share.gpus, max_retries=0)(_cell)
    tries: Counter[str] = Counter()
    failed: list[str] = []
    running: dict[Any, Due] = {}
    where = _Opening(dataset, folder and folder.absolute(), uuid4().hex)
    sign = waiting[0].folder.parent / f"{SIGN}{where.sign}"
    sign.parent.mkdir(parents=True, exist_ok=True)
    sign.touch()

    def give(one: Due) -> None:
        running[do.remote(one._replace(folder=one.folder.absolute()), where)] = one

    try:
        for one in waiting:
            give(one)
        while running:
            for reference in ray.wait(list(running))[0]:
                one = running.pop(reference)
                tries[one.words] += 1
                try:
                    line = ray.get(reference)
                except ray.exceptions.RayError as error:
                    # What a cell itself fails of it would fail of again.
                    own = error.cause if isinstance(error, ray.exceptions.RayTaskError) else None
                    lost = own is None or isinstance(own, TrainingInterrupted)
                    words = f"{one.words}: {'its worker died: ' * lost}{in_a_line(own or error)}"
                    if lost and tries[one.words] < TRIES:
                        say(f"{words}; once more")
                        give(one)
                    else:
                        say(words)
                        failed.append(words)
                    continue
                line["shared"] = str(share)
                record(results, one, line)
                say(f"{one.words}: {result_of(line)}")
                yield line
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
        sign.unlink(missing_ok=True)
        remove_empty(sign.parent)
    if failed:
        raise CellsFailed(
            f"{len(failed)} of {len(waiting)} cells could not be run; repeat the command for them "
            f"alone. The first is {failed[0]}"
        )


def _check_room(ray: Any, share: Share) -> None:
    """Refuse what would wait for ever.

    Raises:
        ConfigError: no node has so much.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(n.get("GPU", 0) >= share.gpus and n.get("CPU", 0) >= share.cpus for n in nodes):
        has = "; ".join(
            f"{_counted(n.get('CPU', 0), 'core')}, {_counted(n.get('GPU', 0), 'GPU')}"
            for n in nodes
        )
        raise ConfigError(
            f"no node of the cluster has {share} for a cell: they have {has}; give cells "
            "less, or start such a node"
        )


def _counted(number: float | int, of: str) -> str:
    return f"{number:g} {of}{'s' if number != 1 else ''}"


class _Opening(NamedTuple):
    """What a node needs to know beside the cell."""

    dataset: str
    folder: Path | None
    sign: str
    """The rest of the name of the file `SIGN` that is there where the driver's files are seen."""


def _cell(one: Due, where: _Opening) -> Line:
    """Run a cell, on a node."""
    shared = (one.folder.parent / f"{SIGN}{where.sign}").exists()
    task = _task(one.cell.protocol, one.cell.dataset, one.cell.normal, where)
    return run_cell(one.cell, task, curve=one.curve, run_dir=one.folder if shared else None)


@lru_cache(maxsize=1)
def _task(protocol: str, recorded: str, normal: str, where: _Opening) -> Task:
    """The pictures of a class, once for the cells that follow each other in this process.

    Raises:
        DataError: they are others than the driver's.
    """
    tasks = open_tasks(protocol, where.dataset, where.folder)
    found = tasks.named(where.dataset)
    if found != recorded:
        raise DataError(f"a node has other pictures of {where.dataset}: {found}, not {recorded}")
    return tasks.task(normal)
