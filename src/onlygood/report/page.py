"""One HTML page that works offline: no script, no external resource, pictures inside."""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from onlygood.core.files import replacing
from onlygood.core.text import figure
from onlygood.decision.calibration import percent
from onlygood.report import charts
from onlygood.report.content import Item, ReportContent
from onlygood.report.heatmap import TOP, colourise, data_uri, fit_map, found_in

MOST_ANOMALOUS = 24
LEAST_ANOMALOUS = 12
MISTAKES = 12
"""Pictures in each of the two galleries of mistakes."""
UNUSUAL = "calibration-"
"""Begins the keys of thumbnails of calibration pictures; those of scored ones are positions."""
UNREADABLE = 50
"""Names in the list of unreadable pictures."""
THUMBNAIL = 320
"""Longest side in pixels of a picture on the page."""


@dataclass(frozen=True)
class Gallery:
    """Positions of the pictures that the page shows, in the order of each section."""

    most_anomalous: list[int]
    false_alarms: list[int]
    misses: list[int]
    least_anomalous: list[int]
    n_false_alarms: int
    """Of all pictures, shown or not."""
    n_misses: int


class Thumbnail(NamedTuple):
    """A picture, its reconstruction and its coloured map, small, as data URIs."""

    width: int
    height: int
    photo: str
    reconstruction: str | None
    heat: str | None
    whole: bool
    """The picture is not called normal, and no region of its map is outlined."""


def shown(items: Sequence[Item]) -> set[int]:
    """Positions of the items whose picture and map the page shows; the others need none."""
    gallery = _gallery(items)
    return {
        *(*gallery.most_anomalous, *gallery.least_anomalous),
        *(*gallery.false_alarms, *gallery.misses),
    }


def render(content: ReportContent) -> str:
    """The report as one HTML document."""
    gallery = _gallery(content.items)
    curves = [charts.curve(name, points) for name, points in content.curves.items()]
    pictured = {str(index): content.items[index] for index in sorted(shown(content.items))}
    pictured |= {f"{UNUSUAL}{index}": item for index, item in enumerate(content.unusual)}
    return (
        _environment()
        .get_template("template.html.j2")
        .render(
            content=content,
            decision=content.decision,
            counts=_counts(content.items),
            histogram=_histogram(content),
            parts=_parts(content),
            roc=_roc(content.items),
            curves=[curve for curve in curves if curve],
            gallery=gallery,
            thumbnails={
                key: thumbnail for key, item in pictured.items() if (thumbnail := _thumbnail(item))
            },
            unusual=UNUSUAL,
            unreadable=[item for item in content.items if item.error is not None],
            max_unreadable=UNREADABLE,
            colour_bar=_colour_bar(),
            top=TOP,
        )
    )


