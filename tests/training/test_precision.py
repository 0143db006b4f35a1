import pytest
import torch
from torch import Tensor, nn

from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Stage
from onlygood.losses.penalties import two_sided
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
    assert uses_bf16(Training(precision=setting), CPU) == (
        hardware if expected is None else expected
    )


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


@pytest.mark.parametrize("rows", [1, 2, 4, 8, 14, 16, 32])
def test_where_bf16_is_used_second_derivatives_are_right(rows: int) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 8, 3, padding=1))
    x, weights = torch.rand(rows, 3, 16, 16), list(layers.parameters())

    def gradient(settings: Training) -> Tensor:
        with autocast(settings, CPU):
            penalty = two_sided(lambda t: layers(t).square().sum((1, 2, 3)), x).mean()
        return torch.autograd.grad(penalty, weights[2])[0].flatten()

    got = gradient(Training(precision="bf16", batch_size=rows))
    exact = gradient(Training(precision="float32", batch_size=rows))
    assert torch.cosine_similarity(got, exact, dim=0) > 0.99


def test_a_region_of_the_caller_hides_no_wrong_product() -> None:
    precision._multiplies_rightly.cache_clear()
    with torch.autocast("cpu", torch.bfloat16):
        within = precision._multiplies_rightly()
    precision._multiplies_rightly.cache_clear()
    assert within == precision._multiplies_rightly()


def test_processes_share_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplies_rightly", lambda: False)
    settings = Training(precision="bf16", batch_size=32)
    assert uses_bf16(settings, CPU)
    monkeypatch.setattr(precision.distributed, "world", lambda: 4)
    assert not uses_bf16(settings, CPU)
    assert uses_bf16(settings, torch.device("cuda"))
    monkeypatch.setattr(precision, "_multiplies_rightly", lambda: True)
    assert uses_bf16(settings, CPU)


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
    fit(toy, steps=2, precision=setting, batch_size=precision.SAFE_ROWS)
    assert seen == [dtype] * 2
    assert layer.weight.dtype == torch.float32
    assert not torch.equal(layer.weight, before)
    assert not torch.is_autocast_enabled("cpu")
