"""Autoencoder with squared error: the yardstick beside the adversarial methods.

Same encoder and generator as CBiGAN, so that what the adversarial game adds can be read off. As
in Bergmann et al., Improving Unsupervised Defect Segmentation by Applying Structural Similarity
to Autoencoders, VISAPP 2019, arXiv:1807.02011 (the L2 variant), Eq. 2.

Departures from the paper:
- Networks and code size: the residual ones of CBiGAN with a code of 64; theirs are plain
  convolutions with codes of 100 to 500.
- The L2 variant only, without structural similarity (SSIM).
- Size and augmentation are those of the preset.
- Weights are drawn by Glorot's rule: with He's, these blocks saturate the sigmoid in most starts.

Departures from the authors' code: none known; none was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    BELOW_ONE,
    ONE_OR_MORE,
    POSITIVE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l2_map, l2_mean, l2_sum, relative_spread
from onlygood.networks.convolutional import Output
from onlygood.networks.residual import Encoder, Generator, initialise


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(NetworkSettings):
    """Settings of the autoencoder."""

    width: int = number(16, ONE_OR_MORE)
    """Unit k of the channel widths k, 2k, 3k, 4k, 8k, 16k."""
    latent: int = number(64, ONE_OR_MORE)
    lr: float = number(3e-4, POSITIVE)
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    output: Output = "sigmoid"
    """Last activation of G, or none: `linear`."""


# A sigmoid never learnt scanned digits: with a dark background it saturates and stays so.
_OURS = {"output": "linear"}


@final
class Autoencoder(Method):
    """Encoder and generator trained to give images back."""

    config_class = AutoencoderConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = on_a_cpu(_OURS)

    def __init__(self, config: AutoencoderConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width)
        self.generator = Generator(shape, c.latent, c.width, output=c.output)
        # Not the notebook's He weights: these blocks double the variance, and without an adversary
        # to pull it back most starts saturate the sigmoid and never learn.
        initialise(self, "glorot")

    def loss(self, batch: Batch) -> Loss:
        """Eq. 2: squared error, as a mean over pixels."""
        x = batch.normal
        z = self.encoder(x)
        x_hat = self.generator(z)
        # `reconstruction` is the mean, so that the learning rate does not depend on the size.
        return Loss.weighted(reconstruction=(1.0, l2_mean(x, x_hat))).watching(
            # No prior says how far codes should be apart; as far as they are from 0.
            code_spread=relative_spread(z),
            reconstruction_spread=relative_spread(x_hat, x),
        )

    def stages(self) -> Sequence[Stage]:
        """One stage with one update."""
        c = self.config
        return [
            Stage(
                name="reconstruction",
                updates=[
                    Update(
                        name="autoencoder",
                        trains=(self.encoder, self.generator),
                        loss=self.loss,
                        optimizer=Adam(lr=c.lr, betas=c.betas),
                    )
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return self.generator(self.encoder(x))

    def score(self, x: Images) -> Scores:
        """Squared error of each image, summed over pixels; kept per pixel as the map."""
        x_hat = self.reconstruct(x)
        return Scores.weighted(map=l2_map(x, x_hat), pixels=(1.0, l2_sum(x, x_hat)))
