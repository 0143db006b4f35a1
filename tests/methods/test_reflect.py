import numpy as np
import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.method import InputShape
from onlygood.methods import reflect
from onlygood.methods.reflect import Reflect, ReflectConfig, aligned
from tests.methods.pattern import SHAPE, assert_a_defect_stands_out, images

CHANNELS = {8: 40, 16: 80 + 112}


def fitted(train: Tensor, **config: object) -> Reflect:
    method = Reflect(ReflectConfig(**config), SHAPE)  # type: ignore[arg-type]
    with torch.no_grad():
        method.measure(iter(train.split(8)))
    return method


def standardised(method: Reflect, x: Tensor) -> list[Tensor]:
    return [
        grid.standardised(f.flatten(1, 2))
        for grid, f in zip(method.grids, method.features(x), strict=True)
    ]


def test_layers_of_one_stride_are_one_grid() -> None:
    method = Reflect(ReflectConfig(), SHAPE)
    shapes = [tuple(f.shape) for f in method.features(images(2))]
    assert shapes == [(2, 6, 4, CHANNELS[8]), (2, 3, 2, CHANNELS[16])]


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
    method = fitted(train, latent=0, prior=0.0, regularisation=0.1)
    for grid, own, new in zip(
        method.grids, standardised(method, train), standardised(method, test), strict=True
    ):
        found = grid.squares(new)
        for p in (0, own.shape[1] - 1):
            covariance = np.cov(own[:, p].double().numpy().T) + 0.1 * np.eye(own.shape[2])
            x = new[:, p].double().numpy()
            expected = (x * np.linalg.solve(covariance, x.T).T).sum(1)
            np.testing.assert_allclose(found[:, p], expected, rtol=0.02)


def test_the_prior_counts_for_half_as_many_pictures_as_there_are_channels() -> None:
    rows = torch.randn(30, 4, 20, generator=torch.Generator().manual_seed(0))
    statistics = reflect.GridStatistics(20)
    statistics.whiten(rows, True, 0.5, 0.1)
    own = [(rows[:, p].T @ rows[:, p]) / 29 for p in range(4)]
    mean = torch.stack(own).mean(0)
    for covariance, found in zip(own, statistics.whitening.rows, strict=True):
        expected = (30 * covariance + 10 * mean) / 40 + 0.1 * torch.eye(20)
        torch.testing.assert_close(found.T @ found, expected.inverse(), rtol=0.01, atol=0.01)


def test_a_heavy_prior_makes_positions_alike() -> None:
    method = fitted(images(20), latent=0, prior=1e9)
    for grid in method.grids:
        first, *others = grid.whitening.rows
        for other in others:
            torch.testing.assert_close(other, first, rtol=1e-3, atol=1e-3)


def test_the_score_is_the_mean_of_the_worst_positions() -> None:
    train, test = images(20), images(3, seed=1)
    totals = [fitted(train, worst=worst).score(test).total for worst in (1, 6, 24, 1000)]
    assert (totals[0] > totals[1]).all()
    assert (totals[1] > totals[2]).all()
    assert torch.equal(totals[2], totals[3])


def test_a_defect_stands_out_where_it_is() -> None:
    assert_a_defect_stands_out(fitted(images(200), worst=1), 1.5)


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
    assert [len(grid.whitening.rows) for grid in loose.grids] == [1, 1]
    assert [len(grid.axes.rows) for grid in loose.grids] == [0, 0]
    assert [len(grid.whitening.rows) for grid in fitted(images(30)).grids] == [24, 6]


def test_of_more_pictures_than_there_is_room_for_a_sample_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    numbers = 6 * 4 * CHANNELS[8] + 3 * 2 * CHANNELS[16]
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
