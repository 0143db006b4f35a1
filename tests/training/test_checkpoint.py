import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from onlygood.core.errors import ModelFileError
from onlygood.core.stage import Stage
from onlygood.training import checkpoint as checkpoints
from onlygood.training.checkpoint import Checkpoint, load, load_optimizer, optimizer_tensors, save
from onlygood.training.trainer import CHECKPOINT
from tests.training.toys import Toy, fit

SAVED = Checkpoint(
    {
        "method.weight": torch.rand(3, 2, 3, 3).to(memory_format=torch.channels_last),
        "method.count": torch.tensor(7),
        "optimizer.one.0.step": torch.tensor(3.0),
    },
    {"fingerprint": "me", "position": {"step": 3}, "log": [{"loss": 0.1}]},
)


def test_what_is_saved_is_loaded(tmp_path: Path):
    save(tmp_path / "run" / "it", SAVED)
    found = load(tmp_path / "run" / "it", "me")
    assert found.facts == SAVED.facts
    assert set(found.tensors) == set(SAVED.tensors)
    for name, tensor in SAVED.tensors.items():
        assert torch.equal(found.tensors[name], tensor)
        assert found.tensors[name].dtype == tensor.dtype


def test_parts():
    assert set(SAVED.part("method")) == {"weight", "count"}
    assert SAVED.part("optimizer.one") == {"0.step": torch.tensor(3.0)}
    assert SAVED.part("optimizer.on") == {}


@pytest.mark.parametrize(
    "header",
    [
        None,
        {"other": "1"},
        *(
            {"onlygood_checkpoint": text}
            for text in ("{", "[]", "7", "{}", 100_000 * "[", f'{{"format": {"1" * 5000}}}')
        ),
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_file_of_somebody_else_is_refused(tmp_path: Path, header: dict[str, str] | None):
    save_file({"weight": torch.zeros(1)}, tmp_path / "it", header)
    with pytest.raises(ModelFileError, match="not a checkpoint of onlygood"):
        load(tmp_path / "it", "me")


def test_another_format_is_refused(tmp_path: Path):
    header = {"onlygood_checkpoint": json.dumps({"format": 99})}
    save_file({}, tmp_path / "it", header)
    with pytest.raises(ModelFileError, match="another version; start without --resume"):
        load(tmp_path / "it", "me")


def test_a_checkpoint_that_was_changed_is_refused(tmp_path: Path):
    save(tmp_path / "it", SAVED)
    content = bytearray((tmp_path / "it").read_bytes())
    for target, other in ((b'"step": 3', b'"step": 4'), (b'"me"', b'"it"')):
        assert target in content
        (tmp_path / "it").write_bytes(content.replace(target, other))
        with pytest.raises(ModelFileError, match="was changed after it was written"):
            load(tmp_path / "it", "me")


def test_the_file_is_plain_tensors_and_text(tmp_path: Path):
    save(tmp_path / "it", SAVED)
    with safe_open(tmp_path / "it", "pt") as file:
        assert json.loads(file.metadata()["onlygood_checkpoint"])["format"] == checkpoints.FORMAT


def test_a_log_may_be_longer_than_a_header(tmp_path: Path):
    log = [{"words": 101_000_000 * "a"}]
    save(tmp_path / "it", Checkpoint({}, {"fingerprint": "me", "log": log}))
    assert load(tmp_path / "it", "me").facts["log"] == log


def test_what_was_loaded_does_not_lie_in_the_file(tmp_path: Path):
    save(tmp_path / "it", SAVED)
    loaded = load(tmp_path / "it", "me")
    (tmp_path / "it").write_bytes(bytes((tmp_path / "it").stat().st_size))
    for name, tensor in SAVED.tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_is_said_and_the_old_checkpoint_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    steps = 0

    def build(t: Toy) -> list[Stage]:
        def term(batch) -> Tensor:
            nonlocal steps
            steps += 1
            if steps == 3:
                monkeypatch.setattr(checkpoints, "save_file", full_disk)
            return t.one.weight * batch.normal.mean((1, 2, 3))

        return [Stage(name="only", updates=[t.update("one", t.one, term=term)])]

    path = tmp_path / CHECKPOINT
    with pytest.raises(ModelFileError) as caught:
        fit(Toy(build), run_dir=tmp_path, checkpoint_every=2)
    assert f"cannot write the checkpoint {path}" in str(caught.value)
    assert "No space left on device; free some space" in str(caught.value)
    assert load(path, "toy").facts["position"]["step"] == 2
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".*"))


def test_a_checkpoint_can_be_written_while_the_log_has_no_numbers(tmp_path: Path):
    facts = {**SAVED.facts, "log": [{"loss": float("nan")}, {"loss": float("inf")}]}
    save(tmp_path / "it", Checkpoint({}, facts))
    nan, infinity = (record["loss"] for record in load(tmp_path / "it", "me").facts["log"])
    assert nan != nan and infinity == float("inf")


def test_an_optimiser_goes_on_whatever_the_layout_of_its_weights():
    # Fused Adam reads memory in order: a state in another layout would meet other weights.
    gradient = torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last)

    def start() -> tuple[nn.Parameter, torch.optim.Adam]:
        weight = nn.Parameter(torch.zeros(4, 3, 3, 3).to(memory_format=torch.channels_last))
        return weight, torch.optim.Adam([weight], lr=0.1, fused=True)

    def steps(weight: nn.Parameter, adam: torch.optim.Adam, sizes: list[float]) -> None:
        for size in sizes:
            weight.grad = (size * gradient + size**2).contiguous(memory_format=torch.channels_last)
            adam.step()

    whole, adam = start()
    steps(whole, adam, [1.0, -0.5, 2.0, 0.3])
    part, first = start()
    steps(part, first, [1.0, -0.5])
    second = torch.optim.Adam([part], lr=0.1, fused=True)
    saved = {k.removeprefix("optimizer.x."): v for k, v in optimizer_tensors("x", first).items()}
    load_optimizer(second, {k: v.contiguous().clone() for k, v in saved.items()})
    steps(part, second, [2.0, 0.3])
    assert torch.equal(part, whole)
