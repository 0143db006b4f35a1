"""AVID: an inpainter that gives back images as normal ones, and a judge of each of their regions.

Sabokrou, Pourreza, Fayyaz, Entezari, Fathy, Gall, Adeli: AVID: Adversarial Visual Irregularity
Detection. ACCV 2018, arXiv:1805.09521. Networks have the paper's names, I and D.

Departures from the paper:
- Squares as in least-squares GANs, as in the authors' code, where it prints squared logarithms.
- An image has a score: how far the worst region is from being taken for normal, and with
  `score_pixels` how far I has changed its pixels. The paper marks what is beyond two thresholds.
- No weights are chosen by a validation error: the last ones count.

Departures from the authors' code:
- Noise is drawn anew in each step, on the image beside which it is judged; clean and noisy images
  of the code do not belong together. It scores noisy images: here that is `score_noise`, without
  which they are scored as they are, and the same noise lies on every image.
- I and D are the U-Net and trunk of this house, with one convolution where the code has several; D
  has a map of 8 x 8 regions, where the code has 11 x 11 for images of 224 px.
- The map of regions is not cut off at 0 and 1 before it is compared.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

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
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l1_map, l1_mean, l2_mean, relative_spread
from onlygood.networks.convolutional import MapCritic, Style, Trunk, UNet
from onlygood.networks.patches import enlarged
from onlygood.networks.sizes import halvings_to

DISCRIMINATOR = Style(norm="none", slope=0.0, std=0.0)
REGIONS = 8
"""Of D, along each side of an image."""

Regions = Float[Tensor, "B _ _"]
"""What D says of each region."""


@dataclass(frozen=True, kw_only=True)
class AVIDConfig(Settings):
    """Settings of AVID; the defaults are those of the authors' code."""

    width: int = number(64, ONE_OR_MORE)
    """Channels behind the first halving of the side, in both networks."""
    lr: float = number(2e-4, POSITIVE)
    """Learning rate of both networks."""
    betas: tuple[float, float] = number((0.9, 0.9), BELOW_ONE)
    """Adam's betas of both networks."""
    noise: float = number(0.4, NOT_NEGATIVE)
    """Standard deviation of the noise, on pixels in [0, 1], which are then cut off to [0, 1]."""
    output: Literal["linear", "tanh"] = "linear"
    """Last activation of I; pixels are in [-1, 1]."""
    score_noise: float = number(0.0, NOT_NEGATIVE)
    """The same when scoring, with one draw for all images; 0: they are scored as they are."""
    w_reconstruction: float = number(0.0, NOT_NEGATIVE)
    """Weight of the mean squared error of I(x + n) and x, pixels in [-1, 1]; 0: as published."""
    score_pixels: float = number(0.0, NOT_NEGATIVE)
    """Weight of the mean absolute difference of x and I(x) in the score, beside 1 for regions."""


class Pass(NamedTuple):
    """A noisy image through I; pixels in [-1, 1]."""

    x: Images
    x_hat: Images
    """I(x + n)."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {
    **{"width": 16, "lr": 1e-3, "betas": (0.5, 0.999)},
    **{"noise": 1.2, "score_noise": 1.2, "w_reconstruction": 10.0, "score_pixels": 10.0},
}
# 40 passes of the code, where I and D see the same images; here each takes its own.
_LENGTH = {"epochs": 80, "batch_size": 16}


@final
class AVID(Method):
    """A U-Net that takes noise away, and a discriminator of regions that it has to convince."""

    config_class = AVIDConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=500),
        "paper": Preset(
            summary="as in the authors' code, 256 px", view={"size": 256}, training=_LENGTH
        ),
    }

    drawn: Tensor

    def __init__(self, config: AVIDConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        halvings = halvings_to(REGIONS, shape, "avid")
        self.inpainter = UNet(shape, c.width, output=c.output)
        self.discriminator = MapCritic(
            Trunk(shape, c.width, DISCRIMINATOR, halvings=halvings), DISCRIMINATOR
        )
        draw = torch.Generator().manual_seed(0)
        self.register_buffer("drawn", torch.randn(1, *shape, generator=draw))

    def given_back(self, x: Images, noise: Tensor) -> Images:
        """I(x + n), pixels in [-1, 1], of pixels in [0, 1]."""
        return self.inpainter(symmetric((x + noise).clamp(0, 1)))

    def forward(self, batch: Batch) -> Pass:
        """Add noise, and have I take it away."""
        x = batch.normal
        noise = self.config.noise * batch.normals(*x.shape[1:])
        return Pass(symmetric(x), self.given_back(x, noise))

    def discriminator_loss(self, batch: Batch) -> Loss:
        """`(D(x) - 1)^2` and `D(I(x + n))^2`, means over regions."""
        p = self(batch)
        real, fake = self.discriminator(p.x).value, self.discriminator(p.x_hat).value
        return Loss.weighted(
            normal=(1.0, off(real, 1.0)),
            given_back=(1.0, off(fake, 0.0)),
        ).watching(real=real.mean((1, 2)), fake=fake.mean((1, 2)))

    def inpainter_loss(self, batch: Batch) -> Loss:
        """`(D(I(x + n)) - 1)^2`, mean over regions; where it is asked for, also that I be right."""
        p = self(batch)
        return Loss.weighted(
            adversarial=(1.0, off(self.discriminator(p.x_hat).value, 1.0)),
            reconstruction=(self.config.w_reconstruction, l2_mean(p.x, p.x_hat)),
        ).watching(reconstruction_spread=relative_spread(p.x_hat, p.x))

    def stages(self) -> Sequence[Stage]:
        """One stage: the discriminator, then the inpainter on other images."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
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
                        name="inpainter",
                        trains=(self.inpainter,),
                        loss=self.inpainter_loss,
                        optimizer=adam,
                    ),
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """I(x), or with `score_noise` I(x + n)."""
        return unit(self.given_back(x, self.config.score_noise * self.drawn))

    def score(self, x: Images) -> Scores:
        """The worst region, `max (1 - D(I(x)))`, and how far I(x) is from x; the map has both."""
        x_hat = self.given_back(x, self.config.score_noise * self.drawn)
        x = symmetric(x)
        irregular = 1 - self.discriminator(x_hat).value
        return Scores.weighted(
            map=enlarged(irregular, *x.shape[2:]) + l1_map(x, x_hat),
            regions=(1.0, irregular.flatten(1).amax(1)),
            pixels=(self.config.score_pixels, l1_mean(x, x_hat)),
        )


def off(values: Regions, target: float) -> PerImage:
    """Mean squared distance of the values of all regions from a target."""
    return l2_mean(values, torch.full_like(values, target))
