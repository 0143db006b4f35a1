"""AMA: an adversarial autoencoder whose critic sees an image together with its reconstruction.

Somepalli, Wu, Balaji, Vinzamuri, Feizi: Unsupervised Anomaly Detection with Adversarial Mirrored
AutoEncoders. UAI 2021, arXiv:2003.10713. Equation numbers are the paper's.

Departures from the paper:
- Eq. 2 and the game of interpolations are printed as a minimum over `G` alone; `E` and `G` play
  together.
- The expectations over normal and atypical images are parts of one mean over the batch, as in the
  code, of which `negatives` is atypical: the weight of Eq. 4 against Eq. 3 is `negatives` /
  (1 - `negatives`) times lambda_neg.
- Eq. 4 pairs any x of the atypical distribution with G(z_neg). As in the code, x_neg = G(z_neg) is
  the picture, and its pairs are (x_neg, x_neg) and (x_neg, G(E(x_neg))).
- An interpolation is paired with each of its contributors, as in the code; the paper's pairs are
  with "the input".
- The norm of codes is in the loss of `E` and `G` alone, as `D` does not depend on it; its power is
  not printed, and is 1 as in the code.
- The density of Eq. 6 is low for anomalous pictures and exactly 0, in computer numbers, for distant
  ones. The score is |R - mu| / sigma, which has the opposite order and no ties.
- The appendix with networks, weights and lengths was not to be had: those of the code for CIFAR-10
  stand for all data. lambda_neg is the default of the code's flag; `delta` (half the radius) and
  the direction (inward), which the paper chooses by anomalous validation pictures, are a choice of
  ours.
- "Uniformly between the spheres" is read as a uniform radius; uniform in volume nearly all
  negatives would lie on the outer one.
- Which statistics of batch normalisation score is not said. Running ones lag behind the weights:
  after 250 steps R of training pictures was 66 with them, 48 with those of `statistics=normal`, 47
  in train mode.
- The paper picks the best epoch by about 50 anomalous validation pictures. Nothing is chosen here:
  the last weights count.

Departures from the authors' code (`somepago/AMA`), which knows CIFAR-10 alone:
- Defaults are the paper's where the two differ; the code's ways are settings (`penalty=per_pixel`,
  `detach_interpolation`, `simplex=remainder`, `atypical_form=scaling`), all in the preset `code`.
- Its README trains with known anomalous pictures in a tenth of the batch, without interpolation,
  and so never draws synthetic negatives: `--preset code --anomalous FOLDER`, or `onlygood bench run
  --methods ama:code` under the protocols `one-vs-rest-known` and `ood-known`. Without such pictures
  the preset draws negatives.
- Negatives take exactly their share of the batch, at least one image; the code draws their places
  with replacement. They are drawn anew for each update, as are interpolations.
- The norm of codes and the interpolations take codes from the pass that has negatives in it. The
  code encodes the normal images once more for them, so that no negative enters those batch
  statistics.
- Interpolations mix normal images alone, and `mu` and `sigma` are those of normal pictures alone.
- Its hinge losses, its negatives from a cube, its blending of pairs of pictures and its dropping of
  the last incomplete batch are left out: a batch runs on into the next pass.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal, NamedTuple, final

import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    PART,
    POSITIVE,
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_mean, l1_sum, relative_spread
from onlygood.losses.penalties import between, per_pixel, two_sided
from onlygood.networks.convolutional import Judgement
from onlygood.networks.modes import evaluating, recounting
from onlygood.networks.sngan import Critic, Encoder, Generator

GAME = GAMES["wasserstein"]

CONTRIBUTORS = 3
"""Images of one interpolation, k."""


@dataclass(frozen=True, kw_only=True)
class AMAConfig(Settings):
    """Settings of AMA; the defaults are the paper's, and the code's where it gives none."""

    mirrored: bool = True
    """Critic of pairs, Eq. 1; without, of x against x_hat, each by itself."""
    interpolation: float = number(0.2, NOT_NEGATIVE)
    """Weight lambda_inter of interpolations of three codes, Eq. 3; 0: none are made."""
    simplex: Literal["normalised", "remainder"] = "normalised"
    """Third weight of an interpolation: divided by the sum like the others, or what 1 leaves."""
    detach_interpolation: bool = False
    """Let interpolations train the critic alone, as in the code."""
    atypical: Literal["none", "inward", "outward"] = "inward"
    """Side of the normal codes on which those of synthetic negatives lie."""
    atypical_form: Literal["shell", "scaling"] = "shell"
    """Random directions, uniform in radius; or, as in the code, the images' own codes, scaled."""
    atypical_radius: Literal["sqrt_d", "empirical"] = "sqrt_d"
    """Radius of the normal codes: root of the code's size, or their mean norm in the batch."""
    atypical_ratio: float = number(0.5, PART)
    """Thickness delta of the shell as a share of its radius; scaling: largest factor, or 1 / it."""
    atypical_start: int = number(10, NOT_NEGATIVE)
    """Passes over the training images before synthetic negatives come in."""
    negatives: float = number(0.1, BELOW_ONE)
    """Share of the batch that negatives take, known anomalous or synthetic: at least one image."""
    negative_weight: float = number(1.0, NOT_NEGATIVE)
    """Weight lambda_neg of negatives, Eq. 2."""
    norm_weight: float = number(1.0, NOT_NEGATIVE)
    """Weight lambda_reg of the norm of codes, Eq. 3."""
    penalty: Literal["two_sided", "per_pixel"] = "two_sided"
    """Gradient penalty: of the second image as a whole, or of each pixel of both (code)."""
    penalty_weight: float = number(10.0, NOT_NEGATIVE)
    """Weight of the gradient penalty (of the plain squared distance; no factor 1/2)."""
    spectral: bool = True
    """Spectral normalisation of the critic."""
    critic_steps: int = number(5, ONE_OR_MORE)
    """Updates of the critic before each of encoder and generator, all on the same images."""
    width: int = number(64, ONE_OR_MORE)
    """Unit of channel widths: E has 1, 2, 4, 8 times as many, D twice, G four times."""
    latent: int = number(128, ONE_OR_MORE)
    """Size d of the code."""
    lr: float = number(3e-4, POSITIVE)
    """Learning rate of all networks."""
    lr_drops: int = number(30, NOT_NEGATIVE)
    """Passes over the training images until lr falls to a tenth, three times in all; 0: never."""
    betas: tuple[float, float] = number((0.0, 0.9), BELOW_ONE)
    """Adam's betas of critic and generator."""
    encoder_betas: tuple[float, float] = number((0.5, 0.9), BELOW_ONE)
    """Adam's betas of the encoder."""
    statistics: Literal["training", "normal"] = "training"
    """Batch statistics to score with: running ones of all passes, or those of scoring normals."""
    score: Literal["a", "r"] = "a"
    """A-score: how far R is from that of normal images, both ways; or the R-score of Eq. 5."""


