"""ALAD: a BiGAN with two more critics, which hold both ways through its networks to their start.

Zenati, Romain, Foo, Lecouat, Chandrasekhar: Adversarially Learned Anomaly Detection. ICDM 2018,
arXiv:1812.02288. Critics and scores have the paper's names: D_xz, D_xx, D_zz; L1, L2, Logits,
Features.

Departures from the paper:
- No early stopping: the last weights count. It watched the mean score of normal pictures, which
  also falls when features of D_xx shrink; the log has it, and the error of pixels beside it.
- It does not say how long it trains at most, and its code takes that as an argument; 100 passes
  are a choice of ours, half of them for the critics and half for encoder and generator.

Departures from the authors' code:
- D_xz has one dense layer of the code, where the code has two.
- The networks are for 32 px and for larger squares; D_xx always ends with maps 8 wide.
- Weights are averaged together with the statistics that normalise, which the code leaves out;
  they are divided by the singular values of the last weights, where the code takes a step of its
  iteration with each pass. Constants of normalisation are PyTorch's (1e-5 and 0.9, where it has
  1e-3 and 0.99).
- Two terms of its encoder and generator loss, D_xx of (x, x) and D_zz of (z, z), do not depend on
  either and are left out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple, final

import torch

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    BELOW_ONE,
    ONE_OR_MORE,
    TWO_OR_MORE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents
from onlygood.core.stage import Batch, Ema, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_mean, l1_sum, l2_sum, relative_spread, spread
from onlygood.networks.convolutional import (
    Encoder,
    Generator,
    ImageCritic,
    Judgement,
    LatentCritic,
    PairCritic,
    Style,
    Trunk,
)
from onlygood.networks.sizes import halvings_to

GAME = GAMES["non_saturating"]


@dataclass(frozen=True, kw_only=True)
class ALADConfig(NetworkSettings):
    """Settings of ALAD; the defaults are those of the authors' code for CIFAR-10 and SVHN."""

    width: int = number(128, ONE_OR_MORE)
    """Channels behind the first halving of the side, in E, G and D_xz."""
    critic_width: int = number(64, TWO_OR_MORE)
    """The same in D_xx; D_zz has dense layers of this size and of half of it."""
    latent: int = number(100, ONE_OR_MORE)
    """Size of the code z."""
    pair: Literal["height", "channels"] = "height"
    """How D_xx sees two images: one below the other, as in the code, or stacked on channels."""
    latent_critic: bool = True
    """Whether there is D_zz."""
    spectral: bool = True
    """Whether weights of E and of the critics have a spectral norm of 1."""
    ema_decay: float = number(0.999, BELOW_ONE)
    """Decay of the average of all weights, by which pictures are scored; 0: no average."""
    score_by: Literal["features", "l1", "l2", "logits"] = "features"
    """Which of the paper's four scores counts; the others are told beside it."""


class Pass(NamedTuple):
    """Both ways through the networks: x to z_x to x_hat, and z to x_z to z_hat."""

    x: Images
    z_x: Latents
    x_hat: Images
    z: Latents
    x_z: Images
    z_hat: Latents


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "critic_width": 16, "ema_decay": 0.99}


