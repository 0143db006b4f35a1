import torch
from torch.nn import functional as F

from onlygood.methods.ganomaly import GANomaly
from tests.contract.cases import batch, fresh, images


def ganomaly(**config: object) -> GANomaly:
    method = fresh("ganomaly", **config).eval()
    assert isinstance(method, GANomaly)
    return method


def test_eq_4_is_the_weighted_sum_of_eq_1_to_3() -> None:
    method, x = ganomaly(w_adv=2.0, w_con=3.0, w_enc=5.0), 2 * images() - 1
    z = method.encoder(x)
    x_hat = method.generator(z)
    trunk = method.discriminator.trunk
    adversarial = (trunk(x) - trunk(x_hat)).square().mean()
    contextual = (x - x_hat).abs().mean()
    encoder = (z - method.second_encoder(x_hat)).square().mean()
    torch.testing.assert_close(
        method.generator_loss(batch()).total, 2 * adversarial + 3 * contextual + 5 * encoder
    )


def test_the_discriminator_minimises_half_the_cross_entropy() -> None:
    method, x = ganomaly(), 2 * images() - 1
    real, fake = (method.discriminator(y).value for y in (x, method.generator(method.encoder(x))))
    both = F.binary_cross_entropy_with_logits(
        torch.cat([real, fake]), torch.cat([torch.ones(5), torch.zeros(5)])
    )
    torch.testing.assert_close(method.discriminator_loss(batch()).total, both)


@torch.no_grad()
def test_eq_5_compares_the_codes_alone() -> None:
    x = images()
    for distance in ("l2", "l1"):
        method = ganomaly(score_distance=distance)
        p = method(x)
        gap = (p.z - p.z_hat).abs()
        expected = gap.sum(1) if distance == "l1" else gap.square().mean(1)
        scores = method.score(x)
        torch.testing.assert_close(scores.total, expected)
        torch.testing.assert_close(scores.terms["codes"], expected)
        torch.testing.assert_close(scores.terms["pixels"], (p.x - p.x_hat).abs().mean((1, 2, 3)))
