"""Distances between a tensor and its reconstruction, per image or per pixel.

The reduction is part of the name: weights do not carry over from a sum to a mean.
"""

import math

from jaxtyping import Float
from torch import Tensor

from onlygood.core.shapes import Images, Maps, PerImage

Features = Float[Tensor, "B *features"]


def l1_sum(a: Features, b: Features) -> PerImage:
    """Sum of absolute differences of each image: `sum_j |a_j - b_j|`."""
    return (a - b).abs().flatten(1).sum(1)


def l1_mean(a: Features, b: Features) -> PerImage:
    """Mean absolute difference of each image: `mean_j |a_j - b_j|`."""
    return (a - b).abs().flatten(1).mean(1)


def l2_sum(a: Features, b: Features) -> PerImage:
    """Sum of squared differences of each image: `sum_j (a_j - b_j)^2`; no factor 1/2."""
    return (a - b).square().flatten(1).sum(1)


def l2_mean(a: Features, b: Features) -> PerImage:
    """Mean squared difference of each image: `mean_j (a_j - b_j)^2`; no factor 1/2."""
    return (a - b).square().flatten(1).mean(1)


def spread(x: Features) -> PerImage:
    """How far each tensor is from the mean of its batch: root mean square over entries.

    For the log, without a gradient: 0 when a network has collapsed and gives all images the same,
    NaN for a single image, which is its own mean.
    """
    # In bf16 the steps between numbers are wider than what is left of a collapse.
    x = x.detach().float()
    if len(x) == 1:
        return x.new_full((1,), math.nan)
    return (x - x.mean(0)).flatten(1).square().mean(1).sqrt()


def relative_spread(x: Features, reference: Features | None = None) -> PerImage:
    """`spread` in units of the mean spread of what `x` should be like, or else of its own size."""
    unit = x.detach().float().square().mean().sqrt() if reference is None else spread(reference)
    return spread(x) / unit.mean().clamp_min(1e-12)


def l1_map(a: Images, b: Images) -> Maps:
    """Absolute difference of each pixel, summed over channels; its sum is `l1_sum`."""
    return (a - b).abs().sum(1)


def l2_map(a: Images, b: Images) -> Maps:
    """Squared difference of each pixel, summed over channels; its sum is `l2_sum`."""
    return (a - b).square().sum(1)
