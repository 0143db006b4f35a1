"""A paper's table, run: which cells its rows are, what is missing, and ours beside what is printed.

The cells are those of `onlygood bench run`: one that has its record already is not run again.
"""

import statistics
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from onlygood.core.errors import ConfigError, DataError, ModelFileError, alternatives
from onlygood.core.settings import Training, View
from onlygood.evaluation.bench import Cell, is_of
from onlygood.evaluation.paper_tables import (
    FLOOR,
    OBJECTS,
    TEXTURES,
    Block,
    CountedTable,
    MeasuredTable,
    Row,
    Way,
    place_of,
    title_of,
)
from onlygood.evaluation.protocols import Tasks, open_tasks
from onlygood.evaluation.published import MEANS, remarks
from onlygood.evaluation.records import WHOLE, Key, Line, in_words, key_of
from onlygood.evaluation.tables import MANY, METRICS, Sheet, merged, spread, without_empty
from onlygood.methods import METHODS

WORDS = METRICS | {
    "max_balanced_accuracy_by_kind": "max. balanced accuracy, kinds of defects weigh the same"
}
"""The metrics of tables."""

Where = tuple[str, str]
"""A protocol and a data set."""
Column = tuple[str, str]
"""A data set, and a normal class of it."""


class Missing(NamedTuple):
    """What a table cannot be run without."""

    what: Literal["data", "weights", "method"]
    words: str


class Planned(NamedTuple):
    """A cell of a row."""

    block: Block
    row: Row
    way: Way
    stands_in: bool
    """That it does without the weights that its way asks for."""
    cell: Cell


class Plan(NamedTuple):
    """What to run for a table."""

    rows: list[Row]
    """Those that are wanted, missing ones too."""
    classes: Sequence[str]
    """Those that are wanted, as they were said; empty: all."""
    tasks: dict[Where, Tasks]
    """What is here."""
    planned: list[Planned]
    cells: dict[Where, list[Cell]]
    """What to run; rows may share cells."""
    missing: list[Missing]


def plan(
    table: MeasuredTable,
    folder: Path | None = None,
    *,
    classes: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    rows: Sequence[str] = (),
    settings: Mapping[str, object] | None = None,
    weights: Callable[[str], object] = lambda name: None,
) -> Plan:
    """The cells of a table, and what is missing; nothing is run.

    Args:
        table: what is to be run.
        folder: of its data set, or of folders with the names of data sets; None: where installed.
        classes: by name or position; those that published means are over where there are none.
        seeds: of training.
        rows: as they are printed, in any case, or several with commas between; all where there are
            none.
        settings: beyond those of the rows; each for the rows whose method has it.
        weights: raises `ModelFileError` for a backbone whose weights are not here.

    Raises:
        ConfigError: there is no such class, row or setting.
        DataError: the folder holds none of the data sets.
    """
    wanted = _rows_of(table, rows)
    said = _said_of(settings or {}, wanted)
    tasks, names, absent = _open(table, folder, classes)
    lacking = _lacking(wanted, weights)
    planned = [
        _planned(block, row, way, dataset, normal, seed, lacking, said)
        for block in table.blocks
        for dataset in block.datasets
        # All classes with the first seed come first: they are the first table.
        for seed in seeds
        for normal in names.get((block.protocol, dataset), ())
        for row in (*block.rows, FLOOR)
        if row is FLOOR or row in wanted
        if (way := row.way(normal)) and (way.weights not in lacking or way.instead)
    ]
    missing = [
        *(Missing("data", words) for words in absent),
        *(Missing("weights", words) for words in lacking.values()),
        *(Missing("method", row.printed) for row in wanted if not row.ways),
    ]
    cells: dict[Where, dict[Key, Cell]] = {}
    for cell in (one.cell for one in planned):
        cells.setdefault((cell.protocol, cell.dataset), {})[cell.key] = cell
    return Plan(
        wanted,
        classes,
        tasks,
        planned,
        {where: list(different.values()) for where, different in cells.items()},
        list(dict.fromkeys(missing)),
    )


def sheets(table: MeasuredTable, plan: Plan, lines: Sequence[Line]) -> Iterator[Sheet]:
    """Ours beside what is printed, a sheet for each part of the table.

    Figures are the mean ± the standard deviation over seeds; a mean over classes is, for each seed
    that has all of them, the mean over these.
    """
    records = {key_of(line): line for line in lines}
    for block in table.blocks:
        columns, means = _columns(table, plan, block)
        if not columns and not means:
            continue
        heads = [dataset if normal == WHOLE else normal for dataset, normal in columns]
        rows: list[tuple[str, ...]] = []
        for row in (*block.rows, FLOOR):
            if row in plan.rows:
                rows += _printed(table, block, row, columns, means)
            mine = [p for p in plan.planned if p.block is block and p.row == row]
            rows += _ours(plan, mine, records, columns, means, table.metric)
        where = (
            f"{block.datasets[0]}, {block.protocol}" if len(block.datasets) == 1 else block.protocol
        )
        yield without_empty(
            Sheet(
                f"{title_of(table)}. {where}: {WORDS[table.metric]}",
                ("row", "run as", "schedule", "seeds", *heads, *means, "remark"),
                rows,
            )
        )


