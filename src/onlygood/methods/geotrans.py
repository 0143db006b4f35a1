"""GeoTrans: a classifier tells how a picture was turned and shifted; its doubt is the anomaly.

Golan, El-Yaniv: Deep Anomaly Detection Using Geometric Transformations. NeurIPS 2018,
arXiv:1805.10917. The network is a wide residual one, Zagoruyko and Komodakis 2016,
arXiv:1605.07146; Dirichlet distributions are fitted as in Minka 2000, Estimating a Dirichlet
distribution, from the start of Wicker et al. 2008.

Departures from the paper:
- Each picture of a batch is under a transformation drawn at random; there, a pass goes once through
  all pictures under all transformations, and 216 passes of ours are 3 of these.
- Presets of ours leave shifts out: scoring takes a pass for each transformation.

Departures from the authors' code:
- Likelihoods are of logarithms of the softmax, which there underflow before they are taken.
- Fashion-MNIST's 28 px are enlarged to 32, where the code pads them with zeros.
- Adam adds 1e-8 to what it divides by, as in torch, where Keras adds 1e-7.
- Maps of more than 8 x 8 positions (pictures above 32 px) are averaged whole, where the code
  averages squares of 8 and takes all of their means to its last layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.images import symmetric
from onlygood.core.method import InputShape, Method
from onlygood.core.optimizers import Adam
from onlygood.core.settings import (
    NOT_NEGATIVE,
    ONE_OR_MORE,
    POSITIVE,
    Preset,
    Settings,
    number,
    on_a_cpu,
)
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss, Scores

STEM = 16
"""Channels of the first convolution."""
LEAST_ENTROPY = 1e-6
"""Of what a Dirichlet distribution is fitted to; with less it would be all but a point."""
NEWTON, ROUNDS, CLOSE = 5, 1000, 1e-9
"""Steps of the inverse of digamma; rounds of the fit at most, and the change that ends them."""

Rows = Float[Tensor, "T K"]
"""A number for each transformation and class."""


@dataclass(frozen=True, kw_only=True)
class GeoTransConfig(Settings):
    """Settings of GeoTrans; the defaults are the paper's on CIFAR-10."""

    flips: bool = True
    """Whether pictures are mirrored, too."""
    shifts: bool = True
    """Whether they are shifted by a quarter of the side, too: left, right, up, down, and both."""
    width: int = number(64, ONE_OR_MORE)
    """Channels of the first of three stages, each with twice as many as the one before."""
    blocks: int = number(1, ONE_OR_MORE)
    """Residual blocks of each stage: 1 is the paper's WRN-10, 2 its WRN-16."""
    lr: float = number(1e-3, POSITIVE)
    """Learning rate."""
    weight_decay: float = number(5e-4, NOT_NEGATIVE)
    """L2 penalty on every weight, twice the factor of the square in the authors' code."""


# Transformations ---------------------------------------------------------------------------------


def transformations(side: int, *, flips: bool, shifts: bool) -> Int64[Tensor, "T P"]:
    """Of each transformation, the pixel that comes to each position, both counted row by row.

    The first leaves everything as it is. A picture is mirrored, then shifted, where what is empty
    is filled with the mirrored edge, then turned by quarters.

    Source: the paper and its code.
    """
    pixels = torch.arange(side**2).view(side, side)
    step = side // 4
    moves = (0, -step, step) if shifts else (0,)
    found = []
    for flip, right, down, quarters in product(
        (False, True) if flips else (False,), moves, moves, range(4)
    ):
        moved = (pixels.flip(1) if flip else pixels)[_shifted(side, down)][:, _shifted(side, right)]
        found.append(torch.rot90(moved, quarters).flatten())
    return torch.stack(found)


def _shifted(side: int, by: int) -> Int64[Tensor, " side"]:
    """Where each line comes from when all move `by` lines, mirrored at the edges."""
    line = torch.arange(side) - by
    line = torch.where(line < 0, -line - 1, line)
    return torch.where(line >= side, 2 * side - 1 - line, line)


# Network -----------------------------------------------------------------------------------------


