"""Metrics of scores, decisions and heat maps on labelled pictures.

Labels are 1 or True for anomalous, 0 or False for normal; scores are larger = more anomalous and
only their order counts. A metric that needs both kinds of picture is None when one is missing.
"""

import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage, stats
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from onlygood.core.errors import DataError, ShapeError

Floats = NDArray[np.float64]
Masks = Collection[NDArray[Any]]
"""An `(H, W)` array for each picture, anomalous where it is not 0; or one `(N, H, W)` array."""
Maps = Collection[NDArray[Any]]
"""An `(H, W)` array for each picture, larger = more anomalous; or one `(N, H, W)` array."""
Seen = Sequence[NDArray[np.bool_]]
"""An `(H, W)` array for each picture: which pixels count."""
TINY = 1e-12
"""Where precision and recall are 0, so is their mean."""


class Rates(NamedTuple):
    """Shares of the pictures that were not called normal; None where there was no picture."""

    false_positive_rate: float | None
    """Of the normal pictures; what a calibration promises to bound."""
    true_positive_rate: float | None
    """Of the anomalous pictures."""


class OfKind(NamedTuple):
    """How one kind of defect is told from the normal pictures."""

    n: int
    """Pictures of it."""
    found: int
    """Of these, those that were not called normal."""
    auroc: float | None
    """Against all normal pictures."""


