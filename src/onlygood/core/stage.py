"""Training as data: a method returns stages made of updates, one trainer runs any such list."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, Protocol, TypeVar, final, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from onlygood.core.errors import ConfigError, alternatives
from onlygood.core.gradients import GradientRule, Plain
from onlygood.core.optimizers import Optimizer
from onlygood.core.settings import ONE_OR_MORE, POSITIVE, Budget, Settings, number
from onlygood.core.shapes import Batches, Images
from onlygood.core.terms import Loss


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where the run stands; read-only for losses."""

    step: int = 0
    """Steps of this stage that are complete."""
    epoch: int = 0
    """Passes of this stage over the training pictures that are complete."""


def _alone(rows: Tensor) -> Tensor:
    return rows


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
    gather: Callable[[Tensor], Tensor] = _alone
    """Joins the rows of all processes; see `whole`."""

    def normals(self, *shape: int) -> Tensor:
        """Standard normal draws, `(B, *shape)`: a row for each normal image."""
        return self._drawn(torch.randn, shape)

    def uniforms(self, *shape: int) -> Tensor:
        """Draws uniform on [0, 1), `(B, *shape)`: a row for each normal image."""
        return self._drawn(torch.rand, shape)

    def whole(self, rows: Tensor) -> Tensor:
        """The rows of all processes, each with as many, in the order of a single process's batch.

        For what a mean over images cannot say: quantiles and dispersions of a batch. Gradients flow
        to the rows of every process, once: what is made of it cannot be differentiated twice.
        """
        return self.gather(rows)

    def _drawn(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        n, random = len(self.normal), self.generator
        whole = draw(n * self.world, *shape, generator=random, device=random.device)
        return whole[self.rank * n : (self.rank + 1) * n].to(self.normal.device)


BatchOf = Literal["fresh", "shared", "same"]
Order = Literal["alternating", "simultaneous"]
Visited = Literal["training", "held_out"]


def _require_known(where: str, value: str, known: Any) -> None:
    """Refuse a word that would be taken for the last one of those it may be."""
    if value not in get_args(known):
        raise ConfigError(f"{where} cannot be {value!r}{alternatives(value, get_args(known))}")


@dataclass(frozen=True, kw_only=True)
class Update(Settings):
    """One optimiser's move: which modules it trains, on which loss, how often.

    While it runs every module outside `trains` is frozen, and no gradient graph is built for it.
    """

    name: str
    trains: tuple[nn.Module, ...]
    loss: Callable[[Batch], Loss]
    optimizer: Optimizer | tuple[Optimizer, ...]
    """One for all, or one of the same kind for each of `trains`."""
    gradients: GradientRule = field(default_factory=Plain)
    """How gradients come of the loss."""
    every: int = number(1, ONE_OR_MORE)
    """Runs in steps whose number, counted from 1, this divides."""
    repeat: int = number(1, ONE_OR_MORE)
    """Runs this often in a row when it runs."""
    batch: BatchOf = "fresh"
    """`shared`: uses the images that the step drew last, also in every repetition, with noise of
    its own; `same`: with the same noise, too."""

    def __post_init__(self) -> None:
        """Refuse what cannot be run, and optimisers that cannot move together.

        Raises:
            ConfigError: a field is out of its range, or `trains` is a module.
            ValueError: optimisers are of several kinds, or more or fewer than what is trained.
        """
        super().__post_init__()
        _require_known(f"batch of update {self.name!r}", self.batch, BatchOf)
        if isinstance(self.trains, nn.Module):
            raise ConfigError(
                f"update {self.name!r} trains a tuple of modules, got a "
                f"{type(self.trains).__name__}; write trains=(module,)"
            )
        kinds = {type(optimizer) for optimizer in self.optimizers}
        if len(kinds) != 1 or len(self.optimizers) != len(self.trains):
            raise ValueError(
                f"update {self.name!r} needs one optimiser, or one of the same kind for each of "
                f"the {len(self.trains)} modules it trains; got {self.optimizer}"
            )

    @property
    def optimizers(self) -> tuple[Optimizer, ...]:
        """Settings for each of `trains`."""
        if isinstance(self.optimizer, Optimizer):
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


S = TypeVar("S", bound="Statistics")


@runtime_checkable
class Statistics(Protocol):
    """What a pass over some images has found, such that parts of a pass make the whole."""

    def merge(self: S, other: S) -> None:
        """Take in what was found of the images that came next; `other` is used up."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All of it, to be sent or kept in a file; of one form and kind in all parts of a pass."""
        ...

    @classmethod
    def of(cls: type[S], tensors: Mapping[str, Tensor]) -> S:
        """Back from `tensors`, which may be changed in place."""
        ...


@final
@dataclass(frozen=True)
class Shared(Generic[S]):
    """A pass that may be done in parts, by several processes: each gathers, all settle the same."""

    gather: Callable[[Batches, int], S]
    """Sees some images of the pass, and is told how many came before them."""
    settle: Callable[[S], None]
    """Keeps what the parts have found, merged in their order; results belong into buffers."""

    def __call__(self, images: Batches) -> None:
        """The whole pass at once."""
        self.settle(self.gather(images, 0))


@dataclass(frozen=True, kw_only=True)
class Stage(Settings):
    """A phase of training: its updates in order, and what happens before and after them.

    `simultaneous` takes the gradients of all updates first and then makes all steps;
    `alternating` lets each update see the steps of those before it. A stage without updates runs
    `before` and `after` alone: that is how a method without gradient steps learns.
    """

    name: str
    updates: Sequence[Update] = ()
    order: Order = "alternating"
    share: float = number(1.0, POSITIVE)
    """Its part of the run's budget, relative to the other stages with updates."""
    budget: Budget | None = None
    """A budget of its own, in its own unit: it ends when this or its part of the run's is used up.
    A run of stages that all have one needs no budget; what is left over is not handed on."""
    ema: Ema | None = None
    visits: Visited = "training"
    """Which pictures `before` and `after` see: those to learn from, or the normal ones kept aside
    to watch training with, where there are any. Never those to calibrate or test with."""
    before: Callable[[Batches], None] | None = None
    """Sees every view of these once, in batches, in eval mode, without gradients. Of several
    processes each sees all of them, or its part where it is `Shared`."""
    after: Callable[[Batches], None] | None = None
    """The same when the updates are done; results belong into buffers."""

    def __post_init__(self) -> None:
        """Refuse what would be run otherwise than it is meant.

        Raises:
            ConfigError: a field is out of its range, or two updates have one name.
        """
        super().__post_init__()
        _require_known(f"order of stage {self.name!r}", self.order, Order)
        _require_known(f"visits of stage {self.name!r}", self.visits, Visited)
        names = [update.name for update in self.updates]
        if len(set(names)) < len(names):
            raise ConfigError(
                f"two updates of stage {self.name!r} have one name, of {', '.join(names)}; give "
                "each its own: the log and checkpoints know them by it"
            )
