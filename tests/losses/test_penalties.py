from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from onlygood.losses.penalties import between, per_pixel, two_sided, zero_centred

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


def test_per_pixel_takes_the_norm_over_channels():
    # Slopes of 3 and 4 at every pixel: the norm is 5 there, 4 from 1.
    weight = torch.tensor([3.0, 4.0])[:, None, None].expand(2, 2, 3)
    penalty = per_pixel(linear(weight.flatten()), torch.rand(5, 2, 2, 3))
    torch.testing.assert_close(penalty, torch.full((5,), 16.0))


def test_per_pixel_averages_over_pixels():
    # Norms of 1, 3 and 0, 2, 6, 11: squared distances from 1 of 0, 4, 1, 1, 25 and 100.
    weight = torch.tensor([1.0, 3.0, 0.0, 2.0, 6.0, 11.0])
    penalty = per_pixel(linear(weight), torch.rand(2, 1, 2, 3))
    torch.testing.assert_close(penalty, torch.full((2,), 131 / 6), rtol=1e-5, atol=1e-5)


def test_per_pixel_takes_both_images_of_a_pair():
    x, y = torch.rand(3, 1, 2, 2), torch.rand(3, 1, 2, 2)

    def critic(x: Tensor, y: Tensor) -> Tensor:
        return (3 * x + 4 * y).flatten(1).sum(1)

    torch.testing.assert_close(per_pixel(critic, x, y), torch.full((3,), 16.0))
    alone = per_pixel(lambda y: critic(x, y), y)
    torch.testing.assert_close(alone, torch.full((3,), 9.0))


def test_per_pixel_is_far_looser():
    # A slope of 1 at each of 16 pixels is one of 4 in all.
    images = torch.rand(2, 1, 4, 4)
    critic = linear(torch.ones(16))
    assert per_pixel(critic, images).max() < 1e-10
    torch.testing.assert_close(two_sided(critic, images), torch.full((2,), 9.0))


def test_per_pixel_teaches_the_critic():
    weight = torch.full((4,), 3.0, requires_grad=True)
    per_pixel(linear(weight), torch.rand(2, 1, 2, 2)).mean().backward()
    # Of the mean over four pixels of (w - 1)^2.
    torch.testing.assert_close(weight.grad, torch.ones(4))


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


@pytest.mark.parametrize("penalty", [two_sided, per_pixel, zero_centred])
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