def counts(table: CountedTable, folder: Path | None = None) -> tuple[Sheet, list[Missing]]:
    """The numbers of pictures that are here, and those that are printed where they differ.

    Raises:
        DataError: the folder holds none of the data sets.
    """
    rows: list[tuple[str, ...]] = []
    lost: dict[str, dict[str, DataError]] = {name: {} for name in table.datasets}
    for name, printed in table.printed.items():
        rows.append((name, "as printed", *(f"{number:,}" for number in printed)))
        dataset = name if name in table.datasets else table.datasets[0]
        try:
            ours = table.count(name, place_of(table, dataset, folder))
        except DataError as error:
            lost[dataset][name] = error
        else:
            words = "as here" if tuple(ours) == tuple(printed) else "as here: differs"
            rows.append((name, words, *(f"{number:,}" for number in ours)))
    missing = [Missing("data", words) for one in lost.values() for words in _without(one)]
    errors = [error for one in lost.values() for error in one.values()]
    if folder is not None and len(errors) == len(table.printed):
        raise errors[0]
    return Sheet(title_of(table), ("", "", *table.columns), rows), missing


def _planned(
    block: Block,
    row: Row,
    way: Way,
    dataset: str,
    normal: str,
    seed: int,
    lacking: Collection[str],
    said: Mapping[str, Mapping[str, object]],
) -> Planned:
    """A cell of a row."""
    method, _, preset = way.preset.partition(":")
    stands_in = way.weights in lacking
    cell = Cell(
        method=method,
        preset=preset,
        # What is said is for the rows alone: the mean picture is one record for all of them.
        settings={**way.settings, **(way.instead if stands_in else {}), **said.get(method, {})},
        dataset=dataset,
        protocol=block.protocol,
        normal=normal,
        seed=seed,
    )
    return Planned(block, row, way, stands_in, cell)


# What is wanted, and what is here ----------------------------------------------------------------


def _rows_of(table: MeasuredTable, wanted: Sequence[str]) -> list[Row]:
    """Rows by their printed names.

    Raises:
        ConfigError: there is no such row.
    """
    names = {row.printed.lower(): row.printed for row in table.rows}
    # Some have a comma in their name.
    wanted = [
        word
        for words in wanted
        for word in ([words] if words.lower() in names else map(str.strip, words.split(",")))
        if word
    ]
    for word in wanted:
        if word.lower() not in names:
            raise ConfigError(f'no row "{word}"{alternatives(word, names.values())}')
    chosen = {word.lower() for word in wanted} or set(names)
    return [row for row in table.rows if row.printed.lower() in chosen]


def _said_of(settings: Mapping[str, object], rows: Sequence[Row]) -> dict[str, dict[str, object]]:
    """What was said, for each method of the rows that has such settings.

    Raises:
        ConfigError: none has one of them.
    """
    methods = {way.preset.partition(":")[0] for row in rows for way in row.ways}
    names = {
        method: {
            f.name for cls in (METHODS[method].config_class, View, Training) for f in fields(cls)
        }
        for method in methods
    }
    known = sorted(set().union(*names.values()))
    for name in settings:
        if name not in known:
            raise ConfigError(f'no row has a setting "{name}"{alternatives(name, known)}')
    return {
        method: {name: value for name, value in settings.items() if name in names[method]}
        for method in methods
    }


def _lacking(rows: Sequence[Row], weights: Callable[[str], object]) -> dict[str, str]:
    """Backbones whose weights are not here, and what to do."""
    lacking = {}
    for way in (way for row in rows for way in row.ways if way.weights):
        try:
            weights(way.weights)
        except ModelFileError as error:
            instead = ", ".join("=".join(one) for one in way.instead.items())
            lacking[way.weights] = f"{error}; until then rows are run with {instead}"
    return lacking


