"""One-class support vector machine on pixels.

Schölkopf, Platt, Shawe-Taylor, Smola, Williamson: Estimating the Support of a High-Dimensional
Distribution. Neural Computation 13(7), 2001. Fitted by scikit-learn. As a baseline on
pictures in Ruff et al.: Deep One-Class Classification, ICML 2018, and Abati et al.: Latent Space
Autoregression for Novelty Detection, CVPR 2019.

Departures from the paper: there is none in the machine itself. The papers that use it on pictures
choose gamma and nu by labels of the test set; here gamma is scikit-learn's `scale` and nu 0.1, and
whoever wants the best on the test set sets both.

Departures from the authors' code (Ruff et al.'s, of which the presets `svdd` are): principal axes
are used on MNIST too, as their paper says; in the code they are a switch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
from sklearn.svm import OneClassSVM
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import (
    BETWEEN,
    NOT_NEGATIVE,
    ONE_OR_MORE,
    PART,
    Preset,
    Settings,
    number,
)
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Stage
from onlygood.core.terms import Scores
from onlygood.networks.memory import Memory, sample
from onlygood.networks.pixels import Preparation


@dataclass(frozen=True, kw_only=True)
class OCSVMConfig(Settings):
    """Settings of the one-class support vector machine."""

    nu: float = number(0.1, BETWEEN)
    """Share of training pictures that may lie outside, at most."""
    gamma: float = number(0.0, NOT_NEGATIVE)
    """Inverse squared width of the kernel; 0: 1 / (numbers of a picture, times their variance)."""
    variance: float = number(1.0, PART)
    """Share of the variance of training pictures that principal axes keep; 1: all pixels."""
    contrast: bool = False
    """Normalise the contrast of each picture, and stretch what training pictures span to [0, 1]."""
    limit: int = number(10_000, ONE_OR_MORE)
    """Training pictures that are used, at most; of more, a random sample. Time is quadratic."""


@final
class OCSVM(Method):
    """A surface around most training pictures, drawn by those that lie on it or outside."""

    config_class = OCSVMConfig
    localizes = False
    presets: ClassVar[Mapping[str, Preset]] = {
        "default": Preset(summary="whole pictures, grey or colour", view={"size": 64}),
        "lsa": Preset(
            summary="as in the LSA paper on MNIST (CIFAR-10: size=32): pixels as they are",
            view={"size": 28},
        ),
        "svdd": Preset(
            summary="as in the Deep SVDD paper on MNIST: principal axes",
            config={"variance": 0.95},
            view={"size": 28},
        ),
        "svdd-cifar": Preset(
            summary="as in the Deep SVDD paper on CIFAR-10: contrast, principal axes",
            config={"variance": 0.95, "contrast": True},
            view={"size": 32},
        ),
    }
    gamma: Tensor
    rho: Tensor

    def __init__(self, config: OCSVMConfig, shape: InputShape) -> None:
        super().__init__(config, shape)
        c = self.config = config
        self.preparation = Preparation(shape, contrast=c.contrast, variance=c.variance)
        self.support = Memory(None)
        self.weights = Memory()
        self.register_buffer("gamma", torch.tensor(c.gamma))
        self.register_buffer("rho", torch.tensor(0.0))

    def stages(self) -> Sequence[Stage]:
        """One stage without updates: `before` sees the training images once."""
        return [Stage(name="support", before=self.enclose)]

    def enclose(self, images: Batches) -> None:
        """Find support vectors, their weights and the offset; fills the buffers.

        Raises:
            DataError: the images are all alike.
        """
        raw = sample(map(self.preparation.raw, images), self.config.limit)
        rows = self.preparation.measure(raw).double().cpu().numpy()
        if (rows == rows[0]).all():
            raise DataError(
                f"a one-class SVM needs training pictures that differ, got {len(rows)} alike; "
                "give more pictures, or take knn"
            )
        gamma = self.config.gamma or 1 / (rows.shape[1] * rows.var())
        fitted = OneClassSVM(kernel="rbf", gamma=gamma, nu=self.config.nu).fit(rows)
        self.support.store(torch.from_numpy(fitted.support_vectors_))
        self.weights.store(torch.from_numpy(fitted.dual_coef_[0]))
        self.gamma.fill_(gamma)
        self.rho.fill_(-fitted.intercept_[0])

    def score(self, x: Images) -> Scores:
        """`rho - sum_i alpha_i exp(-gamma ||x - x_i||^2)`: below 0 inside, above it outside."""
        # In float64: near the surface two large numbers leave a small one.
        rows = self.preparation(x.double())
        kernels = [torch.exp(-self.gamma * d) for d in self.support.blocks(rows)]
        inside = torch.cat(kernels) @ self.weights.rows.double()
        return Scores.weighted(outside=(1.0, (self.rho - inside).float()))
