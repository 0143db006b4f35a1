"""Files that verbs write: whole or not at all, and tables as they grow."""

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onlygood.cli.voice import jsonable
from onlygood.core.errors import ConfigError, OnlygoodError
from onlygood.core.files import held, replaceable
from onlygood.core.text import cell

if TYPE_CHECKING:
    from onlygood.deploy.runtime import Runtime
    from onlygood.detector import Detector
    from onlygood.result import Result

Row = Mapping[str, Any]
Write = Callable[[Row], None]

ROWS_OF_A_GROUP = 4096
"""Rows that a Parquet file holds back, to write them together."""
MODEL_SUFFIX = ".safetensors"
FORMATS = (".csv", ".json", ".jsonl", ".parquet")


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


def check_model(path: Path, overwrite: bool) -> None:
    """The same for a model file, which no verb would find again were it called otherwise.

    Raises:
        ConfigError: it is named as an exported model is, or see `check_new`.
    """
    if path.suffix.lower() == ".onnx":
        raise ConfigError(
            f"{path} would be read as an exported model; name it {path.with_suffix(MODEL_SUFFIX)}, "
            "and `onlygood export` makes an .onnx of that"
        )
    check_new(path, overwrite)


def check_writable(path: Path) -> None:
    """Refuse a file that cannot be made, before any work is done.

    Raises:
        ConfigError: it is a folder, a pipe or a device, or the nearest folder that exists is none
            or write-protected.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file")
    try:
        path = replaceable(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}; name a file") from error
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise ConfigError(f"{path} cannot be written: {nearest} is no folder that you may write to")


def name_of(model: Path) -> str:
    """What a model is called: `nuts.v2.safetensors` is `nuts.v2`.

    What else follows a dot is part of the name: `nuts.v1` and `nuts.v2` are two models.
    """
    return model.name.removesuffix(MODEL_SUFFIX)


def beside(model: Path, suffix: str) -> Path:
    """The file of this suffix that belongs to a model: `nuts.v2.safetensors` has `nuts.v2.html`."""
    return model.with_name(name_of(model) + suffix)


def check_format(path: Path) -> None:
    """Refuse a table of a format that cannot be written, before any work is done.

    Raises:
        ConfigError: the suffix is unknown, its library is missing, or see `check_writable`.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(
            f'{path}: the suffix says the format, one of {", ".join(FORMATS)}; got "{path.suffix}" '
            "(a job writes into a folder, DIR/)"
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


def row_of(result: "Result", threshold: float) -> dict[str, Any]:
    """What is written of one picture, the same in every format.

    `times_threshold` is missing where the threshold is not above 0: no ratio would mean anything.
    """
    return {
        "path": result.name,
        "score": result.score,
        "threshold": threshold,
        "times_threshold": result.score / threshold if threshold > 0 else None,
        "p_value": result.p_value,
        "decision": result.decision,
        "error": result.error,
        "parts": result.parts,
    }


@contextmanager
def writing_rows(path: Path) -> Iterator[Write]:
    """Write rows as CSV, JSON, JSON lines or Parquet, as the suffix says, each as it comes.

    They go to a file beside `path` that `partial_of` names. It takes the place of `path` when all
    is well; else it stays, with what was written until then: of CSV and JSON every line is whole,
    while Parquet cannot be read before its end is written.

    CSV and Parquet are flat: a part of the score is a column `part_NAME`, and of the regions there
    is their number, with the worst one in columns `region_NAME`. A number that is
    missing is empty in CSV and null elsewhere.

    Raises:
        OnlygoodError: the file cannot be written; what was there before is there still.
    """
    partial = partial_of(path)
    with _growing(path, partial):
        path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path, partial), _written(path, partial) as write:
        yield write


@contextmanager
def _alone(path: Path, partial: Path) -> Iterator[None]:
    """Keep other runs off a table while it grows, where the file system knows of locks."""
    with held(partial) as ours:
        if not ours:
            raise OnlygoodError(
                f"another run is writing {path}; wait until it ends, or name another file"
            )
        yield


@contextmanager
def _written(path: Path, partial: Path) -> Iterator[Write]:
    format = {".csv": _csv, ".json": _json, ".jsonl": _json_lines, ".parquet": _parquet}

    def guarded(row: Row) -> None:
        with _growing(path, partial):
            write(row)

    with _growing(path, partial):
        rows = format[path.suffix.lower()](partial)
        write = rows.__enter__()
    try:
        yield guarded
    except BaseException:
        # Also then: what is in memory belongs into the file that stays.
        with suppress(OSError):
            rows.__exit__(None, None, None)
        raise
    with _growing(path, partial):
        rows.__exit__(None, None, None)
        os.replace(partial, os.path.realpath(path))


