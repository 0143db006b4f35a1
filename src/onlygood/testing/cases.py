"""What the contract needs to know of a method, and the method in its smallest form."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from onlygood.core.method import InputShape, Method
from onlygood.core.resolving import Resolved, resolve
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.core.stage import Batch, Update
from onlygood.core.terms import Scores
from onlygood.data.source import ImageSource
from onlygood.data.store import PictureStore
from onlygood.registry import method_named
from onlygood.training import Trainer

SIDE = 32


class Case(NamedTuple):
    """The smallest form of a method that still has all its parts."""

    tiny: Mapping[str, object]
    """Settings for networks of a few weights; what is optional is switched on."""
    digits: Mapping[str, object]
    """Settings to learn the digit 0 with, in a few seconds."""
    auroc: float
    """Reached there against the other digits, with room; untrained networks stay below."""
    preset: str = "default"
    """What these settings start from."""


CASES: dict[str, Case] = {}
"""Of every method that is tested, by name."""


def case_of(name: str) -> Case:
    """The case of a method; the test fails where there is none."""
    if name not in CASES:
        pytest.fail(f'method "{name}" has no entry in CASES; add one')
    return CASES[name]


def resolved(name: str, **overrides: object) -> Resolved:
    """Settings of the tiny method; a run has 12 steps of 4 grey pictures."""
    cls = method_named(name)
    return resolve(
        name,
        cls.config_class,
        cls.presets,
        overrides={
            "size": SIDE,
            "channels": 1,
            "batch_size": 4,
            "steps": 12,
            **case_of(name).tiny,
            **overrides,
        },
    )


def fresh(name: str, **overrides: object) -> Method:
    """An untrained tiny method; weights are always the same."""
    config, view, _ = resolved(name, **overrides)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return method_named(name)(config, InputShape(view.channels, *view.sides))


def pictures(n: int = 10) -> NDArray[np.uint8]:
    """Smooth random pictures, `(n, 32, 32)`."""
    coarse = np.random.RandomState(0).rand(n, 4, 4)
    return (255 * coarse.repeat(8, 1).repeat(8, 2)).astype(np.uint8)


def store(view: View) -> PictureStore:
    """The ten pictures to train on."""
    return PictureStore(ImageSource.of(pictures()), view)


def images(n: int = 5) -> Images:
    """The first of the pictures as a method sees them."""
    return torch.from_numpy(pictures(n))[:, None].float() / 255


def batch(n: int = 5) -> Batch:
    """The same as a loss sees them."""
    return Batch(normal=images(n), generator=torch.Generator().manual_seed(0))


def train(name: str, method: Method, **options: Any) -> Method:
    """Run all stages of a method for a few steps; `options` go to the settings."""
    run_dir, resume = options.pop("run_dir", None), options.pop("resume", False)
    _, view, training = resolved(name, **options)
    Trainer(training, run_dir=run_dir, fingerprint=name).fit(method, store(view), resume=resume)
    return method


@cache
def trained(name: str) -> Method:
    """A method after a few steps; tests must leave it as it is."""
    return train(name, fresh(name))


def scored(name: str, x: Images) -> Scores:
    """What the trained method says of images."""
    method = trained(name)
    with torch.no_grad():
        return method.score(x)


def updates(method: Method) -> list[Update]:
    """All updates, once what comes before them is done."""
    found: list[Update] = []
    for stage in method.stages():
        if stage.before is not None:
            with torch.no_grad():
                stage.before([images(10)])
        found += stage.updates
    return found


class Digits(NamedTuple):
    """Scans of digits, `(n, 8, 8)`."""

    normal: NDArray[np.uint8]
    test: NDArray[np.uint8]
    labels: NDArray[np.bool_]
    """Of `test`; True = anomalous."""


@cache
def digits() -> Digits:
    """Real pictures: 120 zeros to learn from, 58 zeros and 200 other digits to tell apart."""
    data = load_digits()
    scans = (data.images * 15).astype(np.uint8)
    zeros, others = scans[data.target == 0], scans[data.target != 0][::8]
    return Digits(
        zeros[:120],
        np.concatenate([zeros[120:], others]),
        np.repeat([False, True], [len(zeros) - 120, len(others)]),
    )
