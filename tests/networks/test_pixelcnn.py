import math

import pytest
import torch

from onlygood.networks.pixelcnn import PixelNetwork, bits, mixture_log_probability


def network(channels: int = 1, layers: int = 2, components: int = 2) -> PixelNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PixelNetwork(channels, 3, layers, components)


def test_a_pixel_is_told_by_those_before_it_alone() -> None:
    net, place = network(), (5, 4)
    x = torch.rand(1, 1, 9, 9)
    reach = torch.autograd.functional.jacobian(lambda x: net(x)[0, *place], x)[0, 0]
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    after = (rows > place[0]) | ((rows == place[0]) & (columns > place[1]))
    assert (reach[after] == 0).all()
    # No blind spot: all that is above within reach, and what is left of it.
    near = (rows >= 3) & (rows <= 5) & (columns >= 3) & (columns <= 6) & ~after
    assert (reach[near] != 0).all()


@pytest.mark.parametrize("layers", [1, 3])
def test_probabilities_of_all_levels_add_up_to_one(layers: int) -> None:
    net = network(layers=layers)
    x = torch.rand(1, 1, 4, 4).repeat(256, 1, 1, 1)
    x[:, 0, 2, 1] = torch.arange(256) / 255
    with torch.no_grad():
        torch.testing.assert_close(net(x)[:, 2, 1].exp().sum(), torch.tensor(1.0))


def test_probabilities_are_differences_of_mixed_logistic_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    levels = torch.tensor([0.0, 3, 100, 254, 255])
    x = levels.view(-1, 1, 1, 1) / 127.5 - 1
    told = torch.randn(5, 3, 3, 1, 1, generator=generator).double()
    weights = torch.softmax(told[:, :, 0], 1)
    expected = torch.zeros(5).double()
    for k in range(3):
        mean, scale = told[:, k, 1, 0, 0], told[:, k, 2, 0, 0].exp()
        upper = torch.sigmoid(((levels + 0.5) / 127.5 - 1 - mean) / scale)
        lower = torch.sigmoid(((levels - 0.5) / 127.5 - 1 - mean) / scale)
        upper[levels == 255], lower[levels == 0] = 1.0, 0.0
        expected += weights[:, k, 0, 0] * (upper - lower)
    found = mixture_log_probability(x.double(), told)[:, 0, 0]
    torch.testing.assert_close(found, expected.log())


def test_colours_are_told_one_after_the_other() -> None:
    told = torch.zeros(1, 1, 10, 1, 1).double()
    told[0, 0, 7:, 0, 0] = torch.tensor([0.3, -0.2, 0.5])
    x = torch.tensor([0.2, -0.6, 0.4]).double().view(1, 3, 1, 1)
    green_red, blue_red, blue_green = torch.tanh(told[0, 0, 7:, 0, 0])
    means = (0, green_red * 0.2, blue_red * 0.2 + blue_green * -0.6)
    expected = 0.0
    for value, mean in zip((0.2, -0.6, 0.4), means, strict=True):
        ends = torch.tensor([value + 1 / 255 - mean, value - 1 / 255 - mean]).double().sigmoid()
        expected += float((ends[0] - ends[1]).log())
    assert math.isclose(mixture_log_probability(x, told).item(), expected, rel_tol=1e-6)
    assert network(channels=3)(torch.rand(2, 3, 8, 8)).shape == (2, 8, 8)


def test_what_is_certain_stays_finite_and_is_counted_in_bits() -> None:
    told = torch.zeros(1, 1, 3, 1, 1)
    told[0, 0, 2] = -50.0
    for value in (-1.0, 0.0, 1.0):
        assert torch.isfinite(mixture_log_probability(torch.full((1, 1, 1, 1), value), told)).all()
    maps = torch.full((2, 3, 4), math.log(0.25))
    torch.testing.assert_close(bits(maps), torch.tensor([24.0, 24.0]))


@pytest.mark.parametrize(("mean", "log_scale"), [(2e5, 0.0), (0.0, 90.0), (0.0, 110.0)])
def test_what_diverges_keeps_numbers_and_gradients(mean: float, log_scale: float) -> None:
    told = torch.tensor([0.0, mean, log_scale]).view(1, 1, 3, 1, 1).requires_grad_()
    found = mixture_log_probability(torch.zeros(1, 1, 1, 1), told)
    found.sum().backward()
    assert found.isfinite().all() and told.grad is not None and told.grad.isfinite().all()
