"""Fills the report page with what a detector knows."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from onlygood.core.errors import DataError
from onlygood.core.result import Result
from onlygood.data.source import ImageSource
from onlygood.detector import Detector
from onlygood.evaluation.evaluate import Evaluation
from onlygood.methods import METHODS
from onlygood.report.content import DecisionSummary, EvaluationSummary, Item, ReportContent
from onlygood.report.heatmap import fit_map
from onlygood.report.page import THUMBNAIL, shown
from onlygood.training import health


def fit_report(detector: Detector) -> ReportContent:
    """A page on a fresh detector: its promise, its training, where it comes from."""
    return _content(detector, "learnt from normal pictures")


def evaluation_report(detector: Detector, evaluation: Evaluation) -> ReportContent:
    """The same page, and how labelled pictures were told apart.

    Pictures that the page shows are read and scored once more, for their heat maps.
    """
    figures = evaluation.to_json()
    summary = {f.name: figures[f.name] for f in fields(EvaluationSummary)}
    parts = {name: value for name, value in evaluation.parts.items() if value is not None}
    return _content(
        detector,
        "evaluation on labelled pictures",
        items=_items(detector, evaluation),
        evaluation=EvaluationSummary(**{**summary, "parts": parts}),
    )


def _content(detector: Detector, what: str, **more: Any) -> ReportContent:
    calibration = detector.calibration
    return ReportContent(
        title=f"{detector.method}: {what}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=detector.method,
        method_summary=(METHODS[detector.method].__doc__ or "").strip().splitlines()[0],
        decision=DecisionSummary(
            threshold=calibration.threshold,
            target_fpr=calibration.target_fpr,
            confidence=calibration.confidence,
            promised_fpr=calibration.promised_fpr,
            guarantee=calibration.guarantee,
            n_calibration=calibration.n,
            strict_threshold=calibration.strict_threshold,
            note=calibration.note or None,
        ),
        calibration_scores=calibration.scores.tolist(),
        curves={n: health.series(detector.history, n) for n in health.names(detector.history)},
        verdict=detector.verdict,
        provenance=_provenance(detector),
        **more,
    )


def _provenance(detector: Detector) -> dict[str, str | int | float]:
    settings: Mapping[str, Any] = {
        **vars(detector.config),
        **vars(detector.view),
        **vars(detector.training),
    }
    facts = {name: value for name, value in detector.provenance.items() if name != "unreadable"}
    unreadable = detector.provenance["unreadable"]
    if unreadable:
        names = [picture["name"] for picture in unreadable]
        facts["left out as unreadable"] = f"{len(names)}: {', '.join(names[:5])}"
    facts["settings"] = ", ".join(f"{name}={value}" for name, value in settings.items())
    return {n: v if isinstance(v, int | float) else str(v) for n, v in facts.items()}


def _items(detector: Detector, evaluation: Evaluation) -> list[Item]:
    items = [
        _item(result, label)
        for result, label in zip(evaluation.results, evaluation.labels, strict=True)
    ]
    positions = sorted(shown(items))
    if not positions:
        return items
    source = evaluation.source.subset(positions)
    for position, result in zip(positions, detector.stream(source), strict=True):
        picture = _picture(evaluation.source, position)
        items[position] = _item(result, evaluation.labels[position], picture)
    return items


def _item(result: Result, label: bool, picture: Image.Image | None = None) -> Item:
    if result.error is not None:
        return Item(name=result.name, label=label, error=result.error)
    decision: Any = result.decision
    map = None
    if picture is not None and result.map is not None:
        map = fit_map(result.map, picture.size)
    return Item(
        name=result.name,
        score=result.score,
        p_value=result.p_value,
        decision=decision,
        label=label,
        picture=picture,
        map=map,
    )


def _picture(source: ImageSource, position: int) -> Image.Image | None:
    """A picture as small as the page shows it: dozens in camera resolution would fill memory."""
    try:
        pixels = source[position].load()
    except DataError:
        return None
    picture = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return picture
