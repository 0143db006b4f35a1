"""`onlygood bench`."""

import os
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table
from onlygood.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from onlygood.evaluation.records import Line
    from onlygood.evaluation.tables import Sheet

RESULTS = Path("results")
"""Folder of records."""
PAGE = Path("docs/results.md")

bench = typer.Typer(
    help="Measure methods under the protocols of papers, and set them beside published figures."
)

Files = Annotated[
    list[Path] | None,
    typer.Option(
        "--results", help="A file of records; may be repeated. By default all of results/."
    ),
]
Datasets = Annotated[list[str] | None, typer.Option("--dataset", help="Only of this data set.")]
Protocols = Annotated[list[str] | None, typer.Option("--protocol", help="Only of this protocol.")]
Markdown = Annotated[bool, typer.Option("--markdown", help="As Markdown.")]
Classes = Annotated[
    list[str] | None,
    typer.Option(help="Normal classes by name or position; commas between, or repeated."),
]
Seeds = Annotated[list[str] | None, typer.Option(help="Of training; as classes.")]
Folder = Annotated[
    Path | None, typer.Option(help="Of the data set, or of folders with the names of data sets.")
]
Records = Annotated[
    Path | None,
    typer.Option(
        help="File that the records are added to.", show_default="results/DATASET-PROTOCOL.jsonl"
    ),
]


