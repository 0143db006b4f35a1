"""LSA: an autoencoder whose codes a second network finds likely, entry by entry.

Abati, Porrello, Calderara, Cucchiara: Latent Space Autoregression for Novelty Detection. CVPR 2019,
arXiv:1807.01653.

Departures from the paper:
- It ends by a look at held-out pictures; here the run's budget does.
- What both parts of the score are at least is not taken off, which changes no order.
- Images of any side that the blocks can halve; the two networks of the paper are presets.
- Its variant for videos is not here.

Departures from the authors' code:
- What they trained with was never published: optimiser, length, learning rate and lambda of the
  presets are recalled from the paper, not read in code.
- A weight that must not count is multiplied by 0 in the pass, not overwritten.
- Probabilities have no least value, which there is that of rounding, 2e-16.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    TWO_OR_MORE,
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images, Latents, PerImage
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores
from onlygood.losses.distances import l2_map, l2_sum, relative_spread

SLOPE = 0.01
LAYERS = 4
"""Hidden layers of the estimator."""
ROUNDING = 1e-5
"""A part of the score that varies by less than this share of itself says nothing."""


@dataclass(frozen=True, kw_only=True)
class LSAConfig(Settings):
    """Settings of LSA; the defaults are the paper's on CIFAR-10."""

    stem: int = number(32, NOT_NEGATIVE)
    """Channels of a convolution and a residual block before the first halving; 0: neither."""
    widths: tuple[int, ...] = number((64, 128, 256), ONE_OR_MORE)
    """Channels behind each halving of the side."""
    hidden: int = number(256, ONE_OR_MORE)
    """Units of the dense layer next to the code, on both of its sides."""
    latent: int = number(64, ONE_OR_MORE)
    """Size of the code z, whose entries are in [0, 1]."""
    bins: int = number(100, TWO_OR_MORE)
    """Into so many equal parts [0, 1] is cut where an entry's likelihood is told."""
    estimator: int = number(32, ONE_OR_MORE)
    """Units of each hidden layer of the estimator for each entry of the code."""
    likelihood: float = number(0.1, NOT_NEGATIVE)
    """Weight lambda of the codes' negative log-likelihood."""
    lr: float = number(1e-3, POSITIVE)
    """Learning rate of all networks."""


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class _EverySecond(nn.Module):
    """What a stride of 2 sees: in gradients of 1 x 1 layers with one oneDNN's AVX2 code crashes."""

    def forward(self, x: Float[Tensor, "B c _ _"]) -> Float[Tensor, "B c _ _"]:
        return x[:, :, ::2, ::2]


class _Spread(nn.Module):
    """What a stride of 2 makes of positions that are transposed: zeros between them."""

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c _ _"]:
        spread = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
        spread[:, :, ::2, ::2] = x
        return spread


