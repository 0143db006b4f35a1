"""Glow: a chain of invertible steps from an image to noise, so that its likelihood can be counted.

Kingma, Dhariwal: Glow: Generative Flow with Invertible 1x1 Convolutions. NeurIPS 2018,
arXiv:1807.03039, section 3. What a step does to volume is known exactly; the logarithms of the
determinants, with the density of the noise, are the density of the image.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.core.settings import ONE_OR_MORE, Settings, number
from onlygood.core.shapes import Images, PerImage

FeatureMaps = Float[Tensor, "B _ _ _"]

LEVELS = 256
"""Values of a pixel."""
LEAST = 1e-6
"""Spread of a channel that is counted for one that is constant."""
LARGEST = 1e30
"""Square of a number of the noise, and variance of likelihoods: of pictures that are nothing like
those of training they would be infinite."""


@dataclass(frozen=True, kw_only=True)
class GlowSettings(Settings):
    """Form of a Glow; the defaults are those that reach 3.39 bits on CIFAR-10."""

    levels: int = number(3, ONE_OR_MORE)
    """Levels L: at each the side is halved, and half of the channels are done with."""
    depth: int = number(32, ONE_OR_MORE)
    """Steps of flow at each level, K."""
    width: int = number(512, ONE_OR_MORE)
    """Features of the networks that tell how one half of the channels moves the other."""


@final
class ActNorm(nn.Module):
    """`exp(s) (x + b)` with a scale and a shift for each channel; section 3.1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: FeatureMaps) -> FeatureMaps:
        """Maps of the same form."""
        return self.log_scale.exp() * (x + self.shift)

    def inverse(self, y: FeatureMaps) -> FeatureMaps:
        """What `forward` was given."""
        return y * (-self.log_scale).exp() - self.shift

    def log_volume(self, x: FeatureMaps) -> PerImage:
        """`h w sum_c s_c`, of any image."""
        return (x.shape[2] * x.shape[3] * self.log_scale.sum()).expand(x.shape[0])

    def settle(self, x: FeatureMaps) -> None:
        """Take scale and shift that give these maps mean 0 and variance 1 in each channel."""
        x = x.float()
        self.shift.copy_(-x.mean((0, 2, 3), keepdim=True))
        self.log_scale.copy_(-x.std((0, 2, 3), correction=0, keepdim=True).clamp_min(LEAST).log())


