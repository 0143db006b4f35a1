"""AnoGAN: a GAN of normal pictures, and for each picture a search for the code that gives it back.

Schlegl, Seeböck, Waldstein, Schmidt-Erfurth, Langs: Unsupervised Anomaly Detection with Generative
Adversarial Networks to Guide Marker Discovery. IPMI 2017, arXiv:1703.05921. Losses have the paper's
names: L_R and L_D while searching, R and D where the search ends.

Departures from the paper:
- How fast the search goes is not known to us: Adam with rates that fall, as in the code of EGBAD's
  authors.
- One start, as there, or the best of several (`restarts`), which the paper does not have.

Departures from the authors' code: none known; none was published. Of others' code we know that
- EGBAD's and ALAD's authors score with an average of G's weights (0.999), and ALAD's search on
  CIFAR-10 at a constant rate, with kernels of 4 and first weights half as large; `mnist` and
  `cifar10` have none of these;
- networks of EGBAD's authors for MNIST are smaller (D of 64 and 64 channels with slope 0.1, its
  features a dense layer of 1,024, and two dense layers in G); `mnist` has DCGAN's, so that its
  features are 4,096 and weigh more in their sum;
- their search starts from a normal distribution that is cut off at two standard deviations, `mnist`
  from a whole one, as its codes in training are drawn;
- they and ALAD's normalise with 1e-3 beside the variance and averages of 0.99, here PyTorch's 1e-5
  and 0.9;
- one port takes two steps of G for each of D; `paper` takes one, and the paper's 500 of the search;
- ALAD's authors weigh the features with 0.9 and the pixels with 0.1: `score_features=0.9`;
- PyOD trains the networks on while it searches, and does not search at all for new data. Here they
  stay as they are, and each picture is searched alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_sum, spread
from onlygood.networks.convolutional import Generator, ImageCritic, Style, Trunk
from onlygood.networks.search import Aim, descended, starts

STYLE = Style(kernel=5, first_norm=False)
GAME = GAMES["non_saturating"]
FALLING = Schedule(shares=(0.4, 0.6), factor=(0.1, 0.5))
"""Of the search: a tenth of the rate from step 200 of 500 on, a twentieth from step 300 on."""


@dataclass(frozen=True, kw_only=True)
class AnoGANConfig(NetworkSettings):
    """Settings of AnoGAN; the defaults are the paper's where it is known, for 64 px."""

    latent: int = number(100, ONE_OR_MORE)
    """Size of the code z."""
    prior: Literal["uniform", "normal"] = "uniform"
    """Of codes: uniform on [-1, 1], or standard normal, as in EGBAD's and ALAD's code."""
    score_features: float = number(0.1, SHARE)
    """Weight lambda of L_D, of features; 1 - lambda for L_R, of pixels."""
    search_steps: int = number(500, ONE_OR_MORE)
    """Steps of the search for a picture's code, from each start."""
    search_lr: float = number(0.01, POSITIVE)
    """Learning rate of the search; it falls to a twentieth."""
    restarts: int = number(1, ONE_OR_MORE)
    """Starts of the search; the one that ends lowest counts."""
    search_seed: int = number(0, NOT_NEGATIVE)
    """Fixes the starts, which are the same for every picture."""


