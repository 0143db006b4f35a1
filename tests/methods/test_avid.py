import torch

from onlygood.core.method import InputShape
from onlygood.methods.avid import AVID, AVIDConfig
from tests.contract.cases import batch, fresh, images


def avid(**config: object) -> AVID:
    method = fresh("avid", **config).eval()
    assert isinstance(method, AVID)
    return method


def test_losses_are_squares_over_regions() -> None:
    method, b = avid(noise=0.3, w_reconstruction=2.0), batch()
    noisy = (b.normal + 0.3 * b.normals(1, 32, 32)).clamp(0, 1)
    x, x_hat = 2 * b.normal - 1, method.inpainter(2 * noisy - 1)
    real, fake = method.discriminator(x).value, method.discriminator(x_hat).value
    assert real.shape == (5, 8, 8)
    expected = (real - 1).square().mean() + fake.square().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, expected)
    expected = (fake - 1).square().mean() + 2 * (x - x_hat).square().mean()
    torch.testing.assert_close(method.inpainter_loss(batch()).total, expected)


@torch.no_grad()
def test_the_worst_region_counts() -> None:
    method, x = avid(score_pixels=0.5, score_noise=0.3), 2 * images() - 1
    drawn = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    x_hat = method.inpainter(2 * (images() + 0.3 * drawn).clamp(0, 1) - 1)
    values = method.discriminator(x_hat).value
    scores = method.score(images())
    worst, moved = 1 - values.flatten(1).amin(1), (x - x_hat).abs()
    torch.testing.assert_close(scores.terms["regions"], worst)
    torch.testing.assert_close(scores.total, worst + 0.5 * moved.mean((1, 2, 3)))
    assert scores.map is not None
    # In the corner of an image nothing but the corner region counts.
    corner = 1 - values[:, 0, 0] + moved[:, 0, 0, 0]
    torch.testing.assert_close(scores.map[:, 0, 0], corner)


@torch.no_grad()
def test_regions_are_as_many_at_every_size() -> None:
    x = torch.rand(1, 1, 64, 64)
    method = AVID(AVIDConfig(width=2), InputShape(1, 64, 64))
    assert method.discriminator(x).value.shape == (1, 8, 8)
