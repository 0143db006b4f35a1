"""`onlygood score`."""

import heapq
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from json import dumps as encode
from json import loads as decode
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, final

import typer

from onlygood.cli.voice import Json, Quiet, Voice, jsonable, table
from onlygood.core.errors import ConfigError, DataError, ScoringInterrupted
from onlygood.core.text import many

if TYPE_CHECKING:
    from onlygood.result import Result
    from onlygood.scale.engine import Engine

ANOMALIES_FOUND = 2
SHOWN = 20
"""Rows on screen of those with a score, and of those without; the file has all."""


def score(
    model: Annotated[Path, typer.Argument(metavar="MODEL")],
    pictures: Annotated[
        list[str],
        typer.Argument(
            metavar="PICTURES...",
            help="Pictures, or folders of them; for a job also *.tar, *.parquet, lists, s3://.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            *("--output", "-o"),
            metavar="FILE",
            help="Write .csv, .json, .jsonl or .parquet; DIR/: a job, which can go on.",
        ),
    ] = None,
    maps: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Write a heat map of each picture here; of a job: none, anomalous or all.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes of a job.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Do a job on a Ray cluster: auto, HOST:PORT, local."),
    ] = None,
    part: Annotated[
        str | None, typer.Option(metavar="I/N", help="Do part I of N of a job, I from 0.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Take in pictures that are new since a job began.")
    ] = False,
    fail_on_anomaly: Annotated[
        bool,
        typer.Option("--fail-on-anomaly", help="Exit with 2 when some are anomalous or unsure."),
    ] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> int:
    """Score pictures: how anomalous each is, its p-value, and the decision.

    Exit status: 0 done, 1 a picture could not be read, 2 not all are normal (--fail-on-anomaly).
    Of a job, whose bad pictures are rows: 1 a unit could not be done, whatever was found.
    """
    voice = Voice(json=json, quiet=quiet)
    if _is_job(output, workers, ray, part, update):
        engine = _engine(workers, ray, part)
        return _job(voice, model, pictures, output, maps, engine, update, fail_on_anomaly)
    return _table(
        voice,
        model,
        [Path(picture) for picture in pictures],
        None if output is None else Path(output),
        None if maps is None else Path(maps),
        fail_on_anomaly,
    )


def _is_job(output: str | None, *asked: object) -> bool:
    if any(asked):
        return True
    return output is not None and (
        output.endswith(("/", os.sep)) or "://" in output or Path(output).is_dir()
    )


def _engine(workers: int | None, ray: str | None, part: str | None) -> "Engine":
    from onlygood.scale import Local, Part, Ray

    if ray is not None and part is not None:
        raise ConfigError("--ray and --part exclude each other; Ray shares the work out itself")
    if ray is not None:
        return Ray(ray, workers or 0)
    if part is None:
        return Local(workers or 1)
    index, _, of = part.partition("/")
    if not (index.isdecimal() and of.isdecimal()):
        raise ConfigError(f"--part is I/N, 0/64 for example, got {part!r}")
    return Part(int(index), int(of), workers or 1)


def _job(
    voice: Voice,
    model: Path,
    sources: list[str],
    output: str | None,
    maps: str | None,
    on: "Engine",
    update: bool,
    fail_on_anomaly: bool,
) -> int:
    """Score unit by unit into a folder."""
    from onlygood import scale
    from onlygood.cli.files import FORMATS

    if fail_on_anomaly and isinstance(on, scale.Part):
        raise ConfigError(
            "--part and --fail-on-anomaly exclude each other: a part knows only its own pictures; "
            "look at summary.json when all parts are done"
        )
    if output is None:
        raise ConfigError("a job needs a folder for what it finds; say -o DIR/")
    if Path(output).suffix.lower() in FORMATS and not output.endswith(("/", os.sep)):
        raise ConfigError(
            f"a job writes into a folder, and {output} is named like a table; say -o DIR/, or "
            "score without a job"
        )
    if model.suffix.lower() != ".onnx":
        raise ConfigError(
            f"a job runs where there is no torch, and takes what `onlygood export` writes; export "
            f"{model} and give that"
        )
    try:
        with voice.progress() as progress:
            bar = progress.add_task("units", total=None)
            ended = scale.score(
                model,
                sources,
                output,
                on=on,
                maps=maps or "none",
                update=update,
                told=lambda done, total: progress.update(bar, completed=done, total=total),
            )
    except KeyboardInterrupt as error:
        raise ScoringInterrupted(
            f"interrupted; what was scored is in {output}, and the same command does the rest"
        ) from error
    for failure in ended.failed:
        voice.error(f"unit {failure['unit']} (from {failure['first']}): {failure['error']}")
    if ended.summary is None:
        voice.show(f"{ended.done} of {ended.units} units are done; other parts do the rest")
        voice.answer({"units": {"done": ended.done, "of": ended.units, "failed": ended.failed}})
    else:
        counts = ended.summary["counts"]
        voice.show(f"{_counted(ended.summary['pictures'], counts)}: {output}")
        voice.say(ended.summary["drift"]["words"])
        voice.answer(ended.summary)
        # A part that was not looked at comes first: somebody has to repeat the command.
        if fail_on_anomaly and _found(counts) and not ended.failed:
            return ANOMALIES_FOUND
    return 1 if ended.failed else 0


