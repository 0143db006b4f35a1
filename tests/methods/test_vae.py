import torch
from torch.distributions import Normal, kl_divergence

from onlygood.methods.vae import VAE, VAEConfig
from tests.methods.nets import SHAPE, batch, images


def vae(**config) -> VAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VAE(VAEConfig(**{"width": 2, "latent": 4, **config}), SHAPE)


def test_the_loss_is_the_negative_bound() -> None:
    method, x = vae(beta=0.5), images()
    mean, log_variance = method.encoder(x)
    posterior = Normal(mean, (log_variance / 2).exp())
    x_hat = method.decoder(mean + posterior.stddev * batch().normals(4))
    # Of Gaussian pixels with variance 1/2, up to a constant.
    pixels = Normal(x_hat, 0.5**0.5).log_prob(x) - Normal(0.0, 0.5**0.5).log_prob(torch.zeros(1))
    divergence = kl_divergence(posterior, Normal(0.0, 1.0)).sum(1)
    expected = -pixels.sum((1, 2, 3)) + 0.5 * divergence
    torch.testing.assert_close(method.loss(batch()).total, expected.mean())


@torch.no_grad()
def test_the_score_is_the_bound_at_the_mean_code() -> None:
    method, x = vae(score_divergence=0.25), images()
    mean, log_variance = method.encoder(x)
    error = (x - method.decoder(mean)).square()
    scores = method.score(x)
    divergence = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(scores.terms["pixels"], error.sum((1, 2, 3)))
    torch.testing.assert_close(scores.terms["divergence"], divergence)
    torch.testing.assert_close(scores.total, error.sum((1, 2, 3)) + 0.25 * divergence)
    torch.testing.assert_close(scores.map, error.sum(1))
