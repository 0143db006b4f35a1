"""GANomaly: encode, decode and encode again; what is anomalous has another code the second time.

Akcay, Atapour-Abarghouei, Breckon: GANomaly: Semi-Supervised Anomaly Detection via Adversarial
Training. ACCV 2018, arXiv:1805.06725. Equation numbers are the paper's.

Departures from the paper:
- Eq. 5, the score, is an L1 norm in the paper and a mean of squares in the authors' code, as it is
  here; `score_distance=l1` is the printed one. It is not scaled by the scores of a test set, Eq. 6.
- Squared distances of Eq. 1 and 3 without a root, as in the authors' code.
- The heat map is the residual of Eq. 2, which is no part of the score; the paper has no map.

Departures from the authors' code:
- It normalises test batches by their own statistics, so that a score depends on what else is in the
  batch; here by the running ones. Its users saw other figures with them. They are averages of half
  as many batches as there, some five: E, G and E' meet each batch once for each of the two updates,
  where the code gives D what the first pass gave back.
- It draws D anew when the loss of D is below 1e-5; here D goes on as it is, whatever its loss.
- The first and last layers of both encoders and of D and the last one of G have a bias, scales of
  normalisation start at 1 exactly, and pixels are in [-1, 1], the range of its tanh, where it
  standardises MNIST beyond.
- From 128 px on layers have at most 8 times the first one's channels, where the code doubles on.
- It keeps the epoch with the best AUROC on test pictures; here the last weights count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_mean, l1_sum, l2_mean, relative_spread
from onlygood.networks.convolutional import Encoder, Generator, ImageCritic, Style, Trunk

STYLE = Style(first_norm=False)
GAME = GAMES["non_saturating"]
DISTANCES = {"l2": l2_mean, "l1": l1_sum}


@dataclass(frozen=True, kw_only=True)
class GANomalyConfig(NetworkSettings):
    """Settings of GANomaly; the defaults are those of the authors' code, and its paper's."""

    latent: int = number(100, ONE_OR_MORE)
    """Size of the codes z and z_hat."""
    w_adv: float = number(1.0, NOT_NEGATIVE)
    """Weight of the adversarial loss, Eq. 1, in Eq. 4."""
    w_con: float = number(50.0, NOT_NEGATIVE)
    """Weight of the contextual loss, Eq. 2: mean over pixels in [-1, 1]."""
    w_enc: float = number(1.0, NOT_NEGATIVE)
    """Weight of the encoder loss, Eq. 3: mean over entries of the code."""
    score_distance: Literal["l2", "l1"] = "l2"
    """Of the two codes, Eq. 5: mean of squares, or sum of absolute differences, as is printed."""


class Pass(NamedTuple):
    """Once through the networks: x to z to x_hat to z_hat; pixels in [-1, 1]."""

    x: Images
    z: Latents
    x_hat: Images
    z_hat: Latents


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16}
_PAPER_LENGTH = {"epochs": 15, "batch_size": 64}


@final
class GANomaly(Method):
    """Encoder, generator and second encoder, which match the features of a discriminator."""

    config_class = GANomalyConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="as in the authors' code, 32 px", view={"size": 32}, training=_PAPER_LENGTH
        ),
    }

    def __init__(self, config: GANomalyConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width, STYLE)
        self.generator = Generator(shape, c.latent, c.width, STYLE)
        self.second_encoder = Encoder(shape, c.latent, c.width, STYLE)
        self.discriminator = ImageCritic(Trunk(shape, c.width, STYLE), STYLE)

    def forward(self, x: Images) -> Pass:
        """Encode, decode, encode again."""
        x = symmetric(x)
        z = self.encoder(x)
        x_hat = self.generator(z)
        return Pass(x, z, x_hat, self.second_encoder(x_hat))

    def generator_loss(self, batch: Batch) -> Loss:
        """Eq. 4: the weighted sum of Eq. 1 (features of D), Eq. 2 (pixels) and Eq. 3 (codes)."""
        c, p = self.config, self(batch.normal)
        f, f_hat = self.discriminator(p.x).features, self.discriminator(p.x_hat).features
        return Loss.weighted(
            adversarial=(c.w_adv, l2_mean(f, f_hat)),
            reconstruction=(c.w_con, l1_mean(p.x, p.x_hat)),
            encoding=(c.w_enc, l2_mean(p.z, p.z_hat)),
        ).watching(
            code_spread=relative_spread(p.z),
            reconstruction_spread=relative_spread(p.x_hat, p.x),
        )

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Binary cross-entropy, half for x being real and half for x_hat being none."""
        p = self(batch.normal)
        real, fake = self.discriminator(p.x).value, self.discriminator(p.x_hat).value
        return Loss.weighted(adversarial=(0.5, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def stages(self) -> Sequence[Stage]:
        """One stage: gradients of all networks from the same images, then all steps."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="adversarial",
                order="simultaneous",
                updates=[
                    Update(
                        name="generator",
                        trains=(self.encoder, self.generator, self.second_encoder),
                        loss=self.generator_loss,
                        optimizer=adam,
                    ),
                    Update(
                        name="discriminator",
                        trains=(self.discriminator,),
                        loss=self.discriminator_loss,
                        optimizer=adam,
                        batch="same",
                    ),
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self(x).x_hat)

    def score(self, x: Images) -> Scores:
        """Eq. 5: distance of the two codes; that of the pixels is told beside it."""
        p = self(x)
        return Scores.weighted(
            map=l1_map(p.x, p.x_hat),
            codes=(1.0, DISTANCES[self.config.score_distance](p.z, p.z_hat)),
            pixels=(0.0, l1_mean(p.x, p.x_hat)),
        )
