"""Fills the report page with what a detector knows."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.core.settings import Training, View
from onlygood.data.align import pose_in
from onlygood.data.mask import mask_of
from onlygood.data.resize import looked_at
from onlygood.data.source import ImageSource, Picture
from onlygood.decision.calibration import Calibration
from onlygood.detector.raw_scores import CalibratedOn, RawScorer
from onlygood.evaluation.evaluate import Evaluation
from onlygood.report.content import (
    DecisionSummary,
    EvaluationSummary,
    Item,
    KindSummary,
    ReportContent,
)
from onlygood.report.heatmap import fit_map
from onlygood.report.page import THUMBNAIL, shown
from onlygood.result import Result
from onlygood.training import health

DIM = 3
"""By which pixels that are not looked at are darker."""


@runtime_checkable
class Reported(Protocol):
    """What a page tells of a detector."""

    method: str
    config: Any
    view: View
    training: Training
    scorer: RawScorer
    calibration: Calibration
    calibrated_on: CalibratedOn
    provenance: dict[str, Any]
    history: list[health.Record]

    @property
    def verdict(self) -> str:
        """Whether training went well, in words."""
        ...

    def stream(self, pictures: Any) -> Iterator[Result]:
        """One result for each picture, in order."""
        ...

    def reconstruct(self, pictures: Any) -> Iterator[NDArray[np.uint8] | None]:
        """Pictures as the method gives them back, in order."""
        ...


def fit_report(detector: Reported) -> ReportContent:
    """A page on a fresh detector: its promise, its training, where it comes from."""
    return _content(detector, "learnt from normal pictures", unusual=_unusual(detector))


def evaluation_report(detector: Reported, evaluation: Evaluation) -> ReportContent:
    """The same page, and how labelled pictures were told apart.

    Pictures that the page shows are read and scored once more, for their heat maps.
    """
    figures = evaluation.to_json()
    summary = {f.name: figures[f.name] for f in fields(EvaluationSummary) if f.name in figures}
    promise = evaluation.promise
    summary |= {
        "promise": promise.words,
        "promise_broken": promise.broken,
        "promise_advice": promise.advice,
        "parts": {name: value for name, value in evaluation.parts.items() if value is not None},
        "kinds": {kind: KindSummary(**told) for kind, told in figures["kinds"].items()},
    }
    return _content(
        detector,
        "evaluation on labelled pictures",
        items=_items(detector, evaluation),
        evaluation=EvaluationSummary(**summary),
    )


def _content(detector: Reported, what: str, **more: Any) -> ReportContent:
    calibration = detector.calibration
    return ReportContent(
        title=f"{detector.method}: {what}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=detector.method,
        method_summary=_first_line(type(detector.scorer.network).__doc__),
        decision=DecisionSummary(
            threshold=calibration.threshold,
            target_fpr=calibration.target_fpr,
            confidence=calibration.confidence,
            promised_fpr=calibration.promised_fpr,
            guarantee=calibration.guarantee,
            n_calibration=calibration.n,
            n_pictures=detector.provenance["n_calibration"] if calibration.grouped else None,
            strict_threshold=calibration.strict_threshold,
            note=calibration.note or None,
            pictures=detector.provenance.get("calibration_pictures"),
        ),
        calibration_scores=calibration.scores.tolist(),
        calibration_parts={n: v.tolist() for n, v in detector.calibrated_on.parts.items()},
        curves=health.curves(detector.history),
        verdict=detector.verdict,
        provenance=_provenance(detector),
        **more,
    )


def _first_line(text: str | None) -> str:
    """Of a docstring; nothing where there is none."""
    return (text or "").strip().partition("\n")[0]


def settings_told(detector: Reported) -> dict[str, Any]:
    """Every setting by name; pictures among them, which are long as text, in words."""
    return {
        **vars(detector.config),
        **vars(detector.view),
        "ignore": _ignored(detector.view),
        "align": "to a reference" if detector.view.align else "none",
        **vars(detector.training),
    }


def _provenance(detector: Reported) -> dict[str, str | int | float]:
    elsewhere = ("unreadable", "calibration_pictures")  # told below, and beside the promise
    facts = {name: value for name, value in detector.provenance.items() if name not in elsewhere}
    unreadable = detector.provenance["unreadable"]
    if unreadable:
        names = [picture["name"] for picture in unreadable]
        facts["left out as unreadable"] = f"{len(names)}: {', '.join(names[:5])}"
    facts["settings"] = ", ".join(
        f"{name}={value}" for name, value in settings_told(detector).items()
    )
    return {n: v if isinstance(v, int | float) else str(v) for n, v in facts.items()}


def _ignored(view: View) -> str:
    """What a mask ignores, in words: as a setting it is long."""
    if not view.ignore:
        return "nothing"
    mask = mask_of(view.ignore)
    return f"{mask.mean():.1%} of {mask.shape[1]} x {mask.shape[0]} pixels"


def _items(detector: Reported, evaluation: Evaluation) -> list[Item]:
    items = [
        _item(result, label)
        for result, label in zip(evaluation.results, evaluation.labels, strict=True)
    ]
    positions = sorted(shown(items))
    if positions:
        source = evaluation.source.subset(positions)
        chosen = [items[position] for position in positions]
        for position, item in zip(positions, _pictured(detector, source, chosen), strict=True):
            items[position] = item
    return items


def _unusual(detector: Reported) -> list[Item]:
    """The calibration pictures that score highest; of a loaded detector by name alone."""
    unusual = detector.calibrated_on.unusual
    decisions: Any = detector.calibration.decide([score for _, score in unusual])
    # Without p-values: they compare with the calibration pictures, and these are some of them.
    items = [
        Item(name=name, score=score, decision=decision)
        for (name, score), decision in zip(unusual, decisions.tolist(), strict=True)
    ]
    source = detector.calibrated_on.pictures
    if source is None:
        return items
    source = source.subset(range(len(items)))
    return [item for item in _pictured(detector, source, items) if item.error is None]


def _pictured(detector: Reported, source: ImageSource, items: Sequence[Item]) -> Iterator[Item]:
    """Items with all that is shown of them.

    Pictures are scored once more, for their maps alone: among other pictures a score is rounded
    otherwise, and one that is the threshold would be above it half of the time.
    """
    results, given = detector.stream(source), detector.reconstruct(source)
    for picture, item, result, x_hat in zip(source, items, results, given, strict=True):
        if result.error is not None:
            yield _item(result, item.label)
            continue
        photo = _small(picture, detector.view)
        if photo is None:
            yield item
            continue
        yield replace(
            item,
            picture=photo,
            reconstruction=None if x_hat is None else _image(x_hat).resize(photo.size),
            map=None if result.map is None else fit_map(result.map, photo.size),
        )


def _item(result: Result, label: bool | None) -> Item:
    if result.error is not None:
        return Item(name=result.name, label=label, error=result.error)
    decision: Any = result.decision
    return Item(
        name=result.name,
        score=result.score,
        p_value=result.p_value,
        decision=decision,
        parts=result.parts,
        label=label,
    )


def _small(picture: Picture, view: View) -> Image.Image | None:
    """A picture as small as the page shows it: dozens in camera resolution would fill memory.

    What is not looked at is dim.
    """
    try:
        pixels = picture.load()
    except DataError:
        return None
    looked = looked_at(pixels.shape[:2], view, pose_in(pixels, view))
    photo = _image(np.where(looked[..., None], pixels, pixels // DIM))
    photo.thumbnail((THUMBNAIL, THUMBNAIL))
    return photo


def _image(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
