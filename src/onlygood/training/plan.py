"""Which pictures come when, and with which noise: pure functions of the seed and the position.

Nothing here has a state, so a resumed run needs two numbers (steps and batches so far) to go on
exactly, a reader may look ahead, and every process can work out its own part of a batch.
"""

import hashlib
from collections.abc import Iterator
from itertools import islice

import torch

from onlygood.core.images import Pick


def seed_of(*position: int) -> int:
    """A seed for a place in the run, unrelated to those of its neighbours."""
    digest = hashlib.blake2b(repr(position).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator_at(*position: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator for a place in the run."""
    return torch.Generator(device).manual_seed(seed_of(*position))


def part_of(batches: int, rank: int, world: int) -> range | None:
    """One process's part of so many batches.

    None: there is nothing to share, or too little for each process to have a batch.
    """
    if not 1 < world <= batches:
        return None
    return range(rank * batches // world, (rank + 1) * batches // world)


class Plan:
    """The endless row of passes over `n` pictures, cut into batches.

    Every pass is its own shuffle; a batch may run from one pass into the next, so that small data
    sets and large batches need no special case.
    """

    def __init__(
        self, n: int, batch_size: int, draws: int, seed: int, rank: int = 0, world: int = 1
    ) -> None:
        self.n, self.batch_size, self.draws, self.seed = n, batch_size, draws, seed
        self.rank, self.world = rank, world
        self._shuffles: dict[int, torch.Tensor] = {}

    def epoch(self, batch: int) -> int:
        """Passes that are complete when `batch` batches have been drawn."""
        return batch * self.batch_size // self.n

    def pick(self, batch: int) -> Pick:
        """This process's part of a batch, counted from 0."""
        positions = range(batch * self.batch_size, (batch + 1) * self.batch_size)
        epochs = range(positions[0] // self.n, positions[-1] // self.n + 1)
        row = torch.cat([self._shuffle(epoch) for epoch in epochs])
        first = positions[0] - epochs[0] * self.n
        draws = torch.rand(self.batch_size, self.draws, generator=generator_at(self.seed, 1, batch))
        part = slice(
            self.rank * self.batch_size // self.world,
            (self.rank + 1) * self.batch_size // self.world,
        )
        return Pick(row[first:][part], draws[part])

    def picks(self, batch: int) -> Iterator[Pick]:
        """All batches from `batch` on, without end."""
        while True:
            yield self.pick(batch)
            batch += 1

    def once(self, views: int = 1) -> Iterator[Pick]:
        """Every picture `views` times in its order, with draws; the same for all processes."""
        generator = generator_at(self.seed, 2)
        for indices in torch.arange(self.n).repeat(views).split(self.batch_size):
            yield Pick(indices, torch.rand(len(indices), self.draws, generator=generator))

    def part_of_once(self, views: int) -> tuple[int, Iterator[Pick]] | None:
        """This process's part of `once`, and how many views come before it; None as `part_of`."""
        part = part_of(-(-self.n * views // self.batch_size), self.rank, self.world)
        if part is None:
            return None
        return part.start * self.batch_size, islice(self.once(views), part.start, part.stop)

    def _shuffle(self, epoch: int) -> torch.Tensor:
        if epoch not in self._shuffles:
            if len(self._shuffles) > 3:
                self._shuffles.clear()
            self._shuffles[epoch] = torch.randperm(
                self.n, generator=generator_at(self.seed, 0, epoch)
            )
        return self._shuffles[epoch]
