"""What the family contract needs to know of each method; a new method adds its entry here."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from onlygood import settings
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import View
from onlygood.core.shapes import Images
from onlygood.core.stage import Batch, Update
from onlygood.core.terms import Scores
from onlygood.data.source import ImageSource
from onlygood.data.store import PictureStore
from onlygood.methods import METHODS
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


# In float32, so that the figures do not depend on the processor.
_DIGITS = {
    **{"width": 2, "latent": 8, "lr": 3e-3, "batch_size": 8},
    # With rates that fall, AUROC of a game no longer swings from one look to the next.
    **{"precision": "float32", "decay_from": 0.3},
}

CASES = {
    "cbigan": Case(
        tiny={"width": 2, "latent": 4, "generator_steps": 2, "ema_decay": 0.5},
        digits={**_DIGITS, "alpha": 3e-2, "steps": 60},
        auroc=0.95,
        preset="paper",
    ),
    "cebigan": Case(
        tiny={"width": 2, "latent": 4},
        digits={**_DIGITS, "width": 4, "steps": 150},
        auroc=0.95,
    ),
    "ama": Case(
        tiny={"width": 2, "latent": 4, "atypical_start": 0},
        digits={**_DIGITS, "lr_drops": 0, "steps": 60},
        auroc=0.92,
    ),
    "piad": Case(
        tiny={
            "width": 2,
            "critic_width": 2,
            "latent_critic_width": 4,
            "latent": 4,
            "backbone": "efficientnet-lite0",
            "layer": "stride8",
            "gamma_every": 2,
        },
        digits={
            **_DIGITS,
            "width": 4,
            "critic_width": 4,
            "latent_critic_width": 16,
            "critic_lr": 2e-3,
            "lr": 2e-3,
            "gamma_every": 10,
            "steps": 60,
        },
        auroc=0.95,
        preset="mnist",
    ),
    "autoencoder": Case(
        tiny={"width": 2, "latent": 4}, digits={**_DIGITS, "steps": 150}, auroc=0.97
    ),
    "mean_picture": Case(tiny={}, digits={}, auroc=0.9),
    "pca": Case(tiny={"components": 4}, digits={"components": 10}, auroc=0.99),
    "kde": Case(
        # A wider kernel than the likeliest: under that one all that is known is equally dense.
        tiny={"bandwidth": 4.0, "variance": 0.9, "contrast": True},
        digits={},
        auroc=0.99,
    ),
    "ocsvm": Case(tiny={"nu": 0.5, "variance": 0.9, "contrast": True}, digits={}, auroc=0.99),
    "knn": Case(tiny={"k": 3, "limit": 8}, digits={}, auroc=0.99),
    "reflect": Case(tiny={"latent": 2}, digits={"size": 32}, auroc=0.99),
    "gaussian": Case(tiny={}, digits={}, auroc=0.99),
    "patch_knn": Case(tiny={"limit": 20, "keep": "coreset"}, digits={}, auroc=0.99),
}


def case_of(name: str) -> Case:
    if name not in CASES:
        pytest.fail(
            f'method "{name}" is registered but has no entry in CASES of {__file__}; add one'
        )
    return CASES[name]


def resolved(name: str, **overrides: object) -> settings.Resolved:
    cls = METHODS[name]
    return settings.resolve(
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
        return METHODS[name](config, InputShape(view.channels, *view.sides))


def pictures(n: int = 10) -> NDArray[np.uint8]:
    """Smooth random pictures, `(n, 32, 32)`."""
    coarse = np.random.RandomState(0).rand(n, 4, 4)
    return (255 * coarse.repeat(8, 1).repeat(8, 2)).astype(np.uint8)


def store(view: View) -> PictureStore:
    return PictureStore(ImageSource.of(pictures()), view)


def images(n: int = 5) -> Images:
    return torch.from_numpy(pictures(n))[:, None].float() / 255


def batch(n: int = 5) -> Batch:
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
    found = []
    for stage in method.stages():
        if stage.before is not None:
            with torch.no_grad():
                stage.before([images(10)])
        found += stage.updates
    return found


class Digits(NamedTuple):
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