class Found(NamedTuple):
    """Where the search for each picture ended."""

    x_hat: Images
    residual: PerImage
    """R: sum of absolute differences of pixels in [-1, 1]."""
    features: PerImage
    """D: the same of the discriminator's features."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "search_steps": 100, "search_lr": 0.05}


@final
class AnoGAN(Method):
    """Generator and discriminator; no encoder, but a search."""

    config_class = AnoGANConfig
    localizes = True
    square = True
    searches = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="64 px, as others rebuilt it; its length is theirs",
            view={"size": 64},
            training={"epochs": 25, "batch_size": 64},
        ),
        "mnist": Preset(
            summary="MNIST with rates, prior and batch of EGBAD's authors, at 32 px; length ours",
            config={"latent": 200, "prior": "normal", "lr": 1e-5},
            view={"size": 32},
            training={"epochs": 100, "batch_size": 100},
        ),
        "cifar10": Preset(
            summary="CIFAR-10 as in the code of ALAD's authors, weights put right; length ours",
            config={"width": 128, "prior": "normal", "search_lr": 1e-3},
            view={"size": 32},
            training={"epochs": 100, "batch_size": 32},
        ),
    }

    def __init__(self, config: AnoGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.generator = Generator(shape, c.latent, c.width, STYLE)
        self.discriminator = ImageCritic(Trunk(shape, c.width, STYLE), STYLE)

    def codes(self, batch: Batch) -> Latents:
        """Draws from the prior."""
        if self.config.prior == "normal":
            return batch.normals(self.config.latent)
        return 2 * batch.uniforms(self.config.latent) - 1

    def discriminator_loss(self, batch: Batch) -> Loss:
        """V(D, G): raise the logit of x, lower that of G(z)."""
        real = self.discriminator(symmetric(batch.normal)).value
        fake = self.discriminator(self.generator(self.codes(batch))).value
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def generator_loss(self, batch: Batch) -> Loss:
        """Raise the logit of G(z)."""
        x_z = self.generator(self.codes(batch))
        return Loss.weighted(
            adversarial=(1.0, GAME.generator(self.discriminator(x_z).value))
        ).watching(diversity=spread(x_z))

    def stages(self) -> Sequence[Stage]:
        """One stage: the discriminator, then the generator, which needs no pictures."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="gan",
                updates=[
                    Update(
                        name="discriminator",
                        trains=(self.discriminator,),
                        loss=self.discriminator_loss,
                        optimizer=adam,
                    ),
                    Update(
                        name="generator",
                        trains=(self.generator,),
                        loss=self.generator_loss,
                        optimizer=adam,
                        batch="shared",
                    ),
                ],
            )
        ]

    def search(self, x: Images) -> Found:
        """Gradient descent on `(1 - lambda) L_R(z) + lambda L_D(z)` for each picture."""
        c = self.config
        f = self.discriminator(x).features
        adam = Adam(lr=c.search_lr, schedule=FALLING)
        ends = []
        for start in self.starts(x):
            (z,) = descended(
                lambda z: Aim(self._total(self._found(x, f, z))),
                [start],
                adam,
                steps=c.search_steps,
            )
            ends.append(self._found(x, f, z))
        lowest = torch.stack([self._total(end) for end in ends]).argmin(0)
        rows = torch.arange(len(x), device=x.device)
        return Found(*(torch.stack(parts)[lowest, rows] for parts in zip(*ends, strict=True)))

    def starts(self, x: Images) -> Tensor:
        """Where the searches begin: draws from the prior, `(restarts, B, latent)`."""
        c = self.config
        normal = c.prior == "normal"
        draw = torch.randn if normal else torch.rand
        places = starts(x, c.latent, seed=c.search_seed, number=c.restarts, draw=draw)
        return places if normal else 2 * places - 1

    def reconstruct(self, x: Images) -> Images:
        """G(z) at the code that the search finds."""
        return unit(self.search(symmetric(x)).x_hat)

    def score(self, x: Images) -> Scores:
        """A = (1 - lambda) R + lambda D, where the search ends; both are sums."""
        c, x = self.config, symmetric(x)
        found = self.search(x)
        return Scores.weighted(
            map=l1_map(x, found.x_hat),
            pixels=(1 - c.score_features, found.residual),
            features=(c.score_features, found.features),
        )

    def _found(self, x: Images, f: Tensor, z: Latents) -> Found:
        x_hat = self.generator(z)
        return Found(x_hat, l1_sum(x, x_hat), l1_sum(f, self.discriminator(x_hat).features))

    def _total(self, found: Found) -> PerImage:
        share = self.config.score_features
        return (1 - share) * found.residual + share * found.features
