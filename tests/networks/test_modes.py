import pytest
import torch
from torch import nn

from onlygood.core.method import InputShape
from onlygood.networks.convolutional import Style, Trunk
from onlygood.networks.modes import evaluating, recounting


def networks() -> tuple[nn.Module, nn.Module]:
    first, second = (nn.Sequential(nn.BatchNorm2d(1), nn.ReLU()) for _ in range(2))
    first.train()
    first[0].eval()
    second.eval()
    return first, second


def modes(*networks: nn.Module) -> list[bool]:
    return [module.training for network in networks for module in network.modules()]


def test_networks_are_in_eval_mode_inside_alone() -> None:
    first, second = networks()
    before = modes(first, second)
    assert before == [True, False, True, False, False, False]
    with evaluating(first, second):
        assert not any(modes(first, second))
    assert modes(first, second) == before


def test_modes_come_back_after_an_error() -> None:
    first, second = networks()
    before = modes(first, second)
    with pytest.raises(KeyError), evaluating(first, second):
        raise KeyError
    assert modes(first, second) == before


def test_statistics_can_be_taken_anew() -> None:
    torch.manual_seed(0)
    trunk = Trunk(InputShape(3, 32, 32), 2, Style(spectral=True))
    first, norm = trunk.blocks[0][0], trunk.blocks[0][1]
    for _ in range(3):
        trunk(5 * torch.rand(4, 3, 32, 32))
    trunk.eval()
    singular = first.parametrizations.weight[0]._u.clone()
    passes = [torch.rand(n, 3, 32, 32) for n in (4, 2)]
    with torch.no_grad(), recounting(trunk):
        for x in passes:
            trunk(x)
    with torch.no_grad():
        maps = [first(x) for x in passes]
    mean = sum(len(m) * m.mean((0, 2, 3)) for m in maps) / 6
    variance = sum(len(m) * m.var((0, 2, 3)) for m in maps) / 6
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.momentum == 0.1
    assert not any(module.training for module in trunk.modules())
    assert torch.equal(first.parametrizations.weight[0]._u, singular)


def test_statistics_are_left_in_order_when_counting_stops() -> None:
    trunk = Trunk(InputShape(3, 32, 32), 2).eval()
    with pytest.raises(KeyboardInterrupt), recounting(trunk):
        raise KeyboardInterrupt
    assert trunk.blocks[0][1].momentum == 0.1
    assert not any(module.training for module in trunk.modules())
