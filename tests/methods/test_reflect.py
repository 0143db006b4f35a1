import numpy as np
import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.method import InputShape
from onlygood.methods import reflect
from onlygood.methods.reflect import Reflect, ReflectConfig, aligned
from onlygood.networks.patches import side_by_side
from tests.methods.pattern import SHAPE, assert_a_defect_stands_out, images

FINE, COARSE = 40, 80
KEPT = {"light": "kept"}


def fitted(train: Tensor, **config: object) -> Reflect:
    method = Reflect(ReflectConfig(**config), SHAPE)  # type: ignore[arg-type]
    with torch.no_grad():
        method.measure(iter(train.split(8)))
    return method


def standardised(method: Reflect, x: Tensor) -> list[Tensor]:
    return [grid.standardised(f) for grid, f in zip(method.grids, method.features(x), strict=True)]


def test_layers_of_one_stride_are_one_grid() -> None:
    shapes = [tuple(f.shape) for f in Reflect(ReflectConfig(), SHAPE).features(images(2))]
    assert shapes == [(2, 6, 4, FINE), (2, 3, 2, COARSE)]


def test_features_are_averaged_over_neighbouring_positions() -> None:
    x = images(2)
    plain, averaged = (
        Reflect(ReflectConfig(averaged=on), SHAPE).features(x)[0] for on in (False, True)
    )
    torch.testing.assert_close(averaged[:, 2, 1], plain[:, 1:4, :3].mean((1, 2)))
    torch.testing.assert_close(averaged[:, 0, 3], plain[:, :2, 2:].mean((1, 2)))


def test_light_is_evened_of_all_but_tiny_pictures() -> None:
    tiny, large = (InputShape(1, 48, side) for side in (64, 65))
    assert not Reflect(ReflectConfig(), tiny).evened
    assert Reflect(ReflectConfig(), large).evened
    assert Reflect(ReflectConfig(light="evened"), tiny).evened
    assert not Reflect(ReflectConfig(light="kept"), large).evened


