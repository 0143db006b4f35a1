import pytest
from torch import nn

from onlygood.networks.modes import evaluating


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
