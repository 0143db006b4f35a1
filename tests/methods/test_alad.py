import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.methods.alad import ALAD, ALADConfig
from tests.contract.cases import batch, fresh, images


def alad(**config: object) -> ALAD:
    method = fresh("alad", **config).eval()
    assert isinstance(method, ALAD)
    return method


def above(real: Tensor, fake: Tensor) -> Tensor:
    """Cross-entropy of what should be high, and what should be low."""
    return -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()


@pytest.mark.parametrize("pair", ["height", "channels"])
@pytest.mark.parametrize("latent_critic", [True, False])
def test_three_games_with_weight_1(pair: str, latent_critic: bool) -> None:
    method, b = alad(pair=pair, latent_critic=latent_critic), batch()
    x, z = 2 * b.normal - 1, b.normals(4)
    z_x, x_z = method.encoder(x), method.generator(z)
    axis = 2 if pair == "height" else 1
    xx, x_hat_x = (method.d_xx(torch.cat([x, y], axis)).value for y in (x, method.generator(z_x)))
    real, fake = method.d_xz(x, z_x).value, method.d_xz(x_z, z).value
    critics = above(real, fake) + above(xx, x_hat_x)
    players = above(fake, real) - x_hat_x.sigmoid().log().mean()
    if method.d_zz is not None:
        zz, z_hat_z = (method.d_zz(torch.cat([z, y], 1)).value for y in (z, method.encoder(x_z)))
        critics = critics + above(zz, z_hat_z)
        players = players - z_hat_z.sigmoid().log().mean()
    assert (method.d_zz is not None) == latent_critic
    torch.testing.assert_close(method.critics_loss(batch()).total, critics)
    torch.testing.assert_close(method.generator_loss(batch()).total, players)


@torch.no_grad()
@pytest.mark.parametrize("chosen", ["features", "l1", "l2", "logits"])
def test_four_scores(chosen: str) -> None:
    method, x = alad(score_by=chosen), 2 * images() - 1
    x_hat = method.generator(method.encoder(x))
    same, other = (method.d_xx(torch.cat([x, y], 2)) for y in (x, x_hat))
    difference, ones = (x - x_hat).flatten(1), torch.ones(5)
    parts = {
        "features": (same.features - other.features).flatten(1).norm(p=1, dim=1),
        "l1": difference.norm(p=1, dim=1),
        "l2": difference.norm(dim=1),
        "logits": F.binary_cross_entropy_with_logits(other.value, ones, reduction="none"),
    }
    scores = method.score(images())
    torch.testing.assert_close(scores.total, parts[chosen], rtol=1e-4, atol=1e-5)
    assert set(scores.terms) == set(parts)
    for name, part in parts.items():
        torch.testing.assert_close(scores.terms[name], part, rtol=1e-4, atol=1e-5)


def test_features_of_d_xx_are_as_many_as_in_the_authors_code() -> None:
    shape = InputShape(3, 32, 32)
    assert ALAD(ALADConfig(), shape).d_xx.trunk.form == (128, 16, 8)
