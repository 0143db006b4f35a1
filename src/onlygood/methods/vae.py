"""Variational autoencoder: what is unlikely under a model of normal images with a code each.

Kingma and Welling: Auto-Encoding Variational Bayes. ICLR 2014, arXiv:1312.6114. As the baseline
of Dehaene et al.: Iterative Energy-Based Projection on a Normal Data Manifold for Anomaly
Localization, ICLR 2020, arXiv:2002.03734, with the network of Bergmann et al., VISAPP 2019.

Departures from the paper:
- Convolutions, and pixels that are Gaussian with a fixed variance of beta / 2 around the
  reconstruction, as in Dehaene et al.; neither their learnt variance (gamma-VAE) nor Bernoulli
  pixels are here.
- The score takes the mean code in place of an average over draws, so that it is deterministic.

Departures from the authors' code: there is none for this network.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

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
from onlygood.core.shapes import Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l2_map, l2_sum, relative_spread
from onlygood.losses.latent import kl_standard_normal
from onlygood.networks.bergmann import Decoder, VariationalEncoder
from onlygood.networks.convolutional import Output


@dataclass(frozen=True, kw_only=True)
class VAEConfig(NetworkSettings):
    """Settings of the variational autoencoder."""

    beta: float = number(1.0, NOT_NEGATIVE)
    """Weight of the divergence in training, twice the variance of pixels; 1: as in the paper."""
    width: int = number(32, ONE_OR_MORE)
    """Unit of the channel widths; Bergmann's table is 1, 2 and 4 times 32."""
    latent: int = number(100, ONE_OR_MORE)
    lr: float = number(1e-4, POSITIVE)
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    output: Output = "sigmoid"
    """Last activation of the decoder, or none: `linear`."""
    score_divergence: float = number(1.0, NOT_NEGATIVE)
    """Weight of the divergence in the score."""


# A variance of 1/2 suits sums over a tile of 128 px; over a smaller one the divergence would
# outweigh them, and even textures would all have one code.
_OURS = {"width": 16, "lr": 1e-3, "output": "linear", "beta": 0.03, "score_divergence": 0.03}


@final
class VAE(Method):
    """Encoder to a distribution of codes, decoder to a distribution of pixels."""

    config_class = VAEConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper-texture": Preset(
            summary="textures of MVTec AD as in Dehaene et al.: 128 px tiles of 512 px",
            view={"size": 512, "tile": 128, "overlap": 0.75},
            training={"images": 3_000_000, "batch_size": 16},
        ),
    }

    def __init__(self, config: VAEConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = VariationalEncoder(shape, c.latent, c.width)
        self.decoder = Decoder(shape, c.latent, c.width, output=c.output)

    def loss(self, batch: Batch) -> Loss:
        """Eq. 7 with one draw: the negative bound, up to a constant."""
        c, x = self.config, batch.normal
        posterior = self.encoder(x)
        z = posterior.at(batch.normals(c.latent))
        x_hat = self.decoder(z)
        return Loss.weighted(
            reconstruction=(1.0, l2_sum(x, x_hat)),
            divergence=(c.beta, kl_standard_normal(*posterior)),
        ).watching(
            # Where noise drowns the means, codes say nothing of their images any more.
            code_spread=relative_spread(posterior.mean, z)
        )

    def stages(self) -> Sequence[Stage]:
        """One stage with one update."""
        c = self.config
        return [
            Stage(
                name="bound",
                updates=[
                    Update(
                        name="autoencoder",
                        trains=(self.encoder, self.decoder),
                        loss=self.loss,
                        optimizer=Adam(lr=c.lr, betas=c.betas),
                    )
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """The mean image of the mean code."""
        return self.decoder(self.encoder(x).mean)

    def score(self, x: Images) -> Scores:
        """The negative bound at the mean code; squared errors of pixels as the map."""
        posterior = self.encoder(x)
        x_hat = self.decoder(posterior.mean)
        return Scores.weighted(
            map=l2_map(x, x_hat),
            pixels=(1.0, l2_sum(x, x_hat)),
            divergence=(self.config.score_divergence, kl_standard_normal(*posterior)),
        )
