"""PCA on pixels: the yardstick without gradient steps.

Distance of an image from the linear subspace that holds most of the variance of normal images:
Jackson and Mudholkar, Control Procedures for Residuals Associated With Principal Component
Analysis, Technometrics 21(3), 1979 (the Q statistic). Computed by scikit-learn.

Departures from the paper: the raw Q statistic, without its normal approximation, as thresholds
come from calibration. Departures from the authors' code: there is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np
import torch
from sklearn.decomposition import PCA as ExactPCA
from sklearn.decomposition import IncrementalPCA
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import ONE_OR_MORE, Preset, Settings, number
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.losses.distances import l2_map, l2_sum

IN_MEMORY = 2**26
"""Numbers (images times pixels) up to which all are decomposed at once; 256 MiB of float32."""

NO_VARIANCE, LITTLE_VARIANCE = 1e-10, 1e-6
"""Up to here, absolutely or as a share of the largest, rounding of float32 makes an axis."""


@dataclass(frozen=True, kw_only=True)
class PCAConfig(Settings):
    """Settings of PCA."""

    components: int = number(30, ONE_OR_MORE)
    """Dimensions of the normal subspace; fewer are used when there are fewer images."""


@final
class PCA(Method):
    """Projection on principal components; what they cannot give back is anomalous."""

    config_class = PCAConfig
    localizes = True
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="whole pictures, grey or colour", view={"size": 64}),
        "texture": Preset(
            summary="tiles of textures", view={"size": 512, "tile": 32}, config={"components": 50}
        ),
    }
    mean: Tensor
    components: Tensor

    def __init__(self, config: PCAConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        self.config = config
        pixels = shape.channels * shape.height * shape.width
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(min(config.components, pixels), pixels))

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="decomposition", before=self.decompose)]

    def decompose(self, images: Batches) -> None:
        """Mean and leading principal axes of the training images; fills the buffers.

        Raises:
            DataError: fewer than two images.
        """
        # Of images that are all alike scikit-learn takes a ratio of variances that nobody reads.
        with np.errstate(divide="ignore", invalid="ignore"):
            fitted = self._decomposed(images)
        variances = fitted.explained_variance_
        # Axes along which the images do not vary are arbitrary: they would hide what lies there.
        axes = fitted.components_[variances > max(NO_VARIANCE, LITTLE_VARIANCE * variances[0])]
        self.mean.copy_(torch.from_numpy(fitted.mean_))
        self.components.zero_()
        self.components[: len(axes)].copy_(torch.from_numpy(axes))

    def _decomposed(self, images: Batches) -> ExactPCA | IncrementalPCA:
        rows: list[np.ndarray] = []
        incremental: IncrementalPCA | None = None
        for batch in images:
            rows.append(batch.flatten(1).float().cpu().numpy())
            held = sum(map(len, rows))
            if held * len(self.mean) >= IN_MEMORY and held >= 2 * len(self.components):
                incremental = incremental or IncrementalPCA(len(self.components))
                incremental.partial_fit(np.concatenate(rows))
                rows = []
        if incremental is not None:
            if rows:
                incremental.partial_fit(np.concatenate(rows))
            return incremental
        data = np.concatenate(rows) if rows else np.zeros((0, len(self.mean)), np.float32)
        if len(data) < 2:
            raise DataError(f"PCA needs at least 2 training pictures, got {len(data)}")
        # The covariance solver squares before it centres: in float32 that leaves noise.
        centre = data.mean(0, dtype=np.float64).astype(np.float32)
        data -= centre
        exact = ExactPCA(
            # A mean and n - 1 directions explain n images wholly: keep one direction out.
            min(len(self.components), max(1, len(data) - 2)),
            svd_solver="covariance_eigh" if len(self.mean) <= 1024 else "auto",
            random_state=0,
        ).fit(data)
        exact.mean_ += centre
        return exact

    def reconstruct(self, x: Images) -> Images:
        """What the subspace holds of each image, `P (x - mean) + mean`."""
        centred = x.flatten(1).float() - self.mean
        return (centred @ self.components.T @ self.components + self.mean).view_as(x)

    def score(self, x: Images) -> Scores:
        """Squared distance from the subspace, `||(1 - P)(x - mean)||^2`; per pixel as the map."""
        centred = x.flatten(1).float() - self.mean
        rest = centred - centred @ self.components.T @ self.components
        rest = rest.view_as(x)
        nothing = torch.zeros_like(rest)
        return Scores.weighted(map=l2_map(rest, nothing), residual=(1.0, l2_sum(rest, nothing)))