class Block(nn.Module):
    """Two convolutions, normalised and activated before each, beside a shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.main = nn.Sequential(
            _convolution(inputs, outputs, 3, stride),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            _convolution(outputs, outputs, 3),
        )
        self.stride = stride
        self.shortcut = _convolution(inputs, outputs, 1) if inputs != outputs else None

    def forward(self, x: Float[Tensor, "B _ _ _"]) -> Float[Tensor, "B _ _ _"]:
        """`(B, inputs, h, w)` to `(B, outputs, h / stride, w / stride)`."""
        activated = self.before(x)
        if self.shortcut is not None:
            # The same as a stride of the layer, in whose gradients oneDNN's AVX2 code crashes.
            x = self.shortcut(activated[:, :, :: self.stride, :: self.stride])
        return self.main(activated) + x


class WideResNet(nn.Module):
    """Image to logits, `(B, C, H, W)` to `(B, classes)`."""

    def __init__(self, channels: int, width: int, blocks: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [_convolution(channels, STEM, 3)]
        inputs = STEM
        for stage in range(3):
            outputs = width * 2**stage
            for block in range(blocks):
                stride = 2 if stage and not block else 1
                layers.append(Block(inputs, outputs, stride))
                inputs = outputs
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(inputs), nn.ReLU())
        self.logits = nn.Linear(inputs, classes)

    def forward(self, x: Images) -> Float[Tensor, "B K"]:
        """Classify images."""
        return self.logits(self.layers(x).mean((2, 3))).float()


def _convolution(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


# Method ------------------------------------------------------------------------------------------

# Eight passes for a score in place of 72, of an eighth of the width.
_OURS = {"shifts": False, "width": 8}


@final
class GeoTrans(Method):
    """A classifier of transformations, and a Dirichlet distribution of what it says of each."""

    config_class = GeoTransConfig
    localizes = False
    square = True
    presets: ClassVar[Mapping[str, Preset]] = {
        **on_a_cpu(_OURS, steps=3000),
        "paper": Preset(
            summary="CIFAR-10 and Fashion-MNIST as in its paper: 72 transformations, WRN-10-4",
            view={"size": 32},
            training={"epochs": 216, "batch_size": 128},
        ),
        "paper-64": Preset(
            summary="cats and dogs as in its paper: WRN-16-8",
            config={"width": 128, "blocks": 2},
            view={"size": 64},
            training={"epochs": 216, "batch_size": 128},
        ),
    }
    places: Tensor
    alpha: Tensor

    def __init__(self, config: GeoTransConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        places = transformations(shape.height, flips=c.flips, shifts=c.shifts)
        self.register_buffer("places", places, persistent=False)
        self.network = WideResNet(shape.channels, c.width, c.blocks, len(places))
        self.register_buffer("alpha", torch.ones(len(places), len(places)))

    def transformed(self, x: Images, which: Int64[Tensor, " B"]) -> Images:
        """Each image under the transformation of its number."""
        places = self.places[which][:, None].expand(-1, x.shape[1], -1)
        return x.flatten(2).gather(2, places).view_as(x)

    def log_probabilities(self, x: Images, places: Int64[Tensor, " P"]) -> Float[Tensor, "B K"]:
        """What the network says of all images under one transformation."""
        moved = x.flatten(2)[:, :, places].view_as(x)
        return F.log_softmax(self.network(symmetric(moved)), 1)

    def loss(self, batch: Batch) -> Loss:
        """Cross-entropy of the transformation that each image is under."""
        x = batch.normal
        which = (batch.uniforms() * len(self.places)).long()
        logits = self.network(symmetric(self.transformed(x, which)))
        error = F.cross_entropy(logits, which, reduction="none")
        return Loss.weighted(classification=(1.0, error)).watching(
            accuracy=(logits.argmax(1) == which).float()
        )

    def stages(self) -> Sequence[Stage]:
        """The classifier, then a distribution of what it says of each transformation."""
        c = self.config
        return [
            Stage(
                name="classification",
                updates=[
                    Update(
                        name="classifier",
                        trains=(self.network,),
                        loss=self.loss,
                        optimizer=Adam(lr=c.lr, weight_decay=c.weight_decay),
                    )
                ],
            ),
            Stage(name="dirichlet", before=self.measure),
        ]

    def measure(self, images: Batches) -> None:
        """Fit `alpha` to the softmax vectors of the training images."""
        means = torch.zeros_like(self.alpha, dtype=torch.float64)
        logs = torch.zeros_like(means)
        count = 0
        for x in images:
            for own_mean, own_log, places in zip(means, logs, self.places, strict=True):
                log_p = self.log_probabilities(x, places).double()
                own_mean += log_p.exp().sum(0)
                own_log += log_p.sum(0)
            count += len(x)
        self.alpha.copy_(likeliest(means / count, logs / count))

    def score(self, x: Images) -> Scores:
        """Minus the normality, up to a constant: a mean over transformations.

        `probability` is the simplified score: 1 less the mean one of the true transformation.
        """
        likelihood = torch.zeros_like(x[:, 0, 0, 0])
        right = torch.zeros_like(likelihood)
        for true, (alpha, places) in enumerate(zip(self.alpha, self.places, strict=True)):
            log_p = self.log_probabilities(x, places)
            likelihood = likelihood + ((alpha - 1) * log_p).sum(1) / len(self.alpha)
            right = right + log_p[:, true].exp() / len(self.alpha)
        return Scores.weighted(dirichlet=(1.0, -likelihood), probability=(0.0, 1 - right))


def likeliest(means: Rows, logs: Rows) -> Rows:
    """The likeliest Dirichlet distribution `(T, K)` of vectors, given means of them and their logs.

    Fixed point of `psi(alpha_k) = psi(sum alpha) + logs_k`.
    """
    # Vectors that are all alike have none, and the likeliest would be infinitely sharp.
    entropy = (means * (means.log() - logs)).sum(1, keepdim=True).clamp_min(LEAST_ENTROPY)
    total = (means.shape[1] - 1) * -torch.digamma(torch.ones((), dtype=means.dtype)) / entropy
    alpha = means * total
    for _ in range(ROUNDS):
        before, alpha = alpha, _inverse_digamma(torch.digamma(alpha.sum(1, keepdim=True)) + logs)
        if (alpha - before).abs().max() < CLOSE:
            break
    return alpha


def _inverse_digamma(y: Rows) -> Rows:
    """By Newton's method from Minka's start."""
    psi_of_one = torch.digamma(torch.ones((), dtype=y.dtype, device=y.device))
    x = torch.where(y >= -2.22, y.exp() + 0.5, -1 / (y - psi_of_one))
    for _ in range(NEWTON):
        x = x - (torch.digamma(x) - y) / torch.polygamma(1, x)
    return x
