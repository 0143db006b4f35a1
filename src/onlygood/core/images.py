"""Pixel values, and what the trainer needs of training pictures, which the data room provides."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

from torch import Tensor

from onlygood.core.shapes import Images


class Pick(NamedTuple):
    """The pictures of one batch and the draws that augment them."""

    indices: Tensor
    """`(B,)` int64, positions in the training pictures."""
    draws: Tensor
    """`(B, K)` float32, uniform on [0, 1), K = `TrainingImages.draws`; they fix crop and turn."""


@runtime_checkable
class TrainingImages(Protocol):
    """Training pictures, decoded, preprocessed and augmented on demand."""

    @property
    def draws(self) -> int:
        """Uniform numbers that the augmentation of one picture takes; 0 without augmentation."""
        ...

    @property
    def views(self) -> int:
        """Draws that cover a picture about once: the number of tiles in it, else 1."""
        ...

    def __len__(self) -> int: ...

    def batches(self, plan: Iterable[Pick]) -> Iterator[Images]:
        """Images on the training device for each pick, in order; may read ahead in `plan`.

        The result is a function of the pick alone.
        """
        ...


def symmetric(x: Images) -> Images:
    """Pixels in [-1, 1] of pixels in [0, 1], for networks that end in a tanh."""
    return 2 * x - 1


def unit(x: Images) -> Images:
    """Pixels in [0, 1] of pixels in [-1, 1]; what lies beyond is not cut off."""
    return (x + 1) / 2
