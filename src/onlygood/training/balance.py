"""Weights for a part of a loss, from the sizes of gradients; see `core.gradients.Balance`."""

from typing import Any, final

import torch
from torch import Tensor, nn

from onlygood.core.gradients import Balance
from onlygood.core.terms import Loss
from onlygood.training import distributed

Gradients = list[Tensor | None]
Sizes = list[list[float]]
"""For each measurement kept, oldest first: a number for each weight tensor of a module."""


@final
class Balancer:
    """Takes the gradients of an update in two parts, and adds them in balance."""

    def __init__(self, balance: Balance, parameters: list[nn.Parameter]) -> None:
        self.balance, self.parameters = balance, parameters
        self.weights = {name: balance.initial.get(name, 1.0) for name in balance.modules}
        self._sizes: dict[str, dict[str, Sizes]] = {
            name: {"total": [], "balanced": []} for name in balance.modules
        }
        places = {parameter: place for place, parameter in enumerate(parameters)}
        self._places = {
            name: [places[p] for p in module.parameters()]
            for name, module in balance.modules.items()
        }
        self._measured = {
            name: [places[p] for n, p in module.named_parameters() if n.endswith("weight")]
            for name, module in balance.modules.items()
        }

    def backward(self, loss: Loss, *, step: int, repetition: int) -> None:
        """Fill the parameters' gradients; measures their sizes first when it is time to."""
        every = self.balance.every
        self.fill(loss, measure=every > 0 and step % every == 0 and repetition == 0)

    def fill(self, loss: Loss, *, measure: bool) -> None:
        """Fill the parameters' gradients; `measure` their sizes first."""
        assert loss.balanced is not None
        balanced = self._gradients(loss.balanced, retain_graph=True)
        total = self._gradients(loss.total, retain_graph=False)
        if measure:
            self._measure(total, balanced)
        weights = [1.0] * len(self.parameters)
        for name, places in self._places.items():
            for place in places:
                weights[place] = self.weights[name]
        for parameter, a, b, weight in zip(self.parameters, total, balanced, weights, strict=True):
            parts = [part for part in (a, b if b is None else weight * b) if part is not None]
            parameter.grad = sum(parts[1:], parts[0]) if parts else None

    def _gradients(self, part: Tensor, retain_graph: bool) -> Gradients:
        gradients: Gradients = list(
            torch.autograd.grad(part, self.parameters, retain_graph=retain_graph, allow_unused=True)
        )
        distributed.average([g for g in gradients if g is not None])
        return gradients

    def _measure(self, total: Gradients, balanced: Gradients) -> None:
        for name, places in self._measured.items():
            pairs = [(total[i], balanced[i]) for i in places]
            sizes = [
                (self._size(a), self._size(b)) for a, b in pairs if a is not None and b is not None
            ]
            if not sizes:
                continue
            both = torch.stack([torch.stack(pair) for pair in sizes]).T.tolist()
            for part, row in zip(("total", "balanced"), both, strict=True):
                history = self._sizes[name][part]
                history.append(row)
                del history[: -self.balance.window]
            self.weights[name] = self._weight(**self._sizes[name])

    def _size(self, gradient: Tensor) -> Tensor:
        gradient = gradient.float()
        return gradient.std(correction=0) if self.balance.size == "std" else gradient.norm()

    def _weight(self, total: Sizes, balanced: Sizes) -> float:
        # The smallest normal number: a gradient that is exactly 0 gives a large weight, not NaN.
        ratios = self._smoothed(total) / self._smoothed(balanced).clamp_min(1e-38)
        # Not `Tensor.median`, which of an even number takes the lower one of the two in the middle.
        return (ratios.quantile(0.5) if self.balance.reduce == "median" else ratios.mean()).item()

    def _smoothed(self, sizes: Sizes) -> Tensor:
        """Exponential averages over time, begun anew at the oldest measurement kept."""
        rows = torch.tensor(sizes, dtype=torch.float64)
        for now in range(1, len(rows)):
            rows[now] = torch.lerp(rows[now - 1], rows[now], self.balance.smoothing)
        return rows

    def logged(self) -> dict[str, float]:
        """The weight of each module, by `Balance.logged`."""
        return dict(zip(self.balance.logged, self.weights.values(), strict=True))

    def state(self) -> dict[str, Any]:
        """All that a resumed run needs, as JSON data."""
        return {"weights": self.weights, "sizes": self._sizes}

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.weights, self._sizes = state["weights"], state["sizes"]
