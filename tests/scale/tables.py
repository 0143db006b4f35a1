"""What jobs have found, in a form that can be compared."""

import json
import os
from pathlib import Path
from typing import Any

from onlygood.scale import tables


def rows(out: str | os.PathLike[str]) -> list[dict[str, Any]]:
    return [row for table in tables(out) for row in table.to_pylist()]


def scores(out: str | os.PathLike[str]) -> list[tuple[float | None, str]]:
    """Without the names, for these are others in other containers."""
    found = [(row["score"], row["decision"]) for row in rows(out)]
    return sorted(found, key=lambda pair: (pair[0] is None, pair[0]))


def summary(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "summary.json").read_text()))


def written(out: Path) -> dict[str, int]:
    """When each unit was written."""
    return {path.name: path.stat().st_mtime_ns for path in (out / "parts").glob("*.parquet")}
