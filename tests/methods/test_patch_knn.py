import numpy as np
import pytest
import torch
from torch import Tensor

from onlygood.core.method import InputShape
from onlygood.methods.patch_knn import PatchKNN, PatchKNNConfig
from onlygood.networks.memory import coreset


def images(n: int, seed: int = 0, height: int = 48, width: int = 32) -> Tensor:
    """Stripes of a random phase, a little noisy."""
    draw = np.random.RandomState(seed)
    waves = np.sin(np.arange(width) / 2 + 6 * draw.rand(n, 1, 1, 1)) / 4
    return torch.from_numpy(0.5 + waves + 0.1 * draw.rand(n, 1, height, width)).float()


def fitted(train: Tensor, **config: object) -> PatchKNN:
    method = PatchKNN(PatchKNNConfig(**config), InputShape(1, 48, 32))  # type: ignore[arg-type]
    with torch.no_grad():
        method.keep(iter(train.split(4)))
    return method


def test_the_score_is_the_distance_from_the_nearest_patch() -> None:
    train, test = images(9), images(3, seed=1)
    method = fitted(train, top=1.0)
    patches = method.features(train).flatten(0, 2)
    torch.testing.assert_close(method.memory.rows, patches, rtol=0, atol=1e-3)
    expected = torch.cdist(method.features(test).flatten(0, 2).double(), patches.double()).amin(1)
    scores = method.score(test)
    expected = expected.float().view(3, 24).mean(1)
    torch.testing.assert_close(scores.total, expected, rtol=1e-4, atol=0)
    assert scores.map is not None
    assert scores.map.shape == (3, 48, 32)
    assert torch.equal(scores.terms["distance"], scores.total)


def test_the_score_is_that_of_the_most_unusual_positions() -> None:
    train, test = images(9), images(3, seed=1)
    method = fitted(train, top=0.0)
    near = torch.cdist(method.features(test).flatten(0, 2), method.memory.rows).amin(1)
    expected = near.view(3, 24).amax(1)
    torch.testing.assert_close(method.score(test).total, expected, rtol=1e-4, atol=0)


def test_what_was_kept_is_no_anomaly() -> None:
    train = images(9)
    method = fitted(train)
    assert method.score(train).total.max() < 0.05 * method.score(images(9, seed=1)).total.min()


def test_no_more_patches_are_kept_than_allowed() -> None:
    train = images(9)
    method = fitted(train, limit=50)
    assert method.memory.rows.shape == (50, 152)
    patches = method.features(train).flatten(0, 2)
    assert torch.cdist(method.memory.rows, patches).amin(1).max() < 0.1


def test_a_coreset_leaves_no_patch_far_away() -> None:
    train = images(9)
    method = fitted(train, limit=30, keep="coreset")
    patches = method.features(train).flatten(0, 2)
    expected = coreset(patches, 30)
    torch.testing.assert_close(method.memory.rows, expected, rtol=0, atol=1e-3)
    random = fitted(train, limit=30).memory.rows

    def gap(kept: Tensor) -> Tensor:
        return torch.cdist(patches, kept).amin(1).max()

    assert gap(method.memory.rows) < 0.9 * gap(random)


@pytest.mark.parametrize("keep", ["random", "coreset"])
def test_a_defect_stands_out_where_it_is(keep: str) -> None:
    method = fitted(images(20, 0, 96, 96), limit=200, keep=keep)
    normal, defective = images(2, 1, 96, 96), images(2, 1, 96, 96)
    defective[:, :, 66:74, 66:74] = 1.0
    scores = method.score(defective)
    assert (scores.total > 1.2 * method.score(normal).total).all()
    assert scores.map is not None
    for peak in scores.map.flatten(1).argmax(1):
        assert int(peak) // 96 > 48
        assert int(peak) % 96 > 48


def test_what_is_usual_is_the_distance_from_patches_of_other_pictures() -> None:
    train = images(6)
    method = fitted(train)
    with torch.no_grad():
        method.gauge(iter(train.split(4)))
        patches = method.features(train).flatten(1, 2)
    total = torch.zeros(24)
    for own, others in ((patches[::2], patches[1::2]), (patches[1::2], patches[::2])):
        nearest = torch.cdist(own.flatten(0, 1).double(), others.flatten(0, 1).double()).amin(1)
        total += nearest.float().view(3, 24).sum(0)
    expected = (total + total.mean() / 6) / 7
    torch.testing.assert_close(method.usual.distances.rows, expected, rtol=1e-3, atol=1e-4)
