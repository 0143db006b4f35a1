"""Whether pictures follow each other, as frames of a film and shots of one part do."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image
from scipy.spatial.distance import cdist
from scipy.stats import binom

SIDE = 8
"""Of a sketch, in pixels."""
MOST = 2048
"""Pictures that are looked at, the first ones; what follows each other does so there, too."""
REACH = 2
"""Places on either side that count as next to a picture."""
LEAST = 0.25
"""Share of pictures with their like next to them, from which on that is said. Of cells
photographed twice each it was 0.5, of cells along the modules they are cut from 0.4, of pictures
in no order at most 0.12 (docs/frozen.md)."""
BY_CHANCE = 1e-4
"""Probability of so many in a random order, below which that is said."""


def sketch(picture: UInt8[np.ndarray, "h w C"], side: int = SIDE) -> bytes:
    """A picture in `side` x `side` shades of grey, by which those that look alike are known."""
    grey = Image.fromarray(picture.mean(2).round().astype(np.uint8))
    return grey.resize((side, side), Image.Resampling.BOX).tobytes()


def in_sequence(sketches: Sequence[bytes]) -> int:
    """How many pictures look most like one next to them, by what differs beside the light.

    0 where they are not more than chance and variation of parts explain.

    Args:
        sketches: of pictures, in the order of their names.
    """
    n = len(sketches)
    if n <= 2 * REACH + 1:
        return 0
    shades = np.frombuffer(b"".join(sketches), np.uint8).reshape(n, -1).astype(np.float64)
    shades -= shades.mean(1, keepdims=True)
    distances = cdist(shades, shades, "sqeuclidean")
    np.fill_diagonal(distances, np.inf)
    beside = np.triu(np.tri(n, k=REACH, dtype=bool), -REACH)
    near = distances.min(1, where=beside, initial=np.inf)
    far = distances.min(1, where=~beside, initial=np.inf)
    # Of equally near ones none is nearest: all may be one picture.
    count = int((near < far).sum())
    expected = 2 * REACH / (n - 1)
    return count if count >= LEAST * n and binom.sf(count - 1, n, expected) < BY_CHANCE else 0