@final
class ALAD(Method):
    """Encoder, generator, and critics of pairs (x, z), (x, x) and (z, z)."""

    config_class = ALADConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=700),
        "paper": Preset(
            summary="CIFAR-10 and SVHN as in the authors' code; its length is ours",
            view={"size": 32},
            training={"epochs": 100, "batch_size": 32},
        ),
    }

    def __init__(self, config: ALADConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        two = (
            InputShape(shape.channels, 2 * shape.height, shape.width)
            if c.pair == "height"
            else InputShape(2 * shape.channels, shape.height, shape.width)
        )
        plain = Style(std=0.01)
        encoder = Style(std=0.01, spectral=c.spectral)
        trunk = Style(std=0.01, spectral=c.spectral, first_norm=False)
        dense = Style(std=0.01, spectral=c.spectral, norm="none", dropout=0.2)
        of_two = Style(std=0.01, spectral=c.spectral, norm="none", dropout=0.2, kernel=5)
        halvings = halvings_to(8, shape, "alad")
        self.encoder = Encoder(shape, c.latent, c.width, encoder)
        self.generator = Generator(shape, c.latent, c.width, plain)
        self.d_xz = PairCritic(
            Trunk(shape, c.width, trunk), c.latent, dense, code=4 * c.width, joint=8 * c.width
        )
        self.d_xx = ImageCritic(Trunk(two, c.critic_width, of_two, halvings=halvings), of_two)
        hidden = (c.critic_width, c.critic_width // 2)
        self.d_zz = LatentCritic(2 * c.latent, hidden, dense) if c.latent_critic else None

    def forward(self, batch: Batch) -> Pass:
        """Encode the images and give them back; generate from fresh codes and encode that."""
        x, z = symmetric(batch.normal), batch.normals(self.config.latent)
        z_x, x_z = self.encoder(x), self.generator(z)
        return Pass(x, z_x, self.generator(z_x), z, x_z, self.encoder(x_z))

    def beside(self, x: Images, y: Images) -> Judgement:
        """D_xx of (x, y)."""
        return self.d_xx(torch.cat([x, y], 2 if self.config.pair == "height" else 1))

    def critics_loss(self, batch: Batch) -> Loss:
        """Raise (x, E(x)), (x, x) and (z, z); lower (G(z), z), (x, x_hat) and (z, z_hat)."""
        p = self(batch)
        real, fake = self.d_xz(p.x, p.z_x).value, self.d_xz(p.x_z, p.z).value
        terms = {
            "xz": (1.0, GAME.critic(real, fake)),
            "xx": (1.0, GAME.critic(self.beside(p.x, p.x).value, self.beside(p.x, p.x_hat).value)),
        }
        if self.d_zz is not None:
            same = self.d_zz(torch.cat([p.z, p.z], 1)).value
            terms["zz"] = (1.0, GAME.critic(same, self.d_zz(torch.cat([p.z, p.z_hat], 1)).value))
        return Loss.weighted(**terms).watching(real=real, fake=fake)

    def generator_loss(self, batch: Batch) -> Loss:
        """The players of D_xz, and both together against D_xx and D_zz: all with weight 1."""
        p = self(batch)
        terms = {
            "encoder": (1.0, GAME.encoder(self.d_xz(p.x, p.z_x).value)),
            "generator": (1.0, GAME.generator(self.d_xz(p.x_z, p.z).value)),
            "cycle_x": (1.0, GAME.generator(self.beside(p.x, p.x_hat).value)),
        }
        if self.d_zz is not None:
            terms["cycle_z"] = (1.0, GAME.generator(self.d_zz(torch.cat([p.z, p.z_hat], 1)).value))
        return Loss.weighted(**terms).watching(
            reconstruction=l1_mean(p.x, p.x_hat),
            code_spread=relative_spread(p.z_x, p.z),
            reconstruction_spread=relative_spread(p.x_hat, p.x),
            diversity=spread(p.x_z),
        )

    def stages(self) -> Sequence[Stage]:
        """One stage: all critics, then encoder and generator on other images."""
        c = self.config
        adam = Adam(lr=c.lr, betas=c.betas)
        critics = (self.d_xz, self.d_xx, *([self.d_zz] if self.d_zz is not None else []))
        players = (self.encoder, self.generator)
        ema = Ema(modules=(*players, *critics), decay=c.ema_decay, every=1)
        return [
            Stage(
                name="adversarial",
                updates=[
                    Update(
                        name="critics",
                        trains=critics,
                        loss=self.critics_loss,
                        optimizer=adam,
                    ),
                    Update(
                        name="generator",
                        trains=players,
                        loss=self.generator_loss,
                        optimizer=adam,
                    ),
                ],
                ema=ema if c.ema_decay else None,
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encoder(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """A: distance of D_xx's features of (x, x) and (x, x_hat); or of pixels; or its logit."""
        x = symmetric(x)
        x_hat = self.generator(self.encoder(x))
        same, other = self.beside(x, x), self.beside(x, x_hat)
        parts = {
            "features": l1_sum(same.features, other.features),
            "l1": l1_sum(x, x_hat),
            "l2": l2_sum(x, x_hat).sqrt(),
            "logits": GAME.generator(other.value),
        }
        chosen = self.config.score_by
        return Scores.weighted(
            map=l1_map(x, x_hat),
            **{name: (float(name == chosen), part) for name, part in parts.items()},
        )
