"""A job: pictures of any number, scored unit by unit into one folder."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, final

from onlygood.core.errors import ConfigError
from onlygood.decision.calibration import Calibration
from onlygood.deploy.runtime import Runtime
from onlygood.scale import results
from onlygood.scale.engine import Engine, Outcomes
from onlygood.scale.local import Local
from onlygood.scale.manifest import Manifest, done_of, prepare, write_json
from onlygood.scale.places import Place, shown, uri_of
from onlygood.scale.sources import inputs_of
from onlygood.scale.units import PICTURES, Unit
from onlygood.scale.work import MAPS, Task

Sources = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


@final
@dataclass(frozen=True)
class Part:
    """One of several programs that share a job, each started by whatever starts programs.

    Program `index` of `of` does every `of`-th unit. They need to know nothing of each other but the
    folder.
    """

    index: int
    """From 0, as array jobs count."""
    of: int
    workers: int = 1
    """Processes of this program."""

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise ConfigError(
                f"parts of {self.of} are 0/{self.of} to {self.of - 1}/{self.of}, got "
                f"{self.index}/{self.of}"
            )

    def run(self, task: Task, units: Iterable[Unit]) -> Outcomes:
        """See `Engine`."""
        return Local(self.workers).run(task, units)


class Ended(NamedTuple):
    """How a job, or a part of one, has ended."""

    done: int
    """Units that are done, also by runs before, and by other parts."""
    units: int
    failed: list[dict[str, str]]
    """`unit`, `first` input and `error` of those that this run has given up."""
    summary: dict[str, Any] | None
    """What `summary.json` says; None: other parts are not done yet."""


def score(
    model: str | os.PathLike[str],
    source: Sources,
    out: str | os.PathLike[str],
    *,
    on: Engine = Local(1),  # noqa: B008, it is frozen
    maps: str = "none",
    update: bool = False,
    pictures: int = PICTURES,
    told: Callable[[int, int], None] | None = None,
) -> Ended:
    """Score pictures of any number into a folder; the same again does what is left.

    Whatever stops it, `out` holds whole files only. Pictures that cannot be read are rows that say
    why; pictures that cannot be reached fail their unit, which is tried three times.

    Args:
        model: A file that `onlygood export` has written.
        source: What `onlygood.scale.sources.inputs_of` takes; several make a list.
        out: The job's folder, here or on an object store.
        on: `Local`, `Ray` or `Part`.
        maps: Heat maps of `none`, of the `anomalous` or of `all` pictures.
        update: Take pictures in that are new since the job began; see `manifest.prepare`.
        pictures: Of a unit, at most.
        told: Hears how many units of how many are done.

    Raises:
        ConfigError: `out` is another job's, or a setting is none.
        ModelFileError: the model cannot be used.
        DataError: a source is missing or holds nothing.
        OutputError: another job is at work there, it takes no more, or a unit is there no more.
    """
    if maps not in MAPS:
        raise ConfigError(f"maps are of {', '.join(MAPS)}, got {maps!r}")
    if update and isinstance(on, Part):
        raise ConfigError(
            "--update and --part exclude each other: parts share one list of units, and each would "
            "make another; update without --part"
        )
    if pictures < 1:
        raise ConfigError(f"a unit has 1 picture or more, got {pictures}")
    sources = [source] if isinstance(source, str | os.PathLike) else list(source)
    path = Path(model)
    runtime = Runtime.load(path, threads=1)
    if maps != "none" and not runtime.localizes:
        raise ConfigError(f"{path} gives scores alone, no maps; leave --maps out")
    place = Place(out)
    about = {
        "model": {"sha256": runtime.sha256, "method": runtime.method, "file": path.name},
        "threshold": runtime.calibration.threshold,
        "guarantee": runtime.calibration.guarantee,
        "maps": maps,
        "sources": [shown(uri_of(one)) for one in sources],
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    task = Task(out=place.uri, model=path.absolute(), sha256=runtime.sha256, maps=maps)
    calibration = runtime.calibration
    del runtime  # Each worker has its own.
    with place.held(shared=isinstance(on, Part)):
        with place.preparing():
            manifest = prepare(place, about, inputs_of(sources), pictures=pictures, update=update)
        return _run(place, manifest, task, on, calibration, told)


def _run(
    place: Place,
    manifest: Manifest,
    task: Task,
    on: Engine,
    calibration: Calibration,
    told: Callable[[int, int], None] | None,
) -> Ended:
    names = manifest.names
    before = done_of(place, names)
    known = results.read_summary(place)
    if known is not None and len(before) == len(names):
        return Ended(len(before), len(names), [], known)
    place.remove("summary.json")
    if isinstance(on, Part):
        mine = range(on.index, len(names), on.of)
    else:
        mine = range(len(names))
        _tidy(place, names)
    left = (manifest[position] for position in mine if names[position] not in before)
    done, failed = len(before), list[dict[str, str]]()
    if told is not None:
        told(done, len(names))
    with closing(on.run(task, left)) as outcomes:
        for unit, error in outcomes:
            if error is None:
                done += 1
            else:
                first = shown(unit.inputs[0].uri)
                failed.append({"unit": unit.name, "first": first, "error": error})
            if told is not None:
                told(done, len(names))
    there = done_of(place, names)
    # What this run has given up, another may have done.
    failed = [one for one in failed if one["unit"] not in there]
    if isinstance(on, Part) and len(there) < len(names):
        return Ended(len(there), len(names), failed, None)
    summary = results.summary(place, manifest, failed, calibration)
    write_json(place, "summary.json", summary)
    return Ended(len(there), len(names), failed, summary)


_OURS = re.compile(r"\.[0-9a-f]{16}\.partial|([0-9a-f]{32})\.(parquet|tar)")


def _tidy(place: Place, names: Iterable[str]) -> None:
    """Remove what killed workers have left, and units that the manifest names no more."""
    named = set(names)
    # Of the list, which takes long where pictures are many; an object store has no half files.
    for path in () if place.path is None else place.path.glob(".*.partial"):
        if _OURS.fullmatch(path.name):
            path.unlink(missing_ok=True)
    for folder in ("parts", "maps"):
        for name in place.names(folder):
            match = _OURS.fullmatch(name)
            if match is not None and match[1] not in named:
                place.remove(f"{folder}/{name}")
