import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError
from onlygood.methods.gaussian import Gaussian, GaussianConfig, Moments
from tests.methods.pattern import (
    SHAPE,
    assert_a_defect_stands_out,
    assert_parts_make_the_whole,
    images,
)


def fitted(train: Tensor, **config: object) -> Gaussian:
    method = Gaussian(GaussianConfig(**config), SHAPE)  # type: ignore[arg-type]
    with torch.no_grad():
        method.learn(method.measure(iter(train.split(8)), 0))
    return method


def mahalanobis(
    train: NDArray[np.float64], test: NDArray[np.float64], epsilon: float
) -> NDArray[np.float64]:
    """Of rows `(n, c)` from the Gaussian of others."""
    covariance = np.cov(train.T) + epsilon * np.eye(train.shape[1])
    centred = test - train.mean(0)
    return np.sqrt((centred * np.linalg.solve(covariance, centred.T).T).sum(1))


@pytest.mark.parametrize("n", [20, 200])
def test_each_position_has_its_own_gaussian(n: int) -> None:
    train, test = images(n), images(3, seed=1)
    method = fitted(train, regularisation=0.1, top=1.0)
    f, g = (method.features(x).double().numpy() for x in (train, test))
    expected = np.array(
        [[mahalanobis(f[:, i, j], g[:, i, j], 0.1) for j in range(4)] for i in range(6)]
    )
    scores = method.score(test)
    np.testing.assert_allclose(scores.total, expected.mean((0, 1)), rtol=1e-3)
    # Pixels around the middle of a position are next to the position's own value.
    assert scores.map is not None
    middles = scores.map.unflatten(1, (6, 8)).unflatten(3, (4, 8))[:, :, 3:5, :, 3:5]
    found = middles.mean((2, 4)).numpy().transpose(1, 2, 0)
    np.testing.assert_allclose(found, expected, atol=0.15 * float(np.ptp(expected)))


def test_one_gaussian_for_all_positions() -> None:
    train, test = images(10), images(3, seed=1)
    method = fitted(train, positions="all", top=1.0)
    assert method.whitening.rows.shape == (1, 152, 152)
    f, g = (method.features(x).flatten(0, 2).double().numpy() for x in (train, test))
    expected = mahalanobis(f, g, 0.01).reshape(3, 24).mean(1)
    np.testing.assert_allclose(method.score(test).total, expected, rtol=1e-3)


def test_a_regularisation_that_rounding_swallows_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"regularisation=1e-20 is lost.*take a larger one"):
        fitted(images(8), regularisation=1e-20)


def test_the_score_is_that_of_the_most_unusual_positions() -> None:
    test = images(3, seed=1)
    mean, some, most = (fitted(images(20), top=top).score(test) for top in (1.0, 0.1, 0.0))
    assert (mean.total < some.total).all()
    assert (some.total < most.total).all()
    assert torch.equal(most.terms["distance"], most.total)


def test_a_defect_stands_out_where_it_is() -> None:
    assert_a_defect_stands_out(fitted(images(200), regularisation=1.0), 2)


def test_moments_do_not_depend_on_batches_nor_on_the_mean() -> None:
    rows = 1e6 + torch.randn(
        3, 50, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    for size in (1, 7, 50):
        moments = Moments()
        for batch in rows.split(size, 1):
            moments.add(batch, 0)
        torch.testing.assert_close(moments.mean, rows.mean(1), rtol=1e-12, atol=0)
        for i in range(3):
            torch.testing.assert_close(moments.squares[i] / 49, rows[i].T.cov(), rtol=1e-7, atol=0)


@pytest.mark.parametrize("positions", ["all", "each"])
def test_parts_of_a_pass_make_the_whole(positions: str) -> None:
    config = GaussianConfig(positions=positions)  # type: ignore[arg-type]
    whole, parted = Gaussian(config, SHAPE), Gaussian(config, SHAPE)
    assert_parts_make_the_whole(whole, parted, images(60))


def test_moments_far_apart_are_merged_exactly() -> None:
    """Squares about two means that differ a lot; by hand, of the rows 1, 3 and 1001."""
    first, second = Moments(), Moments()
    first.add(torch.tensor([[[1.0], [3.0]]], dtype=torch.float64), 2)
    second.add(torch.tensor([[[1001.0]]], dtype=torch.float64), 1)
    first.merge(second)
    assert (first.count, first.images, float(first.mean)) == (3, 3, 335.0)
    assert float(first.squares) == pytest.approx(334**2 + 332**2 + 666**2, rel=1e-14)


def test_alike_images_are_no_error() -> None:
    same = images(1).expand(4, 1, 48, 32)
    method = fitted(same)
    assert method.score(same[:1]).total.item() < 0.01
    assert method.score(images(1, seed=1)).total.item() > 1


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="at least 2 training pictures, got 1"):
        fitted(images(1))
