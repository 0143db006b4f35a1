"""PIAD: encoder and generator between images and a prior, compared by how a trained eye sees them.

Tuluptceva, Bakker, Fedulova, Konushin: Perceptual Image Anomaly Detection. ACPR 2019,
arXiv:1909.05904. Equation numbers are the paper's; networks and lengths are its supplement's.

Departures from the paper:
- Features are those of EfficientNet-Lite0 at stride 8 by default: its weights are installed with
  onlygood. The `paper-...` and `ablation-...` presets take those of VGG-19 (`r42`: second
  convolution of the fourth block, after its ReLU; stride 8 too), whose file must be fetched.
- mu and sigma of Eq. 3 come from the training pictures, at the size at which they are compared, in
  a pass before training. The paper takes them from a part of ImageNet; `statistics=imagenet` reads
  those off the batch normalisation that closes the backbone's layer, where there is one.
- The ratios of Algorithm 3 are summed up by their median, as in the authors' code.
  `gamma_reduce=mean` is the printed one.
- `gamma_size=std` is that of the supplement; Algorithm 2 says `l2`.
- The drift term counts values on real and on fake inputs, as in the authors' code; the supplement
  does not say on what.
- Each critic draws its own pictures and codes; Algorithm 1 gives both critics the same ones. Its
  bound 0, ..., n_dis is read as n_dis updates.
- Where several processes share a batch, the minibatch standard deviation is that of each one's
  part.
- The supplement prints 32 inputs of `D_Z` for CIFAR-10 and CelebA, whose codes have 256 and 64.
- The presets `default`, `small` and `texture` are ours: what a CPU can do in minutes.

Departures from the authors' code:
- The learning rate of encoder and generator is 2e-4 as printed (code: 1e-4), without weight decay
  (code: 1e-8), and LSUN has 200,000 steps (code: 300,000): `--set lr=1e-4 --set weight_decay=1e-8`.
- Small data sets are not repeated up to 10,000 pictures.
- First weights are those of the code; the paper does not say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, final

from jaxtyping import Float
from torch import Tensor

from onlygood.core.gradients import Balance
from onlygood.core.images import symmetric, unit
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
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
from onlygood.core.shapes import Batches, Images, Maps, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.adversarial import GAMES
from onlygood.losses.distances import l1_map, l1_mean, l2_map, l2_mean, relative_spread, spread
from onlygood.losses.penalties import between, two_sided
from onlygood.losses.perceptual import relative_l1, relative_l1_map
from onlygood.networks.backbones import IMAGENET, Standardisation, backbone, trained_statistics
from onlygood.networks.patches import enlarged
from onlygood.networks.preact import CodeSide, Encoder, Generator, ImageCritic, LatentCritic

GAME = GAMES["wasserstein"]
Features = Float[Tensor, "B _ _ _"]


class Distance(NamedTuple):
    """How far the features of a reconstruction are from those of its image, which come first."""

    of_image: Callable[[Features, Features], PerImage]
    of_position: Callable[[Features, Features], Maps]


DISTANCES = {
    "rel_perc_l1": Distance(relative_l1, relative_l1_map),
    "perc_l1": Distance(l1_mean, l1_map),
    "perceptual": Distance(l2_mean, l2_map),
    "mse": Distance(l2_mean, l2_map),
}
STANDARDISED = ("rel_perc_l1", "perc_l1")


@dataclass(frozen=True, kw_only=True)
class PIADConfig(Settings):
    """Settings of PIAD; the defaults are the paper's for MNIST, but for the backbone."""

    distance: Literal["rel_perc_l1", "perc_l1", "perceptual", "mse"] = "rel_perc_l1"
    """Between x and G(E(x)), to train and to score: Eq. 4, or a row of the ablation."""
    backbone: str = "efficientnet-lite0"
    """Network whose features are compared; without use for `distance=mse`."""
    layer: str = "stride8"
    """Layer of the backbone."""
    statistics: Literal["training", "imagenet"] = "training"
    """Pictures that mu and sigma of Eq. 3 are of; VGG-19 does not tell those of ImageNet."""
    width: int = number(32, ONE_OR_MORE)
    """Channels of E and G at full size."""
    critic_width: int = number(32, ONE_OR_MORE)
    """Channels of D_X at full size."""
    latent_critic_width: int = number(128, ONE_OR_MORE)
    """Units of the hidden layers of D_Z."""
    doublings: int = number(0, NOT_NEGATIVE)
    """How many halvings from the first on double the channels of E, G and D_X."""
    latent: int = number(32, ONE_OR_MORE)
    """Channels of the code z."""
    latent_side: CodeSide = 1
    """Side of the code: 1 for a vector, 4 for maps of 4x4."""
    critic_steps: int = number(2, ONE_OR_MORE)
    """Updates n_dis of each critic before one of encoder and generator, each on a fresh batch."""
    penalty_weight: float = number(10.0, NOT_NEGATIVE)
    """Weight lambda of the gradient penalty, Eq. 5, of both critics."""
    drift_weight: float = number(1e-3, NOT_NEGATIVE)
    """Weight of the squared values of both critics, on real and on fake."""
    weights: Literal["normalised", "fixed"] = "normalised"
    """Weights gamma of Eq. 8 and 9: from the sizes of gradients, or as given."""
    gamma_generator: float = number(100.0, POSITIVE)
    """Weight gamma_G of Eq. 8 with `weights=fixed`."""
    gamma_encoder: float = number(10.0, POSITIVE)
    """Weight gamma_E of Eq. 9 with `weights=fixed`."""
    gamma_every: int = number(100, ONE_OR_MORE)
    """Steps n_weight between two measurements of gradients; until the first one, gamma is 1."""
    gamma_window: int = number(200, ONE_OR_MORE)
    """Measurements N that are kept, Algorithm 3."""
    gamma_smoothing: float = number(0.05, PART)
    """Share of the newest measurement in the exponential smoothing of Algorithm 3."""
    gamma_size: Literal["std", "l2"] = "std"
    """Size of a gradient: standard deviation (supplement), or Euclidean norm (Algorithm 2)."""
    gamma_reduce: Literal["median", "mean"] = "median"
    """How ratios over layers and time become one: their median (code), or mean (Algorithm 3)."""
    critic_lr: float = number(5e-4, POSITIVE)
    """Learning rate of the critics."""
    lr: float = number(2e-4, POSITIVE)
    """Learning rate of encoder and generator; 1e-4 in the authors' code."""
    betas: tuple[float, float] = number((0.5, 0.99), BELOW_ONE)
    """Adam's betas of all networks."""
    weight_decay: float = number(0.0, NOT_NEGATIVE)
    """L2 penalty of all networks; 1e-8 in the authors' code."""


