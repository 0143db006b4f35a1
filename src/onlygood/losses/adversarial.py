"""Adversarial games as matched pairs of losses.

A game is played over values that a critic (or discriminator, as logits) gives to real and fake
inputs. One convention everywhere: the critic raises real and lowers fake values. In a BiGAN
"real" is the pair (x, E(x)) and "fake" the pair (G(z), z); the encoder then plays against real
values and the generator against fake ones. Take all three functions from one game: mixing games
or label conventions makes the players cooperate.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch.nn import functional as F

from onlygood.core.shapes import PerImage


class Game(NamedTuple):
    """The losses of the players; each is minimised by its player."""

    critic: Callable[[PerImage, PerImage], PerImage]
    """`(real, fake)`: low when real values are high and fake values low."""
    encoder: Callable[[PerImage], PerImage]
    """`(real)`: low when real values are low."""
    generator: Callable[[PerImage], PerImage]
    """`(fake)`: low when fake values are high."""


def _wasserstein_critic(real: PerImage, fake: PerImage) -> PerImage:
    return fake - real


def _hinge_critic(real: PerImage, fake: PerImage) -> PerImage:
    return F.relu(1 - real) + F.relu(1 + fake)


def _logistic_critic(real: PerImage, fake: PerImage) -> PerImage:
    return F.softplus(-real) + F.softplus(fake)


def _lower(values: PerImage) -> PerImage:
    return values


def _higher(values: PerImage) -> PerImage:
    return -values


def _logistic_lower(values: PerImage) -> PerImage:
    return F.softplus(values)


def _logistic_higher(values: PerImage) -> PerImage:
    return F.softplus(-values)


GAMES: dict[str, Game] = {
    # Arjovsky et al. 2017, arXiv:1701.07875
    "wasserstein": Game(_wasserstein_critic, _lower, _higher),
    # Lim and Ye 2017, arXiv:1705.02894
    "hinge": Game(_hinge_critic, _lower, _higher),
    # Goodfellow et al. 2014, arXiv:1406.2661, the non-saturating form; values are logits
    "non_saturating": Game(_logistic_critic, _logistic_lower, _logistic_higher),
}
