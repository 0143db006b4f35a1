"""WAIC over an ensemble: likelihoods count as far as models that were trained apart agree on them.

Choi, Jang, Alemi: WAIC, but Why? Generative Ensembles for Robust Anomaly Detection. 2018,
arXiv:1810.01392. The models are Glows, Kingma and Dhariwal, NeurIPS 2018, arXiv:1807.03039, which
differ by their first weights and their noise. Where none has learnt, each says something else.

Departures from the paper:
- All models see the same batches, so that a pass over the pictures is one for each.
- Scored pictures lie in the middle of their levels, where training draws a place in them: a score
  is the same each time.

Departures from the authors' code:
- It takes critics of Wasserstein GANs, or bounds of VAEs, for what is printed of them; a critic's
  value is no likelihood. Here are the Glows of the paper. So the row of AMA's Table 1, an ensemble
  of such critics, is not run by any preset.
- The form of the network, its optimiser and length are those of an independent Glow that reaches
  3.39 bits on CIFAR-10, which also has a decay of weights of 5e-5, shifted and mirrored pictures,
  and eight batches for its first scales.
- Convolutions that say 0 at first have no scale of their own that is learnt.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, final

import torch
from torch import nn

from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adamax, Schedule
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    TWO_OR_MORE,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.networks.glow import LARGEST, GlowNetwork, GlowSettings, bits_per_number


@dataclass(frozen=True, kw_only=True)
class WAICConfig(GlowSettings):
    """Settings of the ensemble; the defaults are those of the independent Glow for CIFAR-10."""

    members: int = number(5, TWO_OR_MORE)
    """Models of the ensemble."""
    score_variance: float = number(1.0, NOT_NEGATIVE)
    """Weight of the variance over models; 1: WAIC, 0: their mean likelihood."""
    lr: float = number(5e-4, POSITIVE)
    """Learning rate of Adamax, of all models."""
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    """Adamax's betas."""
    warmup: int = number(3900, NOT_NEGATIVE)
    """Steps in which the learning rate rises; of 64 pictures these are five passes of CIFAR-10."""


# Three flows of a few steps, whose networks have a sixteenth of the width.
_OURS = {"members": 3, "depth": 4, "width": 32, "lr": 2e-3, "warmup": 50}


@final
class WAIC(Method):
    """Several Glows, each of which learns by itself."""

    config_class = WAICConfig
    localizes = False
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=200),
        "cifar10": Preset(
            summary="five times what reaches 3.39 bits on CIFAR-10, in full length",
            view={"size": 32},
            training={"epochs": 250, "batch_size": 64},
        ),
    }

    def __init__(self, config: WAICConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        self.flows = [GlowNetwork(shape, config) for _ in range(config.members)]
        self.members = nn.ModuleList(self.flows)

    def loss(self, batch: Batch, member: GlowNetwork) -> Loss:
        """Minus the logarithm of the likelihood, in bits for each number of an image."""
        x = batch.normal
        log_p = member.log_likelihood(x, batch.uniforms(*x.shape[1:]))
        return Loss.weighted(bits=(1.0, bits_per_number(log_p, x)))

    def stages(self) -> Sequence[Stage]:
        """One stage: all models on the same images, each with noise of its own."""
        c = self.config
        adamax = Adamax(lr=c.lr, betas=c.betas, schedule=Schedule(warmup=c.warmup))
        updates = [
            Update(
                name=f"member{number}",
                trains=(member,),
                loss=partial(self.loss, member=member),
                optimizer=adamax,
                batch="fresh" if number == 1 else "shared",
            )
            for number, member in enumerate(self.flows, 1)
        ]
        return [Stage(name="likelihood", before=self.settle, updates=updates)]

    def settle(self, images: Batches) -> None:
        """Section 3.1 of Glow: what a first batch looks like to each normalisation."""
        first = next(iter(images))
        for member in self.flows:
            member.settle(first)

    def score(self, x: Images) -> Scores:
        """Minus WAIC, `mean_i (-log p_i(x)) + var_i log p_i(x)` over the models i; in nats."""
        middle = torch.full_like(x, 0.5)
        # Differences of large numbers that are nearly equal.
        log_p = torch.stack([member.log_likelihood(x, middle).double() for member in self.flows])
        variance = log_p.var(0, correction=0).clamp_max(LARGEST)
        return Scores.weighted(
            likelihood=(1.0, -log_p.mean(0).float()),
            variance=(self.config.score_variance, variance.float()),
        )