def auroc(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Probability that an anomalous picture scores above a normal one; ties count one half.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, or their numbers differ.
    """
    anomalous, ranks = labelled_ranks(labels, scores)
    return float(roc_auc_score(anomalous, ranks)) if _has_both(anomalous) else None


def average_precision(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Mean precision over the anomalous pictures, without interpolation.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, or their numbers differ.
    """
    anomalous, ranks = labelled_ranks(labels, scores)
    return float(average_precision_score(anomalous, ranks)) if _has_both(anomalous) else None


def f1_max(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Largest F1, `2 TP / (2 TP + FP + FN)`, over all thresholds.

    The threshold is chosen on the test pictures themselves, so this flatters every method.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, or their numbers differ.
    """
    anomalous, ranks = labelled_ranks(labels, scores)
    if not _has_both(anomalous):
        return None
    precision, recall, _ = precision_recall_curve(anomalous, ranks)
    return _largest_f1(precision, recall)


def max_balanced_accuracy(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Largest `(TPR + TNR) / 2` over all thresholds: half of one plus the Youden index.

    The threshold is chosen on the test pictures themselves, so this flatters every method.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, or their numbers differ.
    """
    anomalous, ranks = labelled_ranks(labels, scores)
    if not _has_both(anomalous):
        return None
    false_positive, true_positive, _ = roc_curve(anomalous, ranks)
    return float((true_positive - false_positive).max() + 1) / 2


def max_balanced_accuracy_by_kind(
    kinds: Sequence[str], scores: ArrayLike, normal: str = "good"
) -> float | None:
    """As `max_balanced_accuracy`, but every kind of defect weighs the same.

    The largest mean, over all thresholds, of the share of normal pictures kept and the mean over
    kinds of the share found. Equals the pooled figure when the kinds are equally frequent.

    Args:
        kinds: kind of defect of each picture, in MVTec AD the name of its folder.
        scores: `(N,)`.
        normal: the kind that is no defect.

    Raises:
        DataError: a score is NaN, or the numbers of kinds and scores differ.

    Source: the protocol behind Table II of Carrara et al. 2020 (CBiGAN), arXiv:2011.08102.
    """
    names = np.asarray(kinds, dtype=np.str_)
    anomalous, ranks = labelled_ranks(names != normal, scores)
    if not _has_both(anomalous):
        return None
    thresholds = np.arange(ranks.max() + 1)  # at the last all are kept: one half, at least
    kept = _share_up_to(thresholds, ranks[~anomalous])
    missed = [_share_up_to(thresholds, ranks[names == kind]) for kind in set(names[anomalous])]
    return float((kept + 1 - np.mean(missed, axis=0)).max()) / 2


def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, tpr: float = 0.95) -> float | None:
    """Share of normal pictures rejected at the highest threshold that finds the share `tpr`.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, their numbers differ, or `tpr` is not in
            (0, 1].
    """
    if not 0 < tpr <= 1:
        raise DataError(f"tpr must be above 0 and at most 1, got {tpr}")
    anomalous, ranks = labelled_ranks(labels, scores)
    if not _has_both(anomalous):
        return None
    found = np.sort(ranks[anomalous])[::-1]
    needed = max(1, math.ceil(tpr * len(found) - 1e-9))  # 0.07 * 100 is a little more than 7
    return float((ranks[~anomalous] >= found[needed - 1]).mean())


def rates(labels: ArrayLike, decisions: Sequence[str] | NDArray[np.character]) -> Rates:
    """How often normal and anomalous pictures were called `anomalous` or `unsure`.

    Raises:
        DataError: a decision is another word, a label is not 0 or 1, or their numbers differ.
    """
    words = np.asarray(decisions, dtype=np.str_)
    unknown = set(words.tolist()) - {"normal", "unsure", "anomalous"}
    if unknown:
        raise DataError(f"decisions are normal, unsure or anomalous, got {sorted(unknown)}")
    anomalous = _anomalous(labels, words.shape)
    rejected = words != "normal"
    false_positive, true_positive = (
        float(rejected[kind].mean()) if kind.any() else None for kind in (~anomalous, anomalous)
    )
    return Rates(false_positive, true_positive)


def by_kind(
    kinds: Sequence[str] | NDArray[np.character],
    scores: ArrayLike,
    decisions: Sequence[str] | NDArray[np.character],
    normal: str = "good",
) -> dict[str, OfKind]:
    """Each kind of defect by itself, the one of which the smallest share is found first.

    Args:
        kinds: kind of defect of each picture, in MVTec AD the name of its folder.
        scores: `(N,)`.
        decisions: `normal`, `unsure` or `anomalous` for each picture.
        normal: the kind that is no defect.

    Raises:
        DataError: a score is NaN, or the numbers of kinds and scores differ.
    """
    names, rejected = np.asarray(kinds, dtype=np.str_), np.asarray(decisions) != "normal"
    anomalous, ranks = labelled_ranks(names != normal, scores)
    told: dict[str, OfKind] = {}
    for kind in sorted(set(names[anomalous].tolist())):
        of_it = names == kind
        seen = of_it | ~anomalous
        n, found = int(of_it.sum()), int(rejected[of_it].sum())
        told[kind] = OfKind(n, found, auroc(of_it[seen], ranks[seen]))
    return dict(sorted(told.items(), key=lambda item: item[1].found / item[1].n))


def rate_interval(count: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided interval for the share behind `count` of `total` independent pictures.

    Raises:
        DataError: `count` is not in 0..total, or `confidence` not in (0, 1).

    Source: Clopper and Pearson 1934.
    """
    if not (0 <= count <= total and total > 0 and 0 < confidence < 1):
        raise DataError(
            f"an interval needs 0 <= count <= total, total > 0 and a confidence in (0, 1), "
            f"got count={count}, total={total}, confidence={confidence}"
        )
    tail = (1 - confidence) / 2
    low = stats.beta.ppf(tail, count, total - count + 1) if count else 0.0
    high = stats.beta.isf(tail, count + 1, total - count) if count < total else 1.0
    return float(low), float(high)


class PixelCurve(NamedTuple):
    """How the pixels of all pictures are ordered; every pixel metric is exact, ties included."""

    passed: NDArray[np.int64]
    """Normal pixels at or above a falling value: `passed[2 i + 1]` lie above the anomalous level i,
    counted from the highest, `passed[2 i + 2]` at it, too."""
    found: Floats
    """Anomalous pixels at or above each level; `found[0]` is 0."""
    overlap: Floats
    """The same with each region of a mask counting 1, whatever its size. Pixels that touch at a
    corner are of one region."""

    @classmethod
    def of(cls, masks: Masks, maps: Maps, seen: Seen | None = None) -> "PixelCurve | None":
        """Go through the maps twice; holds the anomalous pixels and one map in memory.

        So maps may be loaded lazily. Only pixels that were `seen` count; None: all.
        None where there are no normal or no anomalous pixels.

        Raises:
            DataError: there are not as many masks as maps, or a map holds NaN.
            ShapeError: a mask and its map differ in shape, or are not `(H, W)`.
        """
        values, weights = [np.zeros(0)], [np.zeros(0)]
        for mask, heat, looked in _pictures(masks, maps, seen):
            regions, _ = ndimage.label(mask, structure=np.ones((3, 3)))
            region_of_pixel = regions[mask & looked]
            values.append(heat[mask & looked])
            weights.append(1 / np.bincount(region_of_pixel)[region_of_pixel])
        levels, level_of_pixel = np.unique(np.concatenate(values), return_inverse=True)
        # Normal pixels by place among the levels: 2j are between levels j-1 and j, 2j+1 at level j.
        places = np.zeros(2 * len(levels) + 1, dtype=np.int64)
        for mask, heat, looked in _pictures(masks, maps, seen):
            normal = np.sort(heat[~mask & looked])  # sorted queries keep the search in the cache
            place = np.searchsorted(levels, normal, "left")
            place += np.searchsorted(levels, normal, "right")
            places += np.bincount(place, minlength=len(places))
        if len(levels) == 0 or places.sum() == 0:
            return None
        passed, found, overlap = (
            np.concatenate([[0], np.cumsum(steps[::-1])])
            for steps in (
                places,
                np.bincount(level_of_pixel).astype(np.float64),
                np.bincount(level_of_pixel, np.concatenate(weights)),
            )
        )
        return cls(passed, found, overlap)

    @property
    def auroc(self) -> float:
        """Probability that an anomalous pixel is above a normal one; ties count one half."""
        return self._area(self.found, 1.0)

    def aupro(self, max_fpr: float = 0.3) -> float:
        """Area under the per-region overlap, up to a share `max_fpr` of normal pixels, over it.

        At each threshold the overlap is the mean, over the connected regions of all masks, of the
        share of the region above it.

        Raises:
            DataError: `max_fpr` is not in (0, 1].

        Source: Bergmann et al. 2021, The MVTec Anomaly Detection Dataset, IJCV 129.
        """
        if not 0 < max_fpr <= 1:
            raise DataError(f"max_fpr must be above 0 and at most 1, got {max_fpr}")
        return self._area(self.overlap, max_fpr)

    @property
    def average_precision(self) -> float:
        """Mean precision over the anomalous pixels, without interpolation."""
        return float(np.diff(self.found) @ self._precision() / self.found[-1])

    @property
    def f1_max(self) -> float:
        """Largest F1 over all thresholds, which are chosen with the masks."""
        return _largest_f1(self._precision(), self.found[1:] / self.found[-1])

    def _precision(self) -> Floats:
        """At each level, of all pixels at or above it."""
        precision: Floats = self.found[1:] / (self.found[1:] + self.passed[2::2])
        return precision

    def _area(self, found: Floats, max_fpr: float) -> float:
        """Area under the ROC curve of what is found, up to `max_fpr`, over `max_fpr`."""
        # From the highest level down: right past the pixels above it, then slantwise through ties.
        fpr = self.passed / self.passed[-1]
        tpr = np.repeat(found / found[-1], 2)
        within = int(np.searchsorted(fpr, max_fpr, side="right"))
        fpr, tpr, beyond, beyond_tpr = fpr[:within], tpr[:within], fpr[within:], tpr[within:]
        if len(beyond):
            part = (max_fpr - fpr[-1]) / (beyond[0] - fpr[-1])
            fpr = np.append(fpr, max_fpr)
            tpr = np.append(tpr, tpr[-1] + part * (beyond_tpr[0] - tpr[-1]))
        return float(np.trapezoid(tpr, fpr)) / max_fpr


def _pictures(
    masks: Masks, maps: Maps, seen: Seen | None
) -> Iterator[tuple[NDArray[np.bool_], NDArray[Any], NDArray[np.bool_]]]:
    """A boolean mask, a map, and which of their pixels count, checked."""
    if len(masks) != len(maps):
        raise DataError(f"each map needs its mask, got {len(masks)} masks and {len(maps)} maps")
    for number, (mask, heat) in enumerate(zip(masks, maps, strict=True)):
        if heat.ndim != 2 or mask.shape != heat.shape:
            raise ShapeError(
                f"mask and map of picture {number} must both be (H, W), "
                f"got {mask.shape} and {heat.shape}; resize the map to the mask"
            )
        if np.isnan(heat).any():
            raise DataError(f"the map of picture {number} holds NaN; a metric needs numbers")
        yield mask != 0, heat, np.ones(mask.shape, bool) if seen is None else seen[number]


def labelled_ranks(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """Which pictures are anomalous, and the rank of each score; equal scores share a rank.

    Ranks, because they lose nothing that counts and take infinite scores too.

    Raises:
        DataError: a score is NaN, a label is not 0 or 1, or their numbers differ.
    """
    values = np.asarray(scores, dtype=np.float64)
    missing = int(np.isnan(values).sum())
    if missing:
        raise DataError(f"{missing} of {values.size} scores are NaN; a metric needs numbers")
    anomalous = _anomalous(labels, values.shape)
    return anomalous, np.unique(values, return_inverse=True)[1]


def _anomalous(labels: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    truth = np.asarray(labels)
    if truth.ndim != 1 or truth.shape != shape:
        raise DataError(
            f"labels and what they label must be one for each picture, got shapes {truth.shape} "
            f"and {shape}"
        )
    strange = truth[~np.isin(truth, (0, 1))]
    if strange.size:
        raise DataError(f"labels are 0 (normal) or 1 (anomalous), got {strange[:5].tolist()}")
    return truth.astype(np.bool_)


def _has_both(anomalous: NDArray[np.bool_]) -> bool:
    return bool(anomalous.any() and not anomalous.all())


def _largest_f1(precision: Floats, recall: Floats) -> float:
    return float((2 * precision * recall / np.maximum(precision + recall, TINY)).max())


def _share_up_to(thresholds: NDArray[np.intp], values: NDArray[np.intp]) -> Floats:
    """Share of the values at or below each threshold."""
    return np.searchsorted(np.sort(values), thresholds, side="right") / len(values)
