"""Skip-GANomaly: a U-Net gives pictures back, against a discriminator whose features it matches.

Akcay, Atapour-Abarghouei, Breckon: Skip-GANomaly: Skip Connected and Adversarially Trained
Encoder-Decoder Anomaly Detection. IJCNN 2019, arXiv:1901.08954. Losses have the paper's names:
L_adv, L_con, L_lat.

Departures from the paper:
- `w_con` is 50, as in the authors' code, and the learning rate does not fall.
- The heat map is the squared residual of the score; the paper shows none.

Departures from the authors' code:
- It normalises test batches by their own statistics, and tests normal pictures first and anomalous
  ones after them, so that the statistics know which is which; here the running ones are used, which
  meet each batch twice, once for each update, where the code runs G once. A rerun with running
  ones, in AMA's paper, is near 0.5 on MNIST.
- It draws D anew when the loss of D is below 1e-5; here D goes on as it is, whatever its loss.
- D takes its step after that of G, on a reconstruction from before it, which PyTorch refuses today:
  here both gradients are taken first.
- Skips and the innermost maps meet the leaky ReLU of the way inwards alone, where the code puts a
  ReLU behind it: a fifth of what is negative passes.
- First, innermost and last layers and that of D's features have a bias, there G's last one alone.
- Nothing is added to the pictures; the code adds a tensor that nothing has filled, in training.
- Scales of normalisation start at 1 exactly; pixels are in [-1, 1], the range of its tanh; scores
  are not scaled by those of a test set; the last weights count, not those with the best AUROC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    SHARE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_mean, l2_map, l2_mean, relative_spread
from onlygood.networks.convolutional import ImageCritic, Style, Trunk, UNet
from onlygood.networks.sizes import halvings_to

STYLE = Style(first_norm=False)
GAME = GAMES["non_saturating"]


@dataclass(frozen=True, kw_only=True)
class SkipGANomalyConfig(NetworkSettings):
    """Settings of Skip-GANomaly; the defaults are those of the authors' code."""

    latent: int = number(100, ONE_OR_MORE)
    """Size of D's features f."""
    w_adv: float = number(1.0, NOT_NEGATIVE)
    """Weight of L_adv."""
    w_con: float = number(50.0, NOT_NEGATIVE)
    """Weight of L_con: mean over pixels in [-1, 1]."""
    w_lat: float = number(1.0, NOT_NEGATIVE)
    """Weight of L_lat, the distance of D's features, in G's loss; in D's loss it has 1."""
    score_features: float = number(0.1, SHARE)
    """Weight of the distance of features in the score; 1 - it, the paper's lambda, for pixels."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16}


@final
class SkipGANomaly(Method):
    """U-Net and discriminator."""

    config_class = SkipGANomalyConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="CIFAR-10 as in the authors' code",
            view={"size": 32},
            training={"epochs": 25, "batch_size": 64},
        ),
    }

    def __init__(self, config: SkipGANomalyConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        to_a_point = halvings_to(1, shape, "Skip-GANomaly's")
        self.generator = UNet(shape, c.width, STYLE, halvings=to_a_point)
        self.discriminator = ImageCritic(Trunk(shape, c.width, STYLE), STYLE, features=c.latent)

    def generator_loss(self, batch: Batch) -> Loss:
        """`w_adv L_adv + w_con L_con + w_lat L_lat`."""
        c, x = self.config, symmetric(batch.normal)
        x_hat = self.generator(x)
        real, fake = self.discriminator(x), self.discriminator(x_hat)
        return Loss.weighted(
            adversarial=(c.w_adv, GAME.generator(fake.value)),
            reconstruction=(c.w_con, l1_mean(x, x_hat)),
            features=(c.w_lat, l2_mean(real.features, fake.features)),
        ).watching(reconstruction_spread=relative_spread(x_hat, x))

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Raise the logit of x, lower that of x_hat, and pull their features together: L_lat."""
        x = symmetric(batch.normal)
        real, fake = self.discriminator(x), self.discriminator(self.generator(x))
        return Loss.weighted(
            adversarial=(1.0, GAME.critic(real.value, fake.value)),
            features=(1.0, l2_mean(real.features, fake.features)),
        ).watching(real=real.value, fake=fake.value)

    def stages(self) -> Sequence[Stage]:
        """One stage: gradients of both networks from the same images, then both steps."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="adversarial",
                order="simultaneous",
                updates=[
                    Update(
                        name="generator",
                        trains=(self.generator,),
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
        """G(x)."""
        return unit(self.generator(symmetric(x)))

    def score(self, x: Images) -> Scores:
        """Squared distance of x and G(x), and of D's features of them, as means."""
        c, x = self.config, symmetric(x)
        x_hat = self.generator(x)
        f, f_hat = self.discriminator(x).features, self.discriminator(x_hat).features
        return Scores.weighted(
            map=l2_map(x, x_hat),
            pixels=(1 - c.score_features, l2_mean(x, x_hat)),
            features=(c.score_features, l2_mean(f, f_hat)),
        )
