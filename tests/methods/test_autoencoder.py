import torch

from onlygood.core.method import InputShape
from onlygood.methods.autoencoder import Autoencoder, AutoencoderConfig
from tests.methods.nets import batch, images


def autoencoder() -> Autoencoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Autoencoder(AutoencoderConfig(width=2, latent=4), InputShape(1, 32, 32))


@torch.no_grad()
def test_the_score_is_the_squared_error() -> None:
    method, x = autoencoder(), images()
    error = (x - method.generator(method.encoder(x))).square()
    scores = method.score(x)
    torch.testing.assert_close(scores.total, error.sum((1, 2, 3)))
    assert list(scores.terms) == ["pixels"]
    torch.testing.assert_close(scores.map, error.sum(1))


def test_the_loss_is_its_mean_over_pixels() -> None:
    method = autoencoder()
    mean = method.score(images()).total.mean() / 32**2
    loss = method.loss(batch())
    torch.testing.assert_close(loss.total, mean)
    torch.testing.assert_close(loss.terms["reconstruction"], mean.detach())
