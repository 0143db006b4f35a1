"""Training as data: a method returns stages made of updates, one trainer runs any such list."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from onlygood.core.settings import Budget, require
from onlygood.core.shapes import Images
from onlygood.core.terms import Loss


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the run stands; read-only for losses."""

    step: int = 0
    """Steps of this stage that are complete."""
    epoch: int = 0
    """Passes of this stage over the training pictures that are complete."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The images of one update, and the randomness that belongs to them.

    A loss draws its noise here and nowhere else. Draws are made for the whole batch of all
    processes and cut to this process's part, so that a distributed run equals a single one.
    """

    normal: Images
    generator: torch.Generator
    anomalous: Images | None = None
    """Known anomalous images, where the method and the data have them."""
    prepared: Tensor | None = None
    """What `Method.prepare` gives for the normal images, where the trainer could keep it."""
    progress: Progress = field(default_factory=Progress)
    rank: int = 0
    world: int = 1

    def normals(self, *shape: int) -> Tensor:
        """Standard normal draws, `(B, *shape)`: a row for each normal image."""
        return self._mine(
            torch.randn(self._rows, *shape, generator=self.generator, device=self.generator.device)
        )

    def uniforms(self, *shape: int) -> Tensor:
        """Draws uniform on [0, 1), `(B, *shape)`: a row for each normal image."""
        return self._mine(
            torch.rand(self._rows, *shape, generator=self.generator, device=self.generator.device)
        )

    @property
    def _rows(self) -> int:
        return len(self.normal) * self.world

    def _mine(self, draws: Tensor) -> Tensor:
        n = len(self.normal)
        return draws[self.rank * n : (self.rank + 1) * n].to(self.normal.device)


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Settings of Adam; the trainer builds the optimiser."""

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    """Strength of the L2 penalty that is added to gradients."""
    milestones: tuple[int, ...] = ()
    """Passes of the stage after each of which `lr` is multiplied by `factor`."""
    factor: float = 0.1

    def lr_at(self, epoch: int) -> float:
        """Learning rate when so many passes of the stage are complete."""
        return self.lr * self.factor ** sum(epoch >= milestone for milestone in self.milestones)


@dataclass(frozen=True, kw_only=True)
class Balance:
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


@dataclass(frozen=True, kw_only=True)
class Update:
    """One optimiser's move: which modules it trains, on which loss, how often.

    While it runs every module outside `trains` is frozen, and no gradient graph is built for it.
    """

    name: str
    trains: tuple[nn.Module, ...]
    loss: Callable[[Batch], Loss]
    optimizer: Adam | tuple[Adam, ...]
    """One for all, or one for each of `trains`."""
    balance: Balance | None = None
    """How to weigh the part of the loss that is `Loss.balanced`."""
    every: int = 1
    """Runs in steps whose number, counted from 1, this divides."""
    repeat: int = 1
    """Runs this often in a row when it runs."""
    batch: Literal["fresh", "shared", "same"] = "fresh"
    """`shared`: uses the images that the step drew last, also in every repetition, with noise of
    its own; `same`: with the same noise, too."""

    @property
    def optimizers(self) -> tuple[Adam, ...]:
        """Settings for each of `trains`."""
        if isinstance(self.optimizer, Adam):
            return (self.optimizer,) * len(self.trains)
        return self.optimizer


@dataclass(frozen=True, kw_only=True)
class Ema:
    """An exponential moving average of modules: `average = decay average + (1 - decay) weight`.

    It takes part in training only by being copied into the modules when the stage ends, before
    `after` is run. Running statistics of normalisation are averaged like the weights they belong
    to; all other buffers are those of the last step.
    """

    modules: tuple[nn.Module, ...]
    decay: float = 0.999
    every: int = 10
    """Steps between two averagings."""
    start: int = 0
    """Up to this step the average is the weight itself."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A phase of training: its updates in order, and what happens before and after them.

    `simultaneous` takes the gradients of all updates first and then makes all steps;
    `alternating` lets each update see the steps of those before it. A stage without updates runs
    `before` alone: that is how a method without gradient steps learns.
    """

    name: str
    updates: Sequence[Update] = ()
    order: Literal["alternating", "simultaneous"] = "alternating"
    share: float = 1.0
    """Its part of the run's budget, relative to the other stages with updates."""
    budget: Budget | None = None
    """A budget of its own, in its own unit: it ends when this or its part of the run's is used up.
    A run of stages that all have one needs no budget; what is left over is not handed on."""
    ema: Ema | None = None
    before: Callable[[Iterable[Images]], None] | None = None
    """Sees every training view once, in batches, in eval mode, without gradients."""
    after: Callable[[Iterable[Images]], None] | None = None
    """The same when the updates are done; results belong into buffers."""

    def __post_init__(self) -> None:
        """Refuse a share that ends before it begins."""
        require(self, "share", "more than 0", lambda v: v > 0)
