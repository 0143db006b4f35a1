"""How well a detector tells labelled pictures apart."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.core.text import figure, many
from onlygood.data.layout import Labelled, labelled, labelled_items, truth
from onlygood.data.resize import looked_at
from onlygood.data.source import ImageSource
from onlygood.decision.calibration import Calibration
from onlygood.evaluation import metrics
from onlygood.evaluation.promise import PromiseTest, calibrated_on, check_promise
from onlygood.result import Result


@runtime_checkable
class Judge(Protocol):
    """Whatever decides on pictures: a detector, or what was exported from one."""

    calibration: Calibration
    view: View

    def stream(self, pictures: Any, *, maps: bool = True) -> Iterator[Result]:
        """One result for each picture, in order."""
        ...


@runtime_checkable
class Remembering(Judge, Protocol):
    """One that knows what it has learnt from, as a detector does."""

    def recognised(
        self, pictures: Any, *, maps: bool = True
    ) -> Iterator[tuple[Result, int | None]]:
        """Each result with the digest of its picture where that was learnt from, else None."""
        ...


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Figures over all labelled pictures; raw scores, no figure is None unless undefined."""

    auroc: float | None
    average_precision: float | None
    f1_max: float | None
    """Over all thresholds; chosen with the labels, hence optimistic."""
    max_balanced_accuracy: float | None
    """The same, anomalous pictures pooled."""
    max_balanced_accuracy_by_kind: float | None
    """The same with the mean over kinds of defects in place of the pool."""
    fpr_at_95_tpr: float | None
    false_positive_rate: float | None
    """Share of normal pictures above the detector's own threshold."""
    true_positive_rate: float | None
    true_positive_interval: tuple[float, float] | None
    """Of 95 % for the share that would be found of others like them, by those that the model was
    not learnt from. None: there are no such, or the promise is about parts, and pictures of one
    part are not independent."""
    threshold: float
    promise: PromiseTest
    """Whether the false alarms that were found contradict the detector's promise."""
    parts: dict[str, float | None]
    """AUROC of each part of the score."""
    kinds: dict[str, metrics.OfKind]
    """How each kind of defect is told from the normal pictures; the least found first."""
    pixel_auroc: float | None
    """As all figures of pixels, of those that are looked at: in `roi`, `crop`, and not ignored."""
    pixel_average_precision: float | None
    pixel_f1_max: float | None
    """Chosen with the masks, hence optimistic."""
    aupro: float | None
    """Up to 30 % of the normal pixels."""
    aupro_at_5: float | None
    """Up to 5 % of them."""
    n_normal: int
    n_anomalous: int
    n_normal_known: int
    """Normal pictures that the model was learnt from, or that have calibrated it."""
    n_anomalous_learnt: int
    """Anomalous pictures that the model was learnt from; all other figures have them in."""
    n_unreadable: int
    images_per_second: float
    """Decoding, preprocessing and scoring, heat maps included where pictures have masks."""
    description: str
    """How the folder was understood."""
    results: list[Result] = field(repr=False)
    labels: list[bool] = field(repr=False)
    """True = anomalous, for each of `results`."""
    kind_of: list[str] = field(repr=False)
    """The kind of defect, `good` where there is none, for each of `results`."""
    source: ImageSource = field(repr=False)
    """The pictures, for each of `results`."""

    @property
    def words(self) -> str:
        """How many anomalous pictures are found, and how sure that is."""
        found = sum(of_kind.found for of_kind in self.kinds.values())
        share = figure(100 * found / self.n_anomalous, 3, whole=100.0)
        are = "is" if found == 1 else "are"
        words = f"{found} of {many(self.n_anomalous, 'anomalous picture')} {are} found ({share} %)"
        if self.n_anomalous_learnt:
            words += f"; the model was learnt from {self.n_anomalous_learnt} of these pictures, "
            words += "which tests nothing"
        if self.true_positive_interval is None:
            return words
        low, high = (figure(100 * end, 3, whole=100.0) for end in self.true_positive_interval)
        return f"{words}; of others like them {low} to {high} % are, with 95 % confidence"

    def to_json(self) -> dict[str, Any]:
        """All figures and words, without the single results."""
        single = ("results", "labels", "kind_of", "source")
        told = {k: v for k, v in vars(self).items() if k not in single}
        if self.true_positive_interval is not None:
            told["true_positive_interval"] = list(self.true_positive_interval)
        kinds = {kind: figures._asdict() for kind, figures in self.kinds.items()}
        return {**told, "promise": self.promise.to_json(), "kinds": kinds, "words": self.words}


