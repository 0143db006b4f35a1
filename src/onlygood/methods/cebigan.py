"""CE-BiGAN: a BiGAN with consistency both ways, whose discriminator pairs by projection.

Komoto, Aizawa, Kato: Consistency Ensured Bi-directional GAN for Anomaly Detection. IW-FCV 2020,
Springer CCIS 1212. Equation numbers are the paper's.

Departures from the paper:
- It leaves most numbers open: layers, code size (128; 200 for MNIST), prior (standard normal),
  first weights (normal(0, 0.02)), batch (32; 64), length (20,000 steps; 50 epochs), size (128 px)
  and `score_features` (0.1, as in AnoGAN and EGBAD) are ours.
- MNIST's 28 px are resized to 32 px: sides are powers of two.
- Labels as in Eq. 6 in all losses: the discriminator raises (x, E(x)) and lowers (G(z), z). Eq. 6
  for one player and Algorithm 1 for the other would make all networks work together; a test shows
  that.
- L1 in the consistency is a mean over elements. As the sum that is printed, with `alpha=0.9`, it
  would outweigh the game some 500 times on MNIST and 30,000 times at 128 px;
  `consistency_reduction=sum` does what is printed.
- The layers behind the stacking of `discriminator=concatenate` are ours (the paper has a drawing):
  as many dense layers, of the same sizes, as the projection has.
- The features of Eq. 15 are "intermediate output": `h`, or `phi` by `feature_layer`.
- Eq. 15 writes `f(G(x, E(x)))`; read as `f(G(E(x)))`.
- The two kinds of pairs go through `D` one after the other, each normalised by its own statistics.
- Which statistics normalise when scoring is not said: the running ones. Half of what they count
  is generated, so pictures are given back worse than in training; `statistics=normal` is ours.
- The presets `default`, `small` and `texture` are ours: what a CPU can do in minutes. `alpha`, `lr`
  and `betas` in them were chosen by how well held-out normal pictures were given back after 250
  steps.

Departures from the authors' code: none known; none was published.

Two things that the paper prescribes and that are kept, though they are odd: batch normalisation
right behind a spectrally normalised convolution takes out the scale that the latter sets; and the
dense layers of `D` are not spectrally normalised.
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
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_mean, l1_sum, relative_spread, spread
from onlygood.networks.convolutional import Encoder, Generator
from onlygood.networks.dcgan import ConcatenatingDiscriminator, ProjectionDiscriminator
from onlygood.networks.modes import recounting

DISCRIMINATORS = {"projection": ProjectionDiscriminator, "concatenate": ConcatenatingDiscriminator}
GAME = GAMES["non_saturating"]
DISTANCES = {"mean": l1_mean, "sum": l1_sum}


@dataclass(frozen=True, kw_only=True)
class CEBiGANConfig(Settings):
    """Settings of CE-BiGAN; the defaults are the paper's, and for 128 px where it gives none."""

    discriminator: Literal["projection", "concatenate"] = "projection"
    """How the code joins the image in D: by inner product, Eq. 13, or as further feature maps."""
    alpha: float = number(0.9, SHARE)
    """Weight of consistency, Algorithm 1; 1 - alpha for the game; 0: none at all, plain BiGAN."""
    consistency_reduction: Literal["mean", "sum"] = "mean"
    """L1 of Eq. 11 and 12: mean or sum over pixels, in [-1, 1], and over entries of the code."""
    width: int = number(64, ONE_OR_MORE)
    """Channels behind the first convolution; 2, 4, 8, 8... times as many behind the next ones."""
    latent: int = number(128, ONE_OR_MORE)
    """Size of the code z."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of all networks."""
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    """Adam's betas of all networks."""
    statistics: Literal["training", "normal"] = "training"
    """Batch statistics to score with: running ones of all passes, or those of scoring normals."""
    score_features: float = number(0.1, SHARE)
    """Weight lambda of the feature distance in the score, Eq. 16; 1 - lambda for pixels."""
    feature_layer: Literal["h", "phi"] = "h"
    """Features f of Eq. 15: the last hidden layer of D, or its feature maps of the image."""


class Pass(NamedTuple):
    """Images with their codes, and codes with their images; pixels in [-1, 1]."""

    x: Images
    z_x: Latents
    z: Latents
    x_z: Images


# By how well held-out normal pictures were given back in short runs; `width` by time. The code of
# objects by clothes and cells to choose on: what it has no room for is not given back.
_OURS = {
    "alpha": 0.99,
    "width": 16,
    "latent": 64,
    "lr": 1e-3,
    "betas": (0.0, 0.9),
    "statistics": "normal",
}
_OBJECTS = {"latent": 8}
_PAPER_LENGTH = {"steps": 20_000}
_MNIST_VIEW = {"size": 32}
_MNIST_LENGTH = {"epochs": 50, "batch_size": 64}


