"""A file system of fsspec that keeps what it has listed, as s3fs does."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem

from onlygood.core.errors import ConfigError
from onlygood.decision.calibration import Calibration
from onlygood.scale import places, results
from onlygood.scale.manifest import prepare
from onlygood.scale.places import OutputError, Place, _connected, uri_of
from onlygood.scale.sources import inputs_of, status
from onlygood.scale.units import Input


class Keeping(LocalFileSystem):
    protocol = "keeping"

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        # Of nothing it would make the current folder.
        return str(super()._strip_protocol(path.removeprefix("keeping://") or "/"))

    def ls(self, path: str, detail: bool = False, **_: Any) -> list[Any]:
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        found = self.dircache[path]
        return found if detail else [info["name"] for info in found]

    def info(self, path: Any, **_: Any) -> dict[str, Any]:
        parent = os.fspath(path).rpartition("/")[0]
        kept = {info["name"]: info for info in self.dircache.get(parent, [])}
        return dict(kept.get(path) or super().info(path))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[str]:
    fsspec.register_implementation("keeping", Keeping, clobber=True)
    _connected.cache_clear()
    yield f"keeping://{tmp_path}"
    _connected.cache_clear()


def test_what_another_process_writes_is_seen(kept: str, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.png").write_bytes(b"1")
    place = Place(kept)
    assert place.names("parts") == {"a.png"}
    assert status(f"{kept}/parts/a.png")[0] == 1
    (tmp_path / "parts" / "a.png").write_bytes(b"22")
    (tmp_path / "parts" / "b.png").touch()
    assert status(f"{kept}/parts/a.png")[0] == 2
    assert place.names("parts") == {"a.png", "b.png"}
    assert [item.size for item in inputs_of([f"{kept}/parts"])] == [2, 0]


def test_no_summary_is_made_of_fewer_units_than_are_done(tmp_path: Path) -> None:
    about = {"model": {"sha256": "0"}, "maps": "none", "sources": []}
    place = Place(tmp_path)
    inputs = [Input(f"file:///{i}.png", 1, "0") for i in range(2)]
    manifest = prepare(place, about, inputs, pictures=1, update=False)
    failed = [{"unit": manifest.names[0], "first": "", "error": ""}]
    calibration = Calibration(scores=np.arange(50.0))
    with pytest.raises(OutputError, match="has the results of 0 units, and 1 are done; run the"):
        results.summary(place, manifest, failed, calibration)


def test_damaged_results_are_named_and_a_damaged_summary_is_made_anew(tmp_path: Path) -> None:
    about = {"model": {"sha256": "0"}, "maps": "none", "sources": []}
    place = Place(tmp_path)
    manifest = prepare(place, about, [Input("file:///0.png", 1, "0")], pictures=1, update=False)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / f"{manifest.names[0]}.parquet").write_bytes(b"PAR1")
    with pytest.raises(OutputError, match=rf"^parts/{manifest.names[0]}.parquet in .* remove it"):
        list(results.tables(tmp_path))
    (tmp_path / "summary.json").write_text("{")
    assert results.read_summary(place) is None


def test_a_slash_at_the_end_names_the_same_folder(tmp_path: Path) -> None:
    assert uri_of("s3://bucket/out/") == "s3://bucket/out"
    assert uri_of(f"{tmp_path.as_uri()}/") == uri_of(f"{tmp_path}/") == tmp_path.as_uri()


def test_a_file_is_on_the_disk_before_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    monkeypatch.setattr(places.os, "fsync", lambda _: seen.append((tmp_path / "a").exists()))
    with Place(tmp_path).writing("a") as path:
        path.write_text("whole")
    assert False in seen and (tmp_path / "a").read_text() == "whole"


def test_a_job_of_another_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "job.json").write_text('{"format": 2}')
    about = {"model": {"sha256": "0"}, "maps": "none", "sources": []}
    words = f"{tmp_path} has format 2, this onlygood writes format 1; name another folder"
    with pytest.raises(ConfigError, match=words):
        prepare(Place(tmp_path), about, [], pictures=1, update=False)
