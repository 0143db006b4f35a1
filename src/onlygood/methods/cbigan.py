"""CBiGAN: a BiGAN whose encoder and generator are held to invert each other.

Carrara, Amato, Brombin, Falchi, Gennaro: Combining GANs and AutoEncoders for Efficient Anomaly
Detection. ICPR 2020, arXiv:2011.08102. Equation numbers are the paper's.

Departures from the paper:
- `alpha` is stated for L1 summed over pixels and averaged over the batch, images in [0, 1]; the
  paper's 1e-4 is for sums over a batch of 32 as well, so it reads 3.2e-3 here.
- The sentence under Eq. 13 swaps the ends of `alpha`. Eq. 13 itself is implemented: `alpha=0` is
  plain BiGAN (EGBAD), `alpha=1` two autoencoders.
- The weight of the gradient penalty is not given; 10, as in Gulrajani et al.
- Adam's betas are not given; (0, 0.9), as in Gulrajani et al.
- The presets `default`, `small` and `texture` are ours: what a CPU can do in minutes.
- Rotation for the objects that the paper turns by up to 45 degrees (bottle, hazelnut, metal nut,
  screw) is not in a preset, as it belongs to the part: `--set rotate=-45,45`. `onlygood bench table
  cbigan-3` says it for these four.

Departures from the authors' code (branch `paper` is a notebook, branch `tf2` a later rewrite):
- The two differ from the text and from each other in game, penalty, schedule and output; `notebook`
  and `tf2` are presets here.
- tf2 interpolates between (x, z) and (G(z), E(x)) in its penalty, although the two kinds of pairs
  are (x, E(x)) and (G(z), z). `crossed_penalty` repeats that; the default pairs them rightly.
- tf2 scores with the first convolution of the critic, an index left over from the notebook; here it
  is the notebook's layer, the joint dense layer before its activation.
- tf2 turns textures by any angle (a unit slip), the notebook's last state not at all, and each cuts
  crops in its own way. The paper's text is followed: turned by 0 to 45 degrees, then cut where the
  turned picture has no corners missing, one independent draw per crop.
- Adam adds 1e-8 to what it divides by, as in torch, where Keras adds 1e-7.
- tf2 chooses its checkpoint by the AUROC on the test set, of averaged weights (0.999), and scores
  with the raw ones. Nothing is chosen here: the last weights count, or their average with
  `ema_decay`.
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
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    SHARE,
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.core.stage import Batch, Ema, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_sum, relative_spread, spread
from onlygood.losses.penalties import between, two_sided, zero_centred
from onlygood.networks.convolutional import Output
from onlygood.networks.residual import Encoder, Generator, PairCritic, initialise


@dataclass(frozen=True, kw_only=True)
class CBiGANConfig(Settings):
    """Settings of CBiGAN; the defaults are the paper's."""

    alpha: float = number(3.2e-3, SHARE)
    """Weight of consistency against the adversarial loss, Eq. 13; per-image sums, [0, 1] pixels."""
    width: int = number(16, ONE_OR_MORE)
    """Unit k of the channel widths k, 2k, 3k, 4k, 8k, 16k."""
    latent: int = number(64, ONE_OR_MORE)
    """Size of the code z."""
    game: Literal["wasserstein", "hinge", "non_saturating"] = "wasserstein"
    """Adversarial losses, Eq. 5 and 6."""
    penalty: Literal["two_sided", "zero_centred_fake"] = "two_sided"
    """Gradient penalty: on pairs between real and fake, or on the image of fake pairs alone."""
    penalty_weight: float = number(10.0, NOT_NEGATIVE)
    """Weight of the gradient penalty (of the plain squared norm; no factor 1/2)."""
    crossed_penalty: bool = False
    """Repeat the tf2 code's slip: interpolate (x, z) with (G(z), E(x))."""
    critic_steps: int = number(1, ONE_OR_MORE)
    """Critic updates before each update of encoder and generator, each on a fresh batch."""
    generator_steps: int = number(1, ONE_OR_MORE)
    """Updates of encoder and generator after those of the critic, each on a fresh batch."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of all networks."""
    critic_betas: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)
    """Adam's betas of the critic."""
    generator_betas: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)
    """Adam's betas of encoder and generator (one optimiser); both authors' codes use (0, 0.1)."""
    ema_decay: float = number(0.0, BELOW_ONE)
    """Decay of an average of encoder and generator, every 10 steps from 100 on; 0: no average."""
    output: Output = "sigmoid"
    """Last activation of G, or none; tanh makes the networks work on [-1, 1]."""
    initialisation: Literal["he", "glorot"] = "he"
    """How weights are drawn at first."""
    biases: Literal["all", "closing"] = "all"
    """Which layers have biases; `closing` repeats the tf2 code."""
    score_features: float = number(0.1, SHARE)
    """Weight lambda of the feature distance in the score, Eq. 7; 1 - lambda for pixels."""


