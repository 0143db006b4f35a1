"""CAVGA: a variational autoencoder that is made to look at all of a normal image.

Venkataramanan, Peng, Singh, Mahalanobis: Attention Guided Anomaly Localization in Images. ECCV
2020, arXiv:1911.08616. Losses have the paper's names: L_ae, L_adv, and of the weakly supervised
variant, which knows a few anomalous images, L_c and L_cga.

Departures from the paper:
- Trained from nothing: neither an encoder that knows ImageNet nor a GAN of CelebA comes first, so
  that nothing but the pictures given decides.
- Pictures are resized and not cropped at random: `tile` and `rotate` are settings of pictures.
- Plain blocks as in its variant D; the generator sees the map of codes through a dense layer.
- The divergence is summed over the code and divided by the number of pixels, so that with the mean
  squared error it is the bound of a VAE. SSIM has the weight of that error. Reductions and weights
  of these three are not known to us.
- The attention map has no rectifier before its sigmoid, see `losses/attention.py`.
- The score is a mean over pixels without the scaling by a test set that its threshold of 0.5 needs.

Departures from the authors' code: none known; none was published. Of others' code we know that it
adds one loss of D to the total, which the generator then lowers as well; here each has its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from onlygood.core.errors import ConfigError
from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    NetworkSettings,
    Preset,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Images, Latents, Maps, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.attention import attention
from onlygood.losses.distances import l1_mean, l2_mean, relative_spread
from onlygood.losses.latent import kl_standard_normal
from onlygood.losses.ssim import ssim
from onlygood.networks.bergmann import Posterior
from onlygood.networks.convolutional import Generator, ImageCritic, Style, Trunk
from onlygood.networks.modes import evaluating
from onlygood.networks.patches import enlarged
from onlygood.networks.sizes import halvings_to

STYLE = Style(first_norm=False)
GAME = GAMES["non_saturating"]
SIDE = 8
"""Of the map of codes, and of what attention is told of."""
NORMAL, ANOMALOUS = 0, 1
"""Outputs of the classifier."""

Features = Float[Tensor, "B F h w"]


@dataclass(frozen=True, kw_only=True)
class CAVGAConfig(NetworkSettings):
    """Settings of CAVGA."""

    latent: int = number(64, ONE_OR_MORE)
    """Channels of the map of codes, which is 8 x 8."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of all networks."""
    betas: tuple[float, float] = number((0.9, 0.999), BELOW_ONE)
    halved_after: tuple[int, ...] = number((30, 60, 90, 120), NOT_NEGATIVE)
    """Passes over the training pictures after each of which the rate is halved; 0: after none."""
    beta: float = number(1.0, NOT_NEGATIVE)
    """Weight of the divergence beside the squared error; 1: the bound of a VAE."""
    w_ssim: float = number(1.0, NOT_NEGATIVE)
    """Weight of 1 - SSIM in the reconstruction loss."""
    w_adv: float = number(1.0, NOT_NEGATIVE)
    """Weight of L_adv, the cross-entropy that D has of reconstructions."""
    w_ae: float = number(0.01, NOT_NEGATIVE)
    """Weight of the attention expansion loss L_ae; not used by the weak variant."""
    weak: bool = False
    """The weakly supervised variant: learn from a few known anomalous images, too."""
    w_c: float = number(0.001, NOT_NEGATIVE)
    """Weight of the classifier's cross-entropy L_c; weak variant alone."""
    w_cga: float = number(0.01, NOT_NEGATIVE)
    """Weight of the complementary guided attention loss L_cga; weak variant alone."""


class Encoded(NamedTuple):
    """What the encoder makes of images."""

    features: Features
    """Of its last layer, `(B, F, 8, 8)`."""
    posterior: Posterior
    """Of the flattened map of codes, `(B, 64 latent)`."""


class Pass(NamedTuple):
    """Images through the autoencoder; pixels in [-1, 1]."""

    x: Images
    features: Features
    posterior: Posterior
    z: Latents
    """Drawn from it."""
    x_hat: Images


# For minutes of a core; what was measured with them is on the page of the method.
_OURS = {"width": 16, "latent": 2, "lr": 1e-3, "w_adv": 0.01, "halved_after": (0,)}
# 150 passes, halved after every 30th; here encoder and D take a batch each in a step.
_LENGTH = {"epochs": 300, "batch_size": 16}
_HALVED = {"halved_after": (60, 120, 180, 240)}


class MapEncoder(nn.Module):
    """Image to features, and linearly from there to the distribution of a map of codes."""

    def __init__(self, shape: InputShape, latent: int, width: int) -> None:
        super().__init__()
        halvings = halvings_to(SIDE, shape, "cavga")
        self.trunk = Trunk(shape, width, STYLE, halvings=halvings)
        self.mean = nn.Conv2d(self.trunk.channels, latent, 1)
        self.log_variance = nn.Conv2d(self.trunk.channels, latent, 1)

    def forward(self, x: Images) -> Encoded:
        """Encode images."""
        features = self.trunk(x)
        mean, log_variance = self.mean(features), self.log_variance(features)
        posterior = Posterior(mean.flatten(1).float(), log_variance.flatten(1).float())
        return Encoded(features, posterior)


