"""Gradient descent at test time: for codes, images or weights that suit each picture of a batch.

Nothing couples the pictures of a batch, so that one has the same result alone, but for rounding,
which steps may enlarge: a batch of another size is rounded differently. Networks should be in eval
mode, and stay as they are. A method whose `score` does this says so by `Method.searches`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, final

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.optim.adam import adam
from torch.optim.sgd import sgd

from onlygood.core.optimizers import SGD, Adam
from onlygood.core.shapes import PerImage


class Aim(NamedTuple):
    """What a search wants of each picture, at the place where it is."""

    value: PerImage
    """What it lowers; that of a picture depends on its own rows alone."""
    done: Bool[Tensor, " B"] | None = None
    """Pictures that stay where they are, and so are done from here on."""
    scale: Tensor | None = None
    """What the gradient of the first tensor is multiplied by, entry by entry."""


def descended(
    aim: Callable[..., Aim],
    start: Sequence[Tensor],
    optimizer: Adam | SGD | Sequence[Adam | SGD],
    *,
    steps: int,
    project: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Where so many steps of an optimiser lead each picture.

    Works under `torch.no_grad`, which scoring uses; gives results without a gradient. Schedules
    count its steps, and their shares are of `steps`; passes over pictures there are none.

    Args:
        aim: Called with as many tensors as there are in `start`.
        start: Tensors with a row for each picture, `(B, ...)`; they are left as they are.
        optimizer: One for all tensors, or one for each.
        steps: How many, at most.
        project: Applied to the first tensor after each step, for example to clamp it.

    Raises:
        RuntimeError: called under `torch.inference_mode`, where nothing has a gradient.
    """
    if torch.is_inference_mode_enabled():
        raise RuntimeError(
            "a search needs gradients, which torch.inference_mode forbids; score under "
            "torch.no_grad instead"
        )
    # Copies, which are moved in place: of methods that tune weights they are what takes memory.
    values = [tensor.detach().clone() for tensor in start]
    optimizers: Sequence[Adam | SGD] = (
        [optimizer] * len(values) if isinstance(optimizer, Adam | SGD) else optimizer
    )
    movers = [_Mover(o, value) for o, value in zip(optimizers, values, strict=True)]
    for step in range(steps):
        with torch.enable_grad():
            leaves = [value.detach() for value in values]
            for leaf in leaves:
                leaf.requires_grad = True
            at = aim(*leaves)
            slopes = list(torch.autograd.grad(at.value.sum(), leaves))
        if at.scale is not None:
            slopes[0] = slopes[0] * at.scale.detach()
        if at.done is not None and at.done.all():
            break
        with torch.no_grad():
            before = [value.clone() for value in values] if at.done is not None else []
            for mover, value, slope in zip(movers, values, slopes, strict=True):
                mover.move(value, slope, step, step / steps)
            if project is not None:
                values[0].copy_(project(values[0]))
            if at.done is not None:
                for value, there in zip(values, before, strict=True):
                    stays = at.done.view(-1, *[1] * (value.ndim - 1))
                    value.copy_(torch.where(stays, there, value))
    return tuple(values)


@final
class Copies:
    """A network with weights of its own for each picture."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.names = [name for name, _ in network.named_parameters()]

    def start(self, n: int) -> list[Tensor]:
        """The network's weights for each of `n` pictures, `(n, ...)` each."""
        weights = [parameter.detach() for parameter in self.network.parameters()]
        return [weight.expand(n, *weight.shape) for weight in weights]

    def __call__(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """What the network makes of each row of `x` with the weights of that row."""

        def one(weights: list[Tensor], x: Tensor) -> Tensor:
            named = dict(zip(self.names, weights, strict=True))
            return functional_call(self.network, named, (x[None],))[0]

        return vmap(one)(list(weights), x)


def starts(
    like: Tensor,
    *shape: int,
    seed: int,
    number: int = 1,
    draw: Callable[..., Tensor] = torch.randn,
) -> Tensor:
    """Random places to start from, `(number, B, *shape)`: the same ones for every picture.

    Args:
        like: A batch of pictures, `(B, ...)`; gives device, precision and how many.
        shape: Of one place.
        seed: Fixes them; the global random state has no part in it.
        number: How many starts each picture has.
        draw: `torch.randn`, `torch.rand`, or what else takes sizes and `generator=`.
    """
    places = draw(number, 1, *shape, generator=torch.Generator().manual_seed(seed))
    return places.to(like).expand(number, len(like), *shape)


class _Mover:
    """An optimiser of torch for one tensor."""

    def __init__(self, optimizer: Adam | SGD, like: Tensor) -> None:
        self.optimizer = optimizer
        self.first, self.second = torch.zeros_like(like), torch.zeros_like(like)
        self.steps = torch.zeros(())
        self.momentum: list[Tensor | None] = [None]

    def move(self, value: Tensor, slope: Tensor, step: int, spent: float) -> None:
        """One step, in place."""
        o = self.optimizer
        if slope.stride() != value.stride():
            # A fused optimiser walks through the memory of both side by side.
            slope = torch.empty_like(value).copy_(slope)
        lr = o.lr * o.schedule.at(step=step, spent=spent)
        if isinstance(o, Adam):
            adam(
                *([value], [slope], [self.first], [self.second], [], [self.steps]),
                # One pass over memory, not nine, which counts with weights for each picture.
                fused=value.is_cpu,
                amsgrad=False,
                beta1=o.betas[0],
                beta2=o.betas[1],
                lr=lr,
                weight_decay=o.weight_decay,
                eps=o.eps,
                maximize=False,
            )
        else:
            sgd(
                *([value], [slope], self.momentum),
                weight_decay=o.weight_decay,
                momentum=o.momentum,
                lr=lr,
                dampening=0.0,
                nesterov=o.nesterov,
                maximize=False,
            )
