import pytest
import torch

from onlygood.methods.f_anogan import FAnoGAN
from tests.contract.cases import batch, fresh, images


def f_anogan(**config: object) -> FAnoGAN:
    method = fresh("f_anogan", **config).eval()
    assert isinstance(method, FAnoGAN)
    return method


@pytest.mark.parametrize(("kappa", "code"), [(0.5, "tanh"), (0.0, "linear")])
def test_izi_f_goes_from_image_to_code_to_image(kappa: float, code: str) -> None:
    method, x = f_anogan(kappa=kappa, code=code), 2 * images() - 1
    z = method.encoder(x)
    x_hat = method.generator(z.tanh() if code == "tanh" else z)
    f, f_hat = method.critic.trunk(x), method.critic.trunk(x_hat)
    pixels, features = (x - x_hat).square().mean((1, 2, 3)), (f - f_hat).square().mean((1, 2, 3))
    expected = pixels + kappa * features
    torch.testing.assert_close(method.encoder_loss(batch()).total, expected.mean())
    with torch.no_grad():
        scores = method.score(images())
    torch.testing.assert_close(scores.total, expected)
    torch.testing.assert_close(scores.terms["pixels"], pixels)
    torch.testing.assert_close(scores.terms["features"], features)


def test_the_critic_is_wasserstein_s_with_a_penalty_between_the_ends() -> None:
    method, b = f_anogan(penalty_weight=3.0), batch()
    x, x_z = 2 * b.normal - 1, method.generator(b.normals(4))
    e = b.uniforms()[:, None, None, None]
    point = (e * x + (1 - e) * x_z).detach()
    point.requires_grad = True
    (slope,) = torch.autograd.grad(method.critic(point).value.sum(), point)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    gap = method.critic(x_z).value.mean() - method.critic(x).value.mean()
    torch.testing.assert_close(method.critic_loss(batch()).total, gap + 3 * penalty)
    fake = method.critic(method.generator(batch().normals(4))).value
    torch.testing.assert_close(method.generator_loss(batch()).total, -fake.mean())


def test_each_stage_ends_when_its_own_budget_does() -> None:
    gan, encoder = f_anogan(gan_epochs=7, encoder_steps=50).stages()
    assert gan.budget is not None and gan.budget.epochs == 7
    assert encoder.budget is not None and encoder.budget.steps == 50
    assert all(stage.budget is None for stage in f_anogan().stages())