@final
class CAVGA(Method):
    """Variational autoencoder with a map of codes, discriminator, and attention."""

    config_class = CAVGAConfig
    localizes = True
    uses_anomalous = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        "paper": Preset(
            summary="the unsupervised variant, 256 px, not pretrained",
            config=_HALVED,
            view={"size": 256},
            training=_LENGTH,
        ),
        "weak": Preset(
            summary="the weakly supervised one: known anomalous pictures are given as well",
            config={"weak": True, **_HALVED},
            view={"size": 256},
            training=_LENGTH,
        ),
    }

    def __init__(self, config: CAVGAConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        codes = c.latent * SIDE * SIDE
        self.encoder = MapEncoder(shape, c.latent, c.width)
        self.generator = Generator(shape, codes, c.width, STYLE)
        self.discriminator = ImageCritic(Trunk(shape, c.width, STYLE), STYLE)
        self.classifier = nn.Linear(codes, 2) if c.weak else None

    def forward(self, batch: Batch) -> Pass:
        """Encode the images and give them back from drawn codes."""
        x = symmetric(batch.normal)
        features, posterior = self.encoder(x)
        z = posterior.at(batch.normals(posterior.mean.shape[1]))
        return Pass(x, features, posterior, z, self.generator(z))

    def seen(self, features: Features) -> Maps:
        """A: attention of the sum of the mean code."""
        return attention(features, self.encoder.mean.weight.sum(0).flatten())

    def seen_as(self, kind: int, features: Features) -> Maps:
        """A^c: attention of the classifier's output for a kind of images."""
        assert self.classifier is not None
        to_code = self.classifier.weight[kind].view(-1, SIDE, SIDE)
        to_features = self.encoder.mean.weight.flatten(1)
        return attention(features, torch.einsum("zhw,zf->fhw", to_code, to_features))

    def discriminator_loss(self, batch: Batch) -> Loss:
        """Raise the logit of x, lower that of x_hat."""
        p = self(batch)
        real, fake = self.discriminator(p.x).value, self.discriminator(p.x_hat).value
        return Loss.weighted(adversarial=(1.0, GAME.critic(real, fake))).watching(
            real=real, fake=fake
        )

    def autoencoder_loss(self, batch: Batch) -> Loss:
        """Reconstruction, divergence, L_adv with the label changed over, and attention."""
        c, p = self.config, self(batch)
        terms: dict[str, tuple[float, PerImage]] = {
            "reconstruction": (1.0, l2_mean(p.x, p.x_hat)),
            "structure": (c.w_ssim, 1 - ssim(unit(p.x), unit(p.x_hat))),
            "divergence": (c.beta / p.x[0].numel(), kl_standard_normal(*p.posterior)),
            "adversarial": (c.w_adv, GAME.generator(self.discriminator(p.x_hat).value)),
        }
        if self.classifier is not None and batch.anomalous is not None:
            terms |= self._weak_terms(self.classifier, batch.anomalous, p)
        elif self.classifier is None and batch.anomalous is None:
            terms["expansion"] = (c.w_ae, (1 - self.seen(p.features)).mean((1, 2)))
        else:
            raise ConfigError(
                "weak=true learns from pictures known to be anomalous, and weak=false from normal "
                "ones alone; give such pictures and weak=true, or neither"
            )
        return Loss.weighted(**terms).watching(
            # Where noise drowns the means, codes say nothing of their images any more.
            code_spread=relative_spread(p.posterior.mean, p.z)
        )

    def _weak_terms(
        self, classifier: nn.Module, anomalous: Images, p: Pass
    ) -> dict[str, tuple[float, PerImage]]:
        """L_c of each kind, and L_cga: `1 - A^normal + A^anomalous` where normal is seen."""
        c, logits = self.config, classifier(p.posterior.mean)
        told = (logits[:, NORMAL] > logits[:, ANOMALOUS]).float()
        as_normal, as_anomalous = (self.seen_as(kind, p.features) for kind in (NORMAL, ANOMALOUS))
        guided = 1 - as_normal + as_anomalous
        # Normalised as when scoring, and so that running statistics stay those of normal ones.
        with evaluating(self.encoder):
            known = self.encoder(symmetric(anomalous)).posterior.mean
        return {
            "normal": (c.w_c, _cross_entropy(logits, NORMAL)),
            "guidance": (c.w_cga, told * guided.mean((1, 2))),
            "anomalous": (c.w_c, _cross_entropy(classifier(known), ANOMALOUS)),
        }

    def stages(self) -> Sequence[Stage]:
        """One stage: the discriminator, then all other networks on other images."""
        c = self.config
        milestones = tuple(passes for passes in c.halved_after if passes)
        adam = Adam(lr=c.lr, betas=c.betas, schedule=Schedule(epochs=milestones, factor=0.5))
        players = (self.encoder, self.generator)
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
                        name="autoencoder",
                        trains=players if self.classifier is None else (*players, self.classifier),
                        loss=self.autoencoder_loss,
                        optimizer=adam,
                    ),
                ],
            )
        ]

    def reconstruct(self, x: Images) -> Images:
        """The image of the mean code."""
        return unit(self.generator(self.encoder(symmetric(x)).posterior.mean))

    def score(self, x: Images) -> Scores:
        """Mean absolute error of pixels; the map is what attention leaves out, `1 - A`.

        Where there is a classifier, the map is A^anomalous, and the classifier's word on the image
        is told beside the score.
        """
        x = symmetric(x)
        features, posterior = self.encoder(x)
        if self.classifier is None:
            left_out, told = 1 - self.seen(features), {}
        else:
            left_out = self.seen_as(ANOMALOUS, features)
            logits = self.classifier(posterior.mean)
            told = {"classifier": (0.0, logits[:, ANOMALOUS] - logits[:, NORMAL])}
        return Scores.weighted(
            map=enlarged(left_out, *x.shape[2:]),
            pixels=(1.0, l1_mean(x, self.generator(posterior.mean))),
            attention=(0.0, left_out.mean((1, 2))),
            **told,
        )


def _cross_entropy(logits: Float[Tensor, "B 2"], kind: int) -> PerImage:
    return -logits.float().log_softmax(1)[:, kind]
