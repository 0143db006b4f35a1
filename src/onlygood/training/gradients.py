"""From the gradient rule of an update as a value to what carries it out."""

from typing import Any, Protocol, final, runtime_checkable

from torch import nn

from onlygood.core.gradients import Balance, Plain
from onlygood.core.stage import Update
from onlygood.core.terms import Loss
from onlygood.training import distributed
from onlygood.training.balance import Balancer


@runtime_checkable
class Backward(Protocol):
    """Fills the gradients of an update's parameters, averaged over processes."""

    def backward(self, loss: Loss, *, step: int, repetition: int) -> None:
        """Fill them; `step` of the stage counts from 1, `repetition` within it from 0."""
        ...

    def logged(self) -> dict[str, float]:
        """What the log shows, by the names of `GradientRule.logged`."""
        ...

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as JSON data."""
        ...

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        ...


@final
class Summed:
    """Gradients of the whole loss."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters

    def backward(self, loss: Loss, *, step: int, repetition: int) -> None:
        """Fill the parameters' gradients."""
        loss.whole.backward()
        distributed.average([p.grad for p in self.parameters if p.grad is not None])

    def logged(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


def rule_of(update: Update, parameters: list[nn.Parameter]) -> Backward:
    """What carries an update's rule out."""
    match update.gradients:
        case Balance() as balance:
            return Balancer(balance, parameters)
        case Plain():
            return Summed(parameters)
        case other:
            raise TypeError(f"update {update.name!r} has a gradient rule of no known kind: {other}")
