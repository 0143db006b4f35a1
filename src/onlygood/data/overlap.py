"""Whether pictures are pieces of one larger ground that show parts of each other."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Complex128, Float64

SIDE = 64
"""Of a sketch, in pixels."""
MOST = 64
"""Pictures that are compared, the first ones: each with each, which takes a third of a second."""
FINEST = 0.35
"""Frequencies, in cycles a pixel, up to which phases are compared: finer ones are noise."""
PEAK, APART, AROUND = 0.3, 2.5, 2
"""Two pictures overlap where the correlation of their phases has a peak so high, and so many times
as high as all that is more than so many pixels away from it: patterns that repeat have several."""
LEAST = 0.1
"""Share of pictures from which on they are told to be pieces. Of surfaces to choose on, cut at
random, it was 0.2 or more for 12 of 16; of the same surfaces cut side by side, of parts also when
they lay anywhere in the picture, of solar cells and of clothes it was 0."""

Shift = tuple[int, int]


def pieces_of_one(pieces: Sequence[bytes]) -> int:
    """How many pictures lie on a ground, by those between, with another that shows none of it.

    A part that lies anywhere in the picture is seen by all pictures, so no two of them lie a whole
    side apart; pieces of a larger ground do. 0 where that is true of less than `LEAST` of them.

    Args:
        pieces: sketches of pictures in `SIDE` x `SIDE` shades; the first `MOST` count.
    """
    phases = _phases(pieces[:MOST])
    n = len(phases)
    beside: list[list[tuple[int, Shift]]] = [[] for _ in range(n)]
    for first in range(n - 1):
        for second, (down, right) in _overlapping(phases[first], phases[first + 1 :]):
            beside[first].append((first + 1 + second, (-down, -right)))
            beside[first + 1 + second].append((first, (down, right)))
    count, seen = 0, set[int]()
    for start in range(n):
        if start not in seen:
            places = _laid_out(beside, start)
            seen |= places.keys()
            where = np.array(list(places.values()))
            count += int((np.abs(where[:, None] - where).max((1, 2)) >= SIDE).sum())
    return count if count >= LEAST * n else 0


def _phases(pieces: Sequence[bytes]) -> Complex128[np.ndarray, "n s s"]:
    """Of the waves that each is made of; where two agree, their product adds up to 1."""
    shades = np.frombuffer(b"".join(pieces), np.uint8).reshape(-1, SIDE, SIDE).astype(float)
    # Edges would be alike in all pictures: they fade out.
    fading = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    waves = np.fft.fft2((shades - shades.mean((1, 2), keepdims=True)) * fading)
    frequencies = np.fft.fftfreq(SIDE)
    counts: Bool[np.ndarray, "s s"] = np.hypot(frequencies[:, None], frequencies) < FINEST
    phases = np.where(counts, waves / np.maximum(np.abs(waves), 1e-9), 0)
    return np.asarray(phases / np.sqrt(counts.sum()))


def _overlapping(
    one: Complex128[np.ndarray, "s s"], others: Complex128[np.ndarray, "m s s"]
) -> list[tuple[int, Shift]]:
    """Which of the others overlap with one picture, and how far that is shifted against them."""
    likeness: Float64[np.ndarray, "m s s"]
    likeness = np.fft.ifft2(one * others.conj(), norm="forward").real
    found = []
    for number, values in enumerate(likeness):
        down, right = divmod(int(values.argmax()), SIDE)
        peak = values[down, right]
        # The peak and what is around it lie in the corner, and are not looked at.
        rest = np.roll(values, (AROUND - down, AROUND - right), (0, 1))
        rest[: 2 * AROUND + 1, : 2 * AROUND + 1] = -np.inf
        if peak >= PEAK and peak >= APART * rest.max():
            found.append((number, (_signed(down), _signed(right))))
    return found


def _signed(shift: int) -> int:
    """Shifts go round: by half a side or more they go the other way."""
    return (shift + SIDE // 2) % SIDE - SIDE // 2


def _laid_out(beside: Sequence[Sequence[tuple[int, Shift]]], start: int) -> dict[int, Shift]:
    """Where pictures lie that hang together with one, by the overlaps on the way."""
    places = {start: (0, 0)}
    waiting = [start]
    for here in waiting:
        down, right = places[here]
        for other, (further_down, further_right) in beside[here]:
            if other not in places:
                places[other] = (down + further_down, right + further_right)
                waiting.append(other)
    return places