class Pass(NamedTuple):
    """Images, the last of them negatives, and what becomes of them; pixels in [-1, 1]."""

    x: Images
    z: Latents
    x_hat: Images
    label: PerImage
    """1 for normal images, -lambda_neg for negatives."""
    normals: int
    """How many come before the negatives."""

    def of_normals(self, values: Tensor) -> PerImage:
        """Terms of the normal images, whose mean over them is to be the mean over the batch."""
        n, m = len(self.x), self.normals
        return F.pad(values[:m] * (n / m), (0, n - m))


class Interpolation(NamedTuple):
    """Images made between the codes of normal ones."""

    x: Images
    contributors: Tensor
    """`(B, 3)` positions in the batch of the images between which each one lies."""


# Learning rate and critic_steps by how well short runs told scanned digits apart (see the method's
# page); the others are a choice that was compared with nothing.
_OURS = {
    "width": 16,
    "latent": 64,
    "lr": 1e-3,
    "lr_drops": 0,
    "critic_steps": 1,
    "atypical_radius": "empirical",
    "atypical_start": 0,
}
_paper = partial(Preset, view={"size": 32}, training={"epochs": 100, "batch_size": 256})


@final
class AMA(Method):
    """Encoder, generator and a Wasserstein critic of (x, x) against (x, x_hat)."""

    config_class = AMAConfig
    localizes = True
    square = True
    uses_anomalous = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": _paper(summary="as in the paper, lengths as in the code"),
        "without-mirror": _paper(
            summary="Table 1: without mirrored Wasserstein loss", config={"mirrored": False}
        ),
        "without-interpolation": _paper(
            summary="Table 1: without simplex interpolation", config={"interpolation": 0.0}
        ),
        "without-atypical": _paper(
            summary="Table 1: without atypical selection", config={"atypical": "none"}
        ),
        "r-score": _paper(summary="Table 1: without new anomaly scoring", config={"score": "r"}),
        "code": _paper(
            summary="as the code's README runs it; known anomalous pictures are given as well",
            config={
                "interpolation": 0.0,
                "simplex": "remainder",
                "detach_interpolation": True,
                "atypical_form": "scaling",
                "atypical_start": 11,
                "negative_weight": 5.0,
                "penalty": "per_pixel",
            },
        ),
    }
    mu: Tensor
    sigma: Tensor

    def __init__(self, config: AMAConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width)
        self.generator = Generator(shape, c.latent, c.width)
        self.critic = Critic(shape, c.width, stacked=2 if c.mirrored else 1, spectral=c.spectral)
        self.register_buffer("mu", torch.zeros(()))
        self.register_buffer("sigma", torch.ones(()))

    def forward(self, batch: Batch) -> Pass:
        """Put negatives at the end of the batch, and give all images back."""
        x, negatives = symmetric(batch.normal), self.negatives(batch)
        normals = len(x) - len(negatives)
        x = torch.cat([x[:normals], negatives])
        z = self.encoder(x)
        label = torch.ones(len(x), device=x.device)
        label[normals:] = -self.config.negative_weight
        return Pass(x, z, self.generator(z), label, normals)

    def judged(self, x: Images, y: Images) -> Judgement:
        """D(x, y): what the critic says of y beside x, or without mirrored loss of y by itself."""
        return self.critic(torch.cat([x, y], 1) if self.config.mirrored else y)

    # Negatives ---------------------------------------------------------------------------------

    def negatives(self, batch: Batch) -> Images:
        """Images that shall not be given back well: known ones where there are, else synthetic."""
        c = self.config
        wanted = self.wanted(batch)
        # Drawn also where they are not needed: the noise of what follows stays the same.
        direction, u = batch.normals(c.latent), batch.uniforms()
        if batch.anomalous is not None:
            return symmetric(batch.anomalous[:wanted])
        if c.atypical == "none" or batch.progress.epoch < c.atypical_start or not wanted:
            return batch.normal[:0]
        with torch.no_grad(), evaluating(self.encoder, self.generator):
            z = self.encoder(symmetric(batch.normal))
            negatives = self.generator(self.atypical(z, direction, u)[:wanted])
        # torch before 2.10 keeps what it has made of weights for bf16 here, which has no gradient.
        torch.clear_autocast_cache()
        return negatives

    def wanted(self, batch: Batch) -> int:
        """Negatives of this process, of which all together have their share of the whole batch."""
        share, of_each = self.config.negatives, len(batch.normal)
        n = of_each * batch.world
        # Every process keeps a normal image.
        whole = min(max(1, round(share * n)), n - batch.world) if share else 0
        return (batch.rank + 1) * whole // batch.world - batch.rank * whole // batch.world

    def atypical(self, z: Latents, direction: Latents, u: PerImage) -> Latents:
        """Codes beside those of the typical set, one for each `u` in [0, 1), section 3.2.

        Shell: radius uniform between r and r - delta (inward) or r + delta (outward), delta =
        `atypical_ratio` r. Scaling: a E(x) (inward) or E(x) / a, a uniform up to `atypical_ratio`.
        """
        c = self.config
        if c.atypical_form == "scaling":
            a = c.atypical_ratio * (1 - u)[:, None]  # Never 0.
            return a * z if c.atypical == "inward" else z / a
        shift = c.atypical_ratio * u[:, None]
        r = math.sqrt(c.latent) if c.atypical_radius == "sqrt_d" else z.norm(dim=1).mean()
        return r * (1 - shift if c.atypical == "inward" else 1 + shift) * F.normalize(direction)

    # Interpolations ----------------------------------------------------------------------------

    def interpolated(self, p: Pass, batch: Batch) -> Interpolation:
        """Simplex interpolation, section 3.2: each normal image between itself and two others."""
        alpha = batch.uniforms(CONTRIBUTORS)[: p.normals] / 2
        if self.config.simplex == "normalised":
            alpha = alpha / alpha.sum(1, keepdim=True)
        else:
            alpha = torch.cat([alpha[:, 1:], 1 - alpha[:, 1:].sum(1, keepdim=True)], 1)
        others = batch.uniforms(CONTRIBUTORS - 1)[: p.normals].argsort(0)
        own = torch.arange(p.normals, device=others.device)[:, None]
        contributors = torch.cat([own, others], 1)
        x = self.generator((alpha[:, :, None] * p.z[contributors]).sum(1))
        return Interpolation(x.detach() if self.config.detach_interpolation else x, contributors)

    def judged_interpolations(self, p: Pass, inter: Interpolation) -> PerImage:
        """D(x_j, x_inter), averaged over the contributors j of each interpolation."""
        x = p.x[inter.contributors].flatten(0, 1)
        y = inter.x.repeat_interleave(CONTRIBUTORS, 0)
        return self.judged(x, y).value.unflatten(0, (-1, CONTRIBUTORS)).mean(1)

    # Losses ------------------------------------------------------------------------------------

    def critic_loss(self, batch: Batch) -> Loss:
        """Raise D(x, x), lower D(x, x_hat) and D(x, x_inter); reverse for negatives; Eq. 1 to 4."""
        c, p = self.config, self(batch)
        # In one pass: nothing in D depends on the rest of a batch.
        both = self.judged(torch.cat([p.x, p.x]), torch.cat([p.x, p.x_hat]))
        (real, fake), (f, f_hat) = both.value.chunk(2), both.features.chunk(2)
        terms = {
            "adversarial": (1.0, p.label * GAME.critic(real, fake)),
            "penalty": (c.penalty_weight, self.gradient_penalty(p, batch.uniforms())),
        }
        if c.interpolation:
            fake_j = self.judged_interpolations(p, self.interpolated(p, batch))
            # Each image contributes three times: D(x_j, x_j) has the mean of D(x, x).
            values = p.of_normals(GAME.critic(real[: p.normals], fake_j))
            terms["interpolation"] = (c.interpolation, values)
        return Loss.weighted(**terms).watching(
            real=p.of_normals(real), fake=p.of_normals(fake), r=p.of_normals(l1_sum(f, f_hat))
        )

    def gradient_penalty(self, p: Pass, u: PerImage) -> PerImage:
        """Squared distance of the critic's slope from 1 at (x, t), t between x (`u` = 1) and x_hat.

        Of t as a whole, or of each pixel of the critic's whole input.
        """
        t = between(p.x, p.x_hat, u)
        if self.config.penalty == "per_pixel" and self.config.mirrored:
            return per_pixel(lambda x, t: self.judged(x, t).value, p.x, t)
        penalty = per_pixel if self.config.penalty == "per_pixel" else two_sided
        return penalty(lambda t: self.judged(p.x, t).value, t)

    def generator_loss(self, batch: Batch) -> Loss:
        """Raise D(x, x_hat) and D(x, x_inter), reverse for negatives; small codes; Eq. 2 to 4."""
        c, p = self.config, self(batch)
        terms = {
            "adversarial": (1.0, p.label * GAME.generator(self.judged(p.x, p.x_hat).value)),
            "code_norm": (c.norm_weight, p.of_normals(p.z.norm(dim=1))),
        }
        if c.interpolation:
            values = self.judged_interpolations(p, self.interpolated(p, batch))
            terms["interpolation"] = (c.interpolation, p.of_normals(GAME.generator(values)))
        x, z, x_hat = p.x[: p.normals], p.z[: p.normals], p.x_hat[: p.normals]
        return Loss.weighted(**terms).watching(
            reconstruction=l1_mean(x, x_hat),
            # No prior says how far codes should be apart; as far as they are from 0.
            code_spread=relative_spread(z),
            reconstruction_spread=relative_spread(x_hat, x),
        )

    def stages(self) -> Sequence[Stage]:
        """The critic several times, then encoder and generator, on the same images; then R."""
        c = self.config
        drops = (c.lr_drops, 2 * c.lr_drops, 3 * c.lr_drops) if c.lr_drops else ()
        adam = Adam(lr=c.lr, betas=c.betas, schedule=Schedule(epochs=drops))
        return [
            Stage(
                name="adversarial",
                updates=[
                    Update(
                        name="critic",
                        trains=(self.critic,),
                        loss=self.critic_loss,
                        optimizer=adam,
                        repeat=c.critic_steps,
                        batch="shared",
                    ),
                    Update(
                        name="generator",
                        trains=(self.encoder, self.generator),
                        loss=self.generator_loss,
                        optimizer=(replace(adam, betas=c.encoder_betas), adam),
                        batch="shared",
                    ),
                ],
                after=self.recount if c.statistics == "normal" else None,
            ),
            Stage(name="score", before=self.measure),
        ]

    def recount(self, images: Batches) -> None:
        """Normalise by what scoring sees of normal images, without negatives and old weights."""
        with recounting(self):
            for x in images:
                self.score(x)

    # Score -------------------------------------------------------------------------------------

    def measure(self, images: Batches) -> None:
        """Mean and standard deviation of R over the training images, Eq. 6; fills the buffers."""
        r = torch.cat([self.score(x).terms["r"] for x in images]).double()
        self.mu.copy_(r.mean())
        # Of images that are all alike it is 0, and scores must stay finite.
        self.sigma.copy_(r.std(correction=0).clamp_min(1e-6))

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encoder(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """R of Eq. 5, the distance of the critic's features of (x, x) and (x, x_hat); A from it."""
        x = symmetric(x)
        x_hat = self.generator(self.encoder(x))
        r = l1_sum(self.judged(x, x).features, self.judged(x, x_hat).features)
        return Scores.weighted(
            map=l1_map(x, x_hat),
            a=(float(self.config.score == "a"), (r - self.mu).abs() / self.sigma),
            r=(float(self.config.score == "r"), r),
        )