class Pass(NamedTuple):
    """Images with their codes, and codes with their images (Fig. 2)."""

    x: Images
    z_x: Latents
    z: Latents
    x_z: Images


# First weights by how well held-out normal pictures were given back in short runs; output, width,
# lr, betas and generator_steps by short runs on scanned digits, where a sigmoid dies (see the
# method's page). alpha and ema_decay are a choice that was compared with nothing.
_OURS = {
    "alpha": 0.9,
    "width": 8,
    "initialisation": "glorot",
    "output": "linear",
    "lr": 3e-4,
    "generator_betas": (0.9, 0.99),
    "ema_decay": 0.9,
}
_TEXTURE = {"size": 512, "tile": 64, "rotate": (0.0, 45.0)}
_NOTEBOOK = {
    "game": "hinge",
    "penalty": "zero_centred_fake",
    "penalty_weight": 2.5,
    "critic_betas": (0.0, 0.909),
    "generator_betas": (0.0, 0.099),
}
_TF2 = {
    # Its alpha is 1e-5 for sums over pixels in [-1, 1], averaged over the batch.
    "alpha": 1e-5,
    "width": 3,
    "biases": "closing",
    "initialisation": "glorot",
    "output": "tanh",
    "critic_steps": 5,
    "generator_betas": (0.0, 0.1),
    "crossed_penalty": True,
}
_PAPER_LENGTH = {"steps": 200_000}


