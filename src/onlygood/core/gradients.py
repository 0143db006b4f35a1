"""How the gradients of an update come of its loss, as values; training carries them out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, final

from torch import nn


@dataclass(frozen=True, kw_only=True)
class GradientRule:
    """What all rules have."""

    @property
    def logged(self) -> tuple[str, ...]:
        """Entries of an update's log that the rule adds."""
        return ()


@final
@dataclass(frozen=True, kw_only=True)
class Plain(GradientRule):
    """The gradients of the whole loss; a part that is apart in it has weight 1."""


@final
@dataclass(frozen=True, kw_only=True)
class Balance(GradientRule):
    """Weights that make two parts of a loss pull equally hard on each network.

    For each module, the gradient of `Loss.balanced` is multiplied by the ratio of the sizes of the
    gradients of `Loss.total` and of `Loss.balanced`, and the two are added. Ratios are measured
    now and then, for each weight tensor; their recent histories are smoothed and summed up to one
    number a module. Until the first measurement it is what `initial` says.

    Source: Tuluptceva et al. 2019, arXiv:1909.05904, Algorithms 2 and 3.
    """

    modules: Mapping[str, nn.Module]
    """Which have weights of their own, by the name under which the log shows them."""
    initial: Mapping[str, float] = field(default_factory=dict)
    """Weights before the first measurement, by the same names; 1 for those that are left out."""
    every: int = 100
    """Steps between two measurements; 0: none is made, and `initial` holds to the end."""
    window: int = 200
    """Measurements that are kept."""
    smoothing: float = 0.05
    """Share of the newest measurement in the exponential average."""
    size: Literal["std", "l2"] = "std"
    """Size of a gradient: standard deviation of its entries, or Euclidean norm."""
    reduce: Literal["median", "mean"] = "median"
    """How the ratios of all tensors and kept measurements become one number."""

    @property
    def logged(self) -> tuple[str, ...]:
        """The weight of each module."""
        return tuple(f"weight_{name}" for name in self.modules)
