"""A file is either what was written, or refused in one sentence; nothing in it is ever run."""

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from onlygood.core.errors import ModelFileError
from onlygood.detector import model_file

TENSORS = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.int64)}
FACTS = {"method": "pca", "seed": 3, "words": "ümläut", "nothing": None, "list": [1.5, True]}


def written(folder: Path, **facts: Any) -> Path:
    path = folder / "model.safetensors"
    model_file.write(path, TENSORS, {**FACTS, **facts})
    return path


def parts(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def refused(path: Path, *says: str) -> None:
    """It is refused in one sentence that names the file."""
    with pytest.raises(ModelFileError) as caught:
        model_file.read(path)
    words = str(caught.value)
    assert str(path) in words
    assert "\n" not in words
    for part in says:
        assert part in words, words


def test_what_is_written_is_read(tmp_path: Path) -> None:
    digest = model_file.write(tmp_path / "new" / "m", TENSORS, FACTS)
    file = model_file.read(tmp_path / "new" / "m")
    assert file.facts == FACTS
    assert file.sha256 == digest
    assert list(file.tensors) == sorted(TENSORS)
    assert all(torch.equal(file.tensors[name], TENSORS[name]) for name in TENSORS)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["m"]


def test_tensors_of_any_layout_are_written(tmp_path: Path) -> None:
    whole = torch.rand(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    path = tmp_path / "m"
    model_file.write(path, {"x": whole, "part": whole[:, 1:].mT}, {})
    read = model_file.read(path).tensors
    assert torch.equal(read["x"], whole)
    assert torch.equal(read["part"], whole[:, 1:].mT)


def test_the_digest_knows_every_tensor_and_every_fact(tmp_path: Path) -> None:
    other = {**TENSORS, "a": torch.tensor([1, 3])}
    shaped = {**TENSORS, "b": TENSORS["b"].view(3, 2)}
    renamed = {"c": TENSORS["a"], "b": TENSORS["b"]}
    digests = [
        model_file.write(tmp_path / "m", tensors, facts)
        for tensors, facts in (
            (TENSORS, FACTS),
            (other, FACTS),
            (shaped, FACTS),
            (renamed, FACTS),
            (TENSORS, {**FACTS, "seed": 4}),
        )
    ]
    assert len(set(digests)) == 5
    assert model_file.write(tmp_path / "m", TENSORS, FACTS) == digests[0]


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_is_refused_by_its_number(tmp_path: Path, version: object) -> None:
    path = written(tmp_path, format=version)
    refused(path, f"has format {version}, this onlygood reads format 1", "upgrade onlygood")


def test_another_format_may_take_its_checksum_in_another_way(tmp_path: Path) -> None:
    path = written(tmp_path, format=2)
    tensors, header = parts(path)
    save_file(tensors, path, {**header, "sha256": "blake3:" + "0" * 64})
    refused(path, "has format 2")


def test_tensors_of_others_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet.safetensors"
    save_file(TENSORS, path, {"format": "pt"})
    refused(path, "holds tensors, but not of onlygood")
    save_file(TENSORS, path)
    refused(path, "holds tensors, but not of onlygood")


HEADERS = ["{", "[]", "3", "null", '{"seed": 3}', 100_000 * "[", f'{{"seed": {5000 * "1"}}}']


@pytest.mark.parametrize("header", HEADERS, ids=lambda text: text[:12])
def test_a_header_that_is_none_of_ours_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "m"
    save_file(TENSORS, path, {"onlygood": header, "sha256": "0"})
    refused(path, "do not match its checksum")


def test_a_missing_checksum_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    tensors, header = parts(path)
    save_file(tensors, path, {"onlygood": header["onlygood"]})
    refused(path, "do not match its checksum")


def test_random_bytes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m"
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randint(0, 256, (500,), generator=generator, dtype=torch.uint8)
        path.write_bytes(bytes(noise.tolist()))
        refused(path, "is")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.7, 0.99, 0.9999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = written(tmp_path, long="x" * 10_000)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    refused(path, "is damaged or no model of onlygood", "copy it again")


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path)
    whole = path.read_bytes()
    silent = []
    for position in range(len(whole)):
        flipped = bytes([*whole[:position], whole[position] ^ 0x01, *whole[position + 1 :]])
        path.write_bytes(flipped)
        try:
            file = model_file.read(path)
        except ModelFileError as error:
            assert str(path) in str(error)
        else:
            # Blanks that only pad the header may differ: nothing of the contents does.
            assert whole[position : position + 1].isspace()
            assert file.facts == FACTS
            silent.append(position)
    assert len(silent) < 8


class Payload:
    """Runs code when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, int]]:
        return os.open, (str(self.trace), os.O_CREAT)


def torch_zip(path: Path, payload: Payload) -> None:
    torch.save({"weights": TENSORS, "payload": payload}, path)


def torch_legacy(path: Path, payload: Payload) -> None:
    torch.save({"payload": payload}, path, _use_new_zipfile_serialization=False)


def plain_zip(path: Path, payload: Payload) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(payload))


def pickled(protocol: int) -> Callable[[Path, Payload], None]:
    return lambda path, payload: path.write_bytes(pickle.dumps(payload, protocol)) and None


@pytest.mark.parametrize(
    "write", [torch_zip, torch_legacy, plain_zip, *(pickled(p) for p in range(2, 6))]
)
def test_a_pickle_is_refused_and_never_run(
    tmp_path: Path, write: Callable[[Path, Payload], None]
) -> None:
    path, trace = tmp_path / "model.safetensors", tmp_path / "was-run"
    write(path, Payload(trace))
    refused(path, "is a pickle or zip, which could run code when loaded")
    assert not trace.exists()


@pytest.mark.parametrize("protocol", [0, 1])
def test_an_old_pickle_looks_like_nothing_and_is_never_run(tmp_path: Path, protocol: int) -> None:
    path, trace = tmp_path / "model.safetensors", tmp_path / "was-run"
    pickled(protocol)(path, Payload(trace))
    refused(path, "is damaged or no model of onlygood")
    assert not trace.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "was-run")))
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("start", [b"PK", b"\x80\x02", b"\x80\x04"])
def test_a_whole_file_may_begin_like_a_pickle(tmp_path: Path, start: bytes) -> None:
    # The first bytes are the length of the header, so some models begin so by chance.
    wanted = int.from_bytes(start, "little")
    path = tmp_path / "model.safetensors"
    while (wanted := wanted + 2**16) < 2**20:
        model_file.write(path, TENSORS, {"padding": ""})
        base = int.from_bytes(path.read_bytes()[:8], "little")
        for missing in range(wanted - base - 16, wanted - base + 16):
            model_file.write(path, TENSORS, {"padding": "x" * missing})
            if path.read_bytes()[:2] == start:
                assert model_file.read(path).facts == {"padding": "x" * missing}
                return
    pytest.fail(f"no header of this length can be made: {start!r}")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "none", "cannot read the model", "No such file")
    refused(tmp_path, "cannot read the model", "directory")


def test_facts_must_be_json_without_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        model_file.write(tmp_path / "m", TENSORS, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("failing", ["onlygood.detector.model_file.save_file", "os.replace"])
def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = written(tmp_path)
    before = path.read_bytes()

    def full(first: object, second: object, *_: object) -> None:
        if failing.endswith("save_file"):
            assert isinstance(second, Path)
            second.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(failing, full)
    with pytest.raises(ModelFileError, match="No space left on device; nothing was left half"):
        model_file.write(path, TENSORS, {"other": 1})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_header_is_readable_without_onlygood(tmp_path: Path) -> None:
    _, header = parts(written(tmp_path))
    assert json.loads(header["onlygood"]) == {"format": 1, **FACTS}