def partial_of(path: Path) -> Path:
    """Where the rows of a table are before it is whole."""
    path = Path(os.path.realpath(path))  # Of a link it lies beside the file that grows.
    # A file system limits names in bytes, often to 255.
    return path.with_name(os.fsdecode(os.fsencode(path.name)[:247]) + ".partial")


def map_name(name: str, content: bytes) -> str:
    """File name of a heat map: the picture's own, and a hash of the picture's path and the map.

    Pictures of one name in two folders do not collide, and a viewer that keeps old pictures by
    name never shows an old map.
    """
    digest = hashlib.blake2b(name.encode() + b"\0" + content, digest_size=5)
    # A file system limits names in bytes, often to 255, and takes them in its own encoding.
    stem = Path(name).stem.encode()[:200].decode("utf-8", "ignore")
    return os.fsdecode(f"{stem}-{digest.hexdigest()}.png".encode())


@contextmanager
def writing(what: object) -> Iterator[None]:
    """Turn the system's refusal to write into a sentence: a full disk, a missing permission."""
    try:
        yield
    except OSError as error:
        raise OnlygoodError(
            f"cannot write {what}: {error.strerror or error}; nothing was left half written"
        ) from error


@contextmanager
def _growing(path: Path, partial: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        kept = f"; what was scored is in {partial}" if partial.exists() else ""
        raise OnlygoodError(f"cannot write {path}: {error.strerror or error}{kept}") from error


def _flat(row: Row) -> dict[str, Any]:
    plain = {name: value for name, value in row.items() if name not in ("parts", "regions")}
    if "regions" in row:
        from onlygood.report.regions import Region, columns

        plain |= columns([Region(**region) for region in row["regions"]])
    plain |= {f"part_{name}": value for name, value in row["parts"].items()}
    return jsonable(plain)


@contextmanager
def _csv(path: Path) -> Iterator[Write]:
    waiting: list[dict[str, Any]] = []
    with path.open("w", encoding="utf-8", newline="") as file:
        writer: csv.DictWriter[str] | None = None

        def flush() -> None:
            nonlocal writer
            if writer is None:
                writer = csv.DictWriter(file, list(waiting[-1] if waiting else _NO_ROW))
                writer.writeheader()
            writer.writerows({name: cell(value) for name, value in row.items()} for row in waiting)
            waiting.clear()
            file.flush()

        def write(row: Row) -> None:
            waiting.append(_flat(row))
            # An unreadable picture does not tell what the parts of a score are.
            if writer is not None or row["error"] is None:
                flush()

        yield write
        if waiting or writer is None:
            flush()


@contextmanager
def _json(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:
        before = '{"results": [\n'

        def write(row: Row) -> None:
            nonlocal before
            file.write(before + _line(row))
            file.flush()
            before = ",\n"

        yield write
        file.write(("" if before == ",\n" else before) + "\n]}\n")


@contextmanager
def _json_lines(path: Path) -> Iterator[Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(row: Row) -> None:
            file.write(_line(row) + "\n")
            file.flush()

        yield write


def _line(row: Row) -> str:
    return json.dumps(jsonable(row), allow_nan=False)


@contextmanager
def _parquet(path: Path) -> Iterator[Write]:
    import pyarrow
    from pyarrow import parquet

    words = ("path", "decision", "error", "map", "found_in")
    waiting: list[dict[str, Any]] = []
    scored = False
    with path.open("wb") as file:
        writer: Any = None

        def flush() -> None:
            nonlocal writer
            if writer is None:
                names = max(waiting, key=len, default=_NO_ROW)
                writer = parquet.ParquetWriter(
                    file,
                    pyarrow.schema(
                        [(n, pyarrow.string() if n in words else pyarrow.float64()) for n in names]
                    ),
                )
            writer.write_table(pyarrow.Table.from_pylist(waiting, schema=writer.schema))
            waiting.clear()

        def write(row: Row) -> None:
            nonlocal scored
            waiting.append(_flat(row))
            scored = scored or row["error"] is None  # see _csv
            if scored and len(waiting) >= ROWS_OF_A_GROUP:
                flush()

        yield write
        if waiting or writer is None:
            flush()
        writer.close()


_NO_ROW = dict.fromkeys(
    ("path", "score", "threshold", "times_threshold", "p_value", "decision", "error")
)
