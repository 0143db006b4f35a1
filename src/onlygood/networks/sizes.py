"""Which images networks of halvings and doublings can take."""

import math

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape


def halvings_to(side: int, shape: InputShape, networks: str) -> int:
    """How often the sides of images are halved until they are `side`; `networks` says who asks.

    Raises:
        ShapeError: the shape is not square, or its side not a power of two from 32 up.
    """
    whole = shape.height
    if whole != shape.width or whole < 32 or whole & (whole - 1):
        raise ShapeError(
            f"{networks} networks need square images with a side that is a power of two, at least "
            f"32; got {whole} x {shape.width}; set size=64 or size=128 (or the tile)"
        )
    return int(math.log2(whole // side))
