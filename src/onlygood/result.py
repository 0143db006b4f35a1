"""What is said of pictures, by whatever scored them, and how it looks. Needs no torch."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, SupportsIndex, final, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.core.text import figure, many
from onlygood.data.loading import Loaded
from onlygood.data.resize import restored
from onlygood.decision.calibration import Calibration
from onlygood.report.heatmap import data_uri, overlay, save_png
from onlygood.report.regions import Region, columns, regions

THUMBNAIL = 160
"""Longer side in pixels of a picture in a notebook."""
SHOWN = 50
"""Results that a notebook shows of a list."""
GREY = 96
"""Below a map whose picture was not kept."""


class Result(NamedTuple):
    """What a detector, or the runtime of one, says of a picture."""

    name: str
    score: float
    """Raw, larger = more anomalous; NaN where the picture could not be read."""
    p_value: float
    """Conformal: the share of normal pictures that score as high, at least 1 / (n + 1)."""
    decision: str
    """`normal`, `unsure` (with two thresholds), `anomalous`, or `error`."""
    parts: dict[str, float]
    """The parts of the score, before their weights."""
    map: NDArray[np.float32] | None = None
    """`(height, width)` of the picture: 0 = median of normal pixels, 1 = pixel threshold. Outside
    of `View.roi` and `View.crop`, and in `View.ignore`, it is 0: nothing was looked at there."""
    error: str | None = None
    """Why the picture could not be scored."""
    picture: NDArray[np.uint8] | None = None
    """`(H, W, C)`: the picture as it was decoded, where it was to be kept."""

    @property
    def regions(self) -> list[Region]:
        """What is outlined in the map, the highest peak first; none in a normal picture."""
        return regions(self.decision, self.map)

    def overlay(self, *, opacity: float = 1.0) -> Image.Image:
        """The picture, or grey where it was not kept, with its heat map over it: RGB.

        Without a map the picture alone. `opacity` in [0, 1] makes the map fainter.

        Raises:
            DataError: there is neither a picture nor a map, or it could not be scored.
        """
        return _laid(self, opacity)

    def save(self, path: str | Path, *, opacity: float = 1.0) -> None:
        """Write `overlay` as PNG, atomically.

        Raises:
            DataError: there is neither a picture nor a map, or it could not be scored.
            OSError: the file cannot be written; nothing is left behind.
        """
        save_png(self.overlay(opacity=opacity), path)

    def show(self, *, opacity: float = 1.0) -> None:
        """Open `overlay` in a notebook, or else in the viewer of the desktop.

        Raises:
            DataError: there is neither a picture nor a map, or it could not be scored.
        """
        self.overlay(opacity=opacity).show(self.name)

    def row(self) -> dict[str, object]:
        """Everything but arrays, flat: parts of the score as `part_NAME`.

        With a map also how many regions are outlined, and the worst one as `region_NAME`.
        """
        known = {"name": self.name, "score": self.score, "p_value": self.p_value}
        where = {} if self.map is None else columns(self.regions)
        parts = {f"part_{name}": value for name, value in self.parts.items()}
        return {**known, "decision": self.decision, "error": self.error, **where, **parts}

    def __repr__(self) -> str:
        if self.error is not None:
            return f"<Result {self.name}: error, {self.error}>"
        size = "" if self.map is None else f", map {self.map.shape[1]} x {self.map.shape[0]}"
        return (
            f"<Result {self.name}: {self.decision}, score {self.score:.4g}, "
            f"p {figure(self.p_value, 3)}{size}>"
        )

    def _repr_html_(self) -> str:
        return _table([self])


@final
class Results(list[Result]):
    """Results in the order of the pictures; a list that can be looked at, as can a slice of it."""

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> Result: ...

    @overload
    def __getitem__(self, index: slice, /) -> "Results": ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> "Result | Results":
        if isinstance(index, slice):
            return Results(super().__getitem__(index))
        return super().__getitem__(index)

    def rows(self) -> list[dict[str, object]]:
        """One flat row for each, see `Result.row`."""
        return [result.row() for result in self]

    def to_frame(self) -> Any:
        """The rows as a `DataFrame` of pandas, a part of the score in a column `part_NAME`.

        Raises:
            ModuleNotFoundError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                "to_frame needs pandas: pip install pandas; rows() gives the same as dictionaries",
                name="pandas",
            ) from error
        return pd.DataFrame(self.rows())

    def __repr__(self) -> str:
        return f"<Results: {_counted(self)}>"

    def _repr_html_(self) -> str:
        more = f"<p>and {len(self) - SHOWN} more</p>" if len(self) > SHOWN else ""
        return f"<p>{html.escape(_counted(self))}</p>{_table(self[:SHOWN])}{more}"


