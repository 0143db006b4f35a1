"""`onlygood score`."""

import heapq
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from json import dumps as encode
from json import loads as decode
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, final

import typer

from onlygood.cli.voice import Json, Quiet, Voice, jsonable, table

if TYPE_CHECKING:
    from onlygood.result import Result

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
        typer.Option(
            "--output", "-o", metavar="FILE", help="Write .csv, .json, .jsonl or .parquet."
        ),
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
    from onlygood.cli.files import check_format, open_model, partial_of, row_of, writing_rows
    from onlygood.core.errors import DataError, ScoringInterrupted

    voice = Voice(json=json, quiet=quiet)
    if output is not None:
        check_format(output)
    for path in pictures:
        if not os.path.lexists(path):
            raise DataError(f"there is no {path}; name pictures or folders of pictures")

    from onlygood.data.source import ImageSource
    from onlygood.report.heatmap import found_in

    detector = open_model(model)
    source = ImageSource.of(pictures)
    summary = _Summary()
    # Memory must not grow with the number of pictures: rows go where they are wanted at once.
    with ExitStack() as stack:
        told = stack.enter_context(_rows_to_tell()) if json else None
        try:
            with ExitStack() as writers:
                write = None if output is None else writers.enter_context(writing_rows(output))
                progress = writers.enter_context(voice.progress())
                task = progress.add_task("scoring", total=len(source))
                for result in detector.stream(source, maps=maps is not None, keep=maps is not None):
                    row = row_of(result, detector.calibration.threshold)
                    if maps is not None:
                        row["map"] = _save_map(maps, result)
                        row["found_in"] = found_in(result.decision, result.map)
                    for taker in (summary.add, write, told and told.add):
                        if taker is not None:
                            taker(row)
                    progress.advance(task)
        except KeyboardInterrupt as error:
            if output is None:
                raise
            raise ScoringInterrupted(
                f"interrupted; what was scored until then is in {partial_of(output)}"
            ) from error

        summary.show(voice, output)
        voice.say(detector.calibration.guarantee)
        if told is not None:
            voice.answer(
                {
                    "model": model,
                    "threshold": detector.calibration.threshold,
                    "counts": summary.counts,
                },
                results=told,
            )
    if summary.counts["anomalous"] and fail_on_anomaly:
        return ANOMALIES_FOUND
    return 1 if summary.counts["error"] else 0


@final
class _Summary:
    """What is shown of all rows: how many of each kind, and the most anomalous."""

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("normal", "unsure", "anomalous", "error"), 0)
        self._total = 0
        # The least of what is shown comes first. Where two are equal, the earlier row is shown.
        self._top: list[tuple[bool, float, int, dict[str, Any]]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.counts[row["decision"]] += 1
        self._total += 1
        error = row["decision"] == "error"
        entry = (error, 0.0 if error else row["score"], -self._total, row)
        if len(self._top) < SHOWN:
            heapq.heappush(self._top, entry)
        else:
            heapq.heappushpop(self._top, entry)

    def show(self, voice: Voice, output: Path | None) -> None:
        """The most anomalous pictures, and what could not be read before them."""
        voice.show(
            table(
                "picture",
                "score",
                "p-value",
                "decision",
                rows=[
                    (row["path"], row["score"], row["p_value"], row["error"] or row["decision"])
                    for *_, row in sorted(self._top, reverse=True)
                ],
            )
        )
        if self._total > SHOWN:
            voice.show(f"... and {self._total - SHOWN} with lower scores")
        names = {"error": "unreadable"}
        summary = ", ".join(f"{n} {names.get(key, key)}" for key, n in self.counts.items() if n)
        plural = "s" if self._total != 1 else ""
        voice.show(f"{self._total} picture{plural}: {summary or 'none'}")
        if output is not None:
            voice.show(f"all of them: {output}")


@final
class _Told:
    """Rows that wait in a file for the one JSON object."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(encode(jsonable(row)) + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        return map(decode, self._file)


@contextmanager
def _rows_to_tell() -> Iterator[_Told]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as file:
        yield _Told(file)


def _save_map(folder: Path, result: "Result") -> str | None:
    """Lay the heat map over its picture and write that; gives the path, if there is a map."""
    if result.map is None or result.picture is None:
        return None
    from onlygood.cli.files import map_name, writing
    from onlygood.data.source import printable
    from onlygood.report.heatmap import overlay, save_png

    path = folder / map_name(result.name, result.map.tobytes())
    image = overlay(result.picture, result.map, outline=result.decision != "normal")
    with writing(path):
        folder.mkdir(parents=True, exist_ok=True)
        save_png(image, path)
    return printable(path)
