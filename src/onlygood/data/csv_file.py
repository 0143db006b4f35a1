"""A CSV file that says what pictures show, where they are not sorted into folders."""

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from onlygood.core.errors import DataError
from onlygood.data.source import Picture, printable

COLUMNS = ("path", "label", "split", "mask")
"""Of which the first two are needed; others are passed over."""
PARTS = ("train", "test")


class Entry(NamedTuple):
    """A line of the file."""

    picture: Picture
    """Its name is the path as it was written."""
    label: str
    """As it was written, in lower case."""
    trains: bool
    """Whether its split is `train`."""
    mask: Picture | None


def read_csv(path: Path) -> list[Entry]:
    """Read the pictures of a CSV file; nothing of them is decoded.

    The first line names the columns: `path` and `mask` (of a file, from the folder of the CSV file
    on), `label`, `split` (`train` or `test`; without the column all are `test`). Commas or
    semicolons stand between them, and the text is UTF-8.

    Raises:
        DataError: it is no such file, a line lacks something, is there twice, or names a file that
            is not there; says which line.
    """
    try:
        # Excel begins UTF-8 with a mark, and writes semicolons where commas are in numbers.
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{printable(path)}: cannot be read as UTF-8 text ({error})") from error
    head = text.partition("\n")[0].strip()
    delimiter = ";" if head.count(";") > head.count(",") else ","
    # Not strict, a quote that nothing closes would take in the lines that follow.
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in rows.fieldnames or ()]
        _require_columns(path, names, head)
        rows.fieldnames = names
        return list(_entries(path, rows))
    except csv.Error as error:
        raise DataError(
            f"{printable(path)}, behind line {rows.line_num}: {error}; mend it"
        ) from error


def _require_columns(path: Path, names: Sequence[str], head: str) -> None:
    for needed in COLUMNS[:2]:
        if needed not in names:
            raise DataError(
                f'{printable(path)}: has no column "{needed}"; the first line names the columns, '
                f"path,label and where wanted split,mask; it is: {head[:100]}"
            )
    for name in COLUMNS:
        if names.count(name) > 1:
            raise DataError(
                f'{printable(path)}: has {names.count(name)} columns "{name}"; name one of them '
                f"otherwise; the first line is: {head[:100]}"
            )


def _entries(path: Path, rows: "csv.DictReader[str]") -> Iterator[Entry]:
    seen: dict[str, int] = {}
    for row in rows:
        where = f"{printable(path)}, line {rows.line_num}"
        cells = {name: (row.get(name) or "").strip() for name in COLUMNS}
        part = cells["split"].lower() or "test"
        if part not in PARTS:
            raise DataError(f'{where}: split is {" or ".join(PARTS)}, got "{cells["split"]}"')
        for needed in COLUMNS[:2]:
            if not cells[needed]:
                raise DataError(f"{where}: has no {needed}; every line needs path and label")
        picture = _file(path, cells, "path", where)
        # However it is spelt: what trains must not be what is tested.
        file = os.path.abspath(path.parent / cells["path"])
        if file in seen:
            raise DataError(
                f"{where}: {cells['path']} is in line {seen[file]} already; name it once"
            )
        seen[file] = rows.line_num
        yield Entry(
            picture,
            cells["label"].lower(),
            part == "train",
            _file(path, cells, "mask", where) if cells["mask"] else None,
        )


def _file(path: Path, cells: Mapping[str, str], column: str, where: str) -> Picture:
    found = path.parent / cells[column]
    # Not that of `Path`, which raises for a name that is too long.
    if not os.path.isfile(found):
        raise DataError(
            f"{where}: there is no file {printable(found)}; paths start in the folder of the CSV "
            "file"
        )
    return Picture(printable(Path(cells[column])), found)
