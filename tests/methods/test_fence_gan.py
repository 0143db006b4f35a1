import torch
from torch import nn
from torch.nn import functional as F

from onlygood.methods.fence_gan import FenceGAN, dispersion, encirclement
from tests.contract.cases import batch, fresh, images


def fence_gan(**config: object) -> FenceGAN:
    method = fresh("fence_gan", **config).eval()
    assert isinstance(method, FenceGAN)
    return method


def test_the_fence_has_the_height_alpha() -> None:
    heights = torch.tensor([0.01, 0.2, 0.9])
    expected = -(0.2 * heights.log() + 0.8 * (1 - heights).log())
    found = encirclement(heights.logit(), 0.2)
    torch.testing.assert_close(found, expected)
    assert found.argmin() == 1


def test_dispersion_is_one_by_the_mean_distance_from_the_mean() -> None:
    # Their mean is 0, from which they are 3 and 5 away in turn.
    x = torch.zeros(4, 1, 1, 2)
    x[:, 0, 0, 0] = torch.tensor([3.0, -3.0, 0.0, 0.0])
    x[:, 0, 0, 1] = torch.tensor([0.0, 0.0, 5.0, -5.0])
    torch.testing.assert_close(dispersion(x), torch.tensor(0.25))
    assert dispersion(torch.ones(4, 1, 1, 2)).isfinite()


def test_both_networks_lower_what_the_paper_says() -> None:
    method, b = fence_gan(alpha=0.3, beta=2.0, gamma=0.4), batch()
    x_z = method.generator(b.normals(4))
    real = method.discriminator(2 * b.normal - 1).value.sigmoid()
    fake = method.discriminator(x_z).value.sigmoid()
    expected = -real.log().mean() - 0.4 * (1 - fake).log().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, expected)
    expected = encirclement(fake.logit(), 0.3).mean() + 2 * dispersion(x_z)
    torch.testing.assert_close(method.generator_loss(batch()).total, expected)


@torch.no_grad()
def test_the_score_has_the_order_of_1_minus_d() -> None:
    method = fence_gan()
    said = 1 - method.discriminator(2 * images() - 1).value.sigmoid()
    torch.testing.assert_close(method.score(images()).total.sigmoid(), said)


def test_the_discriminator_begins_alone() -> None:
    alone, fence = fence_gan(pretraining_epochs=3).stages()
    assert [update.name for update in alone.updates] == ["discriminator"]
    assert alone.budget is not None and alone.budget.epochs == 3
    assert [update.name for update in fence.updates] == ["discriminator", "generator"]
    assert len(fence_gan(pretraining_epochs=0).stages()) == 1


def test_the_last_hidden_layer_of_d_has_an_activation() -> None:
    d, x = fence_gan().discriminator, images()
    assert isinstance(d.hidden, nn.Sequential)
    dense = d.hidden[0](d.trunk(x).flatten(1))
    torch.testing.assert_close(d(x).features, F.leaky_relu(dense, 0.1))