@final
class Mixing(nn.Module):
    """Invertible 1x1 convolution by `W = P L (U + diag(s))`, a rotation at first; section 3.2."""

    permutation: Tensor
    signs: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = nn.init.orthogonal_(torch.empty(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        self.register_buffer("permutation", permutation)
        self.register_buffer("signs", upper.diagonal().sign())
        self.lower = nn.Parameter(lower.tril(-1))
        self.upper = nn.Parameter(upper.triu(1))
        self.log_diagonal = nn.Parameter(upper.diagonal().abs().log())

    def weight(self) -> Float[Tensor, "C C"]:
        """W, in double precision: bf16, which a run may be in, has no digits for likelihoods."""
        lower = self.lower.double().tril(-1) + torch.eye(len(self.lower)).to(self.signs).double()
        diagonal = (self.signs * self.log_diagonal.exp()).double().diag()
        return self.permutation.double() @ lower @ (self.upper.double().triu(1) + diagonal)

    def forward(self, x: FeatureMaps) -> FeatureMaps:
        """Maps of the same form."""
        return torch.einsum("ij,bjhw->bihw", self.weight(), x.double()).to(x)

    def inverse(self, y: FeatureMaps) -> FeatureMaps:
        """What `forward` was given."""
        return torch.einsum("ij,bjhw->bihw", self.weight().inverse(), y.double()).to(y)

    def log_volume(self, x: FeatureMaps) -> PerImage:
        """`h w sum_i log |s_i|`, of any image."""
        return (x.shape[2] * x.shape[3] * self.log_diagonal.sum()).expand(x.shape[0])


@final
class Coupling(nn.Module):
    """One half of the channels stays and tells scale and shift of the other; section 3.3."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = channels // 2
        self.network = nn.Sequential(
            *(nn.Conv2d(half, width, 3, padding=1, bias=False), ActNorm(width), nn.ReLU()),
            *(nn.Conv2d(width, width, 1, bias=False), ActNorm(width), nn.ReLU()),
            _silent(width, 2 * half),
        )

    def told(self, kept: FeatureMaps) -> tuple[FeatureMaps, FeatureMaps]:
        """The logarithm of the scale, a sigmoid so that it never explodes, and the shift."""
        raw, shift = self.network(kept).to(kept).chunk(2, 1)
        return F.logsigmoid(raw + 2), shift

    def forward(self, x: FeatureMaps) -> tuple[FeatureMaps, PerImage]:
        """Maps of the same form, and the logarithm of the determinant."""
        kept, moved = x.chunk(2, 1)
        log_scale, shift = self.told(kept)
        y = torch.cat([kept, (moved + shift) * log_scale.exp()], 1)
        return y, log_scale.flatten(1).sum(1)

    def inverse(self, y: FeatureMaps) -> FeatureMaps:
        """What `forward` was given."""
        kept, moved = y.chunk(2, 1)
        log_scale, shift = self.told(kept)
        return torch.cat([kept, moved * (-log_scale).exp() - shift], 1)


@final
class Step(nn.Module):
    """ActNorm, mixing, coupling: one step of flow."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm, self.mixing = ActNorm(channels), Mixing(channels)
        self.coupling = Coupling(channels, width)

    def forward(self, x: FeatureMaps) -> tuple[FeatureMaps, PerImage]:
        """Maps of the same form, and the logarithm of the determinant."""
        y, log_volume = self.coupling(self.mixing(self.norm(x)))
        return y, log_volume + self.norm.log_volume(x) + self.mixing.log_volume(x)

    def inverse(self, y: FeatureMaps) -> FeatureMaps:
        """What `forward` was given."""
        return self.norm.inverse(self.mixing.inverse(self.coupling.inverse(y)))


class Noise(NamedTuple):
    """What an image is turned into, from the first level to the last, and what that tells."""

    latents: tuple[FeatureMaps, ...]
    """As many numbers as the image has."""
    log_volume: PerImage
    """Logarithm of the determinant of the whole."""
    log_density: PerImage
    """Of the latents: normal, each level's with mean and spread told by what goes on from there."""


@final
class GlowNetwork(nn.Module):
    """Levels of steps; at the end of each but the last, half of the channels go out as noise."""

    def __init__(self, shape: InputShape, form: GlowSettings) -> None:
        """Build the steps.

        Raises:
            ShapeError: a side cannot be halved as often as there are levels.
        """
        super().__init__()
        if shape.height % 2**form.levels or shape.width % 2**form.levels:
            raise ShapeError(
                f"a Glow of {form.levels} levels needs sides that are multiples of "
                f"{2**form.levels}, got {shape.height} x {shape.width}; set another size (or tile)"
            )
        channels = shape.channels
        self.levels: list[list[Step]] = []
        self.priors = nn.ModuleList()
        for level in range(form.levels):
            channels *= 4
            self.levels.append([Step(channels, form.width) for _ in range(form.depth)])
            if level < form.levels - 1:
                channels //= 2
                self.priors.append(_silent(channels, 2 * channels))
        self.steps = nn.ModuleList(step for steps in self.levels for step in steps)
        self.top = nn.Parameter(torch.zeros(1, 2 * channels, 1, 1))

    def settle(self, x: Images) -> None:
        """Have every ActNorm take its first numbers from what it sees of these images.

        With noise, as in training: without it a channel that is black in all images has no spread,
        and what it is divided by makes its noise all that there is.
        """
        norms = [module for module in self.modules() if isinstance(module, ActNorm)]
        hooks = [
            norm.register_forward_pre_hook(lambda norm, args: norm.settle(*args)) for norm in norms
        ]
        noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
        self.log_likelihood(x, noise.to(x))
        for hook in hooks:
            hook.remove()

    def forward(self, x: Images) -> Noise:
        """Turn images, of any range, into noise."""
        latents = []
        volume = density = torch.zeros_like(x[:, 0, 0, 0])
        for i, steps in enumerate(self.levels):
            x = F.pixel_unshuffle(x, 2)
            for step in steps:
                x, more = step(x)
                volume = volume + more
            if i < len(self.priors):
                x, z = x.chunk(2, 1)
                told = self.priors[i](x)
            else:
                z, told = x, self.top
            latents.append(z)
            density = density + _log_normal(z, told.to(z))
        return Noise(tuple(latents), volume, density)

    def inverse(self, latents: Sequence[FeatureMaps]) -> Images:
        """The images of latents."""
        x = latents[-1]
        for i, steps in reversed(list(enumerate(self.levels))):
            if i < len(self.priors):
                x = torch.cat([x, latents[i]], 1)
            for step in reversed(steps):
                x = step.inverse(x)
            x = F.pixel_shuffle(x, 2)
        return x

    def log_likelihood(self, x: Images, noise: Images) -> PerImage:
        """Logarithm of the probability of whole images in steps of 1/255, in nats.

        Args:
            x: images with pixels in [0, 1].
            noise: where in its level each number lies, in [0, 1); for uniform draws it is a lower
                bound in the mean. Source: section 2.
        """
        told = self((((LEVELS - 1) * x).round() + noise) / LEVELS - 0.5)
        return told.log_volume + told.log_density - x[0].numel() * math.log(LEVELS)


def _silent(inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution that says 0 at first, so that the flow begins as a plain one."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def _log_normal(z: FeatureMaps, told: Float[Tensor, "_ _ _ _"]) -> PerImage:
    """Under normal distributions, whose means and logarithms of spreads are told."""
    mean, log_spread = told.chunk(2, 1)
    squares = ((z - mean) * (-log_spread).exp()).square().clamp_max(LARGEST)
    return -(0.5 * (squares + math.log(2 * math.pi)) + log_spread).flatten(1).sum(1)


def bits_per_number(log_likelihood: PerImage, x: Images) -> PerImage:
    """Length of a code with these likelihoods, in nats, for each number of an image."""
    return -log_likelihood / (x[0].numel() * math.log(2))
