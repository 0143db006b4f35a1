import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from onlygood.core.method import InputShape
from onlygood.methods import mean_picture
from onlygood.methods.mean_picture import MeanPicture, MeanPictureConfig


def images(n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.RandomState(seed).rand(n, 2, 5, 5)).float()


def fitted(train: torch.Tensor, **config: object) -> MeanPicture:
    method = MeanPicture(MeanPictureConfig(**config), InputShape(2, 5, 5))  # type: ignore[arg-type]
    method.average(iter(train.split(4)))
    return method


def rest(train: torch.Tensor, test: torch.Tensor, centre: str) -> NDArray[np.float64]:
    kept = getattr(np, centre)(train.double().numpy(), 0)
    return np.asarray(test.double().numpy() - kept)


@pytest.mark.parametrize("centre", ["mean", "median"])
@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_the_score_is_the_distance_from_the_kept_picture(centre: str, distance: str) -> None:
    # An even number: a median of numpy's lies between the two in the middle.
    train, test = images(10), images(6, seed=1)
    scores = fitted(train, centre=centre, distance=distance).score(test)
    pixels = np.abs(rest(train, test, centre)) ** int(distance[1])
    np.testing.assert_allclose(scores.total, pixels.sum((1, 2, 3)), rtol=1e-5)
    assert scores.map is not None
    np.testing.assert_allclose(scores.map, pixels.sum(1), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(scores.terms["pixels"], scores.total)


def test_the_mean_of_many_equal_pictures_is_exact() -> None:
    # A float32 sum of 0.1 over so many has lost its last digits.
    equal = torch.full((100_000, 2, 5, 5), 0.1)
    assert fitted(equal).score(equal[:1]).total.item() == 0


def test_the_median_of_too_many_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mean_picture, "MEDIAN_OF", 1)
    train = images(10)
    picture = fitted(train, centre="median").picture
    assert any(torch.equal(picture, one) for one in train)
