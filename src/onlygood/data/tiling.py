"""Scoring large pictures with a method that sees tiles."""

from collections.abc import Iterator
from itertools import product
from typing import Protocol, final, runtime_checkable

import torch

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.core.terms import Scores
from onlygood.data.preprocess import check_view

Place = tuple[int, int]
"""First row and column of a tile."""


@runtime_checkable
class Scorer(Protocol):
    """Whatever scores images, a method above all."""

    def score(self, x: Images) -> Scores:
        """Score each image."""
        ...

    def reconstruct(self, x: Images) -> Images | None:
        """Images as they are given back; None where none are."""
        ...


@final
class Tiled:
    """Scores pictures by their tiles; a `Scorer` that wraps another.

    Tiles are `tile * (1 - overlap)` pixels apart; the last of a row or column lies flush with the
    edge, so that every pixel is seen. `total` and every term are pooled over the tiles, each by
    itself: with `max` the terms of a picture can come from different tiles and need not add up to
    its total. Maps and reconstructions are put together from those of the tiles, averaged where
    tiles overlap. With `tile=0` pictures pass as they are.
    """

    def __init__(self, scorer: Scorer, view: View, *, tiles_at_once: int | None = 64) -> None:
        check_view(view)
        self._scorer = scorer
        self._view = view
        self._tiles_at_once = tiles_at_once

    def score(self, x: Images) -> Scores:
        """Score pictures of the view's canvas, `tiles_at_once` tiles at a time (None: all).

        Raises:
            ShapeError: they have another size, or what the scorer says is not one number per image.
        """
        totals: list[torch.Tensor] = []
        terms: list[dict[str, torch.Tensor]] = []
        heat: _Mosaic | None = _Mosaic(torch.zeros_like(x[:, 0]))
        for places, tiles in self._tiles(x):
            scores = self._scorer.score(tiles)
            _check_per_image(scores, tiles)
            totals.append(scores.total.unflatten(0, (len(places), -1)))
            terms.append({k: v.unflatten(0, (len(places), -1)) for k, v in scores.terms.items()})
            if scores.map is None:
                heat = None
            elif heat is not None:
                heat.lay(scores.map, places)
        return Scores(
            self._pool(totals),
            {name: self._pool([part[name] for part in terms]) for name in terms[0]},
            None if heat is None else heat.whole,
        )

    def reconstruct(self, x: Images) -> Images | None:
        """Pictures put together from what is given back of their tiles; as `score`."""
        mosaic = _Mosaic(torch.zeros_like(x))
        for places, tiles in self._tiles(x):
            x_hat = self._scorer.reconstruct(tiles)
            if x_hat is None:
                return None
            mosaic.lay(x_hat, places)
        return mosaic.whole

    def _tiles(self, x: Images) -> Iterator[tuple[list[Place], Images]]:
        """Some tiles of all pictures at a time, place by place, and where they are."""
        canvas, (rows, columns) = self._view.canvas, self._view.sides
        if x.shape[2:] != canvas:
            raise ShapeError(
                f"pictures must be {canvas[0]} x {canvas[1]}, got shape {tuple(x.shape)}"
            )
        places = [*product(*tile_starts(self._view))]
        at_once = len(places)
        if self._tiles_at_once is not None:
            at_once = max(1, self._tiles_at_once // x.shape[0])
        for first in range(0, len(places), at_once):
            chunk = places[first : first + at_once]
            tiles = [x[:, :, top : top + rows, left : left + columns] for top, left in chunk]
            yield chunk, torch.cat(tiles)

    def _pool(self, parts: list[torch.Tensor]) -> torch.Tensor:
        values = torch.cat(parts)
        return values.amax(0) if self._view.pool == "max" else values.mean(0)


def _check_per_image(scores: object, x: Images) -> None:
    """Refuse what a method of one's own may give: torch would say nothing that helps."""
    if not isinstance(scores, Scores):
        raise ShapeError(
            f"a method's score() gave a {type(scores).__name__}; it must give Scores of "
            "onlygood.core.terms, as Scores.weighted(name=(1.0, one number per image)) does"
        )
    for name, values in {"the score": scores.total, **scores.terms}.items():
        if values.shape != x.shape[:1]:
            raise ShapeError(
                f"{name} has shape {tuple(values.shape)} for {x.shape[0]} images; a method's "
                "score() gives one number per image, in the total and in each part"
            )
    wanted = (x.shape[0], *x.shape[2:])
    if scores.map is not None and scores.map.shape != wanted:
        raise ShapeError(
            f"the map has shape {tuple(scores.map.shape)} for images of {tuple(x.shape)}; a "
            f"method's score() gives one number per pixel of each image, {wanted}: enlarge a "
            "coarser map, as onlygood.networks.patches.enlarged does"
        )


class _Mosaic:
    """What was made of tiles in the place of their pictures, averaged where they overlap."""

    def __init__(self, blank: torch.Tensor) -> None:
        """Begin with zeros `(B, ..., height, width)`."""
        self._sum = blank
        self._seen = blank.new_zeros(blank.shape[-2:])

    def lay(self, tiles: torch.Tensor, places: list[Place]) -> None:
        """Add tiles `(len(places) B, ..., rows, columns)`."""
        rows, columns = tiles.shape[-2:]
        for (top, left), tile in zip(places, tiles.unflatten(0, (len(places), -1)), strict=True):
            self._sum[..., top : top + rows, left : left + columns] += tile
            self._seen[top : top + rows, left : left + columns] += 1

    @property
    def whole(self) -> torch.Tensor:
        return self._sum / self._seen


def tile_starts(view: View) -> tuple[list[int], list[int]]:
    """First rows, and first columns, of tiles."""
    rows, columns = (
        [*range(0, length - side, max(1, round(side * (1 - view.overlap)))), length - side]
        for length, side in zip(view.canvas, view.sides, strict=True)
    )
    return rows, columns
