import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from onlygood.core.method import InputShape
from onlygood.methods.knn import KNN, KNNConfig


def images(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).rand(n, 2, 5, 5)).float()


def fitted(train: Tensor, **config: object) -> KNN:
    method = KNN(KNNConfig(**config), InputShape(2, 5, 5))  # type: ignore[arg-type]
    method.keep(iter(train.split(8)))
    return method


def reference(train: Tensor, test: Tensor, k: int) -> np.ndarray:
    found = NearestNeighbors(n_neighbors=k).fit(train.flatten(1).double().numpy())
    return found.kneighbors(test.flatten(1).double().numpy())[0]


def test_the_mean_is_scikit_learns() -> None:
    train, test = images(50), images(10, seed=1)
    scores = fitted(train, k=4).score(test)
    np.testing.assert_allclose(scores.total, reference(train, test, 4).mean(1), rtol=1e-5)
    assert scores.map is None


def test_the_kth_is_scikit_learns() -> None:
    train, test = images(50), images(10, seed=1)
    scores = fitted(train, k=4, of="kth").score(test)
    np.testing.assert_allclose(scores.total, reference(train, test, 4)[:, 3], rtol=1e-5)


def test_a_training_image_is_at_distance_zero() -> None:
    assert torch.equal(fitted(images(20), k=1).score(images(20)).total, torch.zeros(20))


def test_with_fewer_images_all_are_neighbours() -> None:
    train, test = images(3), images(4, seed=1)
    expected = reference(train, test, 3).mean(1)
    np.testing.assert_allclose(fitted(train, k=9).score(test).total, expected, rtol=1e-5)


def test_no_more_images_are_kept_than_allowed() -> None:
    method = fitted(images(30), limit=7)
    assert method.memory.rows.shape == (7, 50)
    own = images(30).flatten(1)
    assert all((own == row).all(1).any() for row in method.memory.rows)