# By how well held-out normal pictures were given back in short runs; see the method's page.
_OURS = {
    "width": 16,
    "critic_width": 16,
    "critic_steps": 1,
    "lr": 1e-3,
    "critic_lr": 1e-3,
    "gamma_every": 10,
}
_VGG = {"backbone": "vgg19", "layer": "r42"}
_CIFAR10 = {"width": 64, "doublings": 2, "latent": 256, "latent_critic_width": 1024}
_LARGE = {"width": 64, "critic_width": 64, "critic_steps": 3}
_LSUN = {**_LARGE, "latent_side": 4, "latent_critic_width": 2048}
_CELEBA = {**_LARGE, "latent": 64, "latent_critic_width": 256}
_MSE = {"distance": "mse"}


class _Data(NamedTuple):
    """What the supplement says of a data set."""

    title: str
    steps: int
    config: Mapping[str, Any]
    view: Mapping[str, Any]

    def preset(self, summary: str, **config: Any) -> Preset:
        """Its settings behind others."""
        whole = {**config, **self.config}
        return Preset(summary=summary, config=whole, view=self.view, training={"steps": self.steps})


_DATA = {
    "mnist": _Data("MNIST and Fashion-MNIST", 50_000, {}, {"size": 32}),
    "coil-100": _Data("COIL-100", 20_000, {}, {"size": 32}),
    "cifar10": _Data("CIFAR-10", 100_000, _CIFAR10, {"size": 32}),
    "lsun": _Data("LSUN bedrooms", 200_000, _LSUN, {"crop": 256, "size": 64}),
    "celeba": _Data("CelebA", 200_000, _CELEBA, {"crop": 140, "size": 64}),
}


