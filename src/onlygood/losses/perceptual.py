"""Distances between the feature maps of an image and of its reconstruction, per image or position.

What is compared is said by the caller: maps of a frozen backbone, standardised or as they are.
`l1_mean` of standardised maps is the ablation "perc-L1" of PIAD, `l2_mean` of raw ones its
"perceptual"; both are in `distances`.
"""

from jaxtyping import Float
from torch import Tensor

from onlygood.core.shapes import PerImage
from onlygood.losses.distances import l1_mean

FeatureMaps = Float[Tensor, "B c h w"]
Positions = Float[Tensor, "B h w"]

SMALLEST = 1e-12
"""The mean magnitude of the features of an image counts as no less."""


def relative_l1(f_x: FeatureMaps, f_y: FeatureMaps) -> PerImage:
    """`mean|f_x - f_y| / mean|f_x|` of each image, means over channels and positions.

    Not symmetric: `f_x` is of the input. No gradient flows through the denominator.

    Source: Tuluptceva et al. 2019, arXiv:1909.05904, Eq. 3 and 4, for standardised maps.
    """
    return l1_mean(f_x, f_y) / _magnitude(f_x)


def relative_l1_map(f_x: FeatureMaps, f_y: FeatureMaps) -> Positions:
    """`relative_l1` of each position: its mean over positions is that of the image.

    The mean over channels of `|f_x - f_y|`, divided by `mean|f_x|` of the whole image.
    """
    return (f_x - f_y).abs().mean(1) / _magnitude(f_x)[:, None, None]


def _magnitude(f: FeatureMaps) -> PerImage:
    return f.detach().abs().flatten(1).mean(1).clamp_min(SMALLEST)
