"""What is said of one picture, by whatever scored it. Needs no torch."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Result(NamedTuple):
    """What a detector, or the runtime of one, says of a picture."""

    name: str
    score: float
    """Raw, larger = more anomalous; NaN where the picture could not be read."""
    p_value: float
    """Conformal: the share of normal pictures that score as high, at least 1 / (n + 1)."""
    decision: str
    """`normal`, `unsure` (with two thresholds), `anomalous`, or `error`."""
    parts: dict[str, float]
    """The parts of the score, before their weights."""
    map: NDArray[np.float32] | None = None
    """`(height, width)` of the picture: 0 = median of normal pixels, 1 = pixel threshold. Outside
    of `View.roi` and `View.crop`, and in `View.ignore`, it is 0: nothing was looked at there."""
    error: str | None = None
    """Why the picture could not be scored."""
    picture: NDArray[np.uint8] | None = None
    """`(H, W, C)`: the picture as it was decoded, where it was to be kept."""
