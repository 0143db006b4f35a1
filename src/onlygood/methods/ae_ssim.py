"""Autoencoder with structural similarity: what is given back should look alike, not be alike.

Bergmann, Löwe, Fauser, Sattlegger, Steger: Improving Unsupervised Defect Segmentation by Applying
Structural Similarity to Autoencoders. VISAPP 2019, arXiv:1807.02011; also the rows AE (SSIM) and
AE (L2) of MVTec AD, CVPR 2019. Similarity is Eq. 13 of Wang et al. 2004, see `losses/ssim.py`.

Departures from the paper:
- It gives no score of an image, but a threshold of the map and a least area. Here the score is the
  peak of the map, or its mean, by `score_peak`; the peak of squared errors after a small blur.
- c1 and c2 are 0.01^2 and 0.03^2, as in Wang et al.; the paper writes 0.01 and 0.03.
- Overlapping tiles are scored one by one; the paper averages their reconstructions first.
- Textures are resized to 256 px and cut with steps of 32 px, as others do; the paper has 30 px.
- Which rotations and mirrorings suit a category is a setting of pictures, no part of the presets.

Departures from the authors' code: none known; none was published.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    SHARE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Maps
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l2_map, l2_mean, relative_spread
from onlygood.losses.ssim import smoothed, ssim, ssim_map
from onlygood.networks.bergmann import Decoder, Encoder
from onlygood.networks.convolutional import Output


@dataclass(frozen=True, kw_only=True)
class AESSIMConfig(NetworkSettings):
    """Settings of the autoencoder with structural similarity; the defaults are for textures."""

    distance: Literal["ssim", "l2"] = "ssim"
    """What is trained and mapped: 1 - SSIM, or the squared error of the paper's other row."""
    width: int = number(32, ONE_OR_MORE)
    """Unit of the channel widths; the paper's table is 1, 2 and 4 times 32."""
    latent: int = number(100, ONE_OR_MORE)
    """Size d of the code; 500 for objects of 256 px."""
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    weight_decay: float = number(1e-5, NOT_NEGATIVE)
    """L2 penalty."""
    output: Output = "sigmoid"
    """Last activation of the decoder, or none: `linear`."""
    score_peak: float = number(1.0, SHARE)
    """Weight of the map's largest value in the score; the rest for its mean."""


# Width by time. Chosen on clothes: of all that is new, the mean tells more than the worst window.
_OURS = {"width": 16, "lr": 1e-3, "output": "linear"}
_OBJECTS = {"score_peak": 0.0}
_LENGTH = {"images": 2_000_000, "batch_size": 128}


@final
class AESSIM(Method):
    """Encoder and decoder that are trained by how similar an image and its reconstruction look."""

    config_class = AESSIMConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, _OBJECTS),
        "paper": Preset(
            summary="objects of MVTec AD as in its paper: 200 times 10,000 samples",
            config={"latent": 500},
            view={"size": 256},
            training=_LENGTH,
        ),
        "paper-texture": Preset(
            summary="textures of MVTec AD: 128 px tiles of 256 px",
            view={"size": 256, "tile": 128, "overlap": 0.75},
            training=_LENGTH,
        ),
    }

    def __init__(self, config: AESSIMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width)
        self.decoder = Decoder(shape, c.latent, c.width, output=c.output)

    def loss(self, batch: Batch) -> Loss:
        """Section 3.1: 1 - SSIM as the mean over windows, or the mean squared error."""
        x = batch.normal
        z = self.encoder(x)
        x_hat = self.decoder(z)
        distance = 1 - ssim(x, x_hat) if self.config.distance == "ssim" else l2_mean(x, x_hat)
        return Loss.weighted(reconstruction=(1.0, distance)).watching(
            code_spread=relative_spread(z), reconstruction_spread=relative_spread(x_hat, x)
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
                        trains=(self.encoder, self.decoder),
                        loss=self.loss,
                        optimizer=Adam(lr=c.lr, betas=c.betas, weight_decay=c.weight_decay),
                    )
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """D(E(x))."""
        return self.decoder(self.encoder(x))

    def score(self, x: Images) -> Scores:
        """The map of residuals: 1 - SSIM of each pixel's window, or its squared error."""
        c, x_hat = self.config, self.reconstruct(x)
        residual: Maps = 1 - ssim_map(x, x_hat) if c.distance == "ssim" else l2_map(x, x_hat)
        # A window has blurred what it compares; single pixels are blurred as much.
        blurred = residual if c.distance == "ssim" else smoothed(residual)
        return Scores.weighted(
            map=residual,
            peak=(c.score_peak, blurred.flatten(1).amax(1)),
            mean=(1 - c.score_peak, residual.flatten(1).mean(1)),
        )
