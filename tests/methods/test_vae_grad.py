import pytest
import torch

from onlygood.methods.vae_grad import VAEGrad, VAEGradConfig
from tests.methods.nets import SHAPE, batch, images


def vae_grad(**config) -> VAEGrad:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAEGrad(VAEGradConfig(**{"width": 2, "latent": 4, **config}), SHAPE).eval()


@pytest.mark.parametrize("detached", [False, True])
def test_a_walk_is_that_of_the_paper(detached: bool) -> None:
    method = vae_grad(search_steps=3, step_size=0.2, nearness=0.1, detached=detached)
    start = images(2)
    x = start.clone()
    for _ in range(3):
        x.requires_grad_()
        x_hat = method.given_back(x)
        target = x_hat.detach() if detached else x_hat
        energy = (x - target).square().sum() + 0.1 * (x - start).abs().sum()
        (slope,) = torch.autograd.grad(energy, x)
        with torch.no_grad():
            x = (x - 0.2 * slope * (x - x_hat).square()).clamp(0, 1)
    with torch.no_grad():
        torch.testing.assert_close(method.reconstruct(start), x)


@torch.no_grad()
def test_what_is_given_back_well_stays() -> None:
    method, x = vae_grad(search_steps=2), images(3)
    errors = (x - method.given_back(x)).square().sum((1, 2, 3))
    method.measure([x[1:], x[:1]])
    assert method.threshold == errors.min()
    best = errors.argmin()
    moved = method.score(x).terms["mean"]
    assert moved[best] == 0
    assert (moved > 0).sum() == 2


@torch.no_grad()
def test_the_score_is_how_far_pixels_were_moved() -> None:
    method, x = vae_grad(search_steps=1, score_peak=0.25), images()
    scores = method.score(x)
    moved = (x - method.reconstruct(x)).abs()[:, 0]
    torch.testing.assert_close(scores.map, moved)
    torch.testing.assert_close(scores.terms["mean"], moved.mean((1, 2)))
    parts = scores.terms
    torch.testing.assert_close(scores.total, 0.25 * parts["peak"] + 0.75 * parts["mean"])


def test_training_is_that_of_a_vae() -> None:
    method, x = vae_grad(beta=0.5), images()
    mean, log_variance = method.encoder(x)
    x_hat = method.decoder(mean + (log_variance / 2).exp() * batch().normals(4))
    divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
    expected = (x - x_hat).square().sum((1, 2, 3)) + 0.5 * divergence
    torch.testing.assert_close(method.loss(batch()).total, expected.mean())
