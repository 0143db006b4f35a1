from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from onlygood.losses.penalties import between, two_sided, zero_centred

Penalty = Callable[..., Tensor]
REAL = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
FAKE = torch.tensor([[-1.0, 0.1], [7.0, 0.3], [0.2, -0.7]])


def linear(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: x.flatten(1) @ weight


def quadratic(x: Tensor) -> Tensor:
    return x.flatten(1).square().sum(1) / 2


def test_epsilon_1_is_exactly_real_and_0_exactly_fake():
    assert torch.equal(between(REAL, FAKE, torch.ones(3)), REAL)
    assert torch.equal(between(REAL, FAKE, torch.zeros(3)), FAKE)


def test_each_image_has_its_own_epsilon():
    mixed = between(REAL, FAKE, torch.tensor([1.0, 0.5, 0.0]))
    torch.testing.assert_close(mixed, torch.stack([REAL[0], (REAL + FAKE)[1] / 2, FAKE[2]]))


def test_between_takes_images_and_codes():
    real, fake = torch.rand(2, 3, 2, 4, 4)
    mixed = between(real, fake, torch.tensor([0.25, 0.5, 1.0]))
    torch.testing.assert_close(mixed[0], 0.25 * real[0] + 0.75 * fake[0])
    torch.testing.assert_close(mixed[2], real[2])


def test_of_a_linear_critic():
    critic = linear(torch.tensor([3.0, 4.0]))
    torch.testing.assert_close(zero_centred(critic, REAL), torch.full((3,), 25.0))
    torch.testing.assert_close(two_sided(critic, REAL), torch.full((3,), 16.0))


def test_a_slope_of_1_costs_nothing():
    assert two_sided(linear(torch.tensor([0.6, 0.8])), REAL).abs().max() < 1e-12


def test_of_a_quadratic_critic():
    # The gradient of ||x||^2 / 2 is x.
    torch.testing.assert_close(zero_centred(quadratic, REAL), torch.tensor([5.0, 25.0, 61.0]))
    expected = (torch.tensor([5.0, 25.0, 61.0]).sqrt() - 1).square()
    torch.testing.assert_close(two_sided(quadratic, REAL), expected)


def test_the_norm_is_joint_over_two_inputs():
    image, code = torch.rand(3, 1, 2, 2), torch.rand(3, 2)

    def critic(x: Tensor, z: Tensor) -> Tensor:
        return 2 * x.flatten(1).sum(1) + 3 * z[:, 0]

    # Four slopes of 2 and one of 3: the squared norm is 25.
    torch.testing.assert_close(zero_centred(critic, image, code), torch.full((3,), 25.0))
    torch.testing.assert_close(two_sided(critic, image, code), torch.full((3,), 16.0))


def test_closing_over_an_input_leaves_it_out():
    def critic(x: Tensor, z: Tensor) -> Tensor:
        return 2 * x[:, 0] + 100 * z[:, 0]

    penalty = zero_centred(lambda x: critic(x, FAKE), REAL)
    torch.testing.assert_close(penalty, torch.full((3,), 4.0))


def test_points_are_constants():
    # Through the points the penalty would train encoder and generator.
    points = REAL.clone().requires_grad_()
    weight = torch.ones(2, requires_grad=True)
    zero_centred(linear(weight), points).sum().backward()
    assert points.grad is None
    assert weight.grad is not None


@pytest.mark.parametrize("penalty", [two_sided, zero_centred])
def test_the_gradient_of_the_penalty_is_right(penalty: Penalty):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 4), nn.Softplus(), nn.Linear(4, 1))

    def total() -> Tensor:
        return penalty(lambda x: critic(x).flatten(), REAL).mean()

    weights = [critic[0].weight, critic[0].bias, critic[2].weight]
    gradients = torch.autograd.grad(total(), weights)
    step = 1e-2
    for weight, gradient in zip(weights, gradients, strict=True):
        assert gradient.any()
        numerical = torch.zeros_like(weight)
        for i in range(weight.numel()):
            sides = []
            for sign in (1, -1):
                with torch.no_grad():
                    weight.view(-1)[i] += sign * step
                sides.append(total().item())
                with torch.no_grad():
                    weight.view(-1)[i] -= sign * step
            numerical.view(-1)[i] = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close(gradient, numerical, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("penalty", [two_sided, zero_centred])
def test_a_flat_critic_has_a_finite_gradient(penalty: Penalty):
    weight = torch.zeros(2, requires_grad=True)
    penalty(linear(weight), REAL).sum().backward()
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


@pytest.mark.parametrize("penalty", [two_sided, zero_centred])
def test_runs_under_bf16(penalty: Penalty):
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Conv2d(1, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(16, 1))
    images = torch.rand(3, 1, 4, 4)
    exact = penalty(lambda x: critic(x).flatten(), images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = penalty(lambda x: critic(x).flatten(), images)
    rough.sum().backward()
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
    # The bias moves values, but no slope.
    slopes = [p.grad for p in critic.parameters() if p.grad is not None]
    assert slopes and all(slope.isfinite().all() for slope in slopes)
