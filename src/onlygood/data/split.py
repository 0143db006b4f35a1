"""Which pictures train, which watch over training, which calibrate: parts never share a group."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import ConfigError, DataError

Indices = NDArray[np.int64]


class Split(NamedTuple):
    """Positions of the pictures of each part, ascending."""

    train: Indices
    validation: Indices
    calibration: Indices


def split(
    names: Sequence[str],
    *,
    calibration: int,
    validation: int,
    seed: int,
    group_by: str | None = None,
    kept: Sequence[int] | None = None,
) -> Split:
    """Draw calibration and validation pictures at random; the rest trains.

    Pictures of one group stay together. With groups of one picture the counts are met exactly;
    with larger ones each part has its count or more, as many groups as it takes in the order of
    drawing, unless training would be left without one.

    What is left out moves as few others as can be: those next in the order of drawing take its
    place. A bad picture does little harm where it trains; drawn anew, it might well calibrate.

    Args:
        names: of all pictures.
        calibration: number of pictures to calibrate on.
        validation: number of pictures to watch training with.
        seed: fixes the draw; no global random state is used or changed.
        group_by: regular expression searched in each name; its first group, or else all that it
            matches, names the group. None: each picture is its own group.
        kept: positions of the pictures to part, the others are left out; None: all.

    Raises:
        ConfigError: `group_by` is no regular expression, or a count is negative.
        DataError: a name does not match, or there are too few pictures or groups.
    """
    if calibration < 0 or validation < 0:
        raise ConfigError(
            f"counts must be 0 or more, got calibration={calibration}, validation={validation}"
        )
    there = set(range(len(names)) if kept is None else kept)
    if calibration + validation >= len(there):
        raise DataError(
            f"{calibration} calibration and {validation} validation pictures leave none of "
            f"{len(there)} to train on; give more pictures or ask for fewer"
        )
    groups = _groups(names, group_by, there)
    # Uniform doubles of PCG64 are the same in all versions of numpy; its shuffles need not be.
    chance = np.random.Generator(np.random.PCG64(seed)).random(len(groups))
    drawn = [
        left
        for i in np.argsort(chance, kind="stable")
        if (left := [position for position in groups[i] if position in there])
    ]
    parts = 1 + (calibration > 0) + (validation > 0)
    if len(drawn) < parts:
        raise DataError(
            f"{parts} parts need {parts} groups, {group_by!r} makes {len(drawn)} of "
            f"{len(there)} pictures; use a pattern that tells more groups apart"
        )
    for_calibration, drawn = _take(drawn, calibration, leave=parts - 1)
    for_validation, drawn = _take(drawn, validation, leave=1)
    return Split(*(_indices(part) for part in (drawn, for_validation, for_calibration)))


def group_names(names: Sequence[str], pattern: str) -> list[str]:
    """The part that each picture shows, read from its name.

    Raises:
        ConfigError: `pattern` is no regular expression.
        DataError: a name does not match.
    """
    try:
        expression = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise ConfigError(f"group_by {pattern!r} is no regular expression: {error}") from error
    groups = []
    for name, group in zip(names, _matches(names, expression), strict=True):
        if group is None:
            raise DataError(
                f"{name}: group_by {pattern!r} does not match this name; every picture needs a "
                "group"
            )
        groups.append(group)
    return groups


def _groups(names: Sequence[str], pattern: str | None, there: set[int]) -> list[list[int]]:
    """Positions of pictures of one part, also of those left out, so that the draw is the same."""
    if pattern is None:
        return [[i] for i in range(len(names))]
    group_names([names[i] for i in sorted(there)], pattern)  # Only these need to match.
    groups: dict[str | int, list[int]] = {}
    for i, group in enumerate(_matches(names, re.compile(pattern))):
        groups.setdefault(i if group is None else group, []).append(i)
    return list(groups.values())


def _matches(names: Sequence[str], expression: re.Pattern[str]) -> Iterator[str | None]:
    for name in names:
        match = expression.search(name)
        # A first group that took no part in the match names nothing.
        yield match and match[1 if expression.groups else 0]


def _take(
    groups: list[list[int]], count: int, leave: int
) -> tuple[list[list[int]], list[list[int]]]:
    """The first groups that hold `count` pictures, and the rest, of which there are `leave`.

    Whatever their sizes: were large ones passed over because small ones fill the count better, the
    parts that calibrate would be smaller than those that come, and the promise about parts false.
    """
    number = total = 0
    while total < count and len(groups) - number > leave:
        total += len(groups[number])
        number += 1
    return groups[:number], groups[number:]


def _indices(groups: list[list[int]]) -> Indices:
    return np.array(sorted(i for group in groups for i in group), dtype=np.int64)
