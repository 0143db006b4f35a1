"""PixelCNN++: how likely a picture is pixel by pixel, beside what makes any picture likely.

Salimans, Karpathy, Chen, Kingma: PixelCNN++. ICLR 2017, arXiv:1701.05517. Plain likelihood is high
for pictures that are simple, whatever they show; two scores set it right:
the likelihood ratio of Ren et al.: Likelihood Ratios for Out-of-Distribution Detection. NeurIPS
2019, arXiv:1906.02845; and the score S of Serra et al.: Input Complexity and Out-of-distribution
Detection with Likelihood-based Generative Models. ICLR 2020, arXiv:1909.11480.

Departures from the paper:
- One hierarchy without halvings and no dropout, as in Ren et al.; the preset for S has the width
  and the mixture of PixelCNN++ all the same.
- The strongest compressor of S is the shortest of PNG, lossless JPEG 2000 and lossless WebP (at its
  default effort); FLIF, which Serra et al. have beside the first two, is no longer kept. AMA's
  table has FLIF alone.
- Grey pictures stay grey; Serra et al. repeat them to three channels.
- Ren et al. choose mutations (0.1, 0.2 or 0.3) and decay of the background (0, 10 or 100) by other
  data sets, notMNIST for Fashion-MNIST and grey CIFAR-10 for CIFAR-10; here they are settings, and
  nothing is chosen.

Departures from the authors' code:
- The network sees pixels in [-1, 1], that of Ren et al. 0 to 255.
- Weights are as PyTorch draws them, and convolutions have no weight normalisation (nor have those
  of Ren et al.; PixelCNN++ has it).
- Losses are in bits for each number, theirs in nats for each picture: a decay of the background
  weighs against another unit here.

From memory, not checked: the 600,000 steps for CIFAR-10, and that Serra et al. repeat grey
pictures. A widely copied implementation of S takes `L` in bits from a likelihood in nats. Here both
are in bits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import ClassVar, Literal, final

import torch
from PIL import Image

from onlygood.core.errors import ConfigError
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam, Schedule
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
from onlygood.networks.pixelcnn import LEVELS, PixelNetwork, bits

CODECS: tuple[Mapping[str, object], ...] = (
    {"format": "PNG", "compress_level": 9},
    {"format": "JPEG2000", "irreversible": False},
    {"format": "WEBP", "lossless": True, "quality": 100, "method": 4, "exact": True},
)
"""Compressors without loss, as Pillow calls them.

WebP at its default effort: the highest takes 20 to 40 times as long, a quarter of a second for a
tile of 64 px, whose file is 0 to 2.6 % larger then (clothes of 28 px: 1 % smaller).
"""


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig(Settings):
    """Settings of PixelCNN++; the defaults are those of Ren et al., `mutation` one of three."""

    width: int = number(32, ONE_OR_MORE)
    """Features of each of the two streams."""
    layers: int = number(5, ONE_OR_MORE)
    """Residual layers on the way in, and as many on the way back."""
    components: int = number(1, ONE_OR_MORE)
    """Logistic distributions that are mixed for each pixel."""
    score_by: Literal["ratio", "complexity", "likelihood"] = "ratio"
    """Ratio to the background's likelihood; S, by what a compressor makes of it; or neither."""
    mutation: float = number(0.3, BELOW_ONE)
    """Share mu of pixels that are changed where the background is learnt; 0: it is not."""
    background_decay: float = number(0.0, NOT_NEGATIVE)
    """L2 penalty of the background's weights."""
    lr: float = number(1e-4, POSITIVE)
    """Learning rate of both networks."""
    betas: tuple[float, float] = number((0.95, 0.9995), BELOW_ONE)
    """Adam's betas."""
    decay: float = number(0.999995, POSITIVE)
    """Factor of the learning rate of each step after the first."""

    def __post_init__(self) -> None:
        """Refuse a ratio to nothing.

        Raises:
            ConfigError: that, or a number out of its range.
        """
        super().__post_init__()
        if self.score_by == "ratio" and not self.mutation:
            raise ConfigError(
                "a likelihood ratio needs a background: set mutation above 0, or score_by="
                "complexity or likelihood"
            )


