"""Small networks and batches for the methods that have networks."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from onlygood.core.method import InputShape
from onlygood.core.stage import Batch
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig

SHAPE = InputShape(1, 32, 32)


def cbigan(shape: InputShape = SHAPE, **config: Any) -> CBiGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CBiGAN(CBiGANConfig(**{"width": 2, "latent": 4, **config}), shape)


def images(n: int = 6, side: int = 32) -> Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(1))


def batch(n: int = 6) -> Batch:
    """Each call gives the same images and draws the same noise."""
    return Batch(normal=images(n), generator=torch.Generator().manual_seed(2))


def gradients(value: Tensor, modules: Iterable[nn.Module]) -> Sequence[Tensor | None]:
    parameters = [p for module in modules for p in module.parameters()]
    return torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)


def equal(a: Sequence[Tensor | None], b: Sequence[Tensor | None]) -> bool:
    """Gradients that are equal up to rounding."""
    pairs = zip(a, b, strict=True)
    return all(
        p is q is None or (p is not None and q is not None and torch.allclose(p, q, 1e-4, 1e-6))
        for p, q in pairs
    )


def descend(value: Tensor, modules: Sequence[nn.Module], size: float) -> None:
    """One step of gradient descent, `size` long."""
    parameters = [p for module in modules for p in module.parameters()]
    slopes = torch.autograd.grad(value, parameters)
    length = torch.cat([slope.flatten() for slope in slopes]).norm()
    with torch.no_grad():
        for parameter, slope in zip(parameters, slopes, strict=True):
            parameter -= size * slope / length
