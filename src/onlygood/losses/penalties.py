"""Gradient penalties: everything that differentiates twice.

Each takes the critic as a function of the inputs that the gradient is taken for. For one input
of a pair critic, close over the other: `zero_centred(lambda x: critic(x, z), fake)`. The critic
runs in the precision of the run; gradients arrive in the precision of the points (float32), and
norms are taken in float32. Never compiled.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.shapes import Images, PerImage

Points = Float[Tensor, "B ..."]
"""Images, codes or features: a row for each image; the parts of a pair differ in shape."""

Ends = Float[Tensor, "B *features"]


def between(real: Ends, fake: Ends, epsilon: PerImage) -> Ends:
    """`epsilon real + (1 - epsilon) fake`, one epsilon in [0, 1] per image.

    Use the same epsilon for both parts of a pair, so that epsilon = 1 is exactly the real pair.
    """
    e = epsilon.view(-1, *[1] * (real.ndim - 1))
    return e * real + (1 - e) * fake


def two_sided(critic: Callable[..., PerImage], *points: Points) -> PerImage:
    """`(||grad critic||_2 - 1)^2` of each image, the norm taken over all points jointly.

    Source: Gulrajani et al. 2017, arXiv:1704.00028, Algorithm 1.
    """
    return _off_one(_squared_norm(critic, points))


def per_pixel(critic: Callable[..., PerImage], *points: Images) -> PerImage:
    """`mean_p (||grad_p critic||_2 - 1)^2` of each image: a slope of 1 at every pixel.

    The norm at pixel p is taken over the channels of all points, which have the same height and
    width. Far looser than `two_sided`: slopes of 1 at all pixels add up to one of `sqrt(H W)`.

    Source: the code of Somepalli et al. 2021, arXiv:2003.10713.
    """
    gradients = _gradients(critic, points)
    squares = torch.stack([g.square().sum(1) for g in gradients]).sum(0)  # (B, H, W)
    return _off_one(squares).mean((1, 2))


def zero_centred(critic: Callable[..., PerImage], *points: Points) -> PerImage:
    """`||grad critic||_2^2` of each image, over all points jointly; no factor 1/2.

    Source: Mescheder et al. 2018, arXiv:1801.04406, Eq. 9 (on real data) and Eq. 10 (on fakes).
    """
    return _squared_norm(critic, points)


def _off_one(squared_norms: Tensor) -> Tensor:
    # The root has no derivative at 0, where a critic that ignores its input would put it.
    return ((squared_norms + 1e-12).sqrt() - 1).square()


def _squared_norm(critic: Callable[..., PerImage], points: tuple[Points, ...]) -> PerImage:
    gradients = _gradients(critic, points)
    return torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0)


def _gradients(critic: Callable[..., PerImage], points: tuple[Points, ...]) -> list[Tensor]:
    leaves = [point.detach().float() for point in points]
    for leaf in leaves:
        leaf.requires_grad = True
    values = critic(*leaves)
    # The gradient of the sum is each image's own gradient, as no image depends on another.
    return [g.float() for g in torch.autograd.grad(values.sum(), leaves, create_graph=True)]