def _open(
    table: MeasuredTable, folder: Path | None, classes: Sequence[str]
) -> tuple[dict[Where, Tasks], dict[Where, list[str]], list[str]]:
    """What is here, which classes of it are wanted and can be run, and why others cannot.

    Raises:
        ConfigError: no data set that is here has such a class.
        DataError: the folder holds none of the data sets.
    """
    tasks: dict[Where, Tasks] = {}
    names: dict[Where, list[str]] = {}
    absent: list[str] = []
    found: set[str] = set()
    for block in table.blocks:
        for dataset in block.datasets:
            where = block.protocol, dataset
            try:
                here = open_tasks(*where, place_of(table, dataset, folder))
            except DataError as error:
                absent.append(str(error))
                continue
            # Each class is opened twice, to see whether it is here, and to run it.
            here = here._replace(task=cache(here.task))
            usual = block.classes or here.usual
            fitting = [word for word in classes if _is_class(word, here)]
            found.update(fitting)
            chosen = here.chosen(fitting) if fitting else () if classes else usual
            chosen = [name for name in chosen if name in (block.classes or here.classes)]
            lost: dict[str, DataError] = {}
            for name in chosen:
                try:
                    here.task(name)
                except DataError as error:
                    lost[name] = error
            absent += _without(lost)
            tasks[where], names[where] = here, [name for name in chosen if name not in lost]
    if folder is not None and absent and not any(names.values()):
        raise DataError(absent[0])
    strange = [word for word in classes if word not in found]
    if tasks and strange:
        known = merged(here.classes for here in tasks.values())
        raise ConfigError(
            f'no class "{strange[0]}" in the data sets that are here'
            f"{alternatives(strange[0], known)}"
        )
    return tasks, names, absent


def _without(lost: Mapping[str, DataError]) -> list[str]:
    """In one sentence why classes of a data set are not here."""
    words = [str(error) for error in lost.values()]
    others = f" (nor {', '.join(list(lost)[1:])})" if len(lost) > 1 else ""
    return [f"{words[0]}{others}"] if words else []


def _is_class(word: str, tasks: Tasks) -> bool:
    try:
        tasks.chosen([word])
    except ConfigError:
        return False
    return True


# Sheets ------------------------------------------------------------------------------------------


def _columns(table: MeasuredTable, plan: Plan, block: Block) -> tuple[list[Column], list[str]]:
    """Classes that are printed or run, and the means over them; no classes where they are many."""
    run = [(p.cell.dataset, p.cell.normal) for p in plan.planned if p.block is block]
    printed = [
        column for row in block.rows if row in plan.rows for column in table.figures(block, row)
    ]
    means = [name for name in MEANS if name in {normal for _, normal in printed}]
    columns = [column for column in printed if column[1] not in MEANS]
    if plan.classes:
        columns = [column for column in columns if column[1] in plan.classes]
    columns = sorted(
        dict.fromkeys([*columns, *run]), key=lambda column: block.datasets.index(column[0])
    )
    if plan.classes and not columns:
        return [], []
    if len(columns) > 1 and len(block.datasets) == 1 and "mean" not in means:
        means.append("mean")
    return (columns if len(columns) <= MANY else []), means


def _printed(
    table: MeasuredTable,
    block: Block,
    row: Row,
    columns: Sequence[Column],
    means: Sequence[str],
) -> Iterator[tuple[str, ...]]:
    """The row as it is printed."""
    figures = table.figures(block, row)
    if figures:
        wanted = [*columns, *((block.datasets[0], name) for name in means)]
        values = (f"{figures[one].value:.3f}" if one in figures else "" for one in wanted)
        remark = remarks(figures[one] for one in wanted if one in figures)
        yield (row.printed, "as printed", "", "", *values, remark)


def _ours(
    plan: Plan,
    mine: Sequence[Planned],
    lines: Mapping[Key, Line],
    columns: Sequence[Column],
    means: Sequence[str],
    metric: str,
) -> Iterator[tuple[str, ...]]:
    """The row as it is here; nothing where no cell of it has a record."""
    there = [(p, lines[p.cell.key]) for p in mine if p.cell.key in lines]
    # One with another default is about to be run again, by another process.
    found = [(p, line) for p, line in there if is_of(p.cell, line)]
    if not found:
        return
    by_seed: dict[int, dict[Column, float]] = {}
    for p, line in found:
        value = line["parts"].get(p.way.part) if p.way.part else line.get(metric)
        if value is not None:
            seed = by_seed.setdefault(line["seed"], {})
            seed[line["dataset"], line["class"]] = float(value)
    cell = mine[0].cell
    usual = plan.tasks[cell.protocol, cell.dataset].usual
    over = {"texture_mean": TEXTURES, "object_mean": OBJECTS, "mean": usual}
    values = [spread([seed[one] for seed in by_seed.values() if one in seed]) for one in columns]
    for name in means:
        wanted = {(cell.dataset, normal) for normal in over[name]}
        whole = [seed for seed in by_seed.values() if wanted <= seed.keys()]
        values.append(spread([statistics.mean(seed[one] for one in wanted) for seed in whole]))
    part = "".join(dict.fromkeys(f", {p.way.part} of the score" for p, _ in found if p.way.part))
    yield (
        mine[0].row.printed or "mean picture",
        "; ".join(merged([f"{line['method']}:{in_words(line)}"] for _, line in found)) + part,
        "; ".join(merged([line["schedule"]] for _, line in found)),
        str(len(by_seed)),
        *values,
        "; ".join(merged(_remarks(p) for p, _ in found)),
    )


def _remarks(planned: Planned) -> list[str]:
    stands_in = f"without {planned.way.weights}" if planned.stands_in else ""
    return [words for words in (planned.way.remark, stands_in) if words]
