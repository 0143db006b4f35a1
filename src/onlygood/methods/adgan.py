"""ADGAN: a GAN of normal images, and for each image a search that bends the generator as well.

Deecke, Vandermeulen, Ruff, Mandt, Kloft: Image Anomaly Detection with Generative Adversarial
Networks. ECML PKDD 2018.

Departures from the paper:
- Its networks and the length of training are not known to us: DCGAN's, trained as a Wasserstein GAN
  with a gradient penalty, 100 passes (200 for CIFAR-10); clipped weights are not offered.
- Starts are the same for every image, so that its score does not depend on the others.
- The start that ends lowest is told beside the score, and shown as the reconstruction.

Departures from the authors' code: none known; none was found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l2_map, l2_sum, spread
from onlygood.losses.penalties import between, two_sided
from onlygood.networks.convolutional import Generator, ImageCritic, Style, Trunk
from onlygood.networks.search import Aim, Copies, descended, starts

CRITIC = Style(norm="layer", first_norm=False)
"""Not normalised by its batch: a gradient penalty is of each image alone."""
GAME = GAMES["wasserstein"]
AT_ONCE = 32
"""Searches that run side by side, each with a generator of its own in memory."""

Ends = Float[Tensor, "N B C H W"]
"""Where the search of each image led from each of its N starts; pixels in [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class ADGANConfig(NetworkSettings):
    """Settings of ADGAN; those of the search are the paper's."""

    width: int = number(128, ONE_OR_MORE)
    """Channels behind the first halving of the side."""
    latent: int = number(256, ONE_OR_MORE)
    """Size of the code z."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of generator and critic."""
    betas: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)
    """Adam's betas of generator and critic."""
    critic_steps: int = number(5, ONE_OR_MORE)
    """Critic updates before each update of the generator, each on a fresh batch."""
    penalty_weight: float = number(10.0, NOT_NEGATIVE)
    """Weight of the gradient penalty."""
    restarts: int = number(64, ONE_OR_MORE)
    """Starts of the search, n_seed; the score is the mean over all of them."""
    search_steps: int = number(5, ONE_OR_MORE)
    """Steps k of the search from each start."""
    search_lr: float = number(0.25, POSITIVE)
    """Learning rate of Adam for the code, in the search."""
    tuning_lr: float = number(5e-5, NOT_NEGATIVE)
    """The same for a copy of the generator's weights; 0: they stay, and only the code moves."""
    search_seed: int = number(0, NOT_NEGATIVE)
    """Fixes the starts, which are the same for every picture."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {
    **{"width": 16, "latent": 32, "lr": 5e-4, "critic_steps": 2},
    **{"restarts": 4, "search_steps": 20, "search_lr": 0.1},
}


@final
class ADGAN(Method):
    """Generator and critic, and a search that has both code and generator move."""

    config_class = ADGANConfig
    localizes = True
    square = True
    searches = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="as in the paper, 32 px; networks and length are ours",
            view={"size": 32},
            training={"epochs": 100, "batch_size": 64},
        ),
        "cifar10": Preset(
            summary="the same, with the length we take for CIFAR-10",
            view={"size": 32},
            training={"epochs": 200, "batch_size": 64},
        ),
    }

    def __init__(self, config: ADGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.generator = Generator(shape, c.latent, c.width)
        self.critic = ImageCritic(Trunk(shape, c.width, CRITIC), CRITIC)

    def critic_loss(self, batch: Batch) -> Loss:
        """Raise D(x), lower D(G(z)), and keep the slope of D between them at 1."""
        x = symmetric(batch.normal)
        x_z = self.generator(batch.normals(self.config.latent))
        real, fake = self.critic(x).value, self.critic(x_z).value
        penalty = two_sided(lambda x: self.critic(x).value, between(x, x_z, batch.uniforms()))
        return Loss.weighted(
            adversarial=(1.0, GAME.critic(real, fake)),
            penalty=(self.config.penalty_weight, penalty),
        ).watching(real=real, fake=fake)

    def generator_loss(self, batch: Batch) -> Loss:
        """Raise D(G(z))."""
        x_z = self.generator(batch.normals(self.config.latent))
        return Loss.weighted(
            adversarial=(1.0, GAME.generator(self.critic(x_z).value)),
        ).watching(diversity=spread(x_z))

    def stages(self) -> Sequence[Stage]:
        """One stage: the critic, so often, then the generator, which needs no pictures."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="gan",
                updates=[
                    Update(
                        name="critic",
                        trains=(self.critic,),
                        loss=self.critic_loss,
                        optimizer=adam,
                        repeat=c.critic_steps,
                    ),
                    Update(
                        name="generator",
                        trains=(self.generator,),
                        loss=self.generator_loss,
                        optimizer=adam,
                        batch="shared",
                    ),
                ],
            )
        ]

    def search(self, x: Images) -> Ends:
        """From each start, steps for code and weights that lower `||x - G_theta(z)||^2`.

        Each start has a copy theta of the generator's weights, as nothing that one search has
        learnt should help another.
        """
        n = self.config.restarts
        codes = starts(x, self.config.latent, seed=self.config.search_seed, number=n).flatten(0, 1)
        targets = x.repeat(n, 1, 1, 1)
        parts = zip(targets.split(AT_ONCE), codes.split(AT_ONCE), strict=True)
        return torch.cat([self._led(*part) for part in parts]).unflatten(0, (n, len(x)))

    def reconstruct(self, x: Images) -> Images:
        """G_theta(z) where the search that ends lowest ends."""
        x = symmetric(x)
        ends = self.search(x)
        lowest = torch.stack([l2_sum(x, end) for end in ends]).argmin(0)
        return unit(ends[lowest, torch.arange(len(x), device=x.device)])

    def score(self, x: Images) -> Scores:
        """Mean over starts of `||x - G_theta(z)||^2`, and beside it the lowest of them."""
        x = symmetric(x)
        ends = self.search(x)
        errors = torch.stack([l2_sum(x, end) for end in ends])
        return Scores.weighted(
            map=torch.stack([l2_map(x, end) for end in ends]).mean(0),
            pixels=(1.0, errors.mean(0)),
            lowest=(0.0, errors.amin(0)),
        )

    def _led(self, x: Images, z: Latents) -> Images:
        c, copies = self.config, Copies(self.generator)
        adam = [Adam(lr=c.search_lr)]
        weights = copies.start(len(x)) if c.tuning_lr else []
        adam += [Adam(lr=c.tuning_lr)] * len(weights)

        def made(z: Tensor, *weights: Tensor) -> Images:
            return copies(weights, z) if weights else self.generator(z)

        def aim(z: Tensor, *weights: Tensor) -> Aim:
            return Aim(l2_sum(x, made(z, *weights)))

        return made(*descended(aim, [z, *weights], adam, steps=c.search_steps))
