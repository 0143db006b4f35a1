import os
import tracemalloc
from pathlib import Path

import pytest

from onlygood.core.errors import ModelFileError
from onlygood.deploy.runtime import file


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "it.onnx"
    file.write(path, b"a model of some bytes")
    return path


def test_what_is_written_comes_back(path: Path) -> None:
    content = file.read(path)
    assert content.model.startswith(b"a model of some bytes")
    assert content.sha256.encode() in content.model


@pytest.mark.parametrize("place", [0, 10, 30, -1])
def test_any_changed_byte_is_found(path: Path, place: int) -> None:
    changed = bytearray(path.read_bytes())
    changed[place] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ModelFileError, match=r"was changed|is cut off"):
        file.read(path)


@pytest.mark.parametrize("kept", [0, 5, 60, 90])
def test_a_file_that_is_cut_off_is_refused(path: Path, kept: int) -> None:
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelFileError, match="is cut off"):
        file.read(path)


def test_the_largest_model_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "LARGEST", 21)
    file.write(tmp_path / "it.onnx", b"a model of some bytes")
    assert file.read(tmp_path / "it.onnx").model.startswith(b"a model of some bytes")


def test_of_a_model_file_it_is_said_how_to_export_it(tmp_path: Path) -> None:
    path = tmp_path / "it.SAFETENSORS"
    path.write_bytes(b"weights")
    with pytest.raises(ModelFileError, match=f"make one: onlygood export {path}"):
        file.read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"none\.onnx: No such file"):
        file.read(tmp_path / "none.onnx")


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "it.onnx"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    with pytest.raises(ModelFileError, match=r"cannot read the model .*(pipe or dev|Is a dir)"):
        file.read(path)


@pytest.mark.parametrize("size", [2**31 - 1, 200 * 2**30])
def test_a_hole_is_not_read(path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    os.truncate(path, size)
    tracemalloc.start()
    try:
        with pytest.raises(ModelFileError, match=r"the limit is|is cut off"):
            file.read(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "it.onnx").mkdir()
    with pytest.raises(ModelFileError, match="nothing was left half written"):
        file.write(tmp_path / "it.onnx", b"model")
    assert [path.name for path in tmp_path.iterdir()] == ["it.onnx"]


def test_a_power_cut_leaves_the_old_model_or_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append(path.read_bytes()))
    before = path.read_bytes()
    file.write(path, b"another model")
    assert seen == [before]


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "not of onlygood"),
        ({"onlygood": "{"}, "not of onlygood"),
        ({"onlygood": "[]"}, "not of onlygood"),
        ({"onlygood": "[" * 100_000}, "not of onlygood"),
        ({"onlygood": "1" * 5000}, "not of onlygood"),
        ({"onlygood": '{"format": 0}'}, "format 0, this onlygood reads format 1"),
        ({"onlygood": '{"format": 99}'}, "format 99, this onlygood reads format 1"),
    ],
)
def test_facts_that_are_foreign_are_refused(metadata: dict[str, str], says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        file.facts_of(Path("it.onnx"), metadata)
