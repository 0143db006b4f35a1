"""Scoring large pictures with a method that sees tiles."""

from typing import Protocol, final, runtime_checkable

import torch

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.core.terms import Scores
from onlygood.data.preprocess import check_view


@runtime_checkable
class Scorer(Protocol):
    """Whatever scores images, a method above all."""

    def score(self, x: Images) -> Scores:
        """Score each image."""
        ...


@final
class Tiled:
    """Scores pictures by their tiles; a `Scorer` that wraps another.

    Tiles are `tile * (1 - overlap)` pixels apart; the last of a row or column lies flush with the
    edge, so that every pixel is seen. `total` and every term are pooled over the tiles, each by
    itself: with `max` the terms of a picture can come from different tiles and need not add up to
    its total. Maps are averaged where tiles overlap. With `tile=0` pictures pass as they are.
    """

    def __init__(self, scorer: Scorer, view: View, *, tiles_at_once: int | None = 64) -> None:
        check_view(view)
        self._scorer = scorer
        self._view = view
        self._tiles_at_once = tiles_at_once

    def score(self, x: Images) -> Scores:
        """Score pictures of `view.size` pixels a side, `tiles_at_once` tiles at a time (None: all).

        Raises:
            ShapeError: they have another size.
        """
        size, side = self._view.size, self._view.side
        if x.shape[2:] != (size, size):
            raise ShapeError(f"pictures must be {size} x {size}, got shape {tuple(x.shape)}")
        places = [
            (top, left) for top in tile_starts(self._view) for left in tile_starts(self._view)
        ]
        at_once = len(places)
        if self._tiles_at_once is not None:
            at_once = max(1, self._tiles_at_once // x.shape[0])
        totals: list[torch.Tensor] = []
        terms: list[dict[str, torch.Tensor]] = []
        heat, seen = x.new_zeros(x.shape[0], size, size), x.new_zeros(size, size)
        mapped = True
        for first in range(0, len(places), at_once):
            chunk = places[first : first + at_once]
            tiles = torch.cat([x[:, :, t : t + side, le : le + side] for t, le in chunk])
            scores = self._scorer.score(tiles)
            totals.append(scores.total.unflatten(0, (len(chunk), -1)))
            terms.append({k: v.unflatten(0, (len(chunk), -1)) for k, v in scores.terms.items()})
            if scores.map is None:
                mapped = False
                continue
            maps = scores.map.unflatten(0, (len(chunk), -1))
            for (t, le), tile in zip(chunk, maps, strict=True):
                heat[:, t : t + side, le : le + side] += tile
                seen[t : t + side, le : le + side] += 1
        return Scores(
            self._pool(totals),
            {name: self._pool([part[name] for part in terms]) for name in terms[0]},
            heat / seen if mapped else None,
        )

    def _pool(self, parts: list[torch.Tensor]) -> torch.Tensor:
        values = torch.cat(parts)
        return values.amax(0) if self._view.pool == "max" else values.mean(0)


def tile_starts(view: View) -> list[int]:
    """First pixel of each tile of a row or column."""
    stride = max(1, round(view.side * (1 - view.overlap)))
    last = view.size - view.side
    return [*range(0, last, stride), last]


def tile_count(view: View) -> int:
    """Tiles of one picture when it is scored."""
    return len(tile_starts(view)) ** 2
