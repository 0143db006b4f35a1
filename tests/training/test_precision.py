import pytest
import torch
from torch import Tensor, nn

from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Stage
from onlygood.training import precision
from onlygood.training.precision import autocast, has_bf16, uses_bf16
from tests.training.toys import Toy, fit

CPU = torch.device("cpu")

each_precision = pytest.mark.parametrize(
    ("setting", "dtype"), [("bf16", torch.bfloat16), ("float32", torch.float32)]
)


@pytest.mark.parametrize("hardware", [True, False])
@pytest.mark.parametrize(
    ("setting", "expected"), [("auto", None), ("float32", False), ("bf16", True)]
)
def test_auto_is_what_the_hardware_does(
    monkeypatch: pytest.MonkeyPatch, setting: str, expected: bool | None, hardware: bool
):
    monkeypatch.setattr(precision, "has_bf16", lambda device: hardware)
    assert uses_bf16(setting, CPU) == (hardware if expected is None else expected)


@pytest.mark.parametrize(
    ("avx", "intel", "amx", "expected"),
    [
        (False, False, False, False),
        (True, False, False, True),
        (True, True, False, False),
        (False, True, True, True),
        (True, True, True, True),
    ],
)
def test_units_that_are_faster_than_float32(
    monkeypatch: pytest.MonkeyPatch, avx: bool, intel: bool, amx: bool, expected: bool
):
    monkeypatch.setattr(precision, "_is_intel", lambda: intel)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert has_bf16(CPU) == expected
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert not has_bf16(CPU)


def test_other_devices_compute_in_float32():
    assert not has_bf16(torch.device("meta"))


@each_precision
def test_autocast(setting, dtype: torch.dtype):
    with autocast(Training(precision=setting), CPU):
        assert (torch.rand(2, 2) @ torch.rand(2, 2)).dtype == dtype


@each_precision
def test_losses_are_computed_in_it_and_weights_stay_float32(setting, dtype: torch.dtype):
    layer = nn.Linear(4, 1)
    seen: list[torch.dtype] = []

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            values = layer(batch.normal.flatten(1))
            seen.append(values.dtype)
            return values[:, 0].float() * t.one.weight

        return [Stage(name="only", updates=[t.update("one", t.one, layer, term=term)])]

    toy = Toy(build)
    toy.layer = layer
    before = layer.weight.detach().clone()
    fit(toy, steps=2, precision=setting)
    assert seen == [dtype] * 2
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)
    assert not torch.is_autocast_enabled("cpu")