def write_report(content: ReportContent, path: str | Path) -> None:
    """Write the report to `path`, atomically.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    with replacing(Path(path)) as temporary:
        # A file name that is not valid text reaches Python with lone surrogates in it.
        temporary.write_text(render(content), "utf-8", "backslashreplace")


def _gallery(items: Sequence[Item]) -> Gallery:
    """The most anomalous first; false alarms from the highest score, the others from the lowest.

    The least anomalous are none of the most anomalous. False alarms and misses are about
    `threshold`, as the promise is: an unsure picture is above it.
    """
    scores = {
        index: item.score
        for index, item in enumerate(items)
        if item.score is not None and not math.isnan(item.score)
    }
    ranked = sorted(scores, key=lambda index: -scores[index])
    false_alarms = [
        index
        for index in ranked
        if items[index].label is False and items[index].decision in ("unsure", "anomalous")
    ]
    misses = [
        index
        for index in reversed(ranked)
        if items[index].label is True and items[index].decision == "normal"
    ]
    return Gallery(
        most_anomalous=ranked[:MOST_ANOMALOUS],
        false_alarms=false_alarms[:MISTAKES],
        misses=misses[:MISTAKES],
        least_anomalous=ranked[MOST_ANOMALOUS:][::-1][:LEAST_ANOMALOUS],
        n_false_alarms=len(false_alarms),
        n_misses=len(misses),
    )


def _counts(items: Iterable[Item]) -> dict[str, int]:
    """How many pictures each decision has, unreadable ones last; only what occurs."""
    found = Counter("unreadable" if item.error is not None else item.decision for item in items)
    return {
        name: found[name] for name in ("normal", "unsure", "anomalous", "unreadable") if found[name]
    }


def _histogram(content: ReportContent) -> charts.Histogram | None:
    calibration = content.calibration_scores
    groups = _groups(calibration, [(item, item.score) for item in content.items])
    decision = content.decision
    marks = [("threshold", decision.threshold)]
    if decision.strict_threshold is not None:
        marks = [
            ("unsure above", decision.threshold),
            ("anomalous above", decision.strict_threshold),
        ]
    return charts.histogram(groups, calibration, marks)


def _parts(content: ReportContent) -> dict[str, charts.Histogram]:
    """How each part of the score is distributed, where there is more than one."""
    # In the method's order where it is known; files keep names in alphabetical order.
    names = dict.fromkeys(name for item in content.items for name in item.parts)
    names |= dict.fromkeys(content.calibration_parts)
    if len(names) < 2:
        return {}
    drawn: dict[str, charts.Histogram] = {}
    for name in names:
        calibration = content.calibration_parts.get(name, ())
        groups = _groups(calibration, [(item, item.parts.get(name)) for item in content.items])
        if chart := charts.histogram(groups, calibration, [], ticks=3):
            drawn[name] = chart
    return drawn


def _groups(
    calibration: Iterable[float], scored: Sequence[tuple[Item, float | None]]
) -> list[tuple[str, str, Iterable[float]]]:
    """Rows of a histogram: calibration pictures, and scored ones by what is known of them."""
    groups: list[tuple[str, str, Iterable[float]]] = [
        ("Calibration (normal)", "calibration", calibration)
    ]
    for label, kind, name in (
        (False, "normal", "Scored, known normal"),
        (True, "anomalous", "Scored, known anomalous"),
        (None, "scored", "Scored"),
    ):
        values = [value for item, value in scored if item.label is label and value is not None]
        groups.append((name, kind, values))
    return groups


def _roc(items: Iterable[Item]) -> str | None:
    known = [
        (item.label, item.score)
        for item in items
        if item.label is not None and item.score is not None
    ]
    return charts.roc([label for label, _ in known], [score for _, score in known])


def _thumbnail(item: Item) -> Thumbnail | None:
    if item.picture is None:
        return None
    photo = item.picture.convert("RGB")
    photo.thumbnail((THUMBNAIL, THUMBNAIL))
    x_hat = item.reconstruction
    given = None if x_hat is None else data_uri(x_hat.convert("RGB").resize(photo.size))
    heat, whole = None, False
    if item.map is not None:
        map = fit_map(item.map, photo.size)
        heat = data_uri(colourise(map, outline=item.decision != "normal"))
        whole = found_in(item.decision or "", map) == "whole picture"
    return Thumbnail(photo.width, photo.height, data_uri(photo), given, heat, whole)


def _colour_bar() -> str:
    """The scale as `colourise` draws it."""
    return data_uri(colourise(np.tile(np.linspace(0, TOP, 256), (8, 1))))


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("onlygood.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=_number, percent=_percent, promised=_promised, sentence=_sentence
    )
    return environment


def _number(value: float | None, digits: int = 4) -> str:
    """A number for reading, `n/a` where there is none."""
    if value is None or not math.isfinite(value):
        return "n/a"
    return figure(value, digits)


def _percent(share: float | None) -> str:
    """A share as per cent, `n/a` where there is none."""
    if share is None or not math.isfinite(share):
        return "n/a"
    return f"{figure(100 * share, 3, whole=100.0)} %"


def _promised(share: float) -> str:
    """A promised share as the guarantee says it, `n/a` where there is none."""
    return percent(share) if math.isfinite(share) else "n/a"


def _sentence(text: str) -> str:
    """The text with a capital first letter and a full stop."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
