"""Files that verbs write, whole or not at all."""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onlygood.core.errors import ConfigError, OnlygoodError
from onlygood.core.files import replacing

if TYPE_CHECKING:
    from onlygood.core.result import Result
    from onlygood.deploy.runtime import Runtime
    from onlygood.detector import Detector

Row = Mapping[str, Any]
FORMATS = (".csv", ".json", ".parquet")


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse, before any work is done, to replace a model by accident or to fail at the end.

    Raises:
        ConfigError: `path` is a folder, cannot be written, or exists although `overwrite` is false.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file in it, {path / 'model.safetensors'}")
    if path.exists() and not overwrite:
        raise ConfigError(f"{path} exists; name another file, or say --overwrite to replace it")
    check_writable(path)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be made, before any work is done.

    Raises:
        ConfigError: the nearest folder that exists is none, or write-protected.
    """
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"{path} cannot be written: {nearest} is no folder that you may write to")


def check_format(path: Path) -> None:
    """Refuse a table of a format that cannot be written, before any work is done.

    Raises:
        ConfigError: the suffix is unknown, its library is missing, or see `check_writable`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f'{path}: the suffix says the format, one of {", ".join(FORMATS)}; got "{path.suffix}"'
        )
    if path.suffix.lower() == ".parquet":
        from importlib.util import find_spec

        if find_spec("pyarrow") is None:
            raise ConfigError(
                "Parquet needs pyarrow: pip install 'onlygood[parquet]', or write .csv or .json"
            )
    check_writable(path)


def open_model(path: Path) -> "Detector | Runtime":
    """Read a model, or what `onlygood export` has made of one; torch is needed for the former only.

    Raises:
        ModelFileError: the file cannot be used, see `Detector.load` and `Runtime.load`.
    """
    if path.suffix.lower() == ".onnx":
        from onlygood.deploy.runtime import Runtime

        return Runtime.load(path)
    from onlygood.detector import Detector

    return Detector.load(path)


def row_of(result: "Result") -> dict[str, Any]:
    """What is written of one picture, the same in every format."""
    return {
        "path": result.name,
        "score": result.score,
        "p_value": result.p_value,
        "decision": result.decision,
        "error": result.error,
        "parts": result.parts,
    }


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write rows as CSV, JSON or Parquet, as the suffix says.

    CSV and Parquet are flat: a part of the score is a column `part_NAME`. A number that is
    missing is empty in CSV and null elsewhere.

    Raises:
        OnlygoodError: the file cannot be written; what was there before is there still.
    """
    from onlygood.cli.voice import jsonable

    with writing(path), replacing(path) as temporary:
        if path.suffix.lower() == ".json":
            text = json.dumps({"results": jsonable(list(rows))}, allow_nan=False, indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")
            return
        flat = [jsonable(_flat(row)) for row in rows]
        columns = list(dict.fromkeys(name for row in flat for name in row))
        if path.suffix.lower() == ".csv":
            with temporary.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, columns)
                writer.writeheader()
                writer.writerows(flat)
        else:
            _write_parquet(temporary, columns, flat)


def map_name(name: str, content: bytes) -> str:
    """File name of a heat map: the picture's own, and a hash of the picture's path and the map.

    Pictures of one name in two folders do not collide, and a viewer that keeps old pictures by
    name never shows an old map.
    """
    digest = hashlib.blake2b(name.encode() + b"\0" + content, digest_size=5)
    # A file system limits names in bytes, often to 255.
    stem = Path(name).stem.encode()[:200].decode("utf-8", "ignore")
    return f"{stem}-{digest.hexdigest()}.png"


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn the system's refusal to write into a sentence: a full disk, a missing permission."""
    try:
        yield
    except OSError as error:
        raise OnlygoodError(
            f"cannot write {what}: {error.strerror or error}; nothing was left half written"
        ) from error


def _flat(row: Row) -> dict[str, Any]:
    plain = {name: value for name, value in row.items() if name != "parts"}
    return plain | {f"part_{name}": value for name, value in row["parts"].items()}


def _write_parquet(path: Path, columns: Sequence[str], rows: Sequence[Row]) -> None:
    import pyarrow
    from pyarrow import parquet

    words = ("path", "decision", "error", "map")
    schema = pyarrow.schema(
        [(name, pyarrow.string() if name in words else pyarrow.float64()) for name in columns]
    )
    parquet.write_table(pyarrow.Table.from_pylist(list(rows), schema=schema), path)
