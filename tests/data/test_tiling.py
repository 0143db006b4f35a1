from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ShapeError
from onlygood.core.settings import View
from onlygood.core.terms import Scores
from onlygood.data.tiling import Tiled, tile_starts


class Brightness:
    """Scores an image by its sum of pixels; the map is the image. Counts what it sees."""

    def __init__(self, mapped: bool = True) -> None:
        self.mapped = mapped
        self.batches: list[int] = []

    def score(self, x: Tensor) -> Scores:
        self.batches.append(len(x))
        return Scores.weighted(
            map=x.mean(1) if self.mapped else None,
            bright=(1.0, x.sum((1, 2, 3))),
            dark=(2.0, -x.amin((1, 2, 3))),
        )

    def reconstruct(self, x: Tensor) -> Tensor | None:
        return 1 - x if self.mapped else None


def test_sixty_four_tiles():
    view = View(channels=3, size=512, tile=64)
    scorer = Brightness()
    Tiled(scorer, view).score(torch.rand(1, 3, 512, 512))
    assert sum(scorer.batches) == 64


@pytest.mark.parametrize(
    ("view", "starts"),
    [
        (View(channels=3, size=128), [0]),
        (View(channels=3, size=64, tile=64), [0]),
        (View(channels=3, size=100, tile=64), [0, 36]),
        (View(channels=3, size=10, tile=4, overlap=0.5), [0, 2, 4, 6]),
        (View(channels=3, size=11, tile=4, overlap=0.5), [0, 2, 4, 6, 7]),
        (View(channels=3, size=6, tile=4, overlap=0.9), [0, 1, 2]),
    ],
)
def test_tiles_reach_the_edge(view: View, starts: list[int]):
    assert tile_starts(view) == (starts, starts)
    covered = {p for s in starts for p in range(s, s + view.sides[0])}
    assert covered == set(range(view.size))


def test_tiles_of_a_picture_that_is_no_square():
    view = View(channels=3, size=64, aspect=2.0, tile=16, overlap=0.25)
    assert tile_starts(view) == ([0, 12, 16], [0, 12, 24, 36, 48])
    x = torch.rand(2, 3, 32, 64)
    found = Tiled(Brightness(), view).score(x)
    assert found.map is not None
    torch.testing.assert_close(found.map, x.mean(1))


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_scores_are_pooled_term_by_term(pool: Literal["max", "mean"]):
    x = torch.rand(2, 3, 8, 8)
    tiles = [x[:, :, t : t + 4, s : s + 4] for t in (0, 4) for s in (0, 4)]
    alone = [Brightness().score(tile) for tile in tiles]
    found = Tiled(Brightness(), View(channels=3, size=8, tile=4, pool=pool)).score(x)

    def pooled(values: list[Tensor]) -> Tensor:
        stacked = torch.stack(values)
        return stacked.amax(0) if pool == "max" else stacked.mean(0)

    torch.testing.assert_close(found.total, pooled([s.total for s in alone]))
    for name in ("bright", "dark"):
        torch.testing.assert_close(found.terms[name], pooled([s.terms[name] for s in alone]))


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
@pytest.mark.parametrize("size", [8, 11])
def test_maps_are_stitched_where_they_belong(size: int, overlap: float):
    x = torch.rand(3, 1, size, size)
    found = Tiled(Brightness(), View(channels=3, size=size, tile=4, overlap=overlap)).score(x)
    assert found.map is not None
    torch.testing.assert_close(found.map, x[:, 0])


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_reconstructions_are_put_together(overlap: float):
    x = torch.rand(2, 3, 11, 11)
    view = View(channels=3, size=11, tile=4, overlap=overlap)
    torch.testing.assert_close(Tiled(Brightness(), view, tiles_at_once=3).reconstruct(x), 1 - x)
    assert Tiled(Brightness(mapped=False), view).reconstruct(x) is None


