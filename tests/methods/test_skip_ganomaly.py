import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.methods.skip_ganomaly import SkipGANomaly, SkipGANomalyConfig
from tests.contract.cases import batch, fresh, images


def skip_ganomaly(**config: object) -> SkipGANomaly:
    method = fresh("skip_ganomaly", **config).eval()
    assert isinstance(method, SkipGANomaly)
    return method


def features(method: SkipGANomaly, x: Tensor) -> Tensor:
    hidden = method.discriminator.hidden
    assert hidden is not None
    return hidden(method.discriminator.trunk(x).flatten(1))


def test_what_both_networks_minimise() -> None:
    method, x = skip_ganomaly(w_adv=2.0, w_con=3.0, w_lat=5.0), 2 * images() - 1
    x_hat = method.generator(x)
    real, fake = method.discriminator(x).value, method.discriminator(x_hat).value
    latent = (features(method, x) - features(method, x_hat)).square().mean()
    contextual = (x - x_hat).abs().mean()
    ones, zeros = torch.ones(5), torch.zeros(5)
    cross_entropy = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        method.generator_loss(batch()).total,
        2 * cross_entropy(fake, ones) + 3 * contextual + 5 * latent,
    )
    torch.testing.assert_close(
        method.discriminator_loss(batch()).total,
        cross_entropy(real, ones) + cross_entropy(fake, zeros) + latent,
    )


@torch.no_grad()
def test_the_score_mixes_means_of_squares() -> None:
    method, x = skip_ganomaly(score_features=0.3), 2 * images() - 1
    x_hat = method.generator(x)
    pixels = (x - x_hat).square().mean((1, 2, 3))
    latent = (features(method, x) - features(method, x_hat)).square().mean(1)
    scores = method.score(images())
    torch.testing.assert_close(scores.total, 0.7 * pixels + 0.3 * latent)
    torch.testing.assert_close(scores.terms, {"pixels": pixels, "features": latent})


def test_five_blocks_lead_to_a_point_and_back() -> None:
    method = SkipGANomaly(SkipGANomalyConfig(width=2), InputShape(3, 32, 32)).eval()
    assert (len(method.generator.down), len(method.generator.up)) == (5, 4)