def judged(
    batch: Sequence[Loaded],
    view: View,
    calibration: Calibration,
    totals: NDArray[np.float64],
    parts: Mapping[str, NDArray[np.floating[Any]]],
    maps: NDArray[np.floating[Any]] | None,
) -> Iterator[Result]:
    """What is said of the pictures of a batch, in their order.

    Args:
        batch: Loaded pictures, and those that could not be.
        view: How they were seen.
        calibration: Decides.
        totals: `(n,)` finite scores of the readable ones.
        parts: `(n,)` for each part of the score.
        maps: `(n, *View.shape)` on the calibration's scale, where they are wanted.
    """
    p_values, decisions = calibration.p_values(totals), calibration.decide(totals)
    readable = iter(range(len(totals)))
    for item in batch:
        if item.size is None:
            yield Result(item.name, math.nan, math.nan, "error", {}, error=item.error)
            continue
        i = next(readable)
        yield Result(
            item.name,
            float(totals[i]),
            float(p_values[i]),
            str(decisions[i]),
            {name: float(values[i]) for name, values in parts.items()},
            None
            if maps is None
            else restored(maps[i].astype(np.float32), item.size, view, pose=item.pose),
            picture=item.whole,
        )


def _laid(result: Result, opacity: float = 1.0, longest: int | None = None) -> Image.Image:
    """A map over its picture, made small first: so a defect of a few pixels does not vanish."""
    if result.picture is not None:
        picture = result.picture
    elif result.map is not None:
        picture = np.full((*result.map.shape, 1), GREY, np.uint8)
    elif result.error is not None:
        raise DataError(result.error)
    else:
        raise DataError(
            f"{result.name}: has neither picture nor map to look at; score with keep=True, and "
            "for a map with a method that localises"
        )
    photo = Image.fromarray(np.broadcast_to(picture, (*picture.shape[:2], 3)).copy())
    if longest is not None:
        photo.thumbnail((longest, longest))
    heat = np.zeros((1, 1), np.float32) if result.map is None else result.map
    outline = result.decision != "normal"
    return overlay(np.asarray(photo), heat, opacity=opacity, outline=outline)


def _counted(results: list[Result]) -> str:
    decisions = [result.decision for result in results]
    counts = ", ".join(
        f"{decisions.count(decision)} {decision}"
        for decision in ("normal", "unsure", "anomalous", "error")
        if decision in decisions
    )
    return many(len(results), "picture") + (f": {counts}" if counts else "")


def _table(results: list[Result]) -> str:
    """Self-contained HTML; what comes from file names is escaped."""
    heads = "".join(f"<th>{head}</th>" for head in ("", "name", "decision", "score", "p"))
    rows = "".join(f"<tr>{''.join(_cells(result))}</tr>" for result in results)
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>"


def _cells(result: Result) -> Iterator[str]:
    image = ""
    if result.picture is not None or result.map is not None:
        image = f'<img alt="" src="{data_uri(_laid(result, longest=THUMBNAIL))}">'
    said = result.decision if result.error is None else result.error
    score, p = (
        "" if math.isnan(value) else figure(value) for value in (result.score, result.p_value)
    )
    for cell in (image, html.escape(_printable(result.name)), html.escape(_printable(said))):
        yield f"<td>{cell}</td>"
    yield f"<td>{score}</td><td>{p}</td>"


def _printable(text: Any) -> str:
    """A notebook is UTF-8; names of files need not be."""
    return str(text).encode("utf-8", "replace").decode("utf-8")