def test_light_changes_nothing_but_what_says_how_it_was() -> None:
    method = Reflect(ReflectConfig(light="evened"), SHAPE)
    x = images(2)
    as_lit, bright = method.features(x), method.features(x + 0.1)
    for one, other in zip(as_lit[:2], bright[:2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    mean, std = as_lit[2].flatten(1).T
    torch.testing.assert_close(mean, x.mean((1, 2, 3)))
    torch.testing.assert_close(std, x.std((1, 2, 3), correction=0))
    torch.testing.assert_close(bright[2], as_lit[2] + torch.tensor([0.1, 0.0]))


def test_less_contrast_changes_features_less_where_light_is_evened() -> None:
    x = images(2)

    def change(light: str) -> Tensor:
        method = Reflect(ReflectConfig(light=light), SHAPE)  # type: ignore[arg-type]
        one, other = (method.features(pictures)[0] for pictures in (x, 0.5 * x + 0.3))
        return (one - other).square().mean() / one.var()

    assert change("evened") < 0.1 * change("kept")


def test_a_picture_that_is_too_dark_stands_out_though_light_is_evened() -> None:
    method = fitted(images(40), light="evened")
    x = images(4, seed=1)
    assert (method.score(0.5 * x).total > 1.2 * method.score(x).total.max()).all()


def test_a_blank_picture_has_a_score() -> None:
    method = fitted(images(40), light="evened")
    blank = torch.zeros(1, 1, 48, 32)
    assert method.score(blank).total > 1.2 * method.score(images(4, seed=1)).total.max()


def test_codes_are_consistent() -> None:
    method = fitted(images(80), latent=5)
    z = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    rows = standardised(method, images(3))
    made = [grid.generated(z, own) for grid, own in zip(method.grids, rows, strict=True)]
    again = sum(grid.encoded(own) for grid, own in zip(method.grids, made, strict=True))
    torch.testing.assert_close(again, z, rtol=1e-3, atol=1e-3)


def test_the_code_keeps_the_leading_principal_axes() -> None:
    train = images(80)
    method = fitted(train, latent=5)
    flat = torch.cat([own.flatten(1) for own in standardised(method, train)], 1)
    kept = torch.cat([grid.axes.rows for grid in method.grids], 1)
    values = torch.linalg.svdvals(flat)
    # In 80 pictures of noise the leading axes are hardly longer than the next ones.
    assert float((flat @ kept.T).square().sum()) > 0.99 * float(values[:5].square().sum())


def test_distances_are_those_of_mahalanobis_without_code_and_prior() -> None:
    train, test = images(300), images(2, seed=1)
    method = fitted(train, latent=0, prior=0.0, block=1, regularisation=0.1)
    known = side_by_side(standardised(method, train))
    new = standardised(method, test)
    found = method.mahalanobis(new)
    for i, j in ((0, 0), (5, 3)):
        covariance = np.cov(known[:, i, j].double().numpy().T) + 0.1 * np.eye(FINE + COARSE)
        x = side_by_side(new)[:, i, j].double().numpy()
        expected = (x * np.linalg.solve(covariance, x.T).T).sum(1) ** 0.5
        np.testing.assert_allclose(found[:, i, j], expected, rtol=0.02)


def test_positions_of_a_block_share_the_mean_of_their_covariances() -> None:
    method = Reflect(ReflectConfig(prior=0.0, regularisation=0.1, **KEPT), InputShape(1, 40, 24))
    draw = torch.Generator().manual_seed(0)
    # The last row and column of blocks have positions in one place only.
    rest = torch.randn(30, 5, 3, FINE, generator=draw)
    rest = rest - rest.mean(0)
    coarse = torch.zeros(30, 3, 2, COARSE)
    method.whiten([rest, coarse], True)
    assert len(method.whitening.rows) == 3 * 2
    for block, (rows, columns) in ((0, ((0, 2), (0, 2))), (5, ((4, 5), (2, 3)))):
        of = rest[:, slice(*rows), slice(*columns)].flatten(1, 2).transpose(0, 1)
        expected = (of.mT @ of / 29).mean(0) + 0.1 * torch.eye(FINE)
        found = method.whitening.rows[block, :FINE, :FINE]
        torch.testing.assert_close(found.T @ found, expected.inverse(), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("block", [(1, 1), (2, 2), (3, 2), (5, 3), (9, 9)])
def test_blocks_and_back(block: tuple[int, int]) -> None:
    grid = torch.randn(2, 5, 3, 4, generator=torch.Generator().manual_seed(0))
    sums = reflect.unblocked(reflect.blocked(grid, block).sum(2), block, (5, 3))
    torch.testing.assert_close(sums, grid.sum(3))


def test_the_prior_counts_for_half_as_many_pictures_as_there_are_channels() -> None:
    method = Reflect(ReflectConfig(prior=0.5, block=1, regularisation=0.1), SHAPE)
    rest = torch.randn(30, 6, 4, FINE, generator=torch.Generator().manual_seed(0))
    method.whiten([rest, torch.zeros(30, 3, 2, COARSE)], True)
    own = torch.einsum("nijc,nijd->ijcd", rest, rest).flatten(0, 1) / 29
    prior = (FINE + COARSE) / 2
    for covariance, found in zip(own, method.whitening.rows[:, :FINE, :FINE], strict=True):
        mixed = (30 * covariance + prior * own.mean(0)) / (30 + prior)
        expected = (mixed + 0.1 * torch.eye(FINE)).inverse()
        torch.testing.assert_close(found.T @ found, expected, rtol=0.01, atol=0.01)


def test_a_heavy_prior_makes_blocks_alike() -> None:
    first, *others = fitted(images(20), latent=0, prior=1e9).whitening.rows
    assert len(others) == 5
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-3, atol=1e-3)


def test_the_usual_distance_is_about_that_of_pictures_left_out() -> None:
    train = images(200)
    config = {"latent": 0, "block": 1, "regularisation": 0.1}
    unseen = []
    for i in range(0, 200, 40):
        method = fitted(torch.cat([train[:i], train[i + 1 :]]), **config)
        unseen.append(method.mahalanobis(standardised(method, train[i : i + 1])).mean())
    method = fitted(train, **config)
    seen = method.mahalanobis(standardised(method, train)).mean()
    usual, expected = method.usual.distances.rows.mean(), torch.stack(unseen).mean()
    assert seen < 0.85 * expected
    assert abs(usual - expected) < 0.3 * (expected - seen)


def test_distances_are_told_in_what_is_usual_at_a_position() -> None:
    method, new = fitted(images(40), light="evened"), images(2, seed=1)
    rest = standardised(method, new)
    expected = method.mahalanobis(rest) / method.usual.distances.rows.view(6, 4)
    torch.testing.assert_close(method.usual(method.mahalanobis(rest)), expected)
    totals = fitted(images(200)).score(images(8, seed=1)).total
    assert 0.8 < float(totals.min()) < float(totals.max()) < 1.5


def test_the_score_is_the_mean_of_the_worst_positions() -> None:
    train, test = images(20), images(3, seed=1)
    totals = [fitted(train, worst=worst).score(test).total for worst in (1, 6, 24, 1000)]
    assert (totals[0] > totals[1]).all()
    assert (totals[1] > totals[2]).all()
    assert torch.equal(totals[2], totals[3])


def test_a_defect_stands_out_where_it_is() -> None:
    assert_a_defect_stands_out(fitted(images(200), worst=1, block=1, averaged=False), 1.5)


def test_whether_parts_are_aligned_shows_in_their_features() -> None:
    pattern = torch.randn(1, 8, 8, 5, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(20, 8, 8, 5, generator=torch.Generator().manual_seed(1))
    assert aligned(pattern + noise)
    assert not aligned(noise)
    assert not aligned(0.1 * pattern + noise)
    noise[:, 0] += 5  # what a network sees at an edge is the edge
    assert not aligned(noise)


def test_statistics_of_what_is_not_aligned_are_one_for_all_positions() -> None:
    draw = torch.Generator().manual_seed(0)
    loose = Reflect(ReflectConfig(), InputShape(1, 128, 128))
    with torch.no_grad():
        loose.measure(iter(torch.rand(3, 10, 1, 128, 128, generator=draw)))
    assert len(loose.whitening.rows) == 1
    assert [len(grid.mean.rows) for grid in loose.grids] == [1, 1, 1]
    assert [len(grid.axes.rows) for grid in loose.grids] == [0, 0, 0]
    method = fitted(images(30))
    assert len(method.whitening.rows) == 3 * 2
    assert [len(grid.mean.rows) for grid in method.grids] == [24, 6]


def test_of_more_pictures_than_there_is_room_for_a_sample_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = 6 * 4 * FINE + 3 * 2 * COARSE
    assert Reflect(ReflectConfig(), SHAPE).room == reflect.NUMBERS // numbers
    monkeypatch.setattr(reflect, "NUMBERS", 20 * numbers)
    some = fitted(images(50))
    assert torch.isfinite(some.score(images(2, seed=1)).total).all()
    monkeypatch.undo()
    assert not torch.equal(some.grids[0].mean.rows, fitted(images(50)).grids[0].mean.rows)


def test_alike_images_are_no_error() -> None:
    same = images(1).expand(4, 1, 48, 32)
    method = fitted(same)
    same_again, other = method.score(torch.cat([same[:1], images(1, seed=1)])).total
    assert other > 10 * same_again


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="at least 2 training pictures, got 1"):
        fitted(images(1))


def test_what_16_bits_cannot_hold_is_refused() -> None:
    with pytest.raises(ConfigError, match="regularisation must be 1e-6 or more"):
        ReflectConfig(regularisation=1e-9)
