"""OCGAN: an autoencoder all of whose codes, not only those it meets, give back normal images.

Perera, Nallapati, Xiang: OCGAN: One-class Novelty Detection Using GANs with Constrained Latent
Representations. CVPR 2019, arXiv:1903.08550. Losses have the paper's names: l_MSE, l_latent,
l_visual and l_classifier. `u` is a code drawn uniformly from the cube that codes lie in, `n` noise.

Departures from the paper:
- Search for informative negatives: five steps of gradient descent of length 1 on the classifier's
  cross-entropy, as others rebuilt it; the code is then put back into the cube.
- No epoch is chosen by held-out images: the last weights count.

Departures from the authors' code:
- Codes end in a tanh, as in the paper, where the code has a leaky ReLU, so that no code could be
  like `u`; D_l gives one logit, where the code takes two sigmoids of sixteen.
- Noise is drawn anew in each step, where the code draws it once for each image; scored images have
  none, where those of the code do.
- Its networks are for 61 px without padding, of three blocks: here DCGAN's with kernels of 5, for
  32 px and above, with a fourth block at 64 px, no dropout in the decoder, scales of normalisation
  that start at 1 exactly, and grey pictures as one channel, where the code repeats them.
- `l_latent` has the paper's weight of 1; preset `code` has the 10 of the code, and the start and
  length of its search. Codes are clamped to the cube; there they go through a tanh.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import SGD, Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l2_mean, relative_spread, spread
from onlygood.networks.convolutional import (
    Encoder,
    Generator,
    ImageCritic,
    LatentCritic,
    Style,
    Trunk,
)
from onlygood.networks.modes import evaluating
from onlygood.networks.search import Aim, descended

STYLE = Style(kernel=5, first_norm=False)
LATENT = Style(slope=0.0)
LATENT_SIZES = (128, 64, 32, 16)
"""Of the hidden layers of D_l."""
GAME = GAMES["non_saturating"]


@dataclass(frozen=True, kw_only=True)
class OCGANConfig(NetworkSettings):
    """Settings of OCGAN; the defaults are those of the authors' code, but for its slips."""

    latent: int = number(16, ONE_OR_MORE)
    """Size of the code, whose entries lie in (-1, 1)."""
    critic_width: int = number(12, ONE_OR_MORE)
    """Channels behind the first halving of the side, in D_v."""
    noise: float = number(0.2, NOT_NEGATIVE)
    """Standard deviation of n, on pixels in [-1, 1]; in training only."""
    w_mse: float = number(10.0, POSITIVE)
    """Weight lambda of l_MSE: half the mean of squares over pixels in [-1, 1]."""
    w_latent: float = number(1.0, NOT_NEGATIVE)
    """Weight of l_latent for the encoder."""
    mining_steps: int = number(5, NOT_NEGATIVE)
    """Steps of the search for informative negatives; 0: none, and codes stay as drawn."""
    mining_lr: float = number(1.0, POSITIVE)
    """Length of such a step, in units of the gradient of each image."""
    mining_start: int = number(0, NOT_NEGATIVE)
    """Passes over the training pictures before the search begins."""


class Pass(NamedTuple):
    """A noisy image and a random code through the autoencoder; pixels in [-1, 1]."""

    x: Images
    z: Latents
    """E(x + n)."""
    x_hat: Images
    u: Latents
    """Uniform on (-1, 1), or where the search led from there."""
    x_u: Images


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "critic_width": 8, "lr": 1e-3, "w_mse": 100.0}
# 201 passes of the code, where all networks see the same images; here two batches make a step.
_LENGTH = {"epochs": 402, "batch_size": 512}


