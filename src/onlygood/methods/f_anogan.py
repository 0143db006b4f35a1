"""f-AnoGAN: a Wasserstein GAN first, then an encoder that finds each picture's code in one pass.

Schlegl, Seeböck, Waldstein, Langs, Schmidt-Erfurth: f-AnoGAN: Fast Unsupervised Anomaly Detection
with Generative Adversarial Networks. Medical Image Analysis 54, 2019. Losses have the names of the
paper: L_izi_f (image to code to image, with features of the critic), or L_izi with `kappa=0`.

Departures from the paper:
- No encoder that is trained from code to image to code (L_ziz).
- The score has no threshold of its own, and heat maps are smoothed as those of all methods are.

Departures from the authors' code:
- Networks are the residual ones of this house: the first block of critic and encoder takes the
  image itself, where the code has one more convolution before it, and the last one's result is
  normalised and activated. Four blocks at 64 px, as there; one fewer for each halving of the size.
- At 64 px blocks of G lead from 512 channels to 256, 128, 64 and 64, those of the critic from the
  image to 64, 128, 256 and 512; in the code from 512 to 512, 256, 128 and 64, and back.
- Weights are drawn as PyTorch does, not by He's rule. Constants of normalisation and RMSProp are
  PyTorch's, too. First convolutions of a block have a bias, and a block that keeps its channels
  passes its input on as it is, where the code has a convolution.
- Its loader gives one buffer again and again and drops incomplete batches; here each picture is
  seen and scored once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import torch

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, RMSProp
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    Budget,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l2_mean, relative_spread, spread
from onlygood.losses.penalties import between, two_sided
from onlygood.networks.convolutional import Encoder, Generator, ImageCritic, Style, Trunk

STYLE = Style(block="residual", slope=0.0, std=0.0)
CRITIC = Style(block="residual", norm="layer", slope=0.0, std=0.0)
"""Not normalised by its batch: a gradient penalty is of each image alone."""
GAME = GAMES["wasserstein"]


@dataclass(frozen=True, kw_only=True)
class FAnoGANConfig(NetworkSettings):
    """Settings of f-AnoGAN; the defaults are those of the authors' code."""

    lr: float = number(1e-4, POSITIVE)
    """Learning rate of generator and critic."""
    betas: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)
    """Adam's betas of generator and critic."""
    critic_steps: int = number(5, ONE_OR_MORE)
    """Critic updates before each update of the generator, each on a fresh batch."""
    penalty_weight: float = number(10.0, NOT_NEGATIVE)
    """Weight of the gradient penalty."""
    code: Literal["tanh", "linear"] = "tanh"
    """Last activation of E; tanh keeps codes within one standard deviation of the prior."""
    kappa: float = number(1.0, NOT_NEGATIVE)
    """Weight κ of the feature distance in L_izi_f and in the score A; 0: L_izi."""
    encoder_lr: float = number(5e-5, POSITIVE)
    """Learning rate of the encoder, by RMSProp."""
    gan_share: float = number(1.0, POSITIVE)
    """Part of the run's budget that the GAN has, relative to 1 for the encoder."""
    gan_epochs: int = number(0, NOT_NEGATIVE)
    """Passes over the training pictures after which the GAN is done, at the latest; 0: no limit."""
    encoder_steps: int = number(0, NOT_NEGATIVE)
    """Steps after which the encoder is done, at the latest; 0: no limit."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "critic_steps": 2, "lr": 5e-4, "encoder_lr": 1e-3}
_PAPER = {"gan_epochs": 7, "encoder_steps": 50_000}
_PAPER_VIEW = {"size": 64, "flip": True}


@final
class FAnoGAN(Method):
    """Generator and critic; then an encoder, with both of them fixed."""

    config_class = FAnoGANConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="izi_f as in the authors' code, 64 px",
            config=_PAPER,
            view=_PAPER_VIEW,
            training={"batch_size": 64},
        ),
        "izi": Preset(
            summary="the same without features of the critic",
            config={**_PAPER, "kappa": 0.0},
            view=_PAPER_VIEW,
            training={"batch_size": 64},
        ),
    }

    def __init__(self, config: FAnoGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.generator = Generator(shape, c.latent, c.width, STYLE)
        self.critic = ImageCritic(Trunk(shape, c.width, CRITIC), CRITIC)
        self.encoder = Encoder(shape, c.latent, c.width, STYLE)

    def encode(self, x: Images) -> Latents:
        """E(x), of pixels in [-1, 1]."""
        z = self.encoder(x)
        return torch.tanh(z) if self.config.code == "tanh" else z

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

    def encoder_loss(self, batch: Batch) -> Loss:
        """L_izi_f: distance of x and G(E(x)), and κ times that of the critic's features of them."""
        x = symmetric(batch.normal)
        z = self.encode(x)
        x_hat = self.generator(z)
        f, f_hat = self.critic(x).features, self.critic(x_hat).features
        return Loss.weighted(
            reconstruction=(1.0, l2_mean(x, x_hat)),
            features=(self.config.kappa, l2_mean(f, f_hat)),
        ).watching(
            code_spread=relative_spread(z, batch.normals(self.config.latent)),
            reconstruction_spread=relative_spread(x_hat, x),
        )

    def stages(self) -> Sequence[Stage]:
        """Two stages: the critic, so often, then the generator; and the encoder, alone."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="gan",
                share=c.gan_share,
                budget=Budget(epochs=c.gan_epochs) if c.gan_epochs else None,
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
                        # It looks at no picture, so it uses none up.
                        batch="shared",
                    ),
                ],
            ),
            Stage(
                name="encoder",
                budget=Budget(steps=c.encoder_steps) if c.encoder_steps else None,
                updates=[
                    Update(
                        name="encoder",
                        trains=(self.encoder,),
                        loss=self.encoder_loss,
                        optimizer=RMSProp(lr=c.encoder_lr, alpha=0.9),
                    ),
                ],
            ),
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encode(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """A: distance of x and G(E(x)), κ times that of their features; that of codes beside it."""
        x = symmetric(x)
        z = self.encode(x)
        x_hat = self.generator(z)
        f, f_hat = self.critic(x).features, self.critic(x_hat).features
        return Scores.weighted(
            map=l1_map(x, x_hat),
            pixels=(1.0, l2_mean(x, x_hat)),
            features=(self.config.kappa, l2_mean(f, f_hat)),
            codes=(0.0, l2_mean(z, self.encode(x_hat))),
        )
