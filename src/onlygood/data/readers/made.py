"""Splits whose pictures are made from others: how many, how lit, and with which defects.

Every picture is drawn by a generator of its own, whose seed is a checksum of its name: it is the
same each time and everywhere, and does not depend on how many others there are.
"""

import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool
from numpy.random import Generator

from onlygood.data.decode import Pixels
from onlygood.data.readers.defects import Place, Scene, spoil
from onlygood.data.readers.sets import KnownSplit, known_split
from onlygood.data.source import ImageSource, Picture

TRAIN = 100
"""Normal pictures to fit on."""
NORMAL = 40
"""Normal pictures in the test."""
OF_EACH = 8
"""Anomalous pictures of each kind of defect, from hardly visible ones to plain ones."""
GAIN, CONTRAST = 0.06, 0.05
"""By how much light and contrast vary from picture to picture, up and down."""


class Shot(NamedTuple):
    """A normal picture before light and rounding."""

    scene: Scene
    on: Bool[np.ndarray, "H W"]
    """Where the middle of a defect may lie."""


def made(
    name: str,
    title: str,
    *,
    train: Callable[[Generator], Shot],
    test: Callable[[Generator], Shot],
    other: Callable[[Generator, int], Scene],
    kinds: Sequence[str],
    noise: float = 0.0,
) -> KnownSplit:
    """Make all pictures of a split, with masks of their defects.

    Args:
        name: seeds the drawing.
        title: of the data set, in words.
        train: draws a picture to fit on.
        test: draws a picture to test on, from what no training picture shows.
        other: draws what is pasted on the anomalous picture of this number, as large as it.
        kinds: of defects, some of `DEFECTS`.
        noise: of the camera, see `lit`.
    """

    def normal(shoot: Callable[[Generator], Shot], files: Sequence[str]) -> ImageSource:
        pictures = []
        for file in files:
            draw = drawn(name, file)
            pictures.append(Picture(file, lit(shoot(draw).scene, draw, noise)))
        return ImageSource(pictures)

    masks: dict[str, Picture] = {}

    def anomalous(kind: str) -> ImageSource:
        pictures = []
        for number in range(OF_EACH):
            file = f"{kind}-{number}.png"
            draw = drawn(name, file)
            scene, on = test(draw)
            ease = number / (OF_EACH - 1)
            pasted = partial(other, draw, number)
            place = Place(clean=scene, other=pasted, ease=ease, draw=draw, on=on)
            pixels, mask = spoil(kind, place)
            pictures.append(Picture(file, lit(pixels, draw, noise)))
            masks[file] = Picture(file, mask)
        return ImageSource(pictures)

    return known_split(
        title,
        normal(train, [f"train-{number:03}.png" for number in range(TRAIN)]),
        normal(test, [f"good-{number:03}.png" for number in range(NORMAL)]),
        [(kind, anomalous(kind)) for kind in kinds],
        masks,
    )


def drawn(name: str, file: str) -> Generator:
    """What a picture of a data set is drawn by."""
    return np.random.default_rng(zlib.crc32(f"{name}/{file}".encode()))


def lit(scene: Scene, draw: Generator, noise: float = 0.0) -> Pixels:
    """Under a light and with a contrast of its own, rounded.

    Args:
        scene: before all that.
        draw: draws them.
        noise: standard deviation of each value, in steps of 8 bits.
    """
    gain, contrast = 1 + draw.uniform(-1, 1, 2) * (GAIN, CONTRAST)
    mean = scene.mean((0, 1))
    pixels = gain * (mean + contrast * (scene - mean)) + draw.normal(0, noise, scene.shape)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
