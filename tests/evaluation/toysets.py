"""Data sets small enough to count, with names that say where a picture comes from."""

import numpy as np

from onlygood.data.readers import LabelledSet, Part
from onlygood.data.source import ImageSource, Picture

NAMES = ("round", "square", "long")


def part(name: str, counts: tuple[int, ...], brightness: int = 40) -> Part:
    """Pictures `NAME/CLASS/NUMBER` of 8 x 8, brighter for each class; classes take turns."""
    random = np.random.RandomState(len(name))
    order = sorted((n, label) for label, count in enumerate(counts) for n in range(count))
    pictures = [
        Picture(
            f"{name}/{label}/{n}",
            (brightness * (label + 1) + random.randint(0, 20, (8, 8))).astype(np.uint8),
        )
        for n, label in order
    ]
    return Part(ImageSource(pictures), np.array([label for _, label in order], np.int64))


def toy(name: str = "toy", train: int = 10, test: int = 5) -> LabelledSet:
    """As many pictures of each of three classes in training and in the test."""
    return LabelledSet(name, NAMES, part("train", (train,) * 3), part("test", (test,) * 3))
