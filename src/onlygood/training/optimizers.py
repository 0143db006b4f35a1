"""From an update's optimiser as a value to the one of torch that moves the weights."""

from collections.abc import Iterable
from dataclasses import fields
from typing import Any, NamedTuple

import torch
from torch import nn

from onlygood.core.optimizers import SGD, Adam, Adamax, Optimizer, RMSProp
from onlygood.core.stage import Update


class Place(NamedTuple):
    """How much of a stage is complete when a step begins."""

    step: int
    epoch: int
    spent: float
    """Share of the budget."""
    factor: float
    """Of all learning rates there, whatever their schedules."""


def built(update: Update) -> torch.optim.Optimizer:
    """An optimiser with a group of parameters for each module that the update trains."""
    groups = [
        {"params": list(module.parameters()), **_options(settings)}
        for module, settings in zip(update.trains, update.optimizers, strict=True)
    ]
    match update.optimizers[0]:
        case Adam():
            return torch.optim.Adam(groups, fused=True)
        case Adamax():
            return torch.optim.Adamax(groups)
        case SGD():
            return torch.optim.SGD(groups)
        case RMSProp():
            return torch.optim.RMSprop(groups)
        case other:
            raise TypeError(f"update {update.name!r} has an optimiser of no known kind: {other}")


def lay_out_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give each gradient the strides of its parameter.

    A fused optimiser walks through the memory of both side by side. Where the strides differ it
    stops on a GPU, and on a processor moves the wrong weights without a word.
    """
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.stride() != parameter.stride():
            parameter.grad = torch.empty_like(parameter).copy_(gradient)


def set_rates(optimizer: torch.optim.Optimizer, update: Update, at: Place) -> None:
    """Give each module the learning rate that its schedule has there."""
    for group, settings in zip(optimizer.param_groups, update.optimizers, strict=True):
        factor = settings.schedule.at(step=at.step, epoch=at.epoch, spent=at.spent)
        group["lr"] = at.factor * (settings.lr * factor)


def _options(settings: Optimizer) -> dict[str, Any]:
    """Fields by the names that torch has for them, too."""
    return {f.name: getattr(settings, f.name) for f in fields(settings) if f.name != "schedule"}
