"""Pictures to test with."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

RNG = np.random.RandomState(0)
GREY = RNG.randint(0, 256, (9, 7), dtype=np.uint8)
RGB = RNG.randint(0, 256, (9, 7, 3), dtype=np.uint8)


def encoded(pixels: NDArray[Any] | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write(path: Path, value: int = 100, side: int = 8) -> Path:
    """Write a grey PNG of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (side, side), value).save(path, "PNG")
    return path
