"""`onlygood score`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table

if TYPE_CHECKING:
    from onlygood.core.result import Result
    from onlygood.data.source import Picture

ANOMALIES_FOUND = 2
SHOWN = 20
"""Rows of the table on screen; the file has all."""


def score(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    pictures: Annotated[
        list[Path], typer.Argument(metavar="PICTURES...", help="Pictures, or folders of them.")
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write .csv, .json or .parquet."),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a heat map of each picture here.")
    ] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 2 when anomalies are found.")
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Score pictures: how anomalous each is, its p-value, and the decision.

    Exit status: 0 done, 1 a picture could not be read, 2 anomalies (with --fail-on-anomaly).
    """
    from onlygood.cli.files import check_format, open_model, row_of, write_rows
    from onlygood.core.errors import DataError

    voice = Voice(json=json, quiet=quiet)
    if output is not None:
        check_format(output)
    for path in pictures:
        if not os.path.lexists(path):
            raise DataError(f"there is no {path}; name pictures or folders of pictures")

    from onlygood.data.source import ImageSource, printable

    detector = open_model(model)
    found = ImageSource.of(pictures)
    # Called by their paths: names that are relative to one of several folders could coincide.
    source = ImageSource.of(found, names=[printable(p.path) if p.path else p.name for p in found])
    rows: list[dict[str, Any]] = []
    with voice.progress() as progress:
        task = progress.add_task("scoring", total=len(source))
        results = detector.stream(source, maps=maps is not None)
        for picture, result in zip(source, results, strict=True):
            row = row_of(result)
            if maps is not None:
                row["map"] = _save_map(maps, picture, result)
            rows.append(row)
            progress.advance(task)
    if output is not None:
        write_rows(output, rows)

    counts = {
        decision: sum(row["decision"] == decision for row in rows)
        for decision in ("normal", "unsure", "anomalous", "error")
    }
    _show(voice, rows, counts, output)
    voice.say(detector.calibration.guarantee)
    voice.answer(
        {
            "model": model,
            "threshold": detector.calibration.threshold,
            "counts": counts,
            "results": rows,
        }
    )
    if counts["anomalous"] and fail_on_anomaly:
        return ANOMALIES_FOUND
    return 1 if counts["error"] else 0


def _show(
    voice: Voice, rows: list[dict[str, Any]], counts: dict[str, int], output: Path | None
) -> None:
    """The most anomalous pictures, and what could not be read before them."""
    ranked = sorted(rows, key=lambda row: (row["decision"] != "error", -row["score"]))
    voice.show(
        table(
            "picture",
            "score",
            "p-value",
            "decision",
            rows=[
                (row["path"], row["score"], row["p_value"], row["error"] or row["decision"])
                for row in ranked[:SHOWN]
            ],
        )
    )
    if len(rows) > SHOWN:
        voice.show(f"... and {len(rows) - SHOWN} with lower scores")
    names = {"error": "unreadable"}
    summary = ", ".join(f"{n} {names.get(key, key)}" for key, n in counts.items() if n)
    voice.show(f"{len(rows)} picture{'s' if len(rows) != 1 else ''}: {summary or 'none'}")
    if output is not None:
        voice.show(f"all of them: {output}")


def _save_map(folder: Path, picture: "Picture", result: "Result") -> str | None:
    """Lay the heat map over its picture and write that; gives the path, if there is a map."""
    if result.map is None:
        return None
    from onlygood.cli.files import map_name, writing
    from onlygood.report.heatmap import overlay, save_png

    path = folder / map_name(result.name, result.map.tobytes())
    image = overlay(picture.load(), result.map)
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        save_png(image, path)
    return str(path)
