import os
import sys
from pathlib import Path

import pytest

from onlygood.core.files import replacing, require_file


def test_a_finished_file_takes_the_place_of_the_old_one(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        # In the same folder, as only there a rename is one indivisible act.
        assert temporary.parent == tmp_path
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_what_lasts_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "file.txt"
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(os, "fsync", lambda fd: seen.append((os.fstat(fd).st_size, path.exists())))
    with replacing(path, lasting=True) as temporary:
        temporary.write_text("new")
    with replacing(path) as temporary:
        temporary.write_text("another")
    assert seen == [(3, False)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(error), replacing(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_before_anything_is_written(tmp_path: Path):
    with pytest.raises(ValueError, match="early"), replacing(tmp_path / "file.txt"):
        raise ValueError("early")
    assert list(tmp_path.iterdir()) == []


def test_writing_nothing_is_a_failure(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_missing_folders_are_made(tmp_path: Path):
    with replacing(tmp_path / "a" / "b" / "file.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a" / "b" / "file.txt").read_text() == "new"


def test_the_longest_name_that_a_file_may_have(tmp_path: Path):
    path = tmp_path / ("x" * 251 + ".txt")
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"


def test_two_writers_do_not_mix(tmp_path: Path):
    path = tmp_path / "file.txt"
    with replacing(path) as late:
        with replacing(path) as early:
            early.write_text("early")
            late.write_text("late")
        assert path.read_text() == "early"
    assert path.read_text() == "late"


@pytest.mark.skipif(sys.platform == "win32", reason="needs modes")
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_a_file_follows_the_umask_whoever_writes_it(tmp_path: Path, mask: int, mode: int):
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "file") as temporary:
            # As safetensors does it.
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_only_files_are_files(tmp_path: Path):
    (tmp_path / "file").touch()
    require_file(tmp_path / "file")
    with pytest.raises(IsADirectoryError):
        require_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        require_file(tmp_path / "none")
    with pytest.raises(OSError, match="it is no file but a pipe or device"):
        require_file(Path(os.devnull))


def test_of_a_link_its_file_is_replaced(tmp_path: Path):
    (tmp_path / "v1").write_text("old")
    (tmp_path / "current").symlink_to("v1")
    with replacing(tmp_path / "current") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "current").is_symlink()
    assert (tmp_path / "v1").read_text() == "new"


def test_what_is_no_file_is_not_replaced(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link"):
        with (
            pytest.raises(OSError, match="it is no file but a pipe or device"),
            replacing(tmp_path / name),
        ):
            pass
    assert not (tmp_path / "pipe").is_file()
    assert len(list(tmp_path.iterdir())) == 2
