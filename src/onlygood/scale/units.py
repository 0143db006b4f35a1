"""The unit of work: pictures that one worker scores into one file, in about a minute of a core.

A unit's name says what it is: a hash of the model, the options and each input. So the same unit
done twice is the same file, a unit is done when its file is there, and what is left of a job is
its list less those files. Nothing else has to be kept of a run, whatever stops it.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PICTURES = 5_000
"""Of a unit, at most: 40 s of `reflect` on one core."""
BYTES = 2**29
"""Of a unit's inputs, about: pictures from a camera are few and large."""


class Input(NamedTuple):
    """What a unit reads: a picture, a tar file, or a row group of a Parquet file."""

    uri: str
    size: int
    """Bytes; -1: it cannot be looked at."""
    stamp: str
    """Changes when the file does: its time of modification, in nanoseconds."""
    group: int = -1
    """The row group, of a Parquet file."""
    pictures: int = 1
    """0: so many as a tar file has, which only reading it all would tell."""


class Unit(NamedTuple):
    """Inputs that are done together, or not at all."""

    name: str
    inputs: tuple[Input, ...]


def cut(inputs: Iterable[Input], job: str, pictures: int = PICTURES) -> Iterator[Unit]:
    """Units of inputs in their order, each once.

    Args:
        inputs: Gone through once.
        job: What else decides what becomes of them: the model's digest, and the options.
        pictures: Of a unit, at most; an input that has more is a unit of its own.
    """
    names: set[str] = set()

    def units() -> Iterator[Unit]:
        waiting: list[Input] = []
        count = size = 0
        for item in inputs:
            # Who does not say how many counts as a whole unit, and so has one alone.
            own = item.pictures or pictures
            count, size = count + own, size + item.size
            if waiting and (count > pictures or size > BYTES):
                yield Unit(_name(job, waiting), tuple(waiting))
                waiting, count, size = [], own, item.size
            waiting.append(item)
        if waiting:
            yield Unit(_name(job, waiting), tuple(waiting))

    for unit in units():
        if unit.name not in names:
            names.add(unit.name)
            yield unit


def _name(job: str, inputs: list[Input]) -> str:
    digest = hashlib.blake2b(job.encode(), digest_size=16)
    for item in inputs:
        digest.update(f"\n{item.uri}\t{item.size}\t{item.stamp}\t{item.group}".encode())
    return digest.hexdigest()
