"""Which images networks of halvings and doublings can take."""

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape


def power_of_two(shape: InputShape, networks: str) -> int:
    """The side of square images; `networks` says who asks.

    Raises:
        ShapeError: the shape is not square, or its side not a power of two from 32 up.
    """
    side = shape.height
    if shape.height != shape.width or side < 32 or side & (side - 1):
        raise ShapeError(
            f"{networks} networks need square images with a side that is a power of two, at least "
            f"32; got {shape.height} x {shape.width}; set size=64 or size=128 (or the tile)"
        )
    return side
