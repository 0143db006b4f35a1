"""What is normal on grids, and how far from it new features are."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.networks import grids
from onlygood.networks.grids import (
    Distances,
    Grid,
    aligned,
    blocked,
    kinds_of,
    orthonormal,
    unblocked,
)
from onlygood.networks.patches import side_by_side

HEIGHT, WIDTH = 5, 3
FINE, COARSE = 16, 8
FORMS = [torch.Size((HEIGHT, WIDTH, FINE)), torch.Size((3, 2, COARSE))]


def features(n: int, seed: int = 0) -> list[Tensor]:
    """Noise with a pattern, and channels that go together."""
    draw = torch.Generator().manual_seed(seed)
    pattern = torch.Generator().manual_seed(9)
    found = []
    for form in FORMS:
        mixing = torch.randn(form[2], form[2], generator=pattern)
        rows = torch.randn(n, *form, generator=draw) @ mixing
        found.append(rows + 3 * torch.randn(form, generator=pattern))
    return found


def distances(**settings: float) -> Distances:
    usual = {"latent": 0, "block": 1, "kinds": 2, "prior": 0.0, "regularisation": 0.1}
    return Distances([Grid(FINE), Grid(COARSE)], **{**usual, **settings})  # type: ignore[arg-type]


def learnt(n: int, each: bool = True, **settings: float) -> Distances:
    made = distances(**settings)
    made.learn(torch.cat([grid.flatten(1) for grid in features(n)], 1), FORMS, each)
    return made


def test_codes_are_consistent() -> None:
    made = learnt(80, latent=5)
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    own = [g.generated(z, f) for g, f in zip(made.grids, features(3), strict=True)]
    again = sum(g.encoded(f) for g, f in zip(made.grids, own, strict=True))
    torch.testing.assert_close(again, z, rtol=1e-3, atol=1e-3)


def test_the_code_keeps_the_leading_principal_axes() -> None:
    made = learnt(80, latent=5)
    flat = torch.cat([grid.flatten(1) for grid in made.standardised(features(80))], 1)
    kept = torch.cat([grid.axes.rows for grid in made.grids], 1)
    values = torch.linalg.svdvals(flat)
    assert float((flat @ kept.T).square().sum()) > 0.99 * float(values[:5].square().sum())


def test_few_images_have_a_short_code_and_one_statistic_for_all_has_none() -> None:
    assert [len(grid.axes.rows) for grid in learnt(10, latent=5).grids] == [2, 2]
    loose = learnt(80, each=False, latent=5)
    assert [len(grid.axes.rows) for grid in loose.grids] == [0, 0]
    assert [len(grid.mean.rows) for grid in loose.grids] == [1, 1]
    assert (len(loose.whitening.rows), loose.of_kinds) == (2, True)


def lying(moves: Tensor) -> list[Tensor]:
    """A smooth part, seen on a grid and on one of twice its step, for each shift and turn.

    Args:
        moves: `(n, 3)`: down and right, in positions of the fine grid, and by an angle.
    """
    found = []
    for step, channels in ((1, 3), (2, 2)):
        y, x = torch.meshgrid(*2 * [step * torch.arange(-5.5 / step, 6 / step)], indexing="ij")
        down, right, angle = moves[:, :, None, None].unbind(1)
        v, u = y - down - angle * x, x - right + angle * y
        waves = [torch.sin(0.2 * (c + 1) * u + 0.3 * c) + torch.cos(0.25 * v + c) for c in range(3)]
        found.append(torch.stack(waves[:channels], 3))
    return found


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_code_knows_how_a_part_lies_before_it_has_seen_one_move(axis: int) -> None:
    grids_of_both = [Grid(3, step=1), Grid(2, step=2)]
    made = Distances(grids_of_both, latent=1, block=1, kinds=1, prior=0.0, regularisation=0.1)
    noise = torch.Generator().manual_seed(0)
    still = [g + 0.1 * torch.randn(g.shape, generator=noise) for g in lying(torch.zeros(80, 3))]
    made.learn(torch.cat([g.flatten(1) for g in still], 1), [g.shape[1:] for g in still], True)
    far, near = torch.zeros(1, 3), torch.zeros(1, 3)
    far[0, axis] = 0.05 if axis == 2 else 0.3
    moved, unmoved = made.standardised(lying(far)), made.standardised(lying(near))
    before = [one - other for one, other in zip(moved, unmoved, strict=True)]
    after = [one - other for one, other in zip(made.left(moved), made.left(unmoved), strict=True)]
    for one, other in zip(before, after, strict=True):
        # At the edge differences are one-sided.
        assert other[:, 1:-1, 1:-1].square().sum() < 0.1 * one[:, 1:-1, 1:-1].square().sum()


def test_motions_that_are_of_rounding_alone_are_no_axes() -> None:
    rows = torch.zeros(6, 50)
    rows[1, :2], rows[4] = torch.tensor([3.0, 4.0]), 1e-6
    torch.testing.assert_close(orthonormal(rows)[:, :2].abs(), torch.tensor([[0.6, 0.8]]))
    assert len(orthonormal(torch.zeros(6, 50))) == 0


def test_doubt_of_few_images_is_added_to_the_regularisation() -> None:
    torch.testing.assert_close(
        learnt(40, doubt=2.0).whitening.rows, learnt(40, regularisation=0.15).whitening.rows
    )


def test_distances_are_those_of_mahalanobis_without_code_and_prior() -> None:
    made = learnt(300)
    known = side_by_side(made.standardised(features(300)))
    new = made.standardised(features(2, seed=1))
    found = made.mahalanobis(new)
    for i, j in ((0, 0), (4, 2)):
        covariance = np.cov(known[:, i, j].double().numpy().T) + 0.1 * np.eye(FINE + COARSE)
        x = side_by_side(new)[:, i, j].double().numpy()
        expected = (x * np.linalg.solve(covariance, x.T).T).sum(1) ** 0.5
        np.testing.assert_allclose(found[:, i, j], expected, rtol=0.02)


@pytest.mark.parametrize("kinds", [1, 2])
def test_where_one_statistic_is_for_all_the_nearest_kind_of_ground_counts(
    kinds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "LEAN", 0)

    def ground(n: int, seed: int = 0) -> list[Tensor]:
        fine, coarse = features(n, seed)
        fine[:, :, 0] += 100  # Another kind than the other two columns are of.
        return [fine, coarse]

    made = distances(kinds=kinds)
    made.learn(torch.cat([grid.flatten(1) for grid in ground(300)], 1), FORMS, False)
    known = side_by_side(made.standardised(ground(300)))
    parts = [known[:, :, :1], known[:, :, 1:]] if kinds == 2 else [known]
    new = made.standardised(ground(2, seed=1))
    whole = side_by_side(new).double().numpy()
    expected = []
    for part in parts:
        rows = part.flatten(0, 2).double().numpy()
        covariance = np.cov(rows.T, bias=True) + 0.1 * np.eye(FINE + COARSE)
        far = whole - rows.mean(0)
        expected.append(np.einsum("...i,ij,...j", far, np.linalg.inv(covariance), far) ** 0.5)
    np.testing.assert_allclose(made.mahalanobis(new), np.min(expected, 0), rtol=0.01)


def test_a_rare_kind_leans_on_all_positions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "LEAN", 1e12)
    heavy = learnt(40, each=False)
    torch.testing.assert_close(heavy.whitening.rows[0], heavy.whitening.rows[1])
    assert not torch.equal(heavy.middles.rows[0], heavy.middles.rows[1])


@pytest.mark.parametrize("before", [False, True])
def test_coarse_grids_lie_where_the_network_saw_them(before: bool) -> None:
    settings = {"latent": 0, "block": 2, "kinds": 2, "prior": 0.0, "regularisation": 0.1}
    made = Distances([Grid(FINE), Grid(COARSE, step=2)], before=before, **settings)  # type: ignore[arg-type]
    fine, coarse = features(30)
    whole = F.interpolate(coarse.permute(0, 3, 1, 2), (6, 4), mode="bilinear")
    placed = (whole[:, :, 1:, 1:] if before else whole[:, :, :5, :3]).permute(0, 2, 3, 1)
    by_hand = distances(block=2)
    for learn in ("whiten", "whiten_kinds"):
        for one, rest in ((made, [fine, coarse]), (by_hand, [fine, placed])):
            getattr(one, learn)(rest)
        assert torch.equal(made.whitening.rows, by_hand.whitening.rows)
        assert torch.equal(made.mahalanobis([fine, coarse]), by_hand.mahalanobis([fine, placed]))
    # Files of before hold no strides, and what was learnt of grids that were stretched.
    state = dict(made.state_dict())
    del state["strides"]
    made.load_state_dict(state)
    stretched = distances(block=2)
    stretched.load_state_dict(by_hand.state_dict())
    assert torch.equal(made.mahalanobis([fine, coarse]), stretched.mahalanobis([fine, coarse]))


def test_there_are_no_more_kinds_than_rows_that_differ() -> None:
    assert kinds_of(torch.zeros(5, 3), 8).tolist() == [0] * 5
    assert len(kinds_of(torch.eye(3), 8).unique()) == 3


def test_distances_are_told_in_what_is_usual_at_a_position() -> None:
    made, new = learnt(40, latent=3), features(2, seed=1)
    grids = made.standardised(new)
    code = sum(g.encoded(own) for g, own in zip(made.grids, grids, strict=True))
    rest = [own - g.generated(code, own) for g, own in zip(made.grids, grids, strict=True)]
    expected = made.mahalanobis(rest) / made.usual.distances.rows.view(HEIGHT, WIDTH)
    torch.testing.assert_close(made(new), expected)
    assert 0.8 < float(learnt(300)(features(50, seed=1)).mean()) < 1.2


def test_positions_of_a_block_share_the_mean_of_their_covariances() -> None:
    made = distances(block=2)
    # The last row and column of blocks have positions in one place only.
    rest = torch.randn(30, HEIGHT, WIDTH, FINE, generator=torch.Generator().manual_seed(0))
    rest = rest - rest.mean(0)
    made.whiten([rest, torch.zeros(30, 3, 2, COARSE)])
    assert len(made.whitening.rows) == 3 * 2
    for block, (rows, columns) in ((0, ((0, 2), (0, 2))), (5, ((4, 5), (2, 3)))):
        of = rest[:, slice(*rows), slice(*columns)].flatten(1, 2).transpose(0, 1)
        expected = (of.mT @ of / 29).mean(0) + 0.1 * torch.eye(FINE)
        found = made.whitening.rows[block, :FINE, :FINE]
        torch.testing.assert_close(found.T @ found, expected.inverse(), rtol=0.02, atol=0.02)


def test_the_prior_counts_for_so_many_images_for_each_channel() -> None:
    made = distances(prior=0.5)
    rest = torch.randn(30, HEIGHT, WIDTH, FINE, generator=torch.Generator().manual_seed(0))
    made.whiten([rest, torch.zeros(30, 3, 2, COARSE)])
    own = torch.einsum("nijc,nijd->ijcd", rest, rest).flatten(0, 1) / 29
    prior = (FINE + COARSE) / 2
    for covariance, found in zip(own, made.whitening.rows[:, :FINE, :FINE], strict=True):
        mixed = (30 * covariance + prior * own.mean(0)) / (30 + prior)
        expected = (mixed + 0.1 * torch.eye(FINE)).inverse()
        torch.testing.assert_close(found.T @ found, expected, rtol=0.01, atol=0.01)


def test_a_block_larger_than_the_grid_is_the_grid() -> None:
    made, whole = learnt(20, block=10**6), learnt(20, block=HEIGHT)
    assert len(made.whitening.rows) == 1
    torch.testing.assert_close(made(features(3)), whole(features(3)))


def test_a_heavy_prior_makes_blocks_alike() -> None:
    first, *others = learnt(20, prior=1e9).whitening.rows
    assert len(others) == HEIGHT * WIDTH - 1
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-3, atol=1e-3)


def test_the_usual_distance_is_the_mean_over_images_and_one_mean_of_all() -> None:
    train, made = features(40), learnt(40)
    seen = made.mahalanobis(made.standardised(train))
    expected = (seen.sum(0) + seen.mean()) / 41
    torch.testing.assert_close(
        made.usual.distances.rows.view(HEIGHT, WIDTH), expected, rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize("block", [(1, 1), (2, 2), (3, 2), (5, 3), (9, 9)])
def test_blocks_and_back(block: tuple[int, int]) -> None:
    grid = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    sums = unblocked(blocked(grid, block).sum(2), block, (5, 3))
    torch.testing.assert_close(sums, grid.sum(3))


def test_whether_parts_are_aligned_shows_in_their_features() -> None:
    pattern = torch.randn(1, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(20, 8, 8, 5, generator=torch.Generator().manual_seed(1))
    assert aligned(pattern + noise)
    assert not aligned(noise)
    assert not aligned(0.1 * pattern + noise)
    noise[:, 0] += 5  # what a network sees at an edge is the edge
    assert not aligned(noise)
