"""Optimisers and their schedules as values: what moves, and how fast when; training builds them."""

from dataclasses import dataclass, field
from typing import final

from onlygood.core.settings import NOT_NEGATIVE, POSITIVE, SHARE, Settings, number


@final
@dataclass(frozen=True, kw_only=True)
class Schedule(Settings):
    """What a learning rate is multiplied by as a stage goes on; all of it at once."""

    epochs: tuple[int, ...] = number((), NOT_NEGATIVE)
    """Passes of the stage after each of which the rate is multiplied by `factor`."""
    shares: tuple[float, ...] = number((), SHARE)
    """Shares of the stage's budget from each of which on it is, too."""
    factor: float | tuple[float, ...] = number(0.1, POSITIVE)
    """For all `epochs` and `shares`; or one for each of them, `epochs` first."""
    per_step: float = number(1.0, POSITIVE)
    """Factor of each step after the first."""
    warmup: int = number(0, NOT_NEGATIVE)
    """Steps in which the rate rises linearly, from a part of itself to the whole in the last."""

    def __post_init__(self) -> None:
        """Refuse what cannot be followed.

        Raises:
            ConfigError: a number is out of its range.
            ValueError: there are more or fewer factors than places for them.
        """
        super().__post_init__()
        places = len(self.epochs) + len(self.shares)
        if isinstance(self.factor, tuple) and len(self.factor) != places:
            raise ValueError(f"a schedule of {places} places needs as many factors, not {self}")

    def at(self, *, step: int, epoch: int = 0, spent: float = 0.0) -> float:
        """The factor of the step that follows when so much of the stage is complete.

        Args:
            step: Steps.
            epoch: Passes over the training pictures.
            spent: Share of the budget.
        """
        # Shares are rounded fractions, which could come a step late.
        passed = [*(epoch >= e for e in self.epochs), *(spent >= s - 1e-9 for s in self.shares)]
        if isinstance(self.factor, tuple):
            value = 1.0
            for due, factor in zip(passed, self.factor, strict=True):
                value *= factor if due else 1.0
        else:
            value = self.factor ** sum(passed)
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        return value * self.per_step**step * rise

    @property
    def budgeted_from(self) -> float:
        """Share of the budget from which on the rate depends on how long the budget is; 1: none."""
        return min(self.shares, default=1.0)


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """What all optimisers have; names and meanings are those of `torch.optim`."""

    lr: float = 1e-4
    weight_decay: float = 0.0
    """Strength of the L2 penalty that is added to gradients."""
    schedule: Schedule = field(default_factory=Schedule)


@final
@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Kingma and Ba 2015, arXiv:1412.6980, Algorithm 1."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@final
@dataclass(frozen=True, kw_only=True)
class Adamax(Optimizer):
    """Kingma and Ba 2015, arXiv:1412.6980, Algorithm 2."""

    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8


@final
@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Steps against the gradient, or against its average with `momentum`."""

    momentum: float = 0.0
    nesterov: bool = False


@final
@dataclass(frozen=True, kw_only=True)
class RMSProp(Optimizer):
    """Tieleman and Hinton 2012; `alpha` is what TensorFlow calls `decay`, and 0.9 there."""

    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