@final
class PIAD(Method):
    """Encoder and generator against a critic each, and a perceptual distance of x to G(E(x))."""

    config_class = PIADConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS),
        **{
            name: data.preset(f"{data.title} as in the supplement, but for the backbone")
            for name, data in _DATA.items()
        },
        **{
            f"paper-{name}": data.preset(f"{data.title} as in the paper", **_VGG)
            for name, data in _DATA.items()
        },
        **{
            f"ablation-{name}": Preset(
                summary=f"Table 3: CIFAR-10, {title}",
                config={**_VGG, **_CIFAR10, **changes},
                view={"size": 32},
                training={"steps": 100_000},
            )
            for name, title, changes in (
                ("mse-fixed", "squared error, weights by hand", _MSE | {"weights": "fixed"}),
                ("mse", "squared error, normalised weights", _MSE),
                ("perceptual", "perceptual loss", {"distance": "perceptual"}),
                ("perc-l1", "L1 of standardised features", {"distance": "perc_l1"}),
            )
        },
    }

    def __init__(self, config: PIADConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c.latent, c.width, c.doublings, c.latent_side)
        self.generator = Generator(shape, c.latent, c.width, c.doublings, c.latent_side)
        self.image_critic = ImageCritic(shape, c.critic_width, c.doublings)
        self.code = c.latent * c.latent_side**2
        self.latent_critic = LatentCritic(self.code, c.latent_critic_width)
        if c.distance != "mse":
            self.backbone = backbone(c.backbone, [c.layer])
            self.standardisation = Standardisation(self.backbone.channels[0])
        if c.distance in STANDARDISED and c.statistics == "imagenet":
            self.standardisation.take(*trained_statistics(self.backbone))

    def image_critic_loss(self, batch: Batch) -> Loss:
        """Eq. 5 for D_X: raise images, lower what G makes of codes from the prior."""
        x_z = self.generator(batch.normals(self.code))
        return self.critic_loss(self.image_critic, symmetric(batch.normal), x_z, batch.uniforms())

    def latent_critic_loss(self, batch: Batch) -> Loss:
        """Eq. 5 for D_Z: raise codes from the prior, lower what E makes of images."""
        z_x = self.encoder(symmetric(batch.normal))
        return self.critic_loss(self.latent_critic, batch.normals(self.code), z_x, batch.uniforms())

    def critic_loss(
        self,
        critic: Callable[[Tensor], PerImage],
        real: Tensor,
        fake: Tensor,
        epsilon: PerImage,
    ) -> Loss:
        """Eq. 5 with the drift term of the supplement."""
        c = self.config
        # In two passes: D_X sees how much the images of a batch differ.
        on_real, on_fake = critic(real), critic(fake)
        return Loss.weighted(
            adversarial=(1.0, GAME.critic(on_real, on_fake)),
            penalty=(c.penalty_weight, two_sided(critic, between(real, fake, epsilon))),
            drift=(c.drift_weight, on_real.square() + on_fake.square()),
        ).watching(real=on_real, fake=on_fake)

    def generator_loss(self, batch: Batch) -> Loss:
        """Eq. 6 for G and for E, and Eq. 7, which gets a weight for each: Eq. 8 and 9."""
        distance = DISTANCES[self.config.distance]
        x, z = symmetric(batch.normal), batch.normals(self.code)
        x_z, z_x = self.generator(z), self.encoder(x)
        x_hat = self.generator(z_x)
        f = self.features(batch.normal) if batch.prepared is None else batch.prepared
        f_hat = self.features(unit(x_hat))
        return (
            Loss.weighted(
                generator=(1.0, GAME.generator(self.image_critic(x_z))),
                encoder=(1.0, GAME.generator(self.latent_critic(z_x))),
            )
            .balancing(reconstruction=(1.0, distance.of_image(f, f_hat)))
            .watching(
                code_norm=z_x.norm(dim=1),
                code_spread=relative_spread(z_x, z),
                reconstruction_spread=relative_spread(x_hat, x),
                diversity=spread(x_z),
            )
        )

    def features(self, x: Images) -> Features:
        """What images are compared by: maps of the backbone, standardised by Eq. 3 or as they are.

        For `distance=mse` the image itself, as RGB in units of ImageNet's standard deviations.
        """
        if self.config.distance == "mse":
            mean, std = (x.new_tensor(values).view(1, 3, 1, 1) for values in IMAGENET)
            return (x - mean) / std
        (maps,) = self.backbone(x)
        return self.standardisation(maps)

    def prepare(self, x: Images) -> Tensor | None:
        """The features of images, which no update changes."""
        return None if self.config.distance == "mse" else self.features(x)

    def stages(self) -> Sequence[Stage]:
        """The statistics of features where they are to be measured, then Algorithm 1.

        Every update has a fresh batch.
        """
        c = self.config
        critics = Adam(lr=c.critic_lr, betas=c.betas, weight_decay=c.weight_decay)
        adversarial = Stage(
            name="adversarial",
            updates=[
                Update(
                    name="image_critic",
                    trains=(self.image_critic,),
                    loss=self.image_critic_loss,
                    optimizer=critics,
                    repeat=c.critic_steps,
                ),
                Update(
                    name="latent_critic",
                    trains=(self.latent_critic,),
                    loss=self.latent_critic_loss,
                    optimizer=critics,
                    repeat=c.critic_steps,
                ),
                Update(
                    name="generator",
                    trains=(self.encoder, self.generator),
                    loss=self.generator_loss,
                    optimizer=Adam(lr=c.lr, betas=c.betas, weight_decay=c.weight_decay),
                    gradients=self.balance(),
                ),
            ],
        )
        if c.distance in STANDARDISED and c.statistics == "training":
            return [Stage(name="statistics", before=self.measure), adversarial]
        return [adversarial]

    def measure(self, images: Batches) -> None:
        """Eq. 3: mu and sigma of each channel over the training images; fills the buffers."""
        self.standardisation.measure(self.backbone(x)[0] for x in images)

    def balance(self) -> Balance:
        """gamma_G and gamma_E: Algorithms 2 and 3, or as given."""
        c = self.config
        modules = {"generator": self.generator, "encoder": self.encoder}
        if c.weights == "fixed":
            given = {"generator": c.gamma_generator, "encoder": c.gamma_encoder}
            return Balance(modules=modules, initial=given, every=0)
        return Balance(
            modules=modules,
            every=c.gamma_every,
            window=c.gamma_window,
            smoothing=c.gamma_smoothing,
            size=c.gamma_size,
            reduce=c.gamma_reduce,
        )

    def reconstruct(self, x: Images) -> Images:
        """G(E(x))."""
        return unit(self.generator(self.encoder(symmetric(x))))

    def score(self, x: Images) -> Scores:
        """Eq. 1: the distance between x and G(E(x)); that of each position as the map."""
        distance = DISTANCES[self.config.distance]
        f, f_hat = self.features(x), self.features(self.reconstruct(x))
        return Scores.weighted(
            map=enlarged(distance.of_position(f, f_hat), *x.shape[2:]),
            distance=(1.0, distance.of_image(f, f_hat)),
        )
