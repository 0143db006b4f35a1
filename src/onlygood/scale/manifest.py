"""A job's folder: what is to be done, frozen, and what is done.

`job.json` says of which model and with which options, `manifest.parquet` what each unit reads, a
unit in a row group of its own; `parts/UNIT.parquet` is there when the unit is done. Whoever reads
results takes the units that the manifest names, and nothing else.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, final

from onlygood.core.errors import ConfigError, in_a_line
from onlygood.scale.places import Place, shown
from onlygood.scale.units import Input, Unit, cut

FORMAT = 1
"""Of all files of the folder."""
NAME = "manifest.parquet"


@final
class Manifest:
    """The frozen list of a job's units. Holds their names; their inputs are read when asked for."""

    def __init__(self, place: Place) -> None:
        """Open it.

        Raises:
            ConfigError: there is none, or it is damaged.
        """
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            self._file = ParquetFile(place.open(NAME))
        except (OSError, ArrowException) as error:
            raise ConfigError(
                f"{shown(place.uri)} has no manifest that can be read ({in_a_line(error)}); name "
                "the folder of a job of `onlygood score`"
            ) from error
        metadata = self._file.metadata
        groups = map(metadata.row_group, range(metadata.num_row_groups))
        self.names: list[str] = [group.column(0).statistics.min for group in groups]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, position: int) -> Unit:
        table = self._file.read_row_group(position)
        columns = [table[name].to_pylist() for name in Input._fields]
        return Unit(self.names[position], tuple(map(Input._make, zip(*columns, strict=True))))

    def __iter__(self) -> Iterator[Unit]:
        return map(self.__getitem__, range(len(self)))


def prepare(
    place: Place,
    about: dict[str, Any],
    inputs: Iterable[Input],
    *,
    pictures: int,
    update: bool,
) -> Manifest:
    """The manifest of a job: as it was frozen, or frozen now.

    With `update` it becomes that of the pictures that are there now. Units that are done stay, also
    of pictures that are there no more, unless one of their pictures has changed.

    Args:
        place: The job's folder.
        about: What `job.json` is to say; of what it says already, only `sources` may change.
        inputs: Gone through only if there is no manifest, or with `update`.
        pictures: Of a unit, at most.
        update: Whether new pictures are wanted.

    Raises:
        ConfigError: the folder is another job's, or `job.json` there is no job's.
        DataError: see `inputs_of`.
        OutputError: it cannot be written.
    """
    job = f"{FORMAT} {about['model']['sha256']} {about['maps']}"
    known = place.read("job.json")
    if known is None:
        units = cut(inputs, job, pictures)
    else:
        try:
            _check_same(place, json.loads(known), about, update)
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ConfigError(
                f"job.json in {shown(place.uri)} is of something else than a job of `onlygood "
                f"score`, or damaged ({error!r}); name another folder"
            ) from error
        old = Manifest(place)
        if not update:
            return old
        units = _updated(place, old, inputs, job, pictures)
    place.remove("summary.json")  # It counts the units of another list.
    _freeze(place, units)
    # After the manifest: a listing that fails leaves no job.
    write_json(place, "job.json", {"format": FORMAT, **about})
    return Manifest(place)


def done_of(place: Place, names: Sequence[str]) -> set[str]:
    """Those units of a job that are done."""
    return {name.removesuffix(".parquet") for name in place.names("parts")} & set(names)


def write_json(place: Place, name: str, content: dict[str, Any]) -> None:
    """Write a file of the folder that people read, too."""
    with place.writing(name) as path:
        path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _check_same(place: Place, known: dict[str, Any], about: dict[str, Any], update: bool) -> None:
    where = shown(place.uri)
    if known["format"] != FORMAT:
        raise ConfigError(
            f"{where} has format {known['format']}, this onlygood writes format {FORMAT}; name "
            "another folder"
        )
    for name, found, wanted in (
        ("the model", known["model"]["sha256"], about["model"]["sha256"]),
        ("--maps", known["maps"], about["maps"]),
    ):
        if found != wanted:
            raise ConfigError(
                f"{where} holds a job with another value of {name}: {found}, not {wanted}; name "
                "another folder, or give the same"
            )
    if known["sources"] != about["sources"] and not update:
        raise ConfigError(
            f"{where} holds a job on {' '.join(known['sources'])}, not on "
            f"{' '.join(about['sources'])}; name another folder, or say --update to take these in"
        )


def _updated(
    place: Place, old: Manifest, inputs: Iterable[Input], job: str, pictures: int
) -> Iterator[Unit]:
    found = {(item.uri, item.group): item for item in inputs}
    # Of the whole file: one that has changed may have fewer row groups now.
    stamps = {item.uri: item.stamp for item in found.values()}
    done = done_of(place, old.names)
    for unit in old:
        keys = [(item.uri, item.group) for item in unit.inputs]
        same = all(
            found.get(key, item) == item and stamps.get(item.uri, item.stamp) == item.stamp
            for key, item in zip(keys, unit.inputs, strict=True)
        )
        if unit.name in done and same:
            for key in keys:
                found.pop(key, None)
            yield unit
    yield from cut(found.values(), job, pictures)


def _freeze(place: Place, units: Iterable[Unit]) -> None:
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    kinds = {"size": pa.int64(), "group": pa.int32(), "pictures": pa.int64()}
    schema = pa.schema(
        [("unit", pa.string()), *((name, kinds.get(name, pa.string())) for name in Input._fields)]
    )
    with (
        place.writing(NAME) as path,
        ParquetWriter(path, schema, compression="zstd") as writer,
    ):
        for unit in units:
            rows = [{"unit": unit.name, **item._asdict()} for item in unit.inputs]
            writer.write_table(pa.Table.from_pylist(rows, schema), row_group_size=len(rows))
