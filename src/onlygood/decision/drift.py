"""Whether a stream of pictures still is what a model was calibrated on. Needs numpy alone.

Every promise of a calibration is about pictures like those it was made of. Then the conformal
p-values of normal pictures are uniform; when light, lens or lot changes they move to one end. The
distance of their distribution from uniform (Kolmogorov, Smirnov) is tested on a sliding window,
each way on its own, at those p-values that a picture can have: where calibration scores are equal,
others between are not reached.

- too many small p-values: pictures score higher. Some do so because they are anomalous, which
  is no drift, so a share of `DEFECTS` is granted;
- too few small p-values: pictures score lower, because they are darker, out of focus or all alike.
"""

import math
import threading
from collections import deque
from collections.abc import Iterable
from typing import Literal, NamedTuple, final

import numpy as np

from onlygood.core.text import fixed, many
from onlygood.decision.calibration import Calibration

WINDOW = 200
"""Most recent pictures that are looked at."""
ENOUGH = 50
"""With fewer nothing is said."""
RISK = 1e-5
"""Of a false alarm in one look: a line looks thousands of times a day."""
DEFECTS = 0.1
"""Share of the stream that may be anomalous and still count as no drift."""


class Drift(NamedTuple):
    """What is said of a stream."""

    state: Literal["too_few", "as_calibrated", "left"]
    n: int
    """Pictures that were looked at."""
    smallest_share: float | None
    """See `smallest_share`, for the window as it is, or for the first that says something."""
    words: str


@final
class Watch:
    """The most recent p-values of one model's stream."""

    def __init__(self, calibration: Calibration, p_values: Iterable[float] = ()) -> None:
        """Begin with an empty window, or where another watch left off.

        Args:
            calibration: What each p-value is by.
            p_values: Of pictures before, oldest first.
        """
        self._calibration = calibration
        self._lock = threading.Lock()
        self._window = deque(p_values, WINDOW)

    def add(self, p_values: Iterable[float]) -> None:
        """The stream goes on."""
        with self._lock:
            self._window.extend(p_values)

    def verdict(self) -> Drift:
        """What the window says."""
        with self._lock:
            window = np.sort(np.array(self._window))
        return verdict(window, self._calibration)


def verdict(ascending: np.ndarray, calibration: Calibration) -> Drift:
    """What `(n,)` p-values say of the pictures that they belong to.

    Where each calibration score is the largest of a part only higher scores are drift: single
    pictures score lower than that by nature.
    """
    n, calibration_n = len(ascending), calibration.n
    smallest = smallest_share(max(n, ENOUGH), calibration_n)
    if n < ENOUGH:
        words = f"{many(n, 'picture')} so far; {ENOUGH} are needed to tell"
        return Drift("too_few", n, smallest, f"{words}; {_power(ENOUGH, calibration_n)}")
    higher, lower = distances(ascending, calibration.attainable_p_values)
    allowed = _allowed(n, calibration_n)
    if higher > allowed + DEFECTS:
        p = float(ascending[int(np.argmax(np.arange(1, n + 1) / n - ascending))])
        share = np.count_nonzero(ascending <= p) / n
        return Drift(
            "left",
            n,
            smallest,
            f"the stream has left the calibration: {fixed(100 * share, 0, whole=100.0)} % of "
            f"the last {n} pictures score higher than {100 - 100 * p:.0f} % of normal ones did, "
            f"where {100 * p:.0f} % should; look at light, lens and lot, then calibrate again: the "
            "promised rate does not hold now",
        )
    if lower > allowed and not calibration.grouped:
        return Drift(
            "left",
            n,
            smallest,
            f"the stream has left the calibration: the last {n} pictures score lower than "
            "normal ones did; look at light and focus, then calibrate again: anomalous "
            "pictures may be missed now",
        )
    words = f"the last {n} pictures are like the calibration's"
    return Drift("as_calibrated", n, smallest, f"{words}; {_power(n, calibration_n)}")


def _power(n: int, calibration_n: int) -> str:
    """What a window of `n` pictures can show, in words."""
    share = smallest_share(n, calibration_n)
    scores = many(calibration_n, "calibration score")
    if share is None:
        return (
            f"but {scores} {'is' if calibration_n == 1 else 'are'} too few to see any change by: "
            "calibrate on more normal pictures"
        )
    return (
        f"with {n} pictures and {scores} a change is seen once about "
        f"{math.ceil(100 * share)} % of pictures score higher than normal ones ever did, a "
        "smaller one is not"
    )


def smallest_share(n: int, calibration_n: int) -> float | None:
    """Share of `n` pictures that must score above all calibration scores for an alarm.

    With the rest distributed as the calibration. It is the easiest change to see: where scores rise
    by less, more pictures must. None: no share is enough.
    """
    # At the smallest p-value p such a stream has the share s + (1 - s) p in place of p.
    share = (_allowed(n, calibration_n) + DEFECTS) * (calibration_n + 1) / calibration_n
    return share if share <= 1 else None


def _allowed(n: int, calibration_n: int) -> float:
    """Distance that a stream without drift exceeds with probability `RISK` / 2 at most."""
    # Two samples: the calibration scores are one as well.
    return math.sqrt(math.log(2 / RISK) / 2 * (1 / n + 1 / calibration_n))


def distances(ascending: np.ndarray, attainable: np.ndarray) -> tuple[float, float]:
    """How far `(n,)` p-values lie above uniform, and below it: `sup (F - U)`, `sup (U - F)`.

    Both where U says something: at the `(m,)` ascending p-values that are `attainable`, of which a
    normal picture has each or a smaller one just as often as it says.
    """
    n = len(ascending)
    counts = np.arange(n + 1) / n
    higher = np.max(counts[1:] - ascending)
    # Just below a p-value, the next smaller attainable one.
    smaller = np.searchsorted(attainable, ascending - attainable[0] / 2)
    lower = np.max(np.append(0.0, attainable)[smaller] - counts[:-1])
    return max(float(higher), 0.0), max(float(lower), 0.0)
