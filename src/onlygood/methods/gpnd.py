"""GPND: how likely a picture is, along what an adversarial autoencoder can give back and beside it.

Pidhorskyi, Almohsen, Adjeroh, Doretto: Generative Probabilistic Novelty Detection with Adversarial
Autoencoders. NeurIPS 2018, arXiv:1807.02588. The networks are an adversarial autoencoder, Makhzani
et al. 2016, arXiv:1511.05644, with a discriminator of images besides.

Departures from the paper:
- The threshold by F1 of known novel pictures is no part of the method here.

Departures from the authors' code:
- It differentiates the encoder, and since February 2020 it has the logarithms of singular values
  with the sign of the decoder's: likelihood grows where it should fall. Here it is the generator's
  Jacobian, as in the paper; `tangent=code` and the preset `code` repeat what the code does.
- The generator has the encoder's channel widths, mirrored: 512, 256, 128, there 256, 256, 128; the
  critic of images 64, 128, 256, there 64, 256, 512. Pixels are a sigmoid, there the same of twice
  the logits.
- Densities far from all training images are followed in logarithms, not cut off at -1000; that of
  distances has the constant of a sphere's surface, there another, which moves all scores alike.
- Exponents of the generalised Gaussians are kept between 1 and 10, and their scales at 1e-5 of the
  codes or more: few codes or equal ones, fitted freely, may leave a spike or a wall, where rounding
  decides the score.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar
from scipy.stats import gennorm
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.errors import ConfigError
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    PART,
    POSITIVE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l2_map, l2_mean, l2_sum, relative_spread, spread
from onlygood.networks.convolutional import (
    Encoder,
    Generator,
    ImageCritic,
    LatentCritic,
    Style,
    Trunk,
)

STYLE = Style(first_norm=False)
GAME = GAMES["non_saturating"]
BINS = 30
"""Of the histogram of distances."""
RAREST = 1e-308
"""Density of distances where no training image is; the smallest that the authors' code can say."""

EXPONENTS = (1.0, 10.0)
"""Least and largest of a generalised Gaussian: a Laplace distribution, and nearly a uniform one."""

NARROWEST = 1e-5
"""Scale of a generalised Gaussian, in units of its centre where that is larger than 1: float32
rounds codes by some 1e-7, in batches of two sizes differently."""

LARGEST = 1e30
"""Power of a code's entry: far beyond codes that hardly differ it would be infinite."""

SMALLEST = 1e-24
"""Square of a singular value."""


@dataclass(frozen=True, kw_only=True)
class GPNDConfig(NetworkSettings):
    """Settings of GPND; the defaults are those of the authors' code for MNIST, but for `power`."""

    width: int = number(128, ONE_OR_MORE)
    """Channels of encoder and generator next to the image; the critic of images has half of it."""
    critic_width: int = number(128, ONE_OR_MORE)
    """Units of both hidden layers of the critic of codes."""
    latent: int = number(16, ONE_OR_MORE)
    """Size of the code z."""
    lr: float = number(2e-3, POSITIVE)
    """Learning rate of all networks."""
    drop_epochs: int = number(30, NOT_NEGATIVE)
    """Passes after which, up to five times, learning rates are divided by four; 0: never."""
    reconstruction: float = number(2.0, POSITIVE)
    """Weight of the reconstruction error beside the game of codes."""
    tangent: Literal["generator", "code", "none"] = "generator"
    """Jacobian in the likelihood: the generator's; what the authors' code has; or none."""
    power: float = number(1.0, PART)
    """Factor of the dimensions that a distance spreads over; the authors' code has 0.2."""


# An eighth of the width, and distances that do not drown the rest.
_OURS = {"width": 16, "critic_width": 64, "lr": 1e-3, "drop_epochs": 0, "power": 0.2}


