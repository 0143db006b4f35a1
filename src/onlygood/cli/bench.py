"""`onlygood bench`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlygood.cli.voice import Json, Quiet, Voice, table

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
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Train and test every cell that has no record yet; interrupted, the same command goes on."""
    from onlygood.core.errors import ConfigError

    voice = Voice(json=json, quiet=quiet)
    file = _file(results, protocol, dataset)
    settings = _settings(assignments)
    numbers = _numbers(seeds)
    named = [_method_and_preset(word) for word in _words(methods)]
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
            seed=seed,
        )
        # All classes with the first seed come first: they are the first table.
        for seed in numbers
        for normal in tasks.chosen(_words(classes))
        for method, own in named
    ]
    if share_features:  # Cells on the same pictures follow each other.
        cells.sort(key=lambda cell: tasks.classes.index(cell.normal))
    lines = list(
        run_cells(
            cells,
            tasks,
            file,
            curve=curve,
            share_features=share_features,
            reporter=voice.reporter(),
            say=voice.say,
        )
    )
    _show(voice, [file], [dataset], [protocol], markdown=False)
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


@bench.command("tables")
def list_tables(folder: Folder = None, json: Json = False) -> None:
    """List the tables of the papers, and how much of each can be run here."""
    from onlygood.evaluation.paper_tables import TABLES, sets_of, title_of

    voice = Voice(json=json)
    found: list[dict[str, Any]] = []
    for name, of_paper in TABLES.items():
        sets = sets_of(of_paper, folder)
        lacking = [row.printed for row in of_paper.rows if not row.ways]
        found.append(
            {
                "name": name,
                "title": title_of(of_paper),
                "rows": len(of_paper.rows),
                "rows_with_a_method": len(of_paper.rows) - len(lacking),
                "data": [one for one, there in sets.items() if there],
                "missing_data": [one for one, there in sets.items() if not there],
                "weights": list(of_paper.weights),
                "missing_methods": list(dict.fromkeys(lacking)),
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
    settings = _settings(assignments)
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
            rows=_words(rows),
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
    for what in dict.fromkeys(one.what for one in missing):
        words = [one.words for one in missing if one.what == what]
        # Names of methods fit in a line; what to do about the others does not.
        lines_of = [", ".join(words)] if what == "method" else words
        voice.show(*(f"missing {what}: {line}" for line in lines_of))
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


def _method_and_preset(word: str) -> tuple[str, str]:
    """Of `METHOD`, `METHOD:PRESET`, or a file's `path/to/mine.py:Mine` with or without a preset."""
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
            _show_sheet(voice, sheet, f"{name}, {rules}. {sheet.title}", markdown)
    if not lines:
        voice.say("there are no such records")
    return lines


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
    return file


def _settings(assignments: list[str] | None) -> dict[str, object]:
    from onlygood.settings import parse_assignment

    return dict(parse_assignment(text) for text in assignments or [])


def _numbers(seeds: list[str] | None) -> list[int]:
    from onlygood.core.errors import ConfigError

    numbers = _words(seeds) or ["0"]
    if not all(number.isdecimal() for number in numbers):
        raise ConfigError(f"seeds are whole numbers of 0 or more, got {', '.join(numbers)}")
    return [int(number) for number in numbers]


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
