"""Pictures of a made-up part, and a detector that learns them in no time."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onlygood.detector import Detector

TINY = {"size": 16, "components": 4}
"""Settings of `pca` for these pictures."""


def normal(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """`(n, 24, 20)`: a grey slope of varying steepness, and some noise."""
    draw = np.random.RandomState(seed)
    slope = np.add.outer(np.arange(24), 2 * np.arange(20)) / 61
    steepness = draw.uniform(0.4, 0.7, (n, 1, 1))
    return (255 * (slope * steepness + draw.uniform(0.1, 0.13, (n, 24, 20)))).astype(np.uint8)


def scratched(n: int, seed: int = 1) -> NDArray[np.uint8]:
    """The same part with a bright scratch in rows 10 to 12, columns 4 to 14."""
    pictures = normal(n, seed)
    pictures[:, 10:13, 4:15] = 255
    return pictures


def write(pictures: NDArray[np.uint8], folder: Path, prefix: str = "") -> list[Path]:
    """PNG files `PREFIX000.png` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{prefix}{number:03}.png" for number in range(len(pictures))]
    for path, picture in zip(paths, pictures, strict=True):
        Image.fromarray(picture).save(path)
    return paths


def fit(pictures: Any = None, settings: Mapping[str, object] | None = None, **options: Any) -> Any:
    """A `pca` detector of normal parts."""
    given = normal(120) if pictures is None else pictures
    if isinstance(given, np.ndarray):
        given = list(given)  # An array of 3 could be one picture of 3 channels.
    return Detector.fit("pca", given, settings={**TINY, **(settings or {})}, **options)