@final
class GPND(Method):
    """Encoder, generator, critics of images and of codes, and densities of what they say."""

    config_class = GPNDConfig
    localizes = True
    square = True
    unexportable = "differentiates its generator for each picture that it scores"
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=2000),
        "paper": Preset(
            summary="MNIST as in the authors' code, with the Jacobian of the paper",
            config={"power": 0.2},
            view={"size": 32},
            training={"epochs": 80, "batch_size": 128},
        ),
        "code": Preset(
            summary="the same with the authors' Jacobian and its sign",
            config={"power": 0.2, "tangent": "code"},
            view={"size": 32},
            training={"epochs": 80, "batch_size": 128},
        ),
    }
    shapes: Tensor
    edges: Tensor
    density: Tensor

    def __init__(self, config: GPNDConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.dimensions = math.prod(shape) - c.latent
        if self.dimensions < 1:
            raise ConfigError(
                f"latent={c.latent} leaves nothing beside the code of {math.prod(shape)} numbers "
                "of a picture; make it smaller"
            )
        self.encoder = Encoder(shape, c.latent, c.width, STYLE)
        self.generator = Generator(shape, c.latent, c.width, STYLE, output="linear")
        self.critic = ImageCritic(Trunk(shape, max(1, c.width // 2), STYLE), STYLE)
        hidden = (c.critic_width, c.critic_width)
        self.latent_critic = LatentCritic(c.latent, hidden)
        # Exponent, centre and scale of each entry of the code; a normal one until it is measured.
        start = torch.tensor([2.0, 0.0, math.sqrt(2)])
        self.register_buffer("shapes", start[:, None].repeat(1, c.latent))
        self.register_buffer("edges", torch.linspace(0, 1, BINS + 1))
        self.register_buffer("density", torch.ones(BINS))

    def generated(self, z: Latents) -> Images:
        """G(z); the network gives logits of pixels."""
        return torch.sigmoid(self.generator(z))

    # Training ------------------------------------------------------------------------------------

    def critic_loss(self, batch: Batch) -> Loss:
        """Cross-entropy of D: images against those of drawn codes."""
        fake = self.critic(self.generated(batch.normals(self.config.latent))).value
        real = self.critic(batch.normal).value
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def generator_loss(self, batch: Batch) -> Loss:
        """The same for G, which D shall take for images."""
        x_z = self.generated(batch.normals(self.config.latent))
        return Loss.weighted(adversarial=(1.0, GAME.generator(self.critic(x_z).value))).watching(
            diversity=spread(x_z)
        )

    def latent_critic_loss(self, batch: Batch) -> Loss:
        """Cross-entropy of D_z: drawn codes against those of images."""
        z = self.encoder(batch.normal)
        real = self.latent_critic(batch.normals(self.config.latent)).value
        fake = self.latent_critic(z).value
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def autoencoder_loss(self, batch: Batch) -> Loss:
        """Give images back, with codes that D_z takes for drawn ones."""
        x = batch.normal
        z = self.encoder(x)
        logits = self.generator(z)
        x_hat = torch.sigmoid(logits)
        error = F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).mean(1)
        return Loss.weighted(
            cross_entropy=(self.config.reconstruction, error),
            adversarial=(1.0, GAME.generator(self.latent_critic(z).value)),
        ).watching(
            # Cross-entropy of grey pixels hardly falls, however well they are given back.
            reconstruction=l2_mean(x, x_hat),
            code_spread=relative_spread(z),
            reconstruction_spread=relative_spread(x_hat, x),
        )

    def stages(self) -> Sequence[Stage]:
        """The two games on the same images, then the densities of codes and distances."""
        c = self.config
        drops = tuple(c.drop_epochs * n for n in range(1, 6) if c.drop_epochs)
        adam = Adam(lr=c.lr, betas=c.betas, schedule=Schedule(epochs=drops, factor=0.25))
        moves = (
            ("critic", (self.critic,), self.critic_loss),
            ("generator", (self.generator,), self.generator_loss),
            ("latent_critic", (self.latent_critic,), self.latent_critic_loss),
            ("autoencoder", (self.encoder, self.generator), self.autoencoder_loss),
        )
        updates = [
            Update(name=name, trains=trains, loss=loss, optimizer=adam, batch="shared")
            for name, trains, loss in moves
        ]
        return [
            Stage(name="adversarial", updates=updates),
            Stage(name="densities", before=self.measure),
        ]

    def measure(self, images: Batches) -> None:
        """Fit a density to each entry of the codes, and one to the distances."""
        seen = [(z := self.encoder(x), l2_sum(x, self.generated(z)).sqrt()) for x in images]
        codes = torch.cat([z for z, _ in seen]).double().cpu().numpy()
        fitted = [likeliest(entries) for entries in codes.T]
        self.shapes.copy_(torch.tensor(np.transpose(fitted)))
        distances = torch.cat([distance for _, distance in seen]).double().cpu().numpy()
        density, edges = np.histogram(distances, bins=BINS, density=True)
        self.density.copy_(torch.from_numpy(density))
        self.edges.copy_(torch.from_numpy(edges))

    # Scoring -------------------------------------------------------------------------------------

    def stretch(self, x: Images, z: Latents) -> PerImage:
        """`log |det S|`, the sum over the logarithms of the generator's singular values."""
        match self.config.tangent:
            case "generator":
                return log_volume(_jacobian_of_images(self.generated, z))
            case "code":
                # Of the encoder, which shrinks what the generator stretches, with the same sign.
                return log_volume(_jacobian_of_codes(self.encoder, x))
            case "none":
                return torch.zeros_like(z[:, 0])

    def unlikely_code(self, z: Latents) -> PerImage:
        """Minus the logarithm of the generalised Gaussians of all entries."""
        beta, centre, scale = self.shapes
        size = (beta / (2 * scale)).log() - torch.lgamma(1 / beta)
        powers = (((z - centre).abs() / scale) ** beta).clamp_max(LARGEST)
        return (powers - size).sum(1)

    def unlikely_distance(self, r: PerImage) -> PerImage:
        """Minus the logarithm of the density beside the manifold, at distance r in any direction.

        `p(r) Gamma(N/2) / (2 pi^(N/2) r^(N-1))`, with N dimensions beside those of the code.
        """
        n = self.dimensions * self.config.power
        least, most = self.edges[0], self.edges[-1]
        density = self.density[torch.bucketize(r, self.edges[1:-1])]
        # Nearer than all training images it falls to none at 0; farther there is none.
        density = density * (r / least.clamp_min(1e-12)).clamp_max(1) * (r <= most)
        rare = math.log(RAREST)
        sphere = math.log(2) + n / 2 * math.log(math.pi) - math.lgamma(n / 2)
        return sphere + (n - 1) * r.clamp_min(1e-12).log() - density.log().clamp_min(rare)

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return self.generated(self.encoder(x))

    def score(self, x: Images) -> Scores:
        """Minus the logarithm of the likelihood, in nats."""
        z = self.encoder(x)
        x_hat = self.generated(z)
        return Scores.weighted(
            map=l2_map(x, x_hat),
            tangent=(1.0, self.stretch(x, z)),
            code=(1.0, self.unlikely_code(z)),
            distance=(1.0, self.unlikely_distance(l2_sum(x, x_hat).sqrt())),
        )


def likeliest(entries: np.ndarray) -> tuple[float, float, float]:
    """Exponent, centre and scale of the generalised Gaussian under which entries are likeliest.

    The scale is `NARROWEST` at least.
    """
    exponent, centre, scale = _fitted(entries)
    return exponent, centre, max(scale, NARROWEST * max(1.0, abs(centre)))


def _fitted(entries: np.ndarray) -> tuple[float, float, float]:
    def with_exponent(exponent: float) -> tuple[float, float, float]:
        return gennorm.fit(entries, f0=exponent)

    with np.errstate(all="ignore"):  # Of what the search tries in between.
        free = gennorm.fit(entries)
        if EXPONENTS[0] <= free[0] <= EXPONENTS[1]:
            return free
        # Not the bound that was crossed: the search falls into a spike at any of few codes.
        best = minimize_scalar(
            lambda exponent: gennorm.nnlf(with_exponent(exponent), entries),
            bounds=EXPONENTS,
            method="bounded",
        )
        return with_exponent(best.x)


def _jacobian_of_images(
    generated: Callable[[Latents], Images], z: Latents
) -> Float[Tensor, "B P Z"]:
    """Derivative of each pixel by each entry of the code, a pass for each entry."""
    x, back = torch.func.vjp(generated, z)[:2]
    # `back` is linear in what it is given: its derivative, taken back once more, leads forwards.
    forward = torch.func.vjp(lambda u: back(u)[0], torch.zeros_like(x))[1]
    return _columns(forward, z)


def _jacobian_of_codes(encoder: Callable[[Images], Latents], x: Images) -> Float[Tensor, "B P Z"]:
    """Derivative of each entry of the code by each pixel, a pass back for each entry."""
    z, back = torch.func.vjp(encoder, x)[:2]
    return _columns(back, z)


def _columns(
    derivative: Callable[[Latents], tuple[Tensor, ...]], z: Latents
) -> Float[Tensor, "B P Z"]:
    entries = torch.eye(z.shape[1], device=z.device)
    return torch.stack([derivative(e.repeat(len(z), 1))[0].flatten(1) for e in entries], 2)


def log_volume(jacobian: Float[Tensor, "B P Z"]) -> PerImage:
    """Sum over the logarithms of the singular values: `log det(J^T J) / 2`, in double precision."""
    j = jacobian.double()
    squares = torch.linalg.eigvalsh(j.mT @ j)
    # An entry that moves nothing has none; rounding may say less than nothing.
    return squares.clamp_min(SMALLEST).log().sum(1).float() / 2
