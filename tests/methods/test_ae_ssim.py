import pytest
import torch

from onlygood.losses.ssim import smoothed, ssim, ssim_map
from onlygood.methods.ae_ssim import AESSIM, AESSIMConfig
from tests.methods.nets import SHAPE, batch, images


def ae_ssim(**config) -> AESSIM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AESSIM(AESSIMConfig(**{"width": 2, "latent": 4, **config}), SHAPE)


def test_training_raises_similarity() -> None:
    method, x = ae_ssim(), images()
    expected = 1 - ssim(x, method.reconstruct(x))
    torch.testing.assert_close(method.loss(batch()).total, expected.mean())


def test_the_other_row_of_the_paper_lowers_squared_errors() -> None:
    method, x = ae_ssim(distance="l2"), images()
    error = (x - method.reconstruct(x)).square()
    torch.testing.assert_close(method.loss(batch()).total, error.mean())


@pytest.mark.parametrize("distance", ["ssim", "l2"])
@torch.no_grad()
def test_the_score_is_of_the_map(distance: str) -> None:
    method, x = ae_ssim(distance=distance, score_peak=0.25), images()
    x_hat = method.reconstruct(x)
    if distance == "ssim":
        residual = blurred = 1 - ssim_map(x, x_hat)
    else:
        residual = (x - x_hat).square()[:, 0]
        blurred = smoothed(residual)
    scores = method.score(x)
    torch.testing.assert_close(scores.map, residual)
    torch.testing.assert_close(scores.terms["peak"], blurred.amax((1, 2)))
    torch.testing.assert_close(scores.terms["mean"], residual.mean((1, 2)))
    torch.testing.assert_close(
        scores.total, 0.25 * scores.terms["peak"] + 0.75 * scores.terms["mean"]
    )
