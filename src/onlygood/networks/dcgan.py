"""Discriminators of pairs (image, code) for CE-BiGAN, over DCGAN's trunk.

Spectral normalisation is of their convolutions. The pairing by projection is that of Miyato and
Koyama 2018, arXiv:1802.05637; see `docs/methods/cebigan.md`.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.core.shapes import Images, Latents, PerImage
from onlygood.networks.blocks import FeatureMaps
from onlygood.networks.convolutional import SIDE, Style, Trunk, convolved, linear

STYLE = Style(spectral=True)


class Judgement(NamedTuple):
    """What a discriminator says of pairs, and the features that a score can compare."""

    logit: PerImage
    h: Latents
    """The last hidden layer, before any activation."""
    phi: FeatureMaps
    """`(B, channels, 4, 4)`, of the image alone."""


class ProjectionDiscriminator(nn.Module):
    """Judge of pairs by `logit = f(h) + <h, z>`, where `h` is made of the image alone.

    The feature maps of the image are summed over their pixels, and a dense layer maps the sums to
    `h`, of the code's size; `f` is a dense layer too. The code is not embedded.

    Source: Komoto et al. 2020 (CE-BiGAN), Eq. 13.
    """

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, STYLE)
        self.hidden = linear(self.trunk.channels, latent, STYLE)
        self.logit = linear(latent, 1, STYLE)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        phi = self.trunk(x)
        h = self.hidden(phi.float().sum((2, 3)))
        logit = self.logit(h).flatten().float() + (h.float() * z).sum(1)
        return Judgement(logit, h.float(), phi.float())


class ConcatenatingDiscriminator(nn.Module):
    """Judge of pairs that stacks the code, as constant maps, on the feature maps of the image.

    One more convolution sees both; its maps are summed over their pixels and go through two dense
    layers with a leaky ReLU between, of the sizes that the projecting discriminator has.

    Source: Komoto et al. 2020 (CE-BiGAN), Fig. 3a, which names no layer behind the stacking.
    """

    def __init__(self, shape: InputShape, latent: int = 128, width: int = 64) -> None:
        super().__init__()
        self.trunk = Trunk(shape, width, STYLE)
        channels = self.trunk.channels
        self.joint = convolved(channels + latent, channels, STYLE, kernel=3)
        self.hidden = linear(channels, latent, STYLE)
        self.logit = linear(latent, 1, STYLE)

    def forward(self, x: Images, z: Latents) -> Judgement:
        """Judge pairs."""
        phi = self.trunk(x)
        stacked = torch.cat([phi, z[:, :, None, None].expand(-1, -1, SIDE, SIDE)], 1)
        h = self.hidden(self.joint(stacked).float().sum((2, 3)))
        logit = self.logit(F.leaky_relu(h, STYLE.slope)).flatten().float()
        return Judgement(logit, h.float(), phi.float())
