"""VAE-grad: walks from an image to the nearest one that a variational autoencoder gives back.

Dehaene, Frigo, Combrexelle, Eline: Iterative Energy-Based Projection on a Normal Data Manifold for
Anomaly Localization. ICLR 2020, arXiv:2002.03734, with the network of Bergmann et al., VISAPP 2019.

Departures from the paper:
- It gives no score of an image: here the peak of the map after a small blur, or its mean, by
  `score_peak`.
- The variance of pixels is fixed, to beta / 2; neither a learnt one (gamma-VAE) nor an autoencoder
  without the divergence is here.
- `detached` is no part of it, see below.

Departures from the authors' code: none known; none was published. Public ports let no gradient
through the network, so that each step merely pulls the image towards its reconstruction:
`detached` and the presets that have it do that, and nothing else of theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import SGD, Adam
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l1_map, l1_sum, l2_sum, relative_spread
from onlygood.losses.latent import kl_standard_normal
from onlygood.losses.ssim import smoothed
from onlygood.networks.bergmann import Decoder, VariationalEncoder
from onlygood.networks.convolutional import Output
from onlygood.networks.search import Aim, descended


@dataclass(frozen=True, kw_only=True)
class VAEGradConfig(NetworkSettings):
    """Settings of VAE-grad."""

    beta: float = number(1.0, NOT_NEGATIVE)
    """Weight of the divergence in training, twice the variance of pixels; 1: as in the paper."""
    width: int = number(32, ONE_OR_MORE)
    """Unit of the channel widths; Bergmann's table is 1, 2 and 4 times 32."""
    latent: int = number(100, ONE_OR_MORE)
    lr: float = number(1e-4, POSITIVE)
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    output: Output = "sigmoid"
    """Last activation of the decoder, or none: `linear`."""
    search_steps: int = number(100, ONE_OR_MORE)
    """Steps of the walk at most; it ends as soon as an image is given back well enough."""
    step_size: float = number(0.5, POSITIVE)
    """Length alpha of a step; squared errors are summed over pixels."""
    nearness: float = number(0.05, NOT_NEGATIVE)
    """Weight lambda of the distance from the image in the energy."""
    detached: bool = False
    """Let no gradient through the network, as public ports do."""
    score_peak: float = number(1.0, SHARE)
    """Weight of the map's largest value in the score; the rest for its mean."""


# Steps by time: each costs a pass through the networks and back. `beta` as in the VAE's presets.
_OURS = {
    **{"width": 16, "lr": 1e-3, "output": "linear", "beta": 0.03},
    **{"search_steps": 10, "score_peak": 0.0},
}
_LENGTH = {"images": 3_000_000, "batch_size": 16}
_TILES = {"size": 512, "tile": 128, "overlap": 0.75}


@final
class VAEGrad(Method):
    """A variational autoencoder, and the way from an image to what it gives back well."""

    config_class = VAEGradConfig
    localizes = True
    square = True
    searches = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(summary="objects of MVTec AD, whole", view={"size": 128}, training=_LENGTH),
        "paper-texture": Preset(
            summary="textures of MVTec AD: 128 px tiles of 512 px", view=_TILES, training=_LENGTH
        ),
        "ports": Preset(
            summary="detached, 25 steps, as in a public port, the rest ours; objects",
            config={"detached": True, "search_steps": 25},
            view={"size": 128},
            training=_LENGTH,
        ),
        "ports-texture": Preset(
            summary="the same; textures",
            config={"detached": True, "search_steps": 25},
            view=_TILES,
            training=_LENGTH,
        ),
    }
    threshold: Tensor

    def __init__(self, config: VAEGradConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = VariationalEncoder(shape, c.latent, c.width)
        self.decoder = Decoder(shape, c.latent, c.width, output=c.output)
        self.register_buffer("threshold", torch.tensor(0.0))

    def given_back(self, x: Images) -> Images:
        """f(x), the mean image of the mean code."""
        return self.decoder(self.encoder(x).mean)

    def loss(self, batch: Batch) -> Loss:
        """The negative bound with one draw, up to a constant: section 2.1."""
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
        """One stage with one update, and a look at how well training images are given back."""
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
                after=self.measure,
            )
        ]

    def measure(self, images: Batches) -> None:
        """The walk ends where the best training image is: the least of their errors."""
        errors = [l2_sum(x, self.given_back(x)).min() for x in images]
        self.threshold.copy_(torch.stack(errors).min())

    def reconstruct(self, x: Images) -> Images:
        """Where the walk from each image ends: section 3.

        `x_(t+1) = x_t - alpha grad E(x_t) (x_t - f(x_t))^2`, entry by entry, with the energy
        `E(x_t) = ||x_t - f(x_t)||^2 + lambda ||x_t - x_0||_1`; pixels stay in [0, 1].
        """
        c = self.config

        def aim(x_t: Tensor) -> Aim:
            x_hat = self.given_back(x_t.detach() if c.detached else x_t)
            error = l2_sum(x_t, x_hat)
            return Aim(
                error + c.nearness * l1_sum(x_t, x),
                done=error <= self.threshold,
                scale=(x_t - x_hat).square(),
            )

        (projected,) = descended(
            aim,
            [x],
            SGD(lr=c.step_size),
            steps=c.search_steps,
            project=lambda x_t: x_t.clamp(0, 1),
        )
        return projected

    def score(self, x: Images) -> Scores:
        """How far the walk has moved each pixel, `|x_0 - x_T|`: the map, its peak and its mean."""
        peak = self.config.score_peak
        moved = l1_map(x, self.reconstruct(x))
        return Scores.weighted(
            map=moved,
            peak=(peak, smoothed(moved).flatten(1).amax(1)),
            mean=(1 - peak, moved.flatten(1).mean(1)),
        )