class Block(nn.Module):
    """Two convolutions beside a shortcut: the side is halved, doubled or kept."""

    def __init__(self, inputs: int, outputs: int, resize: Literal["down", "up", "none"]) -> None:
        super().__init__()
        self.shortcut: nn.Module
        if resize == "up":
            doubling = nn.ConvTranspose2d(inputs, outputs, 5, 2, 2, 1, bias=False)
            first = nn.Sequential(doubling, nn.BatchNorm2d(outputs))
            layer = nn.ConvTranspose2d(inputs, outputs, 1, bias=False)
            self.shortcut = nn.Sequential(layer, _Spread(), nn.BatchNorm2d(outputs))
        elif resize == "down":
            first = _convolution(inputs, outputs, 3, 2)
            self.shortcut = nn.Sequential(_EverySecond(), _convolution(inputs, outputs, 1))
        else:
            first = _convolution(inputs, outputs, 3)
            self.shortcut = nn.Identity()
        self.main = nn.Sequential(first, nn.LeakyReLU(SLOPE), _convolution(outputs, outputs, 3))

    def forward(self, x: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """`(B, inputs, h, w)` to `(B, outputs, h', w')`."""
        return F.leaky_relu(self.shortcut(x) + self.main(x), SLOPE)


def _dense(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.LeakyReLU(SLOPE))


class Encoder(nn.Module):
    """Image to code: `(B, C, H, W)` to `(B, latent)` in [0, 1]."""

    def __init__(self, shape: InputShape, config: LSAConfig) -> None:
        super().__init__()
        c, form = config, _form(shape, config)
        blocks: list[nn.Module] = []
        if c.stem:
            # No padding: the first halving rounds up again what the convolution takes away.
            stem = nn.Conv2d(shape.channels, c.stem, 3, bias=False)
            blocks += [stem, nn.LeakyReLU(SLOPE), Block(c.stem, c.stem, "none")]
        steps = pairwise([c.stem or shape.channels, *c.widths])
        self.blocks = nn.Sequential(*blocks, *(Block(a, b, "down") for a, b in steps))
        self.hidden = _dense(form.numel(), c.hidden)
        self.code = nn.Linear(c.hidden, c.latent)

    def forward(self, x: Images) -> Latents:
        """Encode images."""
        return torch.sigmoid(self.code(self.hidden(self.blocks(x).flatten(1))).float())


class Decoder(nn.Module):
    """Code to image, unbounded."""

    def __init__(self, shape: InputShape, config: LSAConfig) -> None:
        super().__init__()
        c, form = config, _form(shape, config)
        last = c.stem or max(1, c.widths[0] // 2)
        self.hidden = nn.Sequential(
            _dense(c.latent, c.hidden), _dense(c.hidden, form.numel()), nn.Unflatten(1, form)
        )
        steps = pairwise([*c.widths[::-1], last])
        self.blocks = nn.Sequential(
            *(Block(a, b, "up") for a, b in steps),
            *([Block(last, last, "none")] if c.stem else []),
        )
        self.image = nn.Conv2d(last, shape.channels, 1, bias=False)

    def forward(self, z: Latents) -> Images:
        """Give images back."""
        return self.image(self.blocks(self.hidden(z))).float()


class MaskedDense(nn.Module):
    """A dense layer of sequences, `(B, inputs, L)` to `(B, outputs, L)`, that does not look ahead.

    Entry i of the output depends on the entries before i of the input and, unless it is `strict`,
    on entry i.
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, length: int, *, strict: bool = False) -> None:
        super().__init__()
        self.form = (outputs, length, inputs, length)
        self.dense = nn.Linear(inputs * length, outputs * length)
        mask = torch.ones(length, length).tril(-1 if strict else 0)
        self.register_buffer("mask", mask[None, :, None, :], persistent=False)

    def forward(self, x: Float[Tensor, "B _ L"]) -> Float[Tensor, "B _ L"]:
        """Apply it."""
        weight = (self.dense.weight.view(self.form) * self.mask).view_as(self.dense.weight)
        return F.linear(x.flatten(1), weight, self.dense.bias).unflatten(1, self.form[:2])


class Estimator(nn.Module):
    """Code to logits of each entry's bins, `(B, bins, latent)`, of which each sees those before."""

    def __init__(self, latent: int, width: int, bins: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [MaskedDense(1, width, latent, strict=True)]
        for outputs in [*[width] * (LAYERS - 1), bins]:
            layers += [nn.LeakyReLU(SLOPE), MaskedDense(width, outputs, latent)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Latents) -> Float[Tensor, "B bins Z"]:
        """Logits of p(z_i | z_1, ..., z_(i-1))."""
        return self.layers(z[:, None]).float()


# A code of 32 that a hundredth of the weights finds likely, and rates for a few passes.
_OURS = {"stem": 16, "widths": (16, 32, 64), "hidden": 128, "latent": 32, "estimator": 8}


@final
class LSA(Method):
    """An autoencoder, and an autoregressive estimator of the density of its codes."""

    config_class = LSAConfig
    localizes = True
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=2000),
        "mnist": Preset(
            summary="as in its paper on MNIST",
            config={"stem": 0, "widths": (32, 64), "hidden": 64, "likelihood": 1.0, "lr": 1e-4},
            view={"size": 28},
            training={"epochs": 200, "batch_size": 256},
        ),
        "cifar10": Preset(
            summary="as in its paper on CIFAR-10",
            view={"size": 32},
            training={"epochs": 200, "batch_size": 256},
        ),
    }
    span: Tensor

    def __init__(self, config: LSAConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.encoder = Encoder(shape, c)
        self.decoder = Decoder(shape, c)
        self.estimator = Estimator(c.latent, c.estimator, c.bins)
        self.register_buffer("span", torch.ones(2))

    def surprise(self, z: Latents) -> PerImage:
        """`- sum_i log p(z_i | z_1, ..., z_(i-1))`, in nats, of each entry's bin.

        Bins have no gradient: codes are moved through what the estimator is given alone.
        """
        c = self.config
        bins = (z.detach() * c.bins).long().clamp_max(c.bins - 1)
        return F.cross_entropy(self.estimator(z), bins, reduction="none").sum(1)

    def loss(self, batch: Batch) -> Loss:
        """The objective: squared error, and how surprising the code is."""
        x = batch.normal
        z = self.encoder(x)
        x_hat = self.decoder(z)
        return Loss.weighted(
            reconstruction=(1.0, l2_sum(x, x_hat)),
            likelihood=(self.config.likelihood, self.surprise(z)),
        ).watching(code_spread=relative_spread(z), reconstruction_spread=relative_spread(x_hat, x))

    def stages(self) -> Sequence[Stage]:
        """All networks at once, then a look at what both parts of the score span."""
        return [
            Stage(
                name="reconstruction",
                updates=[
                    Update(
                        name="autoencoder",
                        trains=(self.encoder, self.decoder, self.estimator),
                        loss=self.loss,
                        optimizer=Adam(lr=self.config.lr),
                    )
                ],
            ),
            Stage(name="range", visits="held_out", before=self.measure),
        ]

    def measure(self, images: Batches) -> None:
        """Find how far both parts reach from the least to the largest of held-out images."""
        parts = [torch.stack(list(self.score(x).terms.values()), 1).aminmax(dim=0) for x in images]
        low = torch.stack([part.min for part in parts]).amin(0)
        high = torch.stack([part.max for part in parts]).amax(0)
        # Of a single image both are the same, and codes that say nothing differ by rounding: no
        # units then.
        told = high - low > ROUNDING * high.abs()
        self.span.copy_(torch.where(told, high - low, 1.0))

    def reconstruct(self, x: Images) -> Images:
        """D(E(x))."""
        return self.decoder(self.encoder(x))

    def score(self, x: Images) -> Scores:
        """The novelty score: surprise and error, each in units of what it spans."""
        z = self.encoder(x)
        x_hat = self.decoder(z)
        likelihood, pixels = self.surprise(z), l2_sum(x, x_hat)
        total = pixels / self.span[1]
        if self.config.likelihood:  # An estimator that was not trained tells nothing.
            total = likelihood / self.span[0] + total
        return Scores(total, {"likelihood": likelihood, "pixels": pixels}, l2_map(x, x_hat))


def _form(shape: InputShape, config: LSAConfig) -> torch.Size:
    """Of the smallest maps.

    Raises:
        ShapeError: the blocks cannot halve the side of such images, or those behind a stem would
            not round it up.
    """
    halvings, side = len(config.widths), shape.height
    if side != shape.width or side % 2**halvings or (config.stem and halvings < 2):
        raise ShapeError(
            f"lsa needs square images with a side that can be halved {halvings} times (with a "
            f"stem, twice at least), got {side} x {shape.width}; set size={2 ** (halvings + 2)}, "
            "or name more or fewer widths"
        )
    return torch.Size([config.widths[-1], side >> halvings, side >> halvings])
