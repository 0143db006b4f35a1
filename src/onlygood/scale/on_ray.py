"""Units on a cluster of Ray: plain tasks, which Ray places on nodes.

Not Ray Data: its reader drops a file that it cannot open, and what is done it remembers by row.
"""

import logging
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

from onlygood.core.errors import ConfigError, in_a_line
from onlygood.scale.engine import Answer, Outcomes, Queue, attempt
from onlygood.scale.units import Unit
from onlygood.scale.work import Task, Worker

WAITING = 2
"""Units on their way for each core: a core that has ended one has the next at once."""


@final
@dataclass(frozen=True)
class Ray:
    """A cluster. Its nodes need onlygood, and must reach the pictures and the job's folder."""

    address: str = "auto"
    """What `ray.init` takes: `auto`, `HOST:PORT`; `local` starts a cluster on this machine."""
    workers: int = 0
    """Cores that are used at a time; 0: all that the cluster has, also those that come later."""

    def __post_init__(self) -> None:
        if self.workers < 0:
            raise ConfigError(
                f"there must be 0 workers, for all cores, or more, got {self.workers}"
            )

    def connected(self) -> Any:
        """Ray, connected to the cluster.

        Raises:
            ConfigError: there is no such cluster.
        """
        import ray

        if not ray.is_initialized():
            local = self.address == "local"
            try:
                ray.init(
                    self.address,
                    num_cpus=(self.workers or None) if local else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=False if local else None,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise ConfigError(
                    f"there is no Ray cluster at {self.address} ({in_a_line(error)}); start one, "
                    "or give `local`"
                ) from error
        return ray

    def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
        """See `Engine`.

        Raises:
            ConfigError: there is no such cluster.
        """
        ray = self.connected()
        # Nodes need not have the file. In a list, so that only who has no model yet fetches it.
        model = [ray.put(task.model.read_bytes())]
        # A unit that fails is given out again by the queue, whatever it failed of.
        do = ray.remote(num_cpus=1, max_retries=0)(_do)
        queue = Queue(units)
        busy: dict[Any, Unit] = {}
        try:
            while True:
                most = self.workers or WAITING * int(ray.cluster_resources().get("CPU", 1))
                while len(busy) < most and (unit := queue.take()) is not None:
                    busy[do.remote(task, model, unit)] = unit
                if not busy:
                    return
                for reference in ray.wait(list(busy))[0]:
                    unit = busy.pop(reference)
                    try:
                        answer = ray.get(reference)
                    except ray.exceptions.RayError as failure:
                        answer = f"its worker died: {in_a_line(failure, 500)}"
                    yield from queue.settle(unit, answer)
        finally:
            for reference in busy:
                ray.cancel(reference, force=True)


def _do(task: Task, model: list[Any], unit: Unit) -> Answer:
    return attempt(lambda: _worker(task, model), unit)


_workers: dict[Task, Worker] = {}
"""Of this process of Ray, which does one task after the other, for whatever jobs."""


def _worker(task: Task, model: list[Any]) -> Worker:
    if task not in _workers:
        import ray

        with tempfile.TemporaryDirectory(prefix="onlygood-") as folder:
            path = Path(folder) / task.model.name
            path.write_bytes(ray.get(model[0]))
            _workers.clear()
            _workers[task] = Worker(replace(task, model=path))
    return _workers[task]
