"""Structural similarity of an image and its reconstruction, per image or per pixel.

Wang et al.: Image Quality Assessment: From Error Visibility to Structural Similarity. IEEE
Transactions on Image Processing 13(4), 2004. Its window, a Gaussian of 11 x 11 with a standard
deviation of 1.5, and its constants, for pixels in [0, 1].
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.shapes import Images, Maps, PerImage

SIDE = 11
"""Of the window, in pixels."""
RADIUS = SIDE // 2
C1, C2 = 0.01**2, 0.03**2

_BELL = [math.exp(-((i - RADIUS) ** 2) / (2 * 1.5**2)) for i in range(SIDE)]
WINDOW = [value / sum(_BELL) for value in _BELL]
"""Weights along one axis; they add up to 1."""


def ssim(a: Images, b: Images) -> PerImage:
    """Mean similarity of each image in [-1, 1], 1 where both are equal: Eq. 13 and 17.

    Over all channels, and over the windows that lie wholly inside the image.

    Raises:
        ShapeError: an image is smaller than the window.
    """
    if min(a.shape[-2:]) < SIDE:
        raise ShapeError(
            f"structural similarity needs images of {SIDE} px at least, got "
            f"{a.shape[-2]} x {a.shape[-1]}; make size larger"
        )
    return _similarity(*_moments(a.float(), b.float())).flatten(1).mean(1)


def ssim_map(a: Images, b: Images) -> Maps:
    """Similarity of the windows around each pixel, Eq. 13, as the mean over channels.

    At the border of what lies inside the image, with weights that add up to 1 again. In float64:
    where pixels hardly vary, float32 leaves a difference of squares three digits, and each
    processor others.
    """
    inside = _blurred(_padded(torch.ones_like(a[:1, :1], dtype=torch.float64)))
    moments = _moments(_padded(a.double()), _padded(b.double()))
    return _similarity(*(moment / inside for moment in moments)).mean(1).float()


def smoothed(maps: Maps) -> Maps:
    """Mean of each map under the window around each pixel, of what lies inside the image."""
    maps = maps[:, None].float()
    return (_blurred(_padded(maps)) / _blurred(_padded(torch.ones_like(maps[:1]))))[:, 0]


def _moments(a: Tensor, b: Tensor) -> list[Tensor]:
    """Means of a, b, their squares and their product under each window."""
    return [_blurred(values) for values in (a, b, a * a, b * b, a * b)]


def _similarity(mu_a: Tensor, mu_b: Tensor, aa: Tensor, bb: Tensor, ab: Tensor) -> Tensor:
    variances = aa - mu_a**2 + bb - mu_b**2
    covariance = ab - mu_a * mu_b
    luminance = (2 * mu_a * mu_b + C1) / (mu_a**2 + mu_b**2 + C1)
    return luminance * (2 * covariance + C2) / (variances + C2)


def _padded(x: Tensor) -> Tensor:
    return F.pad(x, [RADIUS] * 4)


def _blurred(x: Tensor) -> Tensor:
    """Mean under each window that lies inside, as a sum of shifted images.

    No convolution: bf16, in which autocast would run it, has no digits left for variances.
    """
    for axis in (-2, -1):
        n = x.shape[axis] - SIDE + 1
        shifted = [weight * x.narrow(axis, i, n) for i, weight in enumerate(WINDOW)]
        x = torch.stack(shifted).sum(0)
    return x
