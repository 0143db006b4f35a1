import pytest
import torch

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.methods.itae import ITAE, ITAEConfig
from tests.methods.nets import SHAPE, batch, images


def itae(shape: InputShape = SHAPE, **config) -> ITAE:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ITAE(ITAEConfig(**{"width": 2, **config}), shape).eval()


def test_the_network_has_the_channels_of_the_paper() -> None:
    network = ITAE(ITAEConfig(), InputShape(3, 32, 32)).network
    first = [block[0].weight.shape[:2] for block in (*network.down, *network.up)]
    assert first == [
        *((64, 1), (128, 64), (256, 128), (512, 256), (512, 512)),
        *((256, 1024), (128, 512), (64, 256), (64, 128)),
    ]
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3, 32, 32)


@pytest.mark.parametrize("graying", [True, False])
def test_colour_and_orientation_are_erased(graying: bool) -> None:
    method, x = itae(InputShape(3, 32, 32), graying=graying), torch.rand(2, 3, 32, 32)
    erased = method.erased(x)
    upright = 2 * (x.mean(1, keepdim=True) if graying else x) - 1
    assert len(erased) == 4
    for turn, turned in enumerate(erased):
        torch.testing.assert_close(turned, torch.rot90(upright, turn, (2, 3)))


def test_the_upright_image_is_what_is_to_be_restored() -> None:
    method, x = itae(), images()
    which = (batch().uniforms() * 4).long()
    assert len(which.unique()) > 1
    turned = [torch.rot90(a, int(k), (1, 2)) for a, k in zip(x, which, strict=True)]
    x_hat = method.network(2 * torch.stack(turned) - 1)
    expected = (2 * x - 1 - x_hat).square().mean()
    torch.testing.assert_close(method.loss(batch()).total, expected)


@torch.no_grad()
def test_errors_are_in_units_of_what_is_usual_at_their_angle() -> None:
    method, x, seen = itae(), images(), images(10)
    method.measure(seen.split(4))
    expected, usual = torch.zeros(6), []
    for turn in range(4):
        errors = [
            (2 * y - 1 - method.network(2 * torch.rot90(y, turn, (2, 3)) - 1)).abs()
            for y in (x, seen)
        ]
        usual.append(errors[1].mean())
        expected += errors[0].mean((1, 2, 3)) / errors[1].mean() / 4
    torch.testing.assert_close(method.usual, torch.stack(usual))
    scores = method.score(x)
    torch.testing.assert_close(scores.total, expected)
    torch.testing.assert_close(scores.map.mean((1, 2)), expected)


def test_rates_are_halved_at_each_tenth_of_training() -> None:
    (stage,) = itae().stages()
    schedule = stage.updates[0].optimizers[0].schedule
    rates = [schedule.at(step=0, spent=spent) for spent in (0.0, 0.0999, 0.1, 0.55, 0.95)]
    assert rates == [1, 1, 1 / 2, 1 / 2**5, 1 / 2**9]


def test_sides_that_cannot_be_halved_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"a multiple of 16, got 40 x 40; set size=32"):
        itae(InputShape(1, 40, 40))