# A handful of features, whose steps take a fraction of a second.
_OURS = {"width": 8, "layers": 2, "lr": 3e-3}
# Width, mixture and rates are PixelCNN++'s, which Serra et al. build on.
_SERRA = {"width": 160, "components": 10, "lr": 2e-4, "score_by": "complexity", "mutation": 0.0}


@final
class PixelCNN(Method):
    """A PixelCNN++ of the images, and one of images that are mutated: the background."""

    config_class = PixelCNNConfig
    localizes = True
    unexportable = "compresses each picture that it scores"
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=300),
        "ratio": Preset(
            summary="Fashion-MNIST as in Ren et al. (CIFAR-10: size=32, steps=600000)",
            view={"size": 28},
            training={"steps": 50_000, "batch_size": 32},
        ),
        "complexity": Preset(
            summary="S of Serra et al. by a PixelCNN++ without halvings; its length is ours",
            config=_SERRA,
            view={"size": 32},
            training={"epochs": 50, "batch_size": 64},
        ),
    }

    def __init__(self, config: PixelCNNConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        form = (shape.channels, c.width, c.layers, c.components)
        self.network = PixelNetwork(*form)
        self.background = PixelNetwork(*form) if c.mutation else None

    def loss(self, batch: Batch) -> Loss:
        """Minus the logarithm of the likelihood, in bits for each number of an image."""
        x = batch.normal
        return Loss.weighted(bits=(1.0, bits(self.network(x)) / x[0].numel()))

    def background_loss(self, batch: Batch) -> Loss:
        """The same of mutated images, as Ren et al. train their background."""
        assert self.background is not None  # Of whoever trains it.
        x = mutated(batch, self.config.mutation)
        return Loss.weighted(bits=(1.0, bits(self.background(x)) / x[0].numel()))

    def stages(self) -> Sequence[Stage]:
        """Both networks on the same images."""
        c = self.config
        schedule = Schedule(per_step=c.decay)
        updates = [
            Update(
                name="network",
                trains=(self.network,),
                loss=self.loss,
                optimizer=Adam(lr=c.lr, betas=c.betas, schedule=schedule),
            )
        ]
        if self.background is not None:
            updates.append(
                Update(
                    name="background",
                    trains=(self.background,),
                    loss=self.background_loss,
                    optimizer=Adam(
                        lr=c.lr,
                        betas=c.betas,
                        weight_decay=c.background_decay,
                        schedule=schedule,
                    ),
                    batch="shared",
                )
            )
        return [Stage(name="likelihood", updates=updates)]

    def score(self, x: Images) -> Scores:
        """All that `score_by` names, in bits; the map has what each pixel adds, in nats.

        `ratio` is LLR of Ren et al. with its sign turned, `complexity` S of Serra et al.
        """
        c = self.config
        own = self.network(x)
        likelihood = bits(own)
        terms = {
            "likelihood": likelihood,
            "complexity": likelihood - compressed_bits(x),
        }
        surprise = -own
        if self.background is not None:
            background = self.background(x)
            terms["ratio"] = likelihood - bits(background)
            if c.score_by == "ratio":
                surprise = surprise + background
        return Scores.weighted(
            map=surprise, **{name: (float(name == c.score_by), t) for name, t in terms.items()}
        )


def mutated(batch: Batch, share: float) -> Images:
    """The normal images, of whose numbers a share is moved round by any number of levels."""
    x = batch.normal
    chosen = batch.uniforms(*x.shape[1:]) < share
    moved = (batch.uniforms(*x.shape[1:]) * (LEVELS + 1)).floor()
    return torch.where(chosen, ((x * LEVELS).round() + moved) % (LEVELS + 1) / LEVELS, x)


def compressed_bits(x: Images) -> PerImage:
    """Size of each image in the file of the codec that makes it smallest, in bits."""
    pictures = (x * LEVELS).round().clamp(0, LEVELS).byte().permute(0, 2, 3, 1).cpu().numpy()
    sizes = []
    for picture in pictures:
        image = Image.fromarray(picture.squeeze(2) if picture.shape[2] == 1 else picture)
        sizes.append(min(_size(image, codec) for codec in CODECS))
    return torch.tensor([8.0 * size for size in sizes], device=x.device)


def _size(image: Image.Image, codec: Mapping[str, object]) -> int:
    file = BytesIO()
    image.save(file, **codec)  # type: ignore[arg-type]
    return file.tell()
