"""What is learned by being kept: rows whose number only the data decide."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from onlygood.core.errors import ModelFileError

Rows = Float[Tensor, "_ _"]
"""So many numbers of each of so many images or patches."""

BLOCK = 2**24
"""Numbers that distances take at a time; 64 MiB of float32."""


@final
class Memory(nn.Module):
    """Rows of a fixed form in a buffer; empty until `store`, or until a state dict is loaded."""

    rows: Tensor

    def __init__(self, *form: int | None, compact: bool = False, triangular: bool = False) -> None:
        """Make an empty memory.

        Args:
            form: The shape of a row; None where only the data decide.
            compact: Keep no more than 16 bits of each number, and in files no more than these;
                for numbers between about 1e-4 and 65504.
            triangular: Each row is a lower triangle `(c, c)`; files leave the zeros out.
        """
        super().__init__()
        self.compact = compact
        self.triangular = triangular
        self.register_buffer("rows", torch.zeros(0, *(size or 0 for size in form)))
        self.stored_form = form
        """Of a row in files."""
        if triangular:
            self.stored_form = (torch.tril_indices(*self.rows.shape[1:]).shape[1],)

    def store(self, rows: Tensor) -> None:
        """Keep rows `(N, *form)` in place of those that were there."""
        rows = rows.detach().to(self.rows)
        self.rows = (rows.half().to(self.rows) if self.compact else rows).contiguous()

    def blocks(self, x: Rows) -> Iterator[Rows]:
        """Squared Euclidean distances from each of `x` to each row of the memory, `(b, N)`.

        They come in blocks of consecutive `x`, in the precision of `x`, so that memory is bounded.
        """
        rows = self.rows.to(x)
        for block in _split(x, BLOCK // len(rows)):
            yield squared_distances(block, rows)

    def nearest(self, x: Rows, k: int) -> Rows:
        """Euclidean distances from each of `x` to its `k` nearest rows, nearest first.

        Of a memory with fewer rows, as many as there are.
        """
        k = min(k, len(self.rows))
        found = []
        for block in _split(x, BLOCK // max(len(self.rows), k * x.shape[1])):
            squared = squared_distances(block, self.rows)
            rows = self.rows[squared.topk(k, largest=False).indices]
            # From the differences: what is nearly zero is lost in the sum of three large terms.
            found.append((block[:, None] - rows).square().sum(2).sqrt().sort(1).values)
        return torch.cat(found)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        kept = destination[f"{prefix}rows"]
        if self.triangular:
            kept = kept[:, *torch.tril_indices(*kept.shape[1:])]
        destination[f"{prefix}rows"] = kept.half() if self.compact else kept

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *rest: Any, **named: Any
    ) -> None:
        """Take any number of rows of the right form.

        Raises:
            ModelFileError: they have another form.
        """
        stored = state_dict.get(f"{prefix}rows")
        if stored is not None:
            form = tuple(stored.shape[1:])
            if len(form) != len(self.stored_form) or any(
                wanted not in (None, size)
                for wanted, size in zip(self.stored_form, form, strict=True)
            ):
                sizes = ["any" if size is None else str(size) for size in self.stored_form]
                raise ModelFileError(
                    f"{prefix}rows should be of shape ({', '.join(['any', *sizes])}), got "
                    f"{tuple(stored.shape)}; it is of other settings or sizes, fit anew"
                )
            if self.triangular:
                whole = stored.new_zeros(len(stored), *self.rows.shape[1:])
                whole[:, *torch.tril_indices(*whole.shape[1:])] = stored
                state_dict[f"{prefix}rows"] = stored = whole
            self.rows = self.rows.new_zeros(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *rest, **named)


def _split(x: Rows, size: int) -> Sequence[Rows]:
    """Blocks of consecutive rows; a graph that is exported has no loops, and takes all at once."""
    return (x,) if torch.compiler.is_exporting() else x.split(max(1, size))


def squared_distances(x: Rows, rows: Rows) -> Rows:
    """`||x_i - r_j||^2` of each `x` and each row, `(len(x), len(rows))`, never negative.

    By `||x||^2 - 2 x.r + ||r||^2`, which rounds to about a ten millionth of these terms in float32.
    """
    squares = x.square().sum(1)[:, None] + rows.square().sum(1)
    return torch.addmm(squares, x, rows.T, alpha=-2).clamp_min(0)


@final
class Sample:
    """At most `limit` of all rows, in their order, each with the same chance; a `Statistics`.

    Always the same ones: each row draws a number by its place, and the smallest are kept. So it
    makes no difference how rows are batched, nor which are sampled apart and merged.
    """

    def __init__(self, limit: int, first: int = 0) -> None:
        """Make an empty sample; `first` rows come before the first that it will see."""
        self._limit = limit
        generator = np.random.PCG64(0)
        self._draw = np.random.Generator(generator.advance(first))
        self._rows: list[Tensor] = []
        self._keys: list[np.ndarray] = []
        self._held = 0

    def add(self, batch: Tensor) -> None:
        """See the rows that come next. Holds at most a quarter more than `limit`, and these."""
        self._take(batch, self._draw.random(len(batch)))

    def merge(self, other: "Sample") -> None:
        """Take in the sample of rows that came later."""
        for rows, keys in zip(other._rows, other._keys, strict=True):
            self._take(rows, keys)

    def taken(self) -> Tensor:
        """The rows that were kept, and are so no more; `(0, 0)` of none."""
        self._thin()
        rows, self._rows, self._keys = self._rows or [torch.zeros(0, 0)], [], []
        return torch.cat(rows)

    def tensors(self) -> dict[str, Tensor]:
        """See `Statistics`."""
        self._thin()
        rows, keys = torch.cat(self._rows), np.concatenate(self._keys)
        return {"limit": torch.tensor(self._limit), "rows": rows, "keys": torch.from_numpy(keys)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Sample":
        """See `Statistics`."""
        drawn = cls(int(tensors["limit"]))
        drawn._take(tensors["rows"], tensors["keys"].numpy())
        return drawn

    def _take(self, rows: Tensor, keys: np.ndarray) -> None:
        self._rows.append(rows)
        self._keys.append(keys)
        self._held += len(rows)
        if self._held > self._limit + self._limit // 4:
            self._thin()

    def _thin(self) -> None:
        """Keep the `limit` rows with the smallest keys, without a second array as large."""
        if self._held <= self._limit:
            return
        keys = np.concatenate(self._keys)
        kept = np.zeros(len(keys), bool)
        kept[np.argpartition(keys, self._limit - 1)[: self._limit]] = True
        ends = np.cumsum([len(own) for own in self._keys])[:-1]
        for i, own in enumerate(np.split(kept, ends)):
            self._rows[i], self._keys[i] = self._rows[i][torch.from_numpy(own)], self._keys[i][own]
        self._held = self._limit


def sample(batches: Iterable[Tensor], limit: int) -> Tensor:
    """At most `limit` of all rows, see `Sample`."""
    drawn = Sample(limit)
    for batch in batches:
        drawn.add(batch)
    return drawn.taken()


def coreset(rows: Rows, limit: int) -> Rows:
    """At most `limit` rows that leave none of the others far away.

    The first is the first; each further one is that which is farthest from all chosen before.

    Source: Sener and Savarese 2018, arXiv:1708.00489, Algorithm 1 (k-center greedy).
    """
    if len(rows) <= limit:
        return rows
    squares = rows.square().sum(1)
    chosen = torch.zeros(limit, dtype=torch.long)
    distances = torch.full_like(squares, torch.inf)
    for i in range(1, limit):
        last = rows[chosen[i - 1]]
        distances = distances.minimum(squares - 2 * (rows @ last) + last.square().sum())
        chosen[i] = distances.argmax()
    return rows[chosen]
