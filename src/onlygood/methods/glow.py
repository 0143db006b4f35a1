"""Glow: the likelihood of a picture, and whether it is as large as that of a typical normal one.

Nalisnick, Matsukawa, Teh, Lakshminarayanan: Detecting Out-of-Distribution Inputs to Deep Generative
Models Using a Test for Typicality. 2019, arXiv:1906.02994. The network is Glow, Kingma and
Dhariwal, NeurIPS 2018, arXiv:1807.03039. What is simple is often likelier than anything normal: so
a likelihood counts as anomalous when it is too large as well.

Departures from the paper:
- Pictures are tested one by one, M = 1; the paper's batches of M pictures need to be known to be
  all normal or all anomalous. So the figures that AMA prints for it (M = 2) are not comparable;
  they may even be shares of batches that were rejected, not AUROC.
- The threshold is that of this house, not a bootstrap of held-out batches.
- Scored pictures lie in the middle of their levels, where training draws a place in them: a score
  is the same each time.

Departures from the authors' code:
- None of it is known to us. The form of the network, its optimiser and length are those of an
  independent Glow that reaches 3.39 bits on CIFAR-10 (`y0ast/Glow-PyTorch`), which also has a
  decay of weights of 5e-5, shifted and mirrored pictures, and eight batches for its first scales.
- Convolutions that say 0 at first have no scale of their own that is learnt.

The layers are ours: the libraries of flows that have Glow's have had no release since 2023, the one
that is kept has none for pictures. Tests compare every determinant with that of the Jacobian, and
undo every step.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adamax, Schedule
from onlygood.core.settings import BELOW_ONE, NOT_NEGATIVE, POSITIVE, Preset, number, on_a_cpu
from onlygood.core.shapes import Batches, Images, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.networks.glow import GlowNetwork, GlowSettings, bits_per_number


@dataclass(frozen=True, kw_only=True)
class GlowConfig(GlowSettings):
    """Settings of Glow; the defaults are those of the independent Glow for CIFAR-10."""

    score_by: Literal["typicality", "likelihood"] = "typicality"
    """Distance of the likelihood from what is usual, or how small it is; both are told."""
    lr: float = number(5e-4, POSITIVE)
    """Learning rate of Adamax."""
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    """Adamax's betas."""
    warmup: int = number(3900, NOT_NEGATIVE)
    """Steps in which the learning rate rises; of 64 pictures these are five passes of CIFAR-10."""


# A flow of a few steps, whose networks have a sixteenth of the width.
_OURS = {"depth": 4, "width": 32, "lr": 2e-3, "warmup": 50}


@final
class Glow(Method):
    """A Glow of normal images, and the mean of its likelihoods."""

    config_class = GlowConfig
    localizes = False
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=500),
        "cifar10": Preset(
            summary="the network, optimiser and length that reach 3.39 bits on CIFAR-10",
            view={"size": 32},
            training={"epochs": 250, "batch_size": 64},
        ),
    }
    entropy: Tensor

    def __init__(self, config: GlowConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        self.flow = GlowNetwork(shape, config)
        self.register_buffer("entropy", torch.tensor(0.0))

    def loss(self, batch: Batch) -> Loss:
        """Minus the logarithm of the likelihood, in bits for each number of an image."""
        x = batch.normal
        log_p = self.flow.log_likelihood(x, batch.uniforms(*x.shape[1:]))
        return Loss.weighted(bits=(1.0, bits_per_number(log_p, x)))

    def stages(self) -> Sequence[Stage]:
        """One stage: first numbers by the first batch, then the likelihood, then its mean."""
        c = self.config
        adamax = Adamax(lr=c.lr, betas=c.betas, schedule=Schedule(warmup=c.warmup))
        update = Update(name="flow", trains=(self.flow,), loss=self.loss, optimizer=adamax)
        return [
            Stage(name="likelihood", before=self.settle, updates=[update], after=self.measure),
        ]

    def settle(self, images: Batches) -> None:
        """Section 3.1 of Glow: what a first batch looks like to each normalisation."""
        self.flow.settle(next(iter(images)))

    def measure(self, images: Batches) -> None:
        """H: the mean of `-log p` over the training images, an estimate of the entropy."""
        self.entropy.copy_(torch.cat([self.surprise(x) for x in images]).double().mean())

    def surprise(self, x: Images) -> PerImage:
        """`-log p(x)` in nats, of each number in the middle of its level."""
        return -self.flow.log_likelihood(x, torch.full_like(x, 0.5))

    def score(self, x: Images) -> Scores:
        """`| -log p(x) - H |`, the test's statistic for M = 1, and `-log p(x)`; in nats."""
        surprise = self.surprise(x)
        typical = self.config.score_by == "typicality"
        return Scores.weighted(
            typicality=(float(typical), (surprise - self.entropy).abs()),
            likelihood=(float(not typical), surprise),
        )