def evaluate(detector: Judge, pictures: Any, *, labels: Any = None, normal: Any = 0) -> Evaluation:
    """Score labelled pictures and compare with the labels.

    Args:
        detector: What is judged; nothing of it is changed. One that was exported knows the
            pictures that have calibrated it, but not those that it was learnt from.
        pictures: Labelled ones, or a folder of them: `good` (`ok`, `normal`) against all other
            subfolders, or a data set in MVTec layout, with masks where `ground_truth` has them;
            or a `Dataset`, DataLoader or stream of `(picture, label)`.
        labels: One for each picture; then `pictures` is whatever `ImageSource.of` takes.
        normal: The label of normal pictures, or several of them; every other one is anomalous.
            Folders have no use for it.

    Raises:
        ConfigError: `detector` is none.
        DataError: there are not both normal and anomalous pictures that can be read, or an item
            has no picture or no label.
    """
    if not isinstance(detector, Judge):
        raise ConfigError(
            f"evaluation is of a Detector or a Runtime, got {detector!r:.80}; load a model file "
            "first, Detector.load(path)"
        )
    data = labelled_pictures(pictures, labels, normal)
    began = time.perf_counter()
    results, learnt, pixels = _results(detector, data)
    seconds = time.perf_counter() - began
    readable = [i for i, result in enumerate(results) if result.error is None]
    labels = data.labels[readable]
    if labels.all() or not labels.any():
        raise DataError(
            f"{data.description}: {_readable(labels)} can be read; evaluation needs both kinds"
        )
    scores = np.array([results[i].score for i in readable])
    n_normal = int((~labels).sum())
    decisions = np.array([results[i].decision for i in readable])
    rates = metrics.rates(labels, decisions)
    known = [learnt[i] for i, label in zip(readable, labels, strict=True) if not label]
    new = np.array([learnt[i] is None for i in readable])
    kind_of = [kind if bad else "good" for kind, bad in zip(data.kinds, data.labels, strict=True)]
    kinds = [kind_of[i] for i in readable]
    n_calibrated = calibrated_on(detector.calibration, scores[~labels & new])
    # Equal ones count once, as empty pictures of separate lots are equal.
    n_learnt = len({digest for digest in known if digest is not None})
    n_anomalous, n_tested = int(labels.sum()), int((labels & new).sum())
    found = int((decisions[labels & new] != "normal").sum())
    return Evaluation(
        auroc=metrics.auroc(labels, scores),
        average_precision=metrics.average_precision(labels, scores),
        f1_max=metrics.f1_max(labels, scores),
        max_balanced_accuracy=metrics.max_balanced_accuracy(labels, scores),
        max_balanced_accuracy_by_kind=metrics.max_balanced_accuracy_by_kind(kinds, scores),
        fpr_at_95_tpr=metrics.fpr_at_tpr(labels, scores),
        false_positive_rate=rates.false_positive_rate,
        true_positive_rate=rates.true_positive_rate,
        true_positive_interval=(
            metrics.rate_interval(found, n_tested)
            if n_tested and not detector.calibration.grouped
            else None
        ),
        threshold=detector.calibration.threshold,
        promise=check_promise(
            detector.calibration,
            int((decisions[~labels] != "normal").sum()),
            n_normal,
            n_calibrated,
            n_learnt,
        ),
        parts={
            name: metrics.auroc(labels, np.array([results[i].parts[name] for i in readable]))
            for name in results[readable[0]].parts
        },
        kinds=metrics.by_kind(kinds, scores, decisions),
        pixel_auroc=pixels and pixels.auroc,
        pixel_average_precision=pixels and pixels.average_precision,
        pixel_f1_max=pixels and pixels.f1_max,
        aupro=pixels and pixels.aupro(),
        aupro_at_5=pixels and pixels.aupro(0.05),
        n_normal=n_normal,
        n_anomalous=n_anomalous,
        n_normal_known=n_calibrated + n_learnt,
        n_anomalous_learnt=n_anomalous - n_tested,
        n_unreadable=len(results) - len(readable),
        images_per_second=len(results) / seconds,
        description=data.description,
        results=results,
        labels=[bool(label) for label in data.labels],
        kind_of=kind_of,
        source=data.source,
    )


def labelled_pictures(pictures: Any, labels: Any = None, normal: Any = 0) -> Labelled:
    """Pictures with their labels, from whatever `evaluate` takes.

    Raises:
        DataError: there are not both kinds, or an item has no picture or no label.
    """
    if isinstance(pictures, Labelled):
        return pictures
    if labels is None and isinstance(pictures, str | os.PathLike):
        return labelled(Path(pictures))
    return labelled_items(pictures, labels, normal)


def _readable(labels: NDArray[np.bool_]) -> str:
    if not len(labels):
        return "no picture"
    return f"only {'anomalous' if labels.all() else 'normal'} pictures"


def _results(
    detector: Judge, data: Labelled
) -> tuple[list[Result], list[int | None], metrics.PixelCurve | None]:
    """Results without their maps, what was learnt from, and how pixels do where masks are.

    Only then maps are made and kept, at 6 bytes a pixel with their masks: those of normal pictures
    and of anomalous ones with a mask. Pixels that the detector never looks at are no part of it.
    """
    with_masks = any(mask is not None for mask in data.masks)
    found: Iterable[tuple[Result, int | None]]
    if isinstance(detector, Remembering):
        found = detector.recognised(data.source, maps=with_masks)
    else:
        found = ((result, None) for result in detector.stream(data.source, maps=with_masks))
    results: list[Result] = []
    learnt: list[int | None] = []
    maps: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.bool_]] = []
    seen: list[NDArray[np.bool_]] = []
    for (result, digest), label, mask in zip(found, data.labels, data.masks, strict=True):
        results.append(result._replace(map=None))
        learnt.append(digest)
        if result.map is None:
            continue
        anomalous = truth(mask, bool(label), result.map.shape)
        if anomalous is not None:
            maps.append(result.map)
            masks.append(anomalous)
            seen.append(looked_at(result.map.shape, detector.view))
    return results, learnt, metrics.PixelCurve.of(masks, maps, seen)
