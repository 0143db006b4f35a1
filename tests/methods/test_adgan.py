import pytest
import torch
from torch import Tensor, nn

from onlygood.methods.adgan import ADGAN
from onlygood.networks.search import starts
from tests.contract.cases import batch, fresh, images


def adgan(**config: object) -> ADGAN:
    method = fresh("adgan", **config).eval()
    assert isinstance(method, ADGAN)
    return method


def end(method: ADGAN, x: Tensor, start: Tensor, tuning_lr: float) -> Tensor:
    """Three steps of torch's Adam for one image, on a generator made for it."""
    twin = adgan()
    twin.load_state_dict(method.state_dict())
    z = start.clone().requires_grad_()
    groups = [{"params": [z], "lr": 0.25}]
    if tuning_lr:
        groups += [{"params": list(twin.generator.parameters()), "lr": tuning_lr}]
    adam = torch.optim.Adam(groups)
    for _ in range(3):
        adam.zero_grad()
        (x - twin.generator(z)).square().sum().backward()
        adam.step()
    return twin.generator(z).detach()


@pytest.mark.parametrize("tuning_lr", [0.01, 0.0])
def test_code_and_a_copy_of_the_weights_move_from_each_start(
    tuning_lr: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onlygood.methods.adgan.AT_ONCE", 3)
    method, x = adgan(tuning_lr=tuning_lr), 2 * images(2) - 1
    before = nn.utils.parameters_to_vector(method.parameters())
    expected = torch.stack(
        [
            torch.cat([end(method, x[i : i + 1], place[i : i + 1], tuning_lr) for i in range(2)])
            for place in starts(x, 4, seed=0, number=2)
        ]
    )
    with torch.no_grad():
        torch.testing.assert_close(method.search(x), expected, rtol=1e-3, atol=1e-3)
        scores = method.score(images(2))
    errors = (x - expected).square().sum((2, 3, 4))
    torch.testing.assert_close(scores.total, errors.mean(0), rtol=1e-4, atol=0)
    torch.testing.assert_close(scores.terms["lowest"], errors.amin(0), rtol=1e-4, atol=0)
    assert scores.map is not None
    torch.testing.assert_close(scores.map.sum((1, 2)), scores.total)
    assert torch.equal(nn.utils.parameters_to_vector(method.parameters()), before)


def test_the_critic_is_wasserstein_s_with_a_penalty_between_the_ends() -> None:
    method, b = adgan(penalty_weight=3.0), batch()
    x, x_z = 2 * b.normal - 1, method.generator(b.normals(4))
    e = b.uniforms()[:, None, None, None]
    point = (e * x + (1 - e) * x_z).detach().requires_grad_()
    (slope,) = torch.autograd.grad(method.critic(point).value.sum(), point)
    penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    gap = method.critic(x_z).value.mean() - method.critic(x).value.mean()
    torch.testing.assert_close(method.critic_loss(batch()).total, gap + 3 * penalty)
    fake = method.critic(method.generator(batch().normals(4))).value
    torch.testing.assert_close(method.generator_loss(batch()).total, -fake.mean())
