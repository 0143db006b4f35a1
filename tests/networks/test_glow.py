import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.glow import ActNorm, Coupling, GlowNetwork, GlowSettings, Mixing, Step


def restless(module: nn.Module) -> nn.Module:
    """In double precision, with weights away from their first values, which leave much undone."""
    draw = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape, generator=draw)
    return module.double()


def glow(channels: int = 1, levels: int = 2) -> GlowNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return restless(
            GlowNetwork(InputShape(channels, 4, 8), GlowSettings(levels=levels, depth=2, width=3))
        )


def images(channels: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(3, channels, 4, 8, generator=draw, dtype=torch.float64)


def log_determinant(function, x: Tensor) -> Tensor:
    jacobian = torch.autograd.functional.jacobian(lambda x: function(x[None])[0].flatten(), x)
    return torch.linalg.slogdet(jacobian.flatten(1)).logabsdet


@pytest.mark.parametrize("kind", [ActNorm, Mixing, lambda channels: Coupling(channels, 3), Step])
def test_steps_can_be_undone_and_know_what_they_do_to_volume(kind) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = restless(kind(4) if kind is not Step else Step(4, 3))
    x = torch.randn(2, 4, 2, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def forward(x: Tensor) -> tuple[Tensor, Tensor]:
        y = module(x)
        return y if isinstance(y, tuple) else (y, module.log_volume(x))

    y, volume = forward(x)
    assert not torch.allclose(x, y, atol=0.1)
    torch.testing.assert_close(module.inverse(y), x)
    expected = torch.stack([log_determinant(lambda x: forward(x)[0], image) for image in x])
    torch.testing.assert_close(volume, expected)


def test_mixing_begins_as_a_rotation() -> None:
    mixing = Mixing(6)
    torch.testing.assert_close(
        mixing.weight() @ mixing.weight().T, torch.eye(6).double(), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize(("channels", "levels"), [(1, 1), (1, 2), (3, 2)])
def test_the_whole_can_be_undone_and_has_the_density_of_its_noise(channels, levels) -> None:
    flow, x = glow(channels, levels), images(channels)
    told = flow(x)
    assert sum(z[0].numel() for z in told.latents) == x[0].numel()
    torch.testing.assert_close(flow.inverse(told.latents), x)

    def noise(x: Tensor) -> Tensor:
        return torch.cat([z.flatten(1) for z in flow(x).latents], 1)

    expected = torch.stack([log_determinant(noise, image) for image in x])
    torch.testing.assert_close(told.log_volume, expected)

    top_mean, top_log_spread = flow.top.chunk(2, 1)
    density = Normal(top_mean, top_log_spread.exp()).log_prob(told.latents[-1]).sum((1, 2, 3))
    if levels == 2:
        # What goes on is what the second level was made of.
        after = told.latents[-1]
        for step in reversed(flow.levels[1]):
            after = step.inverse(after)
        mean, log_spread = flow.priors[0](nn.functional.pixel_shuffle(after, 2)).chunk(2, 1)
        density = density + Normal(mean, log_spread.exp()).log_prob(told.latents[0]).sum((1, 2, 3))
    torch.testing.assert_close(told.log_density, density)


def test_probabilities_are_densities_of_levels_256_apart() -> None:
    flow, noise = glow(), torch.rand(3, 1, 4, 8, dtype=torch.float64)
    levels = torch.randint(0, 256, (3, 1, 4, 8))
    told = flow((levels + noise) / 256 - 0.5)
    torch.testing.assert_close(
        flow.log_likelihood(levels / 255, noise),
        told.log_volume + told.log_density - 32 * math.log(256),
    )


@torch.no_grad()
def test_it_settles_with_mean_0_and_variance_1() -> None:
    flow, x = glow(), torch.rand(20, 1, 4, 8, dtype=torch.float64)
    flow.settle(x)
    seen: list[Tensor] = []
    for norm in (module for module in flow.modules() if isinstance(module, ActNorm)):
        norm.register_forward_hook(lambda module, args, y: seen.append(y))
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    flow.log_likelihood(x, noise.to(x))
    assert len(seen) == 2 * 2 * 3
    for y in seen:
        zero = torch.zeros(y.shape[1], dtype=torch.float64)
        torch.testing.assert_close(y.mean((0, 2, 3)), zero, atol=1e-4, rtol=0)
        torch.testing.assert_close(y.std((0, 2, 3), correction=0), zero + 1, atol=1e-4, rtol=0)


@torch.no_grad()
def test_what_is_black_in_all_images_settles_too() -> None:
    flow = GlowNetwork(InputShape(3, 16, 16), GlowSettings(levels=2, depth=4, width=8))
    draw = torch.Generator().manual_seed(0)
    x, noise = (torch.rand(16, 3, 16, 16, generator=draw) for _ in range(2))
    x[:, [0, 2]] = 0
    flow.settle(x)
    # Eight bits are a number that says nothing; without noise in `settle` there are millions.
    bits = -flow.log_likelihood(x, noise) / math.log(2) / x[0].numel()
    assert bits.max() < 8


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ShapeError, match="multiples of 8, got 28 x 32"):
        GlowNetwork(InputShape(1, 28, 32), GlowSettings(levels=3, depth=1, width=1))


@torch.no_grad()
def test_what_is_nothing_like_the_rest_is_as_unlikely_as_a_number_can_say() -> None:
    flow = GlowNetwork(InputShape(1, 4, 8), GlowSettings(levels=1, depth=1, width=2))
    x, middle = torch.rand(2, 1, 4, 8), torch.full((2, 1, 4, 8), 0.5)
    flow.top[:, 4:] = -50.0  # So sure that squares leave float32: exp(50) is 5e21.
    log_p = flow.log_likelihood(x, middle)
    assert torch.isfinite(log_p).all()
    assert (log_p < -1e30).all()
