import pytest
import torch
from torch import Tensor

from onlygood.methods.anogan import AnoGAN
from tests.contract.cases import batch, fresh, images


def anogan(**config: object) -> AnoGAN:
    method = fresh("anogan", **{"restarts": 1, **config}).eval()
    assert isinstance(method, AnoGAN)
    return method


def total(method: AnoGAN, x: Tensor, z: Tensor, share: float) -> Tensor:
    """(1 - lambda) L_R + lambda L_D, as printed."""
    x_hat, trunk = method.generator(z), method.discriminator.trunk
    residual = (x - x_hat).abs().sum((1, 2, 3))
    return (1 - share) * residual + share * (trunk(x) - trunk(x_hat)).abs().sum((1, 2, 3))


@pytest.mark.parametrize("prior", ["uniform", "normal"])
def test_generator_and_discriminator_play_the_usual_game(prior: str) -> None:
    method, b = anogan(prior=prior), batch()
    z = b.normals(4) if prior == "normal" else 2 * b.uniforms(4) - 1
    real = method.discriminator(2 * b.normal - 1).value.sigmoid()
    fake = method.discriminator(method.generator(z)).value.sigmoid()
    value = -real.log().mean() - (1 - fake).log().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, value)
    torch.testing.assert_close(method.generator_loss(batch()).total, -fake.log().mean())


def test_each_picture_is_searched_by_adam_with_rates_that_fall() -> None:
    method = anogan(score_features=0.3, search_steps=5, search_lr=0.1)
    x = 2 * images() - 1
    (start,) = method.starts(x)
    code = start[1:2].clone().requires_grad_()
    adam = torch.optim.Adam([code])
    for lr in (0.1, 0.1, 0.01, 0.005, 0.005):
        adam.param_groups[0]["lr"] = lr
        adam.zero_grad()
        total(method, x[1:2], code, 0.3).sum().backward()
        adam.step()
    with torch.no_grad():
        scores = method.score(images())
        torch.testing.assert_close(
            scores.total[1:2], total(method, x[1:2], code, 0.3), rtol=1e-4, atol=0
        )


@torch.no_grad()
def test_of_several_starts_the_one_that_ends_lowest_counts() -> None:
    method, x = anogan(restarts=3), images()
    starts, ends = method.starts(x), []
    for start in starts:
        method.starts = lambda x, start=start: start[None]  # type: ignore[method-assign, misc]
        ends.append(method.score(x).total)
    assert not torch.equal(ends[0], ends[1])
    method.starts = lambda x: starts  # type: ignore[method-assign]
    torch.testing.assert_close(method.score(x).total, torch.stack(ends).amin(0))