@final
class CEBiGAN(Method):
    """Encoder, generator and a discriminator of pairs, in a game with consistency."""

    config_class = CEBiGANConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, _OBJECTS),
        "paper": Preset(
            summary="metal nut; Table 1: projection + consistency", training=_PAPER_LENGTH
        ),
        "consistency-concatenate": Preset(
            summary="Table 1: concatenate + consistency",
            config={"discriminator": "concatenate"},
            training=_PAPER_LENGTH,
        ),
        "bigan-projection": Preset(
            summary="Table 1: projection, no consistency",
            config={"alpha": 0.0},
            training=_PAPER_LENGTH,
        ),
        "bigan-concatenate": Preset(
            summary="Table 1: concatenate, no consistency, which the paper calls EGBAD",
            config={"discriminator": "concatenate", "alpha": 0.0},
            training=_PAPER_LENGTH,
        ),
        "mnist": Preset(
            summary="one digit of MNIST, 50 epochs; Fig. 5: projection + consistency",
            config={"latent": 200},
            view=_MNIST_VIEW,
            training=_MNIST_LENGTH,
        ),
        "mnist-concatenate": Preset(
            summary="Fig. 5: concatenate + consistency",
            config={"discriminator": "concatenate", "latent": 200},
            view=_MNIST_VIEW,
            training=_MNIST_LENGTH,
        ),
        "mnist-bigan": Preset(
            summary="Fig. 5: concatenate, no consistency, which the paper calls EGBAD",
            config={"discriminator": "concatenate", "alpha": 0.0, "latent": 200},
            view=_MNIST_VIEW,
            training=_MNIST_LENGTH,
        ),
    }

    def __init__(self, config: CEBiGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width)
        self.generator = Generator(shape, c.latent, c.width)
        self.discriminator = DISCRIMINATORS[c.discriminator](shape, c.latent, c.width)

    def forward(self, batch: Batch) -> Pass:
        """Encode the images, and generate as many from fresh codes."""
        x, z = symmetric(batch.normal), batch.normals(self.config.latent)
        return Pass(x, self.encoder(x), z, self.generator(z))

    def judged(self, p: Pass) -> tuple[PerImage, PerImage]:
        """D(x, E(x)) and D(G(z), z), as logits; one pass each, as either has its own statistics."""
        return self.discriminator(p.x, p.z_x).logit, self.discriminator(p.x_z, p.z).logit

    def generator_loss(self, batch: Batch) -> Loss:
        """Algorithm 1: `alpha` times the consistency of Eq. 11 and 12, `1 - alpha` times the game.

        It is the loss of the encoder and of the generator, which are trained together.
        """
        c, p = self.config, self(batch)
        real, fake = self.judged(p)
        terms = {
            "encoder": (1 - c.alpha, GAME.encoder(real)),
            "generator": (1 - c.alpha, GAME.generator(fake)),
        }
        watched = {}
        # Not merely weighted by 0: passes that a plain BiGAN does not make would enter the
        # statistics of its normalisation.
        if c.alpha:
            l1, x_hat = DISTANCES[c.consistency_reduction], self.generator(p.z_x)
            terms["consistency_x"] = (c.alpha, l1(p.x, x_hat))
            terms["consistency_z"] = (c.alpha, l1(p.z, self.encoder(p.x_z)))
            watched["reconstruction_spread"] = relative_spread(x_hat, p.x)
        return Loss.weighted(**terms).watching(
            **watched,
            code_norm=p.z_x.norm(dim=1),
            code_mean=p.z_x.mean(1),
            code_std=p.z_x.std(1, correction=0),
            code_spread=relative_spread(p.z_x, p.z),
            diversity=spread(p.x_z),
        )

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Eq. 6: raise the logit of (x, E(x)), lower that of (G(z), z)."""
        real, fake = self.judged(self(batch))
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
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
                        trains=(self.encoder, self.generator),
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
                after=self.recount if c.statistics == "normal" else None,
            )
        ]

    def recount(self, images: Batches) -> None:
        """Normalise by what scoring sees of normal images, without those that G made of noise."""
        with recounting(self):
            for x in images:
                self.score(x)

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encoder(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """Eq. 14 to 16: pixel and feature distance between x and G(E(x)); both judged with E(x)."""
        c = self.config
        x = symmetric(x)
        z_x = self.encoder(x)
        x_hat = self.generator(z_x)
        real, fake = self.discriminator(x, z_x), self.discriminator(x_hat, z_x)
        f, f_hat = (real.h, fake.h) if c.feature_layer == "h" else (real.phi, fake.phi)
        return Scores.weighted(
            map=l1_map(x, x_hat),
            pixels=(1 - c.score_features, l1_sum(x, x_hat)),
            features=(c.score_features, l1_sum(f, f_hat)),
        )
