"""Against a server on loopback that speaks S3 through real sockets."""

import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from onlygood.core.errors import DataError
from onlygood.scale import Ended, Local, score
from onlygood.scale.places import _connected, file_system
from tests.scale.conftest import PICTURES
from tests.scale.tables import rows, scores

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "moto.server",
        "-H",
        "127.0.0.1",
        "-p",
        str(port),
    ]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(600):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    assert server.poll() is None, "the server has ended"
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


@pytest.fixture
def bucket(address: str, line: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The pictures of the line, as objects and in a tar file."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "anybody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _connected.cache_clear()
    name = f"b{os.getpid()}-{tmp_path.name[:20].replace('_', '-').lower()}".rstrip("-")
    store, _ = fs.FileSystem.from_uri("s3://?allow_bucket_creation=true")
    store.create_dir(name)
    for path in sorted(line.rglob("*.png")):
        # The server, not S3, has no room for a line break.
        key = path.relative_to(line).as_posix().replace("\n", "")
        with store.open_output_stream(f"{name}/line/{key}") as target:
            target.write(path.read_bytes())
    with tarfile.open(tmp_path / "0.tar", "w") as archive:
        archive.add(line, "")
    fs.copy_files(str(tmp_path / "0.tar"), f"{name}/0.tar", destination_filesystem=store)
    return f"s3://{name}"


@pytest.fixture
def expected(exported: Path, line: Path, tmp_path: Path) -> list[Any]:
    score(exported, line, tmp_path / "here", pictures=5)
    return scores(tmp_path / "here")


def test_objects_give_what_files_give(exported: Path, bucket: str, expected: list[Any]) -> None:
    ended = score(exported, f"{bucket}/line", f"{bucket}/out", on=Local(2), pictures=5)
    assert (ended.done, ended.failed) == (3, [])
    assert scores(f"{bucket}/out") == expected
    bad = next(row for row in rows(f"{bucket}/out") if row["error"])
    assert bad["uri"] == f"{bucket}/line/a 'ü'.png"

    # The rest alone is done again.
    system, path = file_system(f"{bucket}/out/parts")
    first, *others = system.get_file_info(fs.FileSelector(path))
    system.delete_file(first.path)
    assert score(exported, f"{bucket}/line", f"{bucket}/out").done == 3
    after = {info.path: info.mtime for info in system.get_file_info(fs.FileSelector(path))}
    assert len(after) == 3 and all(after[info.path] == info.mtime for info in others)


def test_two_jobs_at_once_do_the_same_work(
    exported: Path, bucket: str, expected: list[Any]
) -> None:
    """There is no lock on an object store; the second begins and ends while the first is at it."""
    second: list[Ended] = []

    def at_work(done: int, total: int) -> None:
        if done == 1:
            second.append(score(exported, f"{bucket}/line", f"{bucket}/out"))

    first = score(exported, f"{bucket}/line", f"{bucket}/out", pictures=5, told=at_work)
    assert [(ended.done, ended.units, ended.failed) for ended in (first, *second)] == [
        (3, 3, [])
    ] * 2
    assert first.summary == second[0].summary
    assert scores(f"{bucket}/out") == expected


def test_shards_give_what_files_give(
    exported: Path, bucket: str, expected: list[Any], tmp_path: Path
) -> None:
    score(exported, f"{bucket}/*.tar", tmp_path / "out", maps="all")
    assert scores(tmp_path / "out") == expected
    assert len(rows(tmp_path / "out")) == PICTURES


def test_an_object_that_has_gone_fails_its_unit(
    exported: Path, bucket: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    score(exported, f"{bucket}/line", out, pictures=5)
    first, *_ = (out / "parts").iterdir()
    first.unlink()
    system, path = file_system(f"{bucket}/line")
    for info in system.get_file_info(fs.FileSelector(path, recursive=True)):
        if info.is_file:
            system.delete_file(info.path)
    (failure,) = score(exported, f"{bucket}/line", out).failed
    assert "its pictures cannot be read" in failure["error"]


def test_what_is_not_there_is_said(exported: Path, bucket: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"there is no {bucket}/none; name pictures"):
        score(exported, f"{bucket}/none", tmp_path)
    with pytest.raises(DataError, match="there is no s3://no-such-bucket-of-ours/line"):
        score(exported, "s3://no-such-bucket-of-ours/line", tmp_path)
    with pytest.raises(DataError, match=r"nowhere://x cannot be reached .* install the package"):
        score(exported, "nowhere://x/y", tmp_path)