@final
class CBiGAN(Method):
    """Encoder, generator and a Wasserstein critic of pairs, with L1 consistency both ways."""

    config_class = CBiGANConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(summary="objects as in the paper's text", training=_PAPER_LENGTH),
        "paper-texture": Preset(
            summary="textures as in the paper's text", view=_TEXTURE, training=_PAPER_LENGTH
        ),
        "notebook": Preset(
            summary="objects as in the authors' notebook", config=_NOTEBOOK, training=_PAPER_LENGTH
        ),
        "notebook-texture": Preset(
            summary="textures as in the authors' notebook",
            config=_NOTEBOOK,
            view=_TEXTURE,
            training=_PAPER_LENGTH,
        ),
        "tf2": Preset(
            summary="objects as in the authors' later code", config=_TF2, training=_PAPER_LENGTH
        ),
        "tf2-texture": Preset(
            summary="textures as in the authors' later code",
            config=_TF2,
            view=_TEXTURE,
            training=_PAPER_LENGTH,
        ),
        "bigan": Preset(
            summary="no consistency: plain BiGAN, which the paper calls EGBAD",
            config={"alpha": 0.0},
            training=_PAPER_LENGTH,
        ),
        "bigan-texture": Preset(
            summary="the same for textures",
            config={"alpha": 0.0},
            view=_TEXTURE,
            training=_PAPER_LENGTH,
        ),
    }

    def __init__(self, config: CBiGANConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width, c.biases)
        self.generator = Generator(shape, c.latent, c.width, c.biases, c.output)
        self.critic = PairCritic(shape, c.latent, c.width, c.biases)
        initialise(self, c.initialisation)

    def forward(self, batch: Batch) -> Pass:
        """Encode the images, and generate as many from fresh codes."""
        x, z = self._scaled(batch.normal), batch.normals(self.config.latent)
        return Pass(x, self.encoder(x), z, self.generator(z))

    def judged(self, p: Pass) -> tuple[PerImage, PerImage]:
        """D(x, E(x)) and D(G(z), z), in one pass: nothing in D depends on the rest of a batch."""
        values = self.critic(torch.cat([p.x, p.x_z]), torch.cat([p.z_x, p.z])).value
        real, fake = values.chunk(2)
        return real, fake

    def critic_loss(self, batch: Batch) -> Loss:
        """Eq. 6 and the gradient penalty: raise D(x, E(x)), lower D(G(z), z)."""
        c, p = self.config, self(batch)
        real, fake = self.judged(p)
        return Loss.weighted(
            adversarial=(1.0, GAMES[c.game].critic(real, fake)),
            penalty=(c.penalty_weight, self.gradient_penalty(p, batch.uniforms())),
        ).watching(real=real, fake=fake)

    def gradient_penalty(self, p: Pass, epsilon: PerImage) -> PerImage:
        """Squared distance of the critic's slope from 1 on pairs between real and fake, or from 0.

        `epsilon` = 1 is the real pair (x, E(x)), 0 the fake pair (G(z), z).
        """
        if self.config.penalty == "zero_centred_fake":
            return zero_centred(lambda x: self.critic(x, p.z).value, p.x_z)
        codes = (p.z, p.z_x) if self.config.crossed_penalty else (p.z_x, p.z)
        return two_sided(
            lambda x, z: self.critic(x, z).value,
            between(p.x, p.x_z, epsilon),
            between(*codes, epsilon),
        )

    def generator_loss(self, batch: Batch) -> Loss:
        """Eq. 13: `(1 - alpha)` times Eq. 5, `alpha` times the consistency of Eq. 10 to 12."""
        c, p = self.config, self(batch)
        game = GAMES[c.game]
        real, fake = self.judged(p)
        x_hat, z_hat = self.generator(p.z_x), self.encoder(p.x_z)
        return Loss.weighted(
            encoder=(1 - c.alpha, game.encoder(real)),
            generator=(1 - c.alpha, game.generator(fake)),
            consistency_x=(c.alpha, l1_sum(p.x, x_hat)),
            consistency_z=(c.alpha, l1_sum(p.z, z_hat)),
        ).watching(
            code_norm=p.z_x.norm(dim=1),
            code_spread=relative_spread(p.z_x, p.z),
            reconstruction_spread=relative_spread(x_hat, p.x),
            diversity=spread(p.x_z),
        )

    def stages(self) -> Sequence[Stage]:
        """One stage: the critic, then encoder and generator together, each on a fresh batch."""
        c = self.config
        return [
            Stage(
                name="adversarial",
                updates=[
                    Update(
                        name="critic",
                        trains=(self.critic,),
                        loss=self.critic_loss,
                        optimizer=Adam(lr=c.lr, betas=c.critic_betas),
                        repeat=c.critic_steps,
                    ),
                    Update(
                        name="generator",
                        trains=(self.encoder, self.generator),
                        loss=self.generator_loss,
                        repeat=c.generator_steps,
                        optimizer=Adam(lr=c.lr, betas=c.generator_betas),
                    ),
                ],
                ema=Ema(modules=(self.encoder, self.generator), decay=c.ema_decay, start=100)
                if c.ema_decay
                else None,
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        x_hat = self.generator(self.encoder(self._scaled(x)))
        return unit(x_hat) if self.config.output == "tanh" else x_hat

    def score(self, x: Images) -> Scores:
        """Eq. 7 to 9: pixel and feature distance between x and G(E(x)); both judged with E(x)."""
        c = self.config
        x = self._scaled(x)
        z_x = self.encoder(x)
        x_hat = self.generator(z_x)
        f, f_hat = self.critic(x, z_x).features, self.critic(x_hat, z_x).features
        return Scores.weighted(
            map=l1_map(x, x_hat),
            pixels=(1 - c.score_features, l1_sum(x, x_hat)),
            features=(c.score_features, l1_sum(f, f_hat)),
        )

    def _scaled(self, x: Images) -> Images:
        return symmetric(x) if self.config.output == "tanh" else x
