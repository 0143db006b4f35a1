"""Averages of weights along the run."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from onlygood.core.stage import Ema


class Averager:
    """Keeps `average = decay average + (1 - decay) weight` of the modules that an `Ema` names."""

    def __init__(self, ema: Ema) -> None:
        self.ema = ema
        self.weights = [tensor for module in ema.modules for tensor in _averaged(module)]
        self.averages = [tensor.detach().clone() for tensor in self.weights]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after `step` steps, if that is one of the steps that count."""
        if step <= self.ema.start:
            torch._foreach_copy_(self.averages, self.weights)
        elif step % self.ema.every == 0:
            torch._foreach_lerp_(self.averages, self.weights, 1 - self.ema.decay)

    @torch.no_grad()
    def finish(self) -> None:
        """Put the averages into the modules."""
        torch._foreach_copy_(self.weights, self.averages)

    def state(self) -> dict[str, Tensor]:
        """The averages by number, for a checkpoint."""
        return {str(i): average for i, average in enumerate(self.averages)}

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        """Take the averages of a checkpoint."""
        for i, average in enumerate(self.averages):
            average.copy_(state[str(i)])


def _averaged(module: nn.Module) -> Iterator[Tensor]:
    """Weights, and the statistics that would not fit their average if they stayed as they are."""
    yield from module.parameters()
    yield from running_statistics(module)


def running_statistics(module: nn.Module) -> Iterator[Tensor]:
    """Means and variances that layers of normalisation have measured while training."""
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2] in ("running_mean", "running_var"):
            yield buffer