def _table(
    voice: Voice,
    model: Path,
    pictures: list[Path],
    output: Path | None,
    maps: Path | None,
    fail_on_anomaly: bool,
) -> int:
    """Score one picture after the other into one file, or on screen alone."""
    from onlygood.cli.files import check_format, open_model, partial_of, row_of, writing_rows

    if output is not None:
        check_format(output)
    for path in pictures:
        if not os.path.lexists(path):
            raise DataError(f"there is no {path}; name pictures or folders of pictures")
        if maps is not None and path.is_dir() and _lies_in(maps, path):
            raise ConfigError(
                f"--maps {maps} lies in {path}, where the next command would take heat maps for "
                "pictures; name a folder that is not in it"
            )

    from onlygood.data.source import ImageSource
    from onlygood.report.heatmap import found_in
    from onlygood.report.regions import regions

    detector = open_model(model)
    if maps is not None and not detector.localizes:
        raise ConfigError(f"{model} gives scores alone, no maps; leave --maps out")
    source = ImageSource.of(pictures)
    summary = _Summary()
    began = time.perf_counter()
    # Memory must not grow with the number of pictures: rows go where they are wanted at once.
    with ExitStack() as stack:
        rows = None
        if voice.json:
            rows = _Rows(stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8")))
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
                        outlined = regions(result.decision, result.map)
                        row["regions"] = [region._asdict() for region in outlined]
                    for taker in (summary.add, write, rows and rows.add):
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
        voice.say(f"{len(source) / (time.perf_counter() - began):,.1f} pictures a second")
        voice.say(detector.calibration.guarantee)
        if rows is not None:
            voice.answer(
                {
                    "model": model,
                    "threshold": detector.calibration.threshold,
                    "counts": summary.counts,
                },
                results=rows,
            )
    if fail_on_anomaly and _found(summary.counts):
        return ANOMALIES_FOUND
    return 1 if summary.counts["error"] else 0


@final
class _Summary:
    """What is shown of all rows: how many of each kind, and the most anomalous.

    Those that could not be read have rows of their own, and push no anomaly off the screen.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(("normal", "unsure", "anomalous", "error"), 0)
        self._total = 0
        self._errors: list[dict[str, Any]] = []
        # The least of what is shown comes first. Where two are equal, the earlier row is shown.
        self._top: list[tuple[float, int, dict[str, Any]]] = []

    def add(self, row: dict[str, Any]) -> None:
        self.counts[row["decision"]] += 1
        self._total += 1
        if row["decision"] == "error":
            if len(self._errors) < SHOWN:
                self._errors.append(row)
            return
        entry = (row["score"], -self._total, row)
        if len(self._top) < SHOWN:
            heapq.heappush(self._top, entry)
        else:
            heapq.heappushpop(self._top, entry)

    def show(self, voice: Voice, output: Path | None) -> None:
        """The most anomalous pictures, and before them what could not be read."""
        unreadable = self.counts["error"]
        rows = [*self._errors, *(row for *_, row in sorted(self._top, reverse=True))]
        voice.show(
            table(
                "picture",
                "score",
                "p-value",
                "decision",
                rows=[
                    (row["path"], row["score"], row["p_value"], row["error"] or row["decision"])
                    for row in rows
                ],
            )
        )
        if unreadable > SHOWN:
            voice.show(f"... and {unreadable - SHOWN} more that cannot be read")
        if (scored := self._total - unreadable) > SHOWN:
            voice.show(f"... and {scored - SHOWN} with lower scores")
        voice.show(_counted(self._total, self.counts))
        if output is not None:
            voice.show(f"all of them: {output}")


def _lies_in(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _found(counts: Mapping[str, int]) -> bool:
    """Whether somebody has to look at a part: the model is sure of it, or is not."""
    return counts["anomalous"] + counts["unsure"] > 0


def _counted(total: int, counts: Mapping[str, int]) -> str:
    """How many pictures there are of each kind, in words."""
    names = {"error": "unreadable"}
    summary = ", ".join(f"{n} {names.get(key, key)}" for key, n in counts.items() if n)
    return f"{many(total, 'picture')}: {summary or 'none'}"


@final
class _Rows:
    """Rows that wait in a file for the one JSON object."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def add(self, row: dict[str, Any]) -> None:
        self._file.write(encode(jsonable(row)) + "\n")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        self._file.seek(0)
        return map(decode, self._file)


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