def test_overlapping_maps_are_averaged():
    class Count:
        seen = 0

        def score(self, x: Tensor) -> Scores:
            self.seen += 1
            return Scores.weighted(
                map=torch.full((len(x), 4, 4), float(self.seen)), one=(1.0, x.sum((1, 2, 3)))
            )

        def reconstruct(self, x: Tensor) -> None:
            return None

    view = View(channels=3, size=6, tile=4, overlap=0.5)
    found = Tiled(Count(), view, tiles_at_once=1).score(torch.zeros(1, 1, 6, 6))
    assert found.map is not None
    # Four tiles, numbered 1 2 / 3 4, two pixels apart.
    assert found.map[0, ::2, ::2].tolist() == [[1, 1.5, 2], [2, 2.5, 3], [3, 3.5, 4]]


def test_moving_tiles_around_leaves_the_score():
    x = torch.rand(1, 3, 16, 16)
    tiles = x.unfold(2, 4, 4).unfold(3, 4, 4).reshape(1, 3, 16, 4, 4)
    moved = tiles[:, :, torch.randperm(16, generator=torch.manual_seed(0))]
    y = moved.reshape(1, 3, 4, 4, 4, 4).permute(0, 1, 2, 4, 3, 5).reshape(1, 3, 16, 16)
    assert not torch.equal(x, y)
    for pool in ("max", "mean"):
        scorer = Tiled(Brightness(), View(channels=3, size=16, tile=4, pool=pool))
        torch.testing.assert_close(scorer.score(x).total, scorer.score(y).total)


def test_batches_are_bounded_and_do_not_matter():
    x = torch.rand(3, 3, 16, 16)
    view = View(channels=3, size=16, tile=4)
    expected = Tiled(Brightness(), view, tiles_at_once=1000).score(x)
    for at_once in (1, 5, 7, 48):
        scorer = Brightness()
        found = Tiled(scorer, view, tiles_at_once=at_once).score(x)
        assert max(scorer.batches) <= max(at_once, len(x))
        assert sum(scorer.batches) == 3 * 16
        torch.testing.assert_close(found.total, expected.total)
        torch.testing.assert_close(found.map, expected.map)
    scorer = Brightness()
    Tiled(scorer, view, tiles_at_once=None).score(x)
    assert scorer.batches == [3 * 16]


def test_whole_pictures_pass_and_maps_are_optional():
    x = torch.rand(2, 3, 8, 8)
    found = Tiled(Brightness(mapped=False), View(channels=3, size=8)).score(x)
    assert found.map is None
    torch.testing.assert_close(found.total, Brightness().score(x).total)


def test_pictures_of_another_size_are_refused():
    with pytest.raises(ShapeError, match="must be 8 x 8, got shape"):
        Tiled(Brightness(), View(channels=3, size=8, tile=4)).score(torch.rand(1, 3, 8, 9))


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (Scores(torch.tensor(1.0), {}), r"the score has shape \(\) for 2 images"),
        (Scores(torch.zeros(2), {"far": torch.zeros(8)}), r"far has shape \(8,\) for 2 images"),
        (Scores(torch.zeros(2), {}, torch.zeros(2, 1, 8, 8)), r"the map has shape \(2, 1, 8, 8\)"),
        (Scores(torch.zeros(2), {}, torch.zeros(1, 8, 8)), r"the map has shape \(1, 8, 8\) for"),
        (
            Scores(torch.zeros(2), {}, torch.zeros(2, 4, 4)),
            r"one number per .*\(2, 8, 8\): enlarge",
        ),
        (torch.zeros(2), r"score\(\) gave a Tensor; it must give Scores"),
    ],
)
def test_what_is_not_one_number_per_image_is_refused(scores: Any, message: str):
    class Mine:
        def score(self, x: Tensor) -> Any:
            return scores

        def reconstruct(self, x: Tensor) -> None:
            return None

    with pytest.raises(ShapeError, match=message):
        Tiled(Mine(), View(channels=3, size=8)).score(torch.rand(2, 3, 8, 8))
