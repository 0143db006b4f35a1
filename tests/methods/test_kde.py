import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape
from onlygood.methods.kde import BANDWIDTHS, KDE, KDEConfig


def images(n: int, seed: int = 0, spread: float = 1.0) -> Tensor:
    draws = 0.5 + spread * (np.random.RandomState(seed).rand(n, 1, 4, 4) - 0.5)
    return torch.from_numpy(draws).float()


def rows(x: Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy()


def fitted(train: Tensor, **config: object) -> KDE:
    method = KDE(KDEConfig(**config), InputShape(1, 4, 4))  # type: ignore[arg-type]
    method.keep(iter(train.split(8)))
    return method


@pytest.mark.parametrize("bandwidth", [0.1, 2.0])
def test_the_density_is_scikit_learns(bandwidth: float) -> None:
    train, test = images(50), images(10, seed=1)
    scores = fitted(train, bandwidth=bandwidth).score(test)
    expected = KernelDensity(bandwidth=bandwidth).fit(rows(train)).score_samples(rows(test))
    np.testing.assert_allclose(scores.total, -expected, rtol=1e-4)
    assert scores.map is None


@pytest.mark.parametrize(("n", "spread"), [(43, 1.0), (43, 0.3), (3, 1.0)])
def test_the_bandwidth_is_scikit_learns(n: int, spread: float) -> None:
    train = images(n, spread=spread)
    search = GridSearchCV(KernelDensity(), {"bandwidth": BANDWIDTHS}, cv=min(n, 5))
    chosen = search.fit(rows(train)).best_params_["bandwidth"]
    assert BANDWIDTHS[0] < chosen < BANDWIDTHS[-1]
    assert fitted(train).bandwidth.item() == pytest.approx(chosen)


def test_bandwidths_are_those_of_the_paper() -> None:
    np.testing.assert_allclose(BANDWIDTHS, np.logspace(-4.5, 5, 20, base=2))


def test_far_away_scores_are_finite_and_ordered() -> None:
    method = fitted(images(50, spread=0.01), bandwidth=0.01)
    far = torch.stack([torch.full((1, 4, 4), v) for v in (0.5, 0.0, 3.0)])
    totals = method.score(far).total
    assert totals.isfinite().all()
    assert (totals.diff() > 0).all()


def test_axes_come_first_where_wanted() -> None:
    train, test = images(60), images(10, seed=1)
    method = fitted(train, variance=0.6, bandwidth=0.5)
    prepared = [method.preparation(x).double().numpy() for x in (train, test)]
    assert prepared[0].shape[1] < 16
    expected = KernelDensity(bandwidth=0.5).fit(prepared[0]).score_samples(prepared[1])
    np.testing.assert_allclose(method.score(test).total, -expected, rtol=1e-4)


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="KDE needs at least 2 training pictures, got 1"):
        fitted(images(1))
