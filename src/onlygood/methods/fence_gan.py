"""Fence GAN: a generator that keeps to the border of what is normal, so that D learns where it is.

Ngo, Winarto, Li, Park, Akram, Lee: Fence GAN: Towards Better Anomaly Detection. ICTAI 2019,
arXiv:1904.01209. Losses have the paper's names: encirclement and dispersion.

Departures from the paper:
- Encirclement is the cross-entropy of D(G(z)) and alpha, as in the authors' code: it has its least
  value there. The logarithm of |alpha - D(G(z))| of the paper has none.
- The score is D's logit with its sign changed, which has the order of 1 - D(x) and no upper end.

Departures from the authors' code:
- D learns real and generated images in one step, so that gamma weighs one against the other; in the
  code each has a step of its own, after which Adam forgets most of it.
- Once G learns, D sees what it makes in training mode, as G does; D of the code learns from G in
  eval mode throughout, and here before G learns.
- No normalisation and no dropout in D, also for CIFAR-10, where the code has both; blocks for 32 px
  and above; learning rates do not fall.
- Preset `cifar10`: G has kernels of 4, ReLU, DCGAN's channels and weights of N(0, 0.02), where the
  code has kernels of 5, leaky ReLU, 32 channels last and Glorot's weights. For MNIST the code's G
  begins with a dense layer of 1,024 and normalises behind its activations; its D has 64 channels
  twice. Constants of normalisation are torch's.
- A small number is added to what the dispersion divides by: images all alike are no error.
- The epoch is not chosen with labelled anomalous images, as the code does: the last weights count.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from torch.nn import functional as F

from onlygood.core.images import symmetric
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    Budget,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, PerImage, Scalar
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import spread
from onlygood.networks.convolutional import Generator, ImageCritic, Style, Trunk

DISCRIMINATOR = Style(norm="none", slope=0.1)
LEAST = 1e-6
"""Added to the spread that divides, in pixels of [-1, 1]."""


@dataclass(frozen=True, kw_only=True)
class FenceGANConfig(NetworkSettings):
    """Settings of Fence GAN; the defaults are those of the authors' code for MNIST."""

    latent: int = number(200, ONE_OR_MORE)
    """Size of the code z."""
    features: int = number(1024, ONE_OR_MORE)
    """Size of D's last hidden layer."""
    lr: float = number(2e-5, POSITIVE)
    """Learning rate of the generator."""
    discriminator_lr: float = number(1e-5, POSITIVE)
    """Learning rate of the discriminator."""
    alpha: float = number(0.1, SHARE)
    """What D shall say of generated images: alpha, the height of the fence."""
    beta: float = number(30.0, NOT_NEGATIVE)
    """Weight of the dispersion."""
    gamma: float = number(0.1, SHARE)
    """Weight of generated images in D's loss, beside 1 for real ones."""
    pretraining_epochs: int = number(15, NOT_NEGATIVE)
    """Passes in which D learns alone, from an untrained generator, at most; 0: none."""
    pretraining_share: float = number(0.1, POSITIVE)
    """Part of the run's budget that these have at most, relative to 1 for both networks."""


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {
    **{"width": 16, "features": 128, "latent": 32, "lr": 1e-3, "discriminator_lr": 5e-4},
    **{"alpha": 0.5, "beta": 10.0, "gamma": 1.0},
}


@final
class FenceGAN(Method):
    """Generator and discriminator; the latter alone scores."""

    config_class = FenceGANConfig
    localizes = False
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="MNIST as in the authors' code, at 32 px",
            view={"size": 32},
            # 15 passes for D alone, then 100 for both.
            config={"pretraining_share": 0.15},
            training={"epochs": 115, "batch_size": 200},
        ),
        "cifar10": Preset(
            summary="CIFAR-10 as in the authors' code, with the D of MNIST",
            config={
                **{"latent": 256, "alpha": 0.5, "beta": 10.0, "gamma": 0.5},
                **{"lr": 1e-3, "discriminator_lr": 1e-4},
            },
            view={"size": 32},
            training={"epochs": 165, "batch_size": 128},  # 15 of them for D alone.
        ),
    }

    def __init__(self, config: FenceGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.generator = Generator(shape, c.latent, c.width)
        self.discriminator = ImageCritic(
            Trunk(shape, c.width, DISCRIMINATOR),
            DISCRIMINATOR,
            features=c.features,
            activated=True,
        )

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Cross-entropy: 1 for x, and with weight gamma 0 for G(z)."""
        c = self.config
        real = self.discriminator(symmetric(batch.normal)).value
        fake = self.discriminator(self.generator(batch.normals(c.latent))).value
        return Loss.weighted(
            normal=(1.0, F.softplus(-real)), generated=(c.gamma, F.softplus(fake))
        ).watching(real=real, fake=fake)

    def generator_loss(self, batch: Batch) -> Loss:
        """Encirclement, for each image, and beta times the dispersion of the batch."""
        c = self.config
        x_z = self.generator(batch.normals(c.latent))
        fake = self.discriminator(x_z).value
        return Loss.weighted(
            encirclement=(1.0, encirclement(fake, c.alpha)),
            dispersion=(c.beta, dispersion(batch.whole(x_z))),
        ).watching(diversity=spread(x_z), height=fake.sigmoid())

    def stages(self) -> Sequence[Stage]:
        """The discriminator against an untrained generator; then both in turns."""
        c = self.config
        discriminator = Update(
            name="discriminator",
            trains=(self.discriminator,),
            loss=self.discriminator_loss,
            optimizer=Adam(lr=c.discriminator_lr, betas=c.betas),
        )
        generator = Update(
            name="generator",
            trains=(self.generator,),
            loss=self.generator_loss,
            optimizer=Adam(lr=c.lr, betas=c.betas),
            # It looks at no picture, so it uses none up.
            batch="shared",
        )
        alone = Stage(
            name="alone",
            share=c.pretraining_share,
            budget=Budget(epochs=c.pretraining_epochs),
            updates=[discriminator],
        )
        fence = Stage(name="fence", updates=[discriminator, generator])
        return [alone, fence] if c.pretraining_epochs else [fence]

    def score(self, x: Images) -> Scores:
        """How little D takes x for normal: its logit, negative."""
        return Scores.weighted(normality=(1.0, -self.discriminator(symmetric(x)).value))


def encirclement(logits: PerImage, alpha: float) -> PerImage:
    """`-alpha log D - (1 - alpha) log(1 - D)` of each image: least where `D = alpha`."""
    return alpha * F.softplus(-logits) + (1 - alpha) * F.softplus(logits)


def dispersion(x: Images) -> Scalar:
    """`1 / mean_i ||x_i - mean_j x_j||_2` over a batch."""
    return 1 / ((x - x.mean(0)).flatten(1).norm(dim=1).mean() + LEAST)
