import pytest
import torch
from torch.nn import functional as F

from onlygood.methods.egbad import EGBAD
from tests.contract.cases import batch, fresh, images


def egbad(**config: object) -> EGBAD:
    method = fresh("egbad", **config).eval()
    assert isinstance(method, EGBAD)
    return method


def test_encoder_and_generator_play_with_the_labels_changed_over() -> None:
    method, b = egbad(), batch()
    x, z = 2 * b.normal - 1, b.normals(4)
    real = method.discriminator(x, method.encoder(x)).value.sigmoid()
    fake = method.discriminator(method.generator(z), z).value.sigmoid()
    value = -real.log().mean() - (1 - fake).log().mean()
    swapped = -(1 - real).log().mean() - fake.log().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, value)
    torch.testing.assert_close(method.generator_loss(batch()).total, swapped)


@torch.no_grad()
@pytest.mark.parametrize("l_d", ["features", "cross_entropy"])
def test_the_score_mixes_sums_over_pixels_and_l_d(l_d: str) -> None:
    method, x = egbad(score_discriminator=0.3, l_d=l_d), 2 * images() - 1
    z = method.encoder(x)
    x_hat = method.generator(z)
    real, fake = method.discriminator(x, z), method.discriminator(x_hat, z)
    ones = torch.ones(5)
    parts = {
        "features": (real.features - fake.features).abs().sum(1),
        "cross_entropy": F.binary_cross_entropy_with_logits(fake.value, ones, reduction="none"),
        "pixels": (x - x_hat).abs().sum((1, 2, 3)),
    }
    scores = method.score(images())
    torch.testing.assert_close(scores.total, 0.7 * parts["pixels"] + 0.3 * parts[l_d])
    for name, part in parts.items():
        torch.testing.assert_close(scores.terms[name], part)
