import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA as Reference

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape
from onlygood.methods import pca
from onlygood.methods.pca import PCA, PCAConfig


def images(n: int, rank: int = 40, seed: int = 0) -> torch.Tensor:
    """Grey images of 8 x 8 pixels that fill `rank` dimensions."""
    draw = np.random.RandomState(seed)
    flat = draw.rand(n, rank) @ draw.rand(rank, 64) / rank
    return torch.from_numpy(flat).float().view(n, 1, 8, 8)


def fitted(batches: list[torch.Tensor], components: int = 5) -> PCA:
    method = PCA(PCAConfig(components=components), InputShape(1, 8, 8))
    method.decompose(iter(batches))
    return method


def residual(train: torch.Tensor, test: torch.Tensor, components: int) -> NDArray[np.float64]:
    model = Reference(components, svd_solver="full").fit(train.flatten(1).double().numpy())
    x = test.flatten(1).double().numpy()
    return ((x - model.inverse_transform(model.transform(x))) ** 2).sum(1)


def test_the_score_is_the_reconstruction_error() -> None:
    train, test = images(60), images(10, seed=1)
    scores = fitted([train[:25], train[25:]]).score(test)
    np.testing.assert_allclose(scores.total, residual(train, test, 5), rtol=1e-4)
    assert scores.map is not None
    torch.testing.assert_close(scores.map.flatten(1).sum(1), scores.total)
    torch.testing.assert_close(scores.terms["residual"], scores.total)


def test_with_few_images_one_direction_is_kept_out() -> None:
    train = images(4)
    method = fitted([train], components=30)
    assert int(method.components.any(1).sum()) == 2
    # Else every training image would have score 0, and so would tell nothing of its kind.
    assert (method.score(train).total > 1e-5).all()
    np.testing.assert_allclose(method.score(train).total, residual(train, train, 2), rtol=1e-3)


def test_more_than_fits_into_memory_comes_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    # Blocks lose what lies outside the subspace: in a subspace of that size they lose nothing.
    train, test = images(100, rank=5), images(10, seed=1)
    exact = fitted(list(train.split(10)), components=8)
    monkeypatch.setattr(pca, "IN_MEMORY", 64 * 20)
    monkeypatch.setattr(pca, "ExactPCA", None)
    blocks = fitted(list(train.split(10)), components=8)
    torch.testing.assert_close(blocks.mean, exact.mean)
    torch.testing.assert_close(blocks.score(test).total, exact.score(test).total, rtol=1e-3, atol=0)


def test_a_last_block_that_is_too_small_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pca, "IN_MEMORY", 64 * 20)
    train = images(43, rank=5)
    blocks = fitted(list(train.split(10)), components=8)
    assert blocks.score(train).total.max() < 1e-6


@pytest.mark.parametrize("in_memory", [pca.IN_MEMORY, 64])
def test_constant_images_hide_no_pixel(monkeypatch: pytest.MonkeyPatch, in_memory: int) -> None:
    monkeypatch.setattr(pca, "IN_MEMORY", in_memory)
    constant = torch.full((40, 1, 8, 8), 0.4)
    method = fitted(list(constant.split(20)), components=8)
    assert method.score(constant[:1]).total.item() < 1e-9
    # A defect of one pixel counts in full, wherever it is.
    defects = constant[:1].repeat(64, 1, 1, 1)
    defects.view(64, 64).fill_diagonal_(0.9)
    torch.testing.assert_close(method.score(defects).total, torch.full((64,), 0.25))


def test_one_image_is_too_few() -> None:
    with pytest.raises(DataError, match="PCA needs at least 2 training pictures, got 1"):
        fitted([images(1)])
