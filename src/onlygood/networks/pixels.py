"""Images as rows of numbers, for methods that know nothing of images."""

from typing import final

import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape
from onlygood.core.shapes import Images
from onlygood.networks.memory import Memory, Rows


def pixels(x: Images) -> Rows:
    """All pixels of each image, `(B, C H W)`."""
    return x.flatten(1)


def normalised(x: Images) -> Rows:
    """The same after global contrast normalisation: `(x - mean x) / mean |x - mean x|`.

    Means are over all pixels and channels of an image; one that is constant becomes 0.

    Source: Ruff et al. 2018, Deep One-Class Classification (ICML), preprocessing.
    """
    # From the first pixel: the mean of equal numbers is not always that number.
    shifted = pixels(x) - pixels(x)[:, :1]
    centred = shifted - shifted.mean(1, keepdim=True)
    return centred / centred.abs().mean(1, keepdim=True).clamp_min(torch.finfo(x.dtype).eps)


@final
class Projection(nn.Module):
    """Rows less their mean, on the principal axes that hold a share of the variance.

    Before `measure`, and with a share of 1, it changes nothing.
    """

    mean: Tensor

    def __init__(self, features: int, share: float) -> None:
        super().__init__()
        self.share = share
        self.register_buffer("mean", torch.zeros(features))
        self.axes = Memory(features)

    def measure(self, rows: Rows) -> None:
        """Find the axes.

        Raises:
            DataError: the rows do not vary.
        """
        if self.share == 1:
            return
        mean = rows.mean(0)
        centred = (rows - mean).cpu().numpy()
        if not centred.any():
            raise DataError(
                "all training pictures are alike, so that no principal axes can be found; "
                "set variance=1"
            )
        # The covariance solver squares before it centres, and pays where images are many.
        few = len(rows) < 2 * rows.shape[1]
        fitted = PCA(self.share, svd_solver="full" if few else "covariance_eigh").fit(centred)
        self.mean.copy_(mean)
        self.axes.store(torch.from_numpy(fitted.components_))

    def forward(self, rows: Rows) -> Rows:
        """Project `(N, features)` to `(N, axes)`, in the precision of the rows."""
        if not len(self.axes.rows):
            return rows
        return (rows - self.mean) @ self.axes.rows.to(rows).T


@final
class Preparation(nn.Module):
    """Images to the rows that a kernel compares: contrast, range and axes, each where wanted."""

    low: Tensor
    high: Tensor

    def __init__(self, shape: InputShape, *, contrast: bool, variance: float) -> None:
        """Prepare nothing yet.

        Args:
            shape: Of the images.
            contrast: Normalise the contrast of each image, then stretch to [0, 1] what the
                training images span, by one pair of numbers for all pixels.
            variance: Share of the variance that principal axes keep; 1: no projection.
        """
        super().__init__()
        self.contrast = contrast
        self.projection = Projection(shape.channels * shape.height * shape.width, variance)
        self.register_buffer("low", torch.tensor(0.0))
        self.register_buffer("high", torch.tensor(1.0))

    def measure(self, rows: Rows) -> Rows:
        """Learn range and axes from the `raw` rows of training images; gives them prepared."""
        if self.contrast:
            self.low.copy_(rows.min())
            # Of constant images nothing remains: no stretching then.
            self.high.copy_(rows.max() if rows.max() > rows.min() else rows.min() + 1)
        self.projection.measure(self._stretched(rows))
        return self._finished(rows)

    def raw(self, x: Images) -> Rows:
        """What of an image can be told without the others."""
        return normalised(x) if self.contrast else pixels(x)

    def forward(self, x: Images) -> Rows:
        """Prepare images as the training images were; values may leave [0, 1]."""
        return self._finished(self.raw(x))

    def _finished(self, rows: Rows) -> Rows:
        return self.projection(self._stretched(rows))

    def _stretched(self, rows: Rows) -> Rows:
        return (rows - self.low) / (self.high - self.low) if self.contrast else rows
