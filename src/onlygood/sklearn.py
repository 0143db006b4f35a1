"""A detector that follows the conventions of scikit-learn's outlier detectors.

Signs are turned once, here: what onlygood calls a score is larger for more anomalous pictures, what
scikit-learn calls `score_samples` is smaller.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OutlierMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.validation import check_is_fitted, validate_data

from onlygood.core.errors import ConfigError, DataError, ShapeError
from onlygood.data.layout import labelled
from onlygood.detector import Detector

ROUNDING = 1e-6
"""Relative, of a score in float32."""
INLIER: Literal[1] = 1
OUTLIER: Literal[-1] = -1


@final
class OneClassDetector(OutlierMixin, BaseEstimator):
    """An onlygood detector as scikit-learn knows outlier detectors.

    `X` is one of:

    - an array `(n, h, w)` or `(n, h, w, c)`;
    - a list or array of paths, a folder, or whatever else `onlygood.ImageSource.of` takes;
    - an array `(n, features)` of flattened pictures, with `image_shape`.

    `predict` gives 1 for normal pictures and -1 for anomalous ones (also for unsure ones);
    `score_samples` is larger for more normal pictures; `decision_function` is `score_samples -
    offset_`, and 0 or more where `predict` is 1. `y` is ignored, as by all outlier detectors: give
    normal pictures alone, in cross-validation by `NormalFolds`.

    Args:
        method: Name of a method, see `Detector.fit`.
        preset: Named settings of the method.
        settings: Values for fields of the method's config, `View` or `Training`, by name.
        target_fpr: Share of normal pictures that may be called anomalous, in (0, 1).
        confidence: Probability that the threshold keeps this promise, in [0.5, 1).
        image_shape: `(h, w)` or `(h, w, c)` of flattened pictures; one of them may be -1.
        value_range: Of arrays, also of those in a list, the values that become black and white;
            what lies beyond is cut off. None: they are uint8, or floating point in [0, 1].
        random_state: Fixes the split, the first weights and all of training; a whole number.
        device: Where to compute; by default the first GPU, else the processor.

    Attributes:
        detector_: The `onlygood.Detector`.
        offset_: `-detector_.calibration.threshold`.
        n_features_in_: Of flattened pictures, their number of values.

    Pickles and copies hold the bytes of the detector's model file, no pickled weights.
    """

    def __init__(
        self,
        method: str = "reflect",
        *,
        preset: str = "default",
        settings: Mapping[str, object] | None = None,
        target_fpr: float = 0.05,
        confidence: float = 0.9,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        random_state: int = 0,
        device: str | None = None,
    ) -> None:
        self.method = method
        self.preset = preset
        self.settings = settings
        self.target_fpr = target_fpr
        self.confidence = confidence
        self.image_shape = image_shape
        self.value_range = value_range
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any = None) -> "OneClassDetector":
        """Learn from normal pictures, and calibrate on some that are kept aside.

        Raises:
            ConfigError: see `Detector.fit`; flattened pictures come without `image_shape`; or
                `value_range` does not rise.
            CalibrationError: `target_fpr` or `confidence` is out of its range.
            DataError: no or too few pictures, or none that can be read; those that cannot are left
                out, and listed in `detector_.provenance`.
            ShapeError: an array has none of the shapes of the class, or `image_shape` is none of
                its rows.
            ValueError: with `image_shape`, what scikit-learn says of an `X` that is no table of
                finite numbers with two rows at least.
            TrainingDiverged, TrainingInterrupted: see `Detector.fit`.
        """
        self.detector_: Detector = Detector.fit(
            self.method,
            self._pictures(X, reset=True),
            preset=self.preset,
            seed=self.random_state,
            settings=self.settings,
            target_fpr=self.target_fpr,
            confidence=self.confidence,
            device=self.device,
        )
        self.offset_: float = -self.detector_.calibration.threshold
        return self

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Scores `(n,)`, larger = more normal.

        Raises:
            NotFittedError: it has not learnt yet; also a ValueError.
            ConfigError: flattened pictures come without `image_shape`.
            DataError: there are no pictures, or one cannot be read; says which.
            ShapeError: an array has none of the shapes of the class.
            ValueError: with `image_shape`, what scikit-learn says of an `X` that is no table of
                finite numbers, or has rows of another length than those it has learnt from.
        """
        check_is_fitted(self)
        scores = []
        for result in self.detector_.stream(self._pictures(X, reset=False), maps=False):
            if result.error is not None:
                raise DataError(result.error)
            scores.append(-result.score)
        return np.array(scores)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """How far a picture is on the normal side of the threshold, `(n,)`; negative: anomalous.

        What rounding cannot tell from the threshold is on it: the threshold is the score of a
        calibration picture, whose own score differs in its last digits with the batch it is in.

        Raises:
            NotFittedError, ConfigError, DataError, ShapeError, ValueError: see `score_samples`.
        """
        shifted: NDArray[np.float64] = self.score_samples(X) - self.offset_
        return np.where(np.abs(shifted) <= ROUNDING * abs(self.offset_), 0.0, shifted)

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for normal pictures, -1 for others, `(n,)`.

        Raises:
            NotFittedError, ConfigError, DataError, ShapeError, ValueError: see `score_samples`.
        """
        return np.where(self.decision_function(X) >= 0, INLIER, OUTLIER)

    def _pictures(self, X: Any, *, reset: bool) -> Any:
        """What `ImageSource.of` takes, of whatever scikit-learn passes on."""
        if self.image_shape is None:
            if isinstance(X, np.ndarray) and X.dtype.kind in "OU":
                X = X.ravel().tolist()  # paths, as a fold or a column takes them out
            if isinstance(X, list | tuple):
                return [
                    self._scaled(one)
                    if isinstance(one, np.ndarray) and one.dtype.kind not in "OU"
                    else one
                    for one in X
                ]
            if not isinstance(X, np.ndarray):
                return X
            if X.ndim == 2:
                raise ConfigError(
                    f"X of shape {X.shape} holds flattened pictures; say which shape they have, "
                    f"for example image_shape=(8, {X.shape[1] // 8})"
                )
            return self._each(X)
        flat = validate_data(self, X, reset=reset, ensure_min_samples=2 if reset else 1)
        try:
            whole = flat.reshape(len(flat), *self.image_shape)
        except (TypeError, ValueError) as error:
            raise ShapeError(
                f"pictures of {flat.shape[1]} values cannot have image_shape={self.image_shape!r}"
            ) from error
        return self._each(whole)

    def _each(self, X: NDArray[Any]) -> list[NDArray[Any]]:
        """One by one: three grey pictures could be one of three channels, and one be several."""
        if X.ndim not in (3, 4) or (X.ndim == 4 and X.shape[3] > 4):
            raise ShapeError(
                f"pictures are (n, h, w) or (n, h, w, c) with c in 1..4, got shape {X.shape}; put "
                "the channels last, and each picture into a row of its own"
            )
        return list(self._scaled(X))

    def _scaled(self, X: NDArray[Any]) -> NDArray[Any]:
        if self.value_range is None:
            return X
        try:
            low, high = map(float, self.value_range)
        except (TypeError, ValueError):
            low = high = math.nan
        if not (low < high and np.isfinite(high - low)):
            raise ConfigError(
                "value_range must be two numbers that rise, by a finite one, got "
                f"{self.value_range!r}"
            )
        scaled: NDArray[Any] = np.clip((X.astype(np.float64) - low) / (high - low), 0, 1)
        return scaled

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())  # a copy: scikit-learn gives the attributes themselves
        if "detector_" in state:
            with TemporaryDirectory(prefix="onlygood-") as folder:
                path = Path(folder, "model.safetensors")
                state["detector_"].save(path)
                state["detector_"] = path.read_bytes()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "detector_" in state:
            with TemporaryDirectory(prefix="onlygood-") as folder:
                path = Path(folder, "model.safetensors")
                path.write_bytes(state["detector_"])
                detector = Detector.load(path, device=state["device"])
            state = {**state, "detector_": detector}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        return tags


@final
class NormalFolds:
    """Folds for detectors that learn from normal pictures alone.

    Stratified; the anomalous pictures of the other folds take no part, so each split trains on
    normal pictures and tests on normal and anomalous ones. Also for scikit-learn's own detectors.

    Args:
        n_splits: Number of folds, at least 2.
        random_state: Shuffles before it splits; None: takes pictures in their order.
    """

    def __init__(self, n_splits: int = 5, *, random_state: int | None = 0) -> None:
        self.n_splits = n_splits
        self.random_state = random_state

    def split(
        self, X: Any, y: Any, groups: Any = None
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Positions to train on and to test on; `y` is 1 for normal pictures, -1 for others.

        `X` and `groups` are ignored.

        Raises:
            DataError: `y` holds something else.
            ValueError: what scikit-learn says of a `y` that is empty or has several columns, of
                more folds than the larger kind has pictures, and of fewer than two.
        """
        labels = np.asarray(y)
        if not set(np.unique(labels)) <= {INLIER, OUTLIER}:
            raise DataError(
                f"y must be 1 (normal) or -1 (anomalous), got {np.unique(labels)[:5].tolist()}"
            )
        folds = StratifiedKFold(
            self.n_splits, shuffle=self.random_state is not None, random_state=self.random_state
        )
        for train, test in folds.split(np.zeros(len(labels)), labels):
            yield train[labels[train] == INLIER], test

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Number of folds."""
        return self.n_splits


class LabelledPaths(NamedTuple):
    """Pictures of a folder as scikit-learn wants them."""

    X: Sequence[str]
    y: NDArray[np.int64]
    """1 = normal, -1 = anomalous."""


def load_folder(folder: str | Path) -> LabelledPaths:
    """Paths and labels of a labelled folder, see `onlygood.data.layout.labelled`.

    Raises:
        DataError: it is no folder, or there are not both normal and anomalous pictures.
    """
    found = labelled(folder)
    paths = [str(picture.path) for picture in found.source]
    return LabelledPaths(paths, np.where(found.labels, OUTLIER, INLIER))
