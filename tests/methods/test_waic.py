import math

import pytest
import torch

from onlygood.methods.waic import WAIC, WAICConfig
from tests.methods.nets import SHAPE, batch, equal, gradients, images


def waic(**config) -> WAIC:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        small = {"members": 3, "levels": 2, "depth": 1, "width": 4}
        return WAIC(WAICConfig(**{**small, **config}), SHAPE)


def test_each_model_is_trained_by_bits_of_its_own() -> None:
    method, x = waic(), images()
    updates = method.stages()[0].updates
    assert [update.batch for update in updates] == ["fresh", "shared", "shared"]
    losses = [update.loss(batch()).total for update in updates]
    for member, loss in zip(method.members, losses, strict=True):
        log_p = member.log_likelihood(x, batch().uniforms(*x.shape[1:]))
        torch.testing.assert_close(loss, -log_p.mean() / (1024 * math.log(2)))
    assert len({loss.item() for loss in losses}) == 3
    assert equal(
        gradients(losses[1], method.members[:1]), [None for _ in method.members[0].parameters()]
    )


@torch.no_grad()
@pytest.mark.parametrize("weight", [1.0, 0.0])
def test_the_score_is_minus_the_mean_of_likelihoods_and_their_variance(weight: float) -> None:
    method, x = waic(score_variance=weight), images()
    method.settle(iter(images(32).split(16)))
    middle = torch.full_like(x, 0.5)
    log_p = torch.stack([member.log_likelihood(x, middle) for member in method.members]).double()
    mean = log_p.sum(0) / 3
    variance = ((log_p - mean) ** 2).sum(0) / 3
    scores = method.score(x)
    torch.testing.assert_close(scores.terms["likelihood"], -mean.float())
    torch.testing.assert_close(scores.terms["variance"], variance.float())
    torch.testing.assert_close(scores.total, (weight * variance - mean).float())
    assert (variance > 0.1).all()


@torch.no_grad()
def test_models_that_are_sure_of_something_else_give_a_finite_score() -> None:
    method = waic()
    method.flows[0].top[:, method.flows[0].top.shape[1] // 2 :] = -50.0
    scores = method.score(images())
    assert (scores.terms["variance"] >= 1e30).all()
    assert torch.isfinite(scores.total).all()