@bench.command("run")
def run(
    protocol: Annotated[str, typer.Option(help="Such as gpnd; a wrong name lists them.")],
    dataset: Annotated[str, typer.Option(help="Such as fashion-mnist or elpv-mono.")],
    methods: Annotated[
        list[str], typer.Option(help="METHOD or METHOD:PRESET; commas between, or repeated.")
    ],
    results: Records = None,
    classes: Classes = None,
    seeds: Seeds = None,
    preset: Annotated[str, typer.Option(help="Of methods that name none.")] = "default",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD=A,B,C",
            help="Each of these values; several multiply. Semicolons where values have commas.",
        ),
    ] = None,
    folder: Folder = None,
    curve: Annotated[
        int, typer.Option(min=0, help="Evaluate at so many growing budgets; selects nothing.")
    ] = 0,
    share_features: Annotated[
        bool,
        typer.Option(
            "--share-features", help="Compute frozen features once for all; tells no times then."
        ),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Run cells side by side on a cluster of Ray: auto, HOST:PORT, or local.",
        ),
    ] = None,
    gpus_per_cell: Annotated[
        float, typer.Option(help="With --ray: a share of a GPU, or so many; 0: none.")
    ] = 0.0,
    cpus_per_cell: Annotated[
        int, typer.Option(help="With --ray: cores of a cell, and its threads.")
    ] = 1,
    tracker: Annotated[
        Literal["mlflow", "tensorboard"] | None,
        typer.Option(help="Keep each cell as a run there, too; see `onlygood fit --help`."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and test every cell that has no record yet; interrupted, the same command goes on."""
    voice = Voice(json=json, quiet=quiet)
    file = _file(results, protocol, dataset)
    settings = _swept(said(assignments), sweep)
    numbers = _numbers(seeds)
    named = [method_and_preset(word) for word in _words(methods)]
    if not named:
        raise ConfigError("name at least one method: --methods pca")
    if ray is not None and share_features:
        raise ConfigError("--ray and --share-features exclude each other; nodes share no memory")
    if ray is not None and tracker is not None:
        raise ConfigError("--ray and --tracker exclude each other; nodes tell of no training")

    from onlygood.detector.learning import settings_of
    from onlygood.evaluation.bench import Cell
    from onlygood.evaluation.bench import run as run_cells
    from onlygood.evaluation.protocols import open_tasks

    for method, own in named:
        for one in settings:
            try:
                settings_of(method, own or preset, one)  # Refused before any pictures are read.
            except ConfigError as error:
                usual = settings_of(method, own or preset, {})
                fields = {name: value for part in usual for name, value in vars(part).items()}
                raise ConfigError(f"{error}{_semicolons(sweep, fields)}") from error
    tasks = open_tasks(protocol, dataset, folder)
    recorded = tasks.named(dataset)
    cells = [
        Cell(
            method=method,
            preset=own or preset,
            settings=one,
            dataset=recorded,
            protocol=protocol,
            normal=normal,
            seed=seed,
        )
        # All classes with the first seed come first: they are the first table.
        for seed in numbers
        for normal in tasks.chosen(_words(classes))
        for method, own in named
        for one in settings
    ]
    different: dict[object, Cell] = {}
    for cell in cells:  # Two presets, or words of a sweep such as 1 and 1.0, may be the same.
        different.setdefault(cell.key, cell)
    cells = list(different.values())
    if share_features:  # Cells on the same pictures follow each other.
        cells.sort(key=lambda cell: tasks.classes.index(cell.normal))
    if ray is None:
        found = run_cells(
            cells,
            tasks,
            file,
            curve=curve,
            share_features=share_features,
            # Under torchrun one process keeps what all have done.
            tracker=tracker if voice.first else None,
            reporter=voice.reporter(),
            say=voice.say,
        )
    else:
        from onlygood.scale import Ray
        from onlygood.scale.bench import Share
        from onlygood.scale.bench import run as run_on_ray

        share = Share(gpus=gpus_per_cell, cpus=cpus_per_cell)
        found = run_on_ray(
            cells, dataset, folder, file, on=Ray(ray), share=share, curve=curve, say=voice.say
        )
    lines = list(found)
    if not voice.first:
        return  # The records are being written by another process.
    _show(voice, [file], [recorded], [protocol], markdown=False)
    voice.answer({"results": file, "cells": len(cells), "run": len(lines)})


@bench.command("show")
def show(
    results: Files = None,
    dataset: Datasets = None,
    protocol: Protocols = None,
    markdown: Markdown = False,
    json: Json = False,
) -> None:
    """Show records beside the figures that the papers print."""
    voice = Voice(json=json)
    lines = _show(voice, results, _words(dataset), _words(protocol), markdown)
    voice.answer({"records": lines})


@bench.command("protocols")
def list_protocols(json: Json = False) -> None:
    """List the protocols: what each trains and tests on, and which data sets it takes."""
    from onlygood.evaluation.protocols import PROTOCOLS

    voice = Voice(json=json)
    rows = [(name, one.summary, one.datasets) for name, one in PROTOCOLS.items()]
    voice.show(table("protocol", "what it does", "data sets", rows=rows))
    keys = ("name", "summary", "datasets")
    voice.answer({"protocols": [dict(zip(keys, row, strict=True)) for row in rows]})


@bench.command("tables")
def list_tables(folder: Folder = None, json: Json = False) -> None:
    """List the tables of the papers, and how much of each can be run here."""
    from onlygood.evaluation.paper_tables import TABLES, sets_of, title_of

    voice = Voice(json=json)
    found: list[dict[str, Any]] = []
    for name, of_paper in TABLES.items():
        sets = sets_of(of_paper, folder)
        # Once, though data sets beside each other ask for other ways.
        printed = {row.printed: row for row in of_paper.rows}
        lacking = [name for name, row in printed.items() if not row.ways]
        found.append(
            {
                "name": name,
                "title": title_of(of_paper),
                "rows": len(printed),
                "rows_with_a_method": len(printed) - len(lacking),
                "data": [one for one, there in sets.items() if there],
                "missing_data": [one for one, there in sets.items() if not there],
                "weights": list(of_paper.weights),
                "missing_methods": lacking,
            }
        )
    lists = ("data", "missing_data", "weights", "missing_methods")
    rows = [
        (
            *(one["name"], one["title"]),
            f"{one['rows_with_a_method']} of {one['rows']}" if one["rows"] else "counts",
            *(", ".join(one[key]) or "–" for key in lists),
        )
        for one in found
    ]
    heads = ("table", "what it holds", "rows", "data here", "data missing", "weights", "no method")
    voice.show(table(*heads, rows=rows))
    voice.say(
        "`onlygood bench table NAME` runs one; data are looked for in --folder and where installed"
    )
    voice.answer({"tables": found})


@bench.command("table")
def run_table(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as cbigan-2; see `tables`.")],
    classes: Classes = None,
    rows: Annotated[
        list[str] | None, typer.Option(help="Rows by their printed names; as classes.")
    ] = None,
    seeds: Seeds = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Any other setting, for the rows whose method has it; may be repeated.",
        ),
    ] = None,
    folder: Folder = None,
    results: Records = None,
    markdown: Markdown = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Run a table of a paper, show it beside what is printed, and list what is missing."""
    from onlygood.evaluation.paper_tables import CountedTable, table_of

    voice = Voice(json=json, quiet=quiet)
    of_paper = table_of(name)
    settings = said(assignments)
    numbers = _numbers(seeds)

    from onlygood.evaluation.bench import run as run_cells
    from onlygood.evaluation.records import read
    from onlygood.evaluation.reproduce import counts, plan, sheets
    from onlygood.networks.backbones import fetched

    done, cells = 0, 0
    if isinstance(of_paper, CountedTable):
        sheet, missing = counts(of_paper, folder)
        found = [sheet]
    else:
        planned = plan(
            of_paper,
            folder,
            classes=_words(classes),
            seeds=numbers,
            rows=rows or (),
            settings=settings,
            weights=fetched,
        )
        files = {where: _file(results, *where) for where in planned.cells}
        for where, mine in planned.cells.items():
            lines = run_cells(
                mine, planned.tasks[where], files[where], reporter=voice.reporter(), say=voice.say
            )
            done += len(list(lines))
            cells += len(mine)
        found = list(sheets(of_paper, planned, read(*dict.fromkeys(files.values()))))
        missing = planned.missing
    for sheet in found:
        _show_sheet(voice, sheet, sheet.title, markdown)
    voice.show(*(f"missing {one.what}: {one.words}" for one in missing))
    voice.answer(
        {
            "table": name,
            "cells": cells,
            "run": done,
            "sheets": [
                {"title": s.title, "rows": [dict(zip(s.columns, r, strict=True)) for r in s.rows]}
                for s in found
            ],
            "missing": [one._asdict() for one in missing],
        }
    )


@bench.command("results")
def write_results(
    results: Files = None,
    dataset: Datasets = None,
    protocol: Protocols = None,
    format: Annotated[
        Literal["md", "csv", "latex"],
        typer.Option(help="md: the page of all results; csv: a line a record; latex: tables."),
    ] = "md",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="The file to write.",
            show_default=f"{PAGE}; csv, latex and a part of the records: standard output",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Write all results, with what the papers claim and whether it holds, or tables for a paper."""
    from onlygood.cli.files import writing
    from onlygood.core.files import replacing
    from onlygood.evaluation.tables import as_csv, as_latex, page

    voice = Voice(json=json)
    lines = _lines(results, _words(dataset), _words(protocol))
    if not lines:  # In a wrong folder an empty page would take the place of one that is not.
        raise DataError(
            f"there are no such records in {', '.join(map(str, results or [RESULTS]))}, and "
            "nothing is written; go to the folder that holds them, or name files with --results"
        )
    text = {"md": page, "csv": as_csv, "latex": as_latex}[format](lines)
    # A part of the records must not take the place of the page of all.
    whole = not dataset and not protocol
    file = output or (PAGE if format == "md" and whole else None)
    if file is None:
        voice.show(text.rstrip("\n"))
        voice.answer({"format": format, "text": text, "records": len(lines)})
        return
    with writing(file), replacing(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    voice.show(f"{file}: {len(lines)} records")
    voice.answer({"page": file, "records": len(lines)})


def _swept(settings: dict[str, object], sweeps: list[str] | None) -> list[dict[str, object]]:
    """The settings with every combination of the values of the sweeps.

    Raises:
        ConfigError: a sweep has no values, or its field has one already.
    """
    from onlygood.core.resolving import parse_assignment

    values: dict[str, list[str]] = {}
    for text in sweeps or ():
        name, words = parse_assignment(text)
        if name in settings or name in values:
            raise ConfigError(f"{name} is said twice; one --sweep {name}=A,B holds all its values")
        found = [word.strip() for word in words.split(";" if ";" in words else ",")]
        values[name] = list(dict.fromkeys(filter(None, found)))
        if not values[name]:
            raise ConfigError(f"--sweep {text} has no values; write --sweep {name}=A,B,C")
    return [
        settings | dict(zip(values, chosen, strict=True)) for chosen in product(*values.values())
    ]


def _semicolons(sweeps: list[str] | None, fields: dict[str, object]) -> str:
    """How to sweep a setting of several numbers that was parted at its commas; else nothing."""
    from onlygood.core.resolving import parse_assignment

    for name, words in map(parse_assignment, sweeps or ()):
        value = fields.get(name)
        if isinstance(value, tuple) and len(value) > 1 and ";" not in words:
            one = ",".join(map(str, value))
            return (
                f"; a value of {name} has commas itself, so write semicolons between values, in "
                f'quotation marks: --sweep "{name}={one};..."'
            )
    return ""


def method_and_preset(word: str) -> tuple[str, str]:
    """Of `METHOD`, `METHOD:PRESET`, or a file's `path/to/mine.py:Mine` with or without a preset.

    Without a preset it is empty.
    """
    from onlygood.registry import introduce

    file, in_a_file, of_file = word.partition(".py:")
    name, _, preset = (of_file if in_a_file else word).partition(":")
    return introduce(f"{file}.py:{name}" if in_a_file else name), preset


def _show(
    voice: Voice,
    results: list[Path] | None,
    datasets: list[str],
    protocols: list[str],
    markdown: bool,
) -> "list[Line]":
    """Show the tables of records; gives the records."""
    from onlygood.evaluation.tables import sheets

    lines = _lines(results, datasets, protocols)
    for (name, rules), tables in sheets(lines).items():
        for sheet in tables:
            _show_sheet(voice, sheet, f"{name}, {rules}. {sheet.title}", markdown)
    if not lines:
        voice.say("there are no such records")
    return lines


def _lines(results: list[Path] | None, datasets: list[str], protocols: list[str]) -> "list[Line]":
    """The records of these data sets and protocols; all where none are named."""
    from onlygood.evaluation.records import read

    return [
        line
        for line in read(*_files(results))
        # Own data are called NAME@FINGERPRINT.
        if (not datasets or {line["dataset"], line["dataset"].partition("@")[0]} & set(datasets))
        and (not protocols or line["protocol"] in protocols)
    ]


def _show_sheet(voice: Voice, sheet: "Sheet", title: str, markdown: bool) -> None:
    if markdown:
        voice.show(f"{title}\n\n{sheet.markdown()}\n")
    else:
        voice.show(table(*sheet.columns, rows=sheet.rows, title=title))


def _file(results: Path | None, protocol: str, dataset: str) -> Path:
    """The file of records, which can be written."""
    from onlygood.cli.files import check_writable

    file = results or RESULTS / f"{dataset}-{protocol}.jsonl"
    check_writable(file)
    if file.suffix == ".run":
        raise ConfigError(
            f"{file}: checkpoints lie in folders called so; call it {file.stem}.jsonl"
        )
    if file.exists() and not os.access(file, os.W_OK):  # What is added to must not be protected.
        raise ConfigError(f"{file} is write-protected; allow writing, or name another --results")
    return file


def said(assignments: list[str] | None) -> dict[str, object]:
    """Settings as they were written, `FIELD=VALUE`."""
    from onlygood.core.resolving import parse_assignment

    return dict(parse_assignment(text) for text in assignments or [])


def _numbers(seeds: list[str] | None) -> list[int]:
    from onlygood.core.settings import HIGHEST_SEED

    numbers = _words(seeds) or ["0"]
    if not all(number.isdecimal() and int(number) <= HIGHEST_SEED for number in numbers):
        raise ConfigError(f"seeds are in 0..{HIGHEST_SEED}, got {', '.join(numbers)}")
    return [int(number) for number in numbers]


def _files(results: list[Path] | None) -> list[Path]:
    """The files named, or all of the folder."""
    for file in results or ():
        if not file.is_file():
            raise DataError(
                f"there is no {file}; name a file that `onlygood bench run` has written"
            )
    return results or sorted(RESULTS.glob("*.jsonl"))


def _words(options: list[str] | None) -> list[str]:
    """Options that may be repeated, and hold several words with commas between."""
    return [word.strip() for option in options or () for word in option.split(",") if word.strip()]