@final
class OCGAN(Method):
    """Encoder, decoder, a critic of codes, one of images, and a classifier to find weak spots."""

    config_class = OCGANConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=600),
        "paper": Preset(
            summary="as in the paper, with the length of the authors' code, at 64 px",
            view={"size": 64},
            training=_LENGTH,
        ),
        "code": Preset(
            summary="the same, with the weights and the search of the authors' code",
            config={"w_latent": 10.0, "mining_steps": 1, "mining_lr": 2.0, "mining_start": 300},
            view={"size": 64},
            training=_LENGTH,
        ),
    }

    def __init__(self, config: OCGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width, STYLE)
        self.decoder = Generator(shape, c.latent, c.width, STYLE)
        self.latent_critic = LatentCritic(c.latent, LATENT_SIZES, LATENT)
        self.visual_critic = ImageCritic(Trunk(shape, c.critic_width, STYLE), STYLE)
        self.classifier = ImageCritic(Trunk(shape, c.width, STYLE), STYLE)

    def encode(self, x: Images) -> Latents:
        """En(x), of pixels in [-1, 1]."""
        return torch.tanh(self.encoder(x))

    def forward(self, batch: Batch, *, mined: bool = False) -> Pass:
        """Encode the images with noise and give them back; give back codes of no image as well."""
        c, x = self.config, symmetric(batch.normal)
        z = self.encode(x + c.noise * batch.normals(*x.shape[1:]))
        u = 2 * batch.uniforms(c.latent) - 1
        if mined and batch.progress.epoch >= c.mining_start:
            u = self.informative(u)
        return Pass(x, z, self.decoder(z), u, self.decoder(u))

    def informative(self, u: Latents) -> Latents:
        """Codes near `u` whose images the classifier is surest to be none of the class."""
        c = self.config
        # In eval mode, as in training mode the codes of a batch would move each other.
        with evaluating(self.decoder, self.classifier):
            (mined,) = descended(
                lambda u: Aim(GAME.encoder(self.classifier(self.decoder(u)).value)),
                [u],
                SGD(lr=c.mining_lr),
                steps=c.mining_steps,
                project=lambda u: u.clamp(-1, 1),
            )
        return mined

    def critics_loss(self, batch: Batch) -> Loss:
        """Each critic's cross-entropy, halves for what it should raise and what it should lower.

        l_latent: `u` against E(x + n); l_visual: `x` against De(u); l_classifier: De(E(x + n))
        against De(u).
        """
        p = self(batch)
        real, fake = self.visual_critic(p.x).value, self.visual_critic(p.x_u).value
        drawn, coded = self.latent_critic(p.u).value, self.latent_critic(p.z).value
        given_back, made = self.classifier(p.x_hat).value, self.classifier(p.x_u).value
        return Loss.weighted(
            latent=(0.5, GAME.critic(drawn, coded)),
            visual=(0.5, GAME.critic(real, fake)),
            classifier=(0.5, GAME.critic(given_back, made)),
        ).watching(real=real, fake=fake)

    def autoencoder_loss(self, batch: Batch) -> Loss:
        """l_latent and l_visual with the labels changed over, the latter at the negatives mined."""
        c, p = self.config, self(batch, mined=True)
        return Loss.weighted(
            latent=(c.w_latent, GAME.generator(self.latent_critic(p.z).value)),
            visual=(1.0, GAME.generator(self.visual_critic(p.x_u).value)),
            reconstruction=(c.w_mse / 2, l2_mean(p.x, p.x_hat)),
        ).watching(
            code_spread=relative_spread(p.z, p.u),
            reconstruction_spread=relative_spread(p.x_hat, p.x),
            diversity=spread(p.x_u),
        )

    def stages(self) -> Sequence[Stage]:
        """One stage: the three critics, then encoder and decoder on other images."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        return [
            Stage(
                name="adversarial",
                updates=[
                    Update(
                        name="critics",
                        trains=(self.latent_critic, self.visual_critic, self.classifier),
                        loss=self.critics_loss,
                        optimizer=adam,
                    ),
                    Update(
                        name="autoencoder",
                        trains=(self.encoder, self.decoder),
                        loss=self.autoencoder_loss,
                        optimizer=adam,
                    ),
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """De(En(x)), without noise."""
        return unit(self.decoder(self.encode(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """Mean squared error of x and De(En(x)); beside it, how little D_v takes it for real."""
        x = symmetric(x)
        x_hat = self.decoder(self.encode(x))
        return Scores.weighted(
            map=l1_map(x, x_hat),
            pixels=(1.0, l2_mean(x, x_hat)),
            visual=(0.0, GAME.generator(self.visual_critic(x_hat).value)),
        )
