"""PixelCNN++: the probability of each pixel given those above and to the left of it.

Salimans, Karpathy, Chen, Kingma: PixelCNN++. ICLR 2017, arXiv:1701.05517; without halvings, as in
Ren et al. 2019, arXiv:1906.02845. No convolution looks ahead: one stream of features knows the rows
above, the other also what is to the left in the row itself. Weights are as PyTorch draws them.
"""

import math
from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.images import symmetric
from onlygood.core.shapes import Images, Maps

FeatureMaps = Float[Tensor, "B _ H W"]

LEVELS = 255
"""Steps between black and white."""
NARROWEST = -7.0
"""Logarithm of the smallest scale of a logistic distribution, on pixels in [-1, 1]."""
WIDEST = 7.0
"""Logarithm of the largest: there all levels are equally likely, and wider none is told from."""

Sight = Literal["above", "left"]


def _both_signs(x: FeatureMaps) -> FeatureMaps:
    return F.elu(torch.cat([x, -x], 1))


class Convolution(nn.Module):
    """A convolution that sees, of its position, what is above and beside it, or above and left.

    With `strict`, its own row (`above`) or its own column (`left`) is out of sight, too.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: tuple[int, int], sight: Sight, strict: bool = False
    ) -> None:
        super().__init__()
        height, width = kernel
        beside = (width // 2, width // 2) if sight == "above" else (width - 1, 0)
        self.margins = (*beside, height - 1, 0)
        self.sight, self.strict = sight, strict
        self.convolution = nn.Conv2d(inputs, outputs, kernel)

    def forward(self, x: FeatureMaps) -> FeatureMaps:
        """The side is kept."""
        y = self.convolution(F.pad(x, self.margins))
        if not self.strict:
            return y
        return (
            F.pad(y[:, :, :-1], (0, 0, 1, 0))
            if self.sight == "above"
            else F.pad(y[:, :, :, :-1], (1, 0))
        )


class Gated(nn.Module):
    """`x + a sigmoid(b)` of two convolutions, the first of which may hear of other features."""

    def __init__(self, width: int, kernel: tuple[int, int], sight: Sight, others: int = 0) -> None:
        super().__init__()
        self.first = Convolution(2 * width, width, kernel, sight)
        self.other = nn.Conv2d(2 * others, width, 1) if others else None
        self.second = Convolution(2 * width, 2 * width, kernel, sight)

    def forward(self, x: FeatureMaps, other: FeatureMaps | None = None) -> FeatureMaps:
        """Features as many as there were."""
        y = self.first(_both_signs(x))
        if self.other is not None and other is not None:
            y = y + self.other(_both_signs(other))
        a, b = self.second(_both_signs(y)).chunk(2, 1)
        return x + a * torch.sigmoid(b)


@final
class PixelNetwork(nn.Module):
    """Images to the logarithm of each pixel's probability, `(B, H, W)`, in nats.

    Args:
        channels: Of the images, 1 or 3; a pixel's red is told first, then green, then blue.
        width: Features of either stream.
        layers: Residual layers on the way in, and as many on the way back, which hear of the first.
        components: Logistic distributions that are mixed for each pixel.
    """

    def __init__(self, channels: int, width: int, layers: int, components: int) -> None:
        super().__init__()
        self.channels, self.components = channels, components
        # One more channel of ones tells where the image ends.
        self.above = Convolution(channels + 1, width, (2, 3), "above", strict=True)
        self.above_only = Convolution(channels + 1, width, (1, 3), "above", strict=True)
        self.left = Convolution(channels + 1, width, (2, 1), "left", strict=True)

        def vertical(others: int) -> nn.ModuleList:
            return nn.ModuleList(Gated(width, (2, 3), "above", others) for _ in range(layers))

        def horizontal(others: int) -> nn.ModuleList:
            return nn.ModuleList(Gated(width, (2, 2), "left", others) for _ in range(layers))

        self.vertical_in, self.horizontal_in = vertical(0), horizontal(width)
        self.vertical_back, self.horizontal_back = vertical(width), horizontal(2 * width)
        self.parameters_of = nn.Conv2d(width, components * self.numbers, 1)

    @property
    def numbers(self) -> int:
        """Of a component: its weight, and of each channel a mean, a scale and shares of others."""
        return 1 + 2 * self.channels + self.channels * (self.channels - 1) // 2

    def forward(self, x: Images) -> Maps:
        """How likely each pixel is; pixels in [0, 1], in steps of 1/255."""
        x = symmetric(x)
        seen = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        u, v = self.above(seen), self.above_only(seen) + self.left(seen)
        skips = [(u, v)]
        for vertical, horizontal in zip(self.vertical_in, self.horizontal_in, strict=True):
            u = vertical(u)
            v = horizontal(v, u)
            skips.append((u, v))
        u, v = skips.pop()
        for vertical, horizontal in zip(self.vertical_back, self.horizontal_back, strict=True):
            earlier_u, earlier_v = skips.pop()
            u = vertical(u, earlier_u)
            v = horizontal(v, torch.cat([u, earlier_v], 1))
        told = self.parameters_of(F.elu(v)).float().unflatten(1, (self.components, self.numbers))
        return mixture_log_probability(x, told)


def mixture_log_probability(x: Float[Tensor, "B C H W"], told: Float[Tensor, "B K N H W"]) -> Maps:
    """Logarithm of the probability of pixels in [-1, 1] under mixtures of logistic distributions.

    A level has the probability between the middles to both of its neighbours; black and white
    have all that is beyond, too. Of each component `told` has the logit of its weight, then means
    and logarithms of scales of all channels, then how much the mean of green moves with red, and
    that of blue with red and green.

    Source: Salimans et al. 2017, sections 2.1 and 2.2.
    """
    channels = x.shape[1]
    logits, means, scales, shares = told.split(
        [1, channels, channels, channels * (channels - 1) // 2], 2
    )
    values = x[:, None].expand(-1, told.shape[1], -1, -1, -1)
    if channels == 3:
        red, green, _ = values.unbind(2)
        green_red, blue_red, blue_green = torch.tanh(shares).unbind(2)
        moved = [torch.zeros_like(red), green_red * red, blue_red * red + blue_green * green]
        means = means + torch.stack(moved, 2)
    precision = (-scales.clamp(NARROWEST, WIDEST)).exp()
    above = precision * (values - means + 1 / LEVELS)
    below = precision * (values - means - 1 / LEVELS)
    # log(sigmoid(above) - sigmoid(below)) without a difference of numbers that are nearly equal.
    both = -torch.expm1(-2 / LEVELS * precision)
    between = F.logsigmoid(above) + F.logsigmoid(-below) + both.log()
    edge = 1 - 1 / LEVELS
    inside = torch.where(values > edge, F.logsigmoid(-below), between)
    log_probability = torch.where(values < -edge, F.logsigmoid(above), inside).sum(2)
    return torch.logsumexp(F.log_softmax(logits[:, :, 0], 1) + log_probability, 1)


def bits(log_probability: Maps) -> Float[Tensor, " B"]:
    """Length of a code of whole images with these probabilities."""
    return -log_probability.flatten(1).sum(1) / math.log(2)
