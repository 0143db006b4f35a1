"""Where a network looks: gradient-weighted class activation maps, for linear outputs.

Selvaraju et al. 2017, arXiv:1610.02391, Eq. 1 and 2: maps F_k of features are added up with
weights `alpha_k`, the means over positions of the gradient of what is looked for. Behind a linear
layer that gradient is the layer's weights, whatever the image: no pass backwards is needed to see,
and none twice to learn by it.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.shapes import Maps


def attention(
    features: Float[Tensor, "B F h w"], weights: Float[Tensor, "F h w"] | Float[Tensor, " F"]
) -> Maps:
    """`sigmoid(sum_k alpha_k F_k)` of each image, in (0, 1).

    The sigmoid stands for the rectifier of Eq. 2, behind which a position that is left out would
    have no gradient to be taken in by.

    Args:
        features: Maps, `(B, F, h, w)`.
        weights: Gradient of what is looked for with respect to them, `(F, h, w)`; or `(F,)` where
            it is the same at all positions.
    """
    alpha = weights.flatten(1).mean(1) if weights.ndim > 1 else weights
    # No matrix product, which autocast would round: near 1 nothing would be left to learn from.
    return torch.sigmoid((features.float() * alpha.float()[:, None, None]).sum(1))
