"""Masks of pixels that never count: a picture as text, as settings keep it. Needs no torch."""

from functools import lru_cache

import numpy as np
from jaxtyping import Bool
from PIL import Image

from onlygood.core.errors import ConfigError, DataError
from onlygood.data.decode import Pixels, as_text, of_text

Mask = Bool[np.ndarray, "H W"]
"""True: this pixel never counts."""


def mask_text(picture: Pixels) -> str:
    """A mask as `View.ignore` keeps it: one bit a pixel, PNG, base64.

    Args:
        picture: Pixels that are not black never count.

    Raises:
        ConfigError: that leaves nothing to look at, or ignores nothing.
    """
    mask = picture.any(axis=2)
    if mask.all():
        raise ConfigError(
            "the mask ignores every pixel; black is what counts, anything else is ignored"
        )
    if not mask.any():
        raise ConfigError(
            "the mask ignores no pixel, as all of it is black (or transparent, which is laid on "
            "black); paint what is to be ignored in another colour, or fit without a mask"
        )
    return as_text(Image.fromarray(mask))


@lru_cache(maxsize=8)
def mask_of(text: str) -> Mask:
    """The mask in a setting; not to be changed, as all who ask share it.

    Raises:
        ConfigError: the text is none of `mask_text`.
    """
    try:
        pixels = of_text(text)
    except DataError as error:
        raise ConfigError(
            f"ignore={text[:40]} is no mask ({error}); give a mask picture as `--ignore FILE`, or "
            "`Detector.fit(..., ignore=...)`"
        ) from error
    mask = np.asarray(pixels.any(axis=2))
    mask.setflags(write=False)
    return mask
