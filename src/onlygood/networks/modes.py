"""Training and evaluation mode of networks, where a method needs another one than is set."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def evaluating(*networks: nn.Module) -> Iterator[None]:
    """Have networks in eval mode inside; afterwards each module has the mode that it had."""
    modules = [module for network in networks for module in network.modules()]
    modes = [module.training for module in modules]
    for network in networks:
        network.eval()
    try:
        yield
    finally:
        for module, training in zip(modules, modes, strict=True):
            module.training = training


@contextmanager
def recounting(network: nn.Module) -> Iterator[None]:
    """Replace the statistics of batch normalisation by those of the passes made inside.

    Every row counts the same, so that a last batch of few weighs little. Leaves all batch
    normalisation in eval mode.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    weighing = []
    for layer in layers:
        layer.reset_running_stats()
        layer.train()
        weighing.append(layer.register_forward_pre_hook(_Weighing()))
    try:
        yield
    finally:
        for layer, momentum, hook in zip(layers, momenta, weighing, strict=True):
            hook.remove()
            layer.momentum = momentum
            layer.eval()


class _Weighing:
    """Gives each pass of a layer the share that it has of all rows so far."""

    def __init__(self) -> None:
        self._rows = 0

    def __call__(self, layer: nn.BatchNorm2d, given: tuple[Tensor]) -> None:
        self._rows += len(given[0])
        layer.momentum = len(given[0]) / self._rows
