"""EGBAD: a BiGAN whose encoder finds in one pass the code that AnoGAN searches.

Zenati, Foo, Lecouat, Manek, Chandrasekhar: Efficient GAN-Based Anomaly Detection. ICLR 2018
workshop, arXiv:1802.06222. Parts of the score have the paper's names.

Departures from the paper:
- It does not say how long it trains, and neither does its code; 100 passes are a choice of ours,
  half of them for D and half for encoder and generator.

Departures from the authors' code:
- Its networks are for MNIST's 28 px: ours are DCGAN's at 32 px and above, with its slope, dropout
  and first width of D, and dense layers of D that have its sizes at `width=64`. Constants of
  normalisation are PyTorch's (1e-5 and 0.9, where it has 1e-3 and 0.99).
- Its split of MNIST lets 80 % of the normal test pictures be training pictures. No protocol of
  this house does.
- Weights are averaged together with the statistics that normalise, which the code leaves out.

The BiGANs that the papers of `cebigan` and `cbigan` call EGBAD have other networks, and CBiGAN's
has another game; they are presets of these two, and the tables' rows are run by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    BELOW_ONE,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.core.stage import Batch, Ema, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_sum, relative_spread, spread
from onlygood.networks.convolutional import Encoder, Generator, PairCritic, Style, Trunk

STYLE = Style(first_norm=False, slope=0.1)
DISCRIMINATOR = Style(first_norm=False, slope=0.1, dropout=0.5)
GAME = GAMES["non_saturating"]


@dataclass(frozen=True, kw_only=True)
class EGBADConfig(NetworkSettings):
    """Settings of EGBAD; the defaults are those of the authors' code for MNIST."""

    latent: int = number(200, ONE_OR_MORE)
    """Size of the code z."""
    lr: float = number(1e-5, POSITIVE)
    """Learning rate of all networks."""
    ema_decay: float = number(0.999, BELOW_ONE)
    """Decay of the average of all weights, by which pictures are scored; 0: no average."""
    score_discriminator: float = number(0.1, SHARE)
    """Weight of L_D in the score A, the paper's 1 - alpha; alpha for the pixels, L_G."""
    l_d: Literal["features", "cross_entropy"] = "features"
    """L_D: distance of D's features, or how far D is from taking (G(E(x)), E(x)) for real."""


class Pass(NamedTuple):
    """Images with their codes, and codes with their images; pixels in [-1, 1]."""

    x: Images
    z_x: Latents
    z: Latents
    x_z: Images


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "latent": 16, "lr": 1e-3, "ema_decay": 0.99}


@final
class EGBAD(Method):
    """Encoder, generator and a discriminator of pairs."""

    config_class = EGBADConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=1200),
        "paper": Preset(
            summary="MNIST as in the authors' code, at 32 px; its length is ours",
            view={"size": 32},
            training={"epochs": 100, "batch_size": 100},
        ),
    }

    def __init__(self, config: EGBADConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width, STYLE)
        self.generator = Generator(shape, c.latent, c.width, STYLE)
        self.discriminator = PairCritic(
            Trunk(shape, c.width, DISCRIMINATOR),
            c.latent,
            DISCRIMINATOR,
            code=8 * c.width,
            joint=16 * c.width,
        )

    def forward(self, batch: Batch) -> Pass:
        """Encode the images, and generate as many from fresh codes."""
        x, z = symmetric(batch.normal), batch.normals(self.config.latent)
        return Pass(x, self.encoder(x), z, self.generator(z))

    def judged(self, p: Pass) -> tuple[PerImage, PerImage]:
        """Logits of (x, E(x)) and (G(z), z); one pass each, as either has its own statistics."""
        return self.discriminator(p.x, p.z_x).value, self.discriminator(p.x_z, p.z).value

    def discriminator_loss(self, batch: Batch) -> Loss:
        """BiGAN's V(D, E, G): raise the logit of (x, E(x)), lower that of (G(z), z)."""
        real, fake = self.judged(self(batch))
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def generator_loss(self, batch: Batch) -> Loss:
        """The same with labels changed over: E against (x, E(x)), G against (G(z), z)."""
        p = self(batch)
        real, fake = self.judged(p)
        return Loss.weighted(
            encoder=(1.0, GAME.encoder(real)), generator=(1.0, GAME.generator(fake))
        ).watching(
            code_spread=relative_spread(p.z_x, p.z),
            diversity=spread(p.x_z),
        )

    def stages(self) -> Sequence[Stage]:
        """One stage: the discriminator, then encoder and generator on other images."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        networks = (self.encoder, self.generator, self.discriminator)
        return [
            Stage(
                name="adversarial",
                updates=[
                    Update(
                        name="discriminator",
                        trains=(self.discriminator,),
                        loss=self.discriminator_loss,
                        optimizer=adam,
                    ),
                    Update(
                        name="generator",
                        trains=(self.encoder, self.generator),
                        loss=self.generator_loss,
                        optimizer=adam,
                    ),
                ],
                ema=Ema(modules=networks, decay=c.ema_decay, every=1) if c.ema_decay else None,
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encoder(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """A = alpha L_G + (1 - alpha) L_D, both sums; the L_D not chosen is told beside it."""
        c = self.config
        x = symmetric(x)
        z_x = self.encoder(x)
        x_hat = self.generator(z_x)
        real, fake = self.discriminator(x, z_x), self.discriminator(x_hat, z_x)
        chosen = c.score_discriminator
        by_features = c.l_d == "features"
        return Scores.weighted(
            map=l1_map(x, x_hat),
            pixels=(1 - chosen, l1_sum(x, x_hat)),
            features=(chosen if by_features else 0.0, l1_sum(real.features, fake.features)),
            cross_entropy=(0.0 if by_features else chosen, GAME.generator(fake.value)),
        )
