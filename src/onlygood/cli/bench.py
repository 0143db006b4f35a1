"""`onlygood bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table

if TYPE_CHECKING:
    from onlygood.evaluation.records import Line

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


@bench.command("run")
def run(
    protocol: Annotated[str, typer.Option(help="Such as gpnd; a wrong name lists them.")],
    dataset: Annotated[str, typer.Option(help="Such as fashion-mnist or elpv-mono.")],
    methods: Annotated[
        list[str], typer.Option(help="METHOD or METHOD:PRESET; commas between, or repeated.")
    ],
    results: Annotated[
        Path | None,
        typer.Option(
            help="File that the records are added to.",
            show_default="results/DATASET-PROTOCOL.jsonl",
        ),
    ] = None,
    classes: Annotated[
        list[str] | None,
        typer.Option(help="Normal classes by name or position; commas between, or repeated."),
    ] = None,
    seeds: Annotated[list[str] | None, typer.Option(help="Of training; as classes.")] = None,
    preset: Annotated[str, typer.Option(help="Of methods that name none.")] = "default",
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Any other setting; may be repeated."),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(help="Of the data set, or of folders with the names of data sets."),
    ] = None,
    curve: Annotated[
        int, typer.Option(min=0, help="Evaluate at so many growing budgets; selects nothing.")
    ] = 0,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and test every cell that has no record yet; interrupted, the same command goes on."""
    from onlygood.cli.files import check_writable
    from onlygood.core.errors import ConfigError
    from onlygood.settings import parse_assignment

    voice = Voice(json=json, quiet=quiet)
    file = results or RESULTS / f"{dataset}-{protocol}.jsonl"
    check_writable(file)
    settings: dict[str, object] = dict(parse_assignment(text) for text in assignments or [])
    numbers = _words(seeds) or ["0"]
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"seeds are whole numbers of 0 or more, got {', '.join(numbers)}")
    named = [word.partition(":") for word in _words(methods)]
    if not named:
        raise ConfigError("name at least one method: --methods pca")

    from onlygood.evaluation.bench import Cell
    from onlygood.evaluation.bench import run as run_cells
    from onlygood.evaluation.protocols import open_tasks

    tasks = open_tasks(protocol, dataset, folder)
    cells = [
        Cell(
            method=method,
            preset=own or preset,
            settings=settings,
            dataset=dataset,
            protocol=protocol,
            normal=normal,
            seed=int(seed),
        )
        # All classes with the first seed come first: they are the first table.
        for seed in numbers
        for normal in tasks.chosen(_words(classes))
        for method, _, own in named
    ]
    lines = list(
        run_cells(cells, tasks, file, curve=curve, reporter=voice.reporter(), say=voice.say)
    )
    _show(voice, [file], [dataset], [protocol], markdown=False)
    voice.answer({"results": file, "cells": len(cells), "run": len(lines)})


@bench.command("table")
def show_table(
    results: Files = None,
    dataset: Datasets = None,
    protocol: Protocols = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As Markdown.")] = False,
    json: Json = False,
) -> None:
    """Show records beside the figures that the papers print."""
    voice = Voice(json=json)
    lines = _show(voice, results, _words(dataset), _words(protocol), markdown)
    voice.answer({"records": lines})


@bench.command("results")
def write_results(
    results: Files = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = PAGE,
    json: Json = False,
) -> None:
    """Write the page of all results, with what the papers claim and whether it holds."""
    from onlygood.cli.files import writing
    from onlygood.core.files import replacing
    from onlygood.evaluation.records import read
    from onlygood.evaluation.tables import page

    voice = Voice(json=json)
    lines = read(*_files(results))
    with writing(output), replacing(output) as temporary:
        temporary.write_text(page(lines), encoding="utf-8")
    voice.show(f"{output}: {len(lines)} records")
    voice.answer({"page": output, "records": len(lines)})


def _show(
    voice: Voice,
    results: list[Path] | None,
    datasets: list[str],
    protocols: list[str],
    markdown: bool,
) -> "list[Line]":
    """Show the tables of records; gives the records."""
    from onlygood.evaluation.records import read
    from onlygood.evaluation.tables import sheets

    lines = [
        line
        for line in read(*_files(results))
        if (not datasets or line["dataset"] in datasets)
        and (not protocols or line["protocol"] in protocols)
    ]
    for (name, rules), tables in sheets(lines).items():
        for sheet in tables:
            title = f"{name}, {rules}. {sheet.title}"
            if markdown:
                voice.show(f"{title}\n\n{sheet.markdown()}\n")
            else:
                voice.show(table(*sheet.columns, rows=sheet.rows, title=title))
    if not lines:
        voice.say("there are no such records")
    return lines


def _files(results: list[Path] | None) -> list[Path]:
    """The files named, or all of the folder."""
    from onlygood.core.errors import DataError

    for file in results or ():
        if not file.is_file():
            raise DataError(
                f"there is no {file}; name a file that `onlygood bench run` has written"
            )
    return results or sorted(RESULTS.glob("*.jsonl"))


def _words(options: list[str] | None) -> list[str]:
    """Options that may be repeated, and hold several words with commas between."""
    return [word.strip() for option in options or () for word in option.split(",") if word.strip()]
