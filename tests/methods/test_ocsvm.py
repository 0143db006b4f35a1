import numpy as np
import pytest
import torch
from sklearn.svm import OneClassSVM
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape
from onlygood.methods.ocsvm import OCSVM, OCSVMConfig


def images(n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).rand(n, 1, 4, 4)).float()


def rows(x: Tensor) -> np.ndarray:
    return x.flatten(1).double().numpy()


def fitted(train: Tensor, **config: object) -> OCSVM:
    method = OCSVM(OCSVMConfig(**config), InputShape(1, 4, 4))  # type: ignore[arg-type]
    method.enclose(iter(train.split(8)))
    return method


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {"nu": 0.1, "gamma": "scale"}),
        ({"nu": 0.4, "gamma": 0.5}, {"nu": 0.4, "gamma": 0.5}),
    ],
)
def test_the_surface_is_scikit_learns(ours: dict[str, float], theirs: dict[str, object]) -> None:
    train, test = images(60), torch.cat([images(10, seed=1), images(1, seed=2) * 3])
    scores = fitted(train, **ours).score(test)
    expected = OneClassSVM(**theirs).fit(rows(train)).decision_function(rows(test))
    np.testing.assert_allclose(scores.total, -expected, rtol=1e-5, atol=1e-6)
    assert scores.total.argmax() == 10
    assert scores.map is None


def test_at_most_a_share_nu_is_outside() -> None:
    method = fitted(images(200), nu=0.2)
    outside = (method.score(images(200)).total > 1e-2).float().mean().item()
    assert 0 < outside <= 0.2 <= len(method.support.rows) / 200


def test_axes_come_first_where_wanted() -> None:
    train, test = images(60), images(10, seed=1)
    method = fitted(train, variance=0.6)
    prepared = [method.preparation(x).double().numpy() for x in (train, test)]
    assert prepared[0].shape[1] < 16
    expected = OneClassSVM(nu=0.1).fit(prepared[0]).decision_function(prepared[1])
    np.testing.assert_allclose(method.score(test).total, -expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 20])
def test_images_that_are_all_alike_are_refused(n: int) -> None:
    with pytest.raises(DataError, match=f"pictures that differ, got {n} alike"):
        fitted(torch.full((n, 1, 4, 4), 0.4))


def test_no_more_images_are_used_than_allowed() -> None:
    some = fitted(images(50), nu=0.9, limit=9).support.rows
    assert 5 < len(some) <= 9
