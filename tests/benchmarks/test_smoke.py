import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from onlygood.core.method import InputShape
from onlygood.core.stage import Batch
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = ("elpv", "memory", "promise", "scoring", "startup", "training")
TINY = ("size=32", "width=2", "latent=4", "batch_size=4")


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def elpv() -> ModuleType:
    return import_module("elpv")


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A folder that looks as if the photographs had been written there."""
    random = np.random.default_rng(0)
    for part, count in (("train/good", 12), ("test/good", 4), ("test/defective", 4)):
        folder = tmp_path / "elpv-mono" / part
        folder.mkdir(parents=True)
        for i in range(count):
            pixels = random.integers(0, 128, (32, 32), dtype=np.uint8)
            Image.fromarray(pixels + 100 * (part == "test/defective")).save(folder / f"{i}.png")
    return tmp_path


def run_elpv(elpv: ModuleType, folder: Path, *more: str) -> list[dict[str, Any]]:
    results = folder / "results.jsonl"
    sets = [word for text in TINY for word in ("--set", text)]
    words = ["--folder", str(folder), "--results", str(results), "--datasets", "elpv-mono"]
    assert elpv.main([*words, "--methods", "autoencoder", *sets, *more]) == 0
    return [json.loads(text) for text in results.read_text().splitlines()]


def test_every_script_is_known_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SCRIPTS, "measure"}


def test_make_bench_runs_all_that_take_no_data() -> None:
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    line = next(text for text in makefile.splitlines() if text.startswith("BENCHMARKS :="))
    assert sorted(line.split()[2:]) == sorted({*SCRIPTS} - {"elpv"})


@pytest.mark.parametrize("name", ["scoring", "startup", "training"])
def test_quick_run_gives_figures(name: str, tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert import_module(name).main(["--quick", "--json", str(file)]) == 0
    figures = json.loads(file.read_text())
    assert figures["rows"]
    assert figures["machine"]["versions"]["torch"] == torch.__version__


def test_promise_with_few_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "figures.json"
    monkeypatch.setattr("sys.argv", ["promise.py", "--draws", "2", "--json", str(file)])
    import_module("promise").main()
    assert json.loads(file.read_text())["draws"] == 2


def test_memory_measures_both_ways_of_keeping_pictures(tmp_path: Path) -> None:
    memory = import_module("memory")
    memory.generate(tmp_path / "good", 12)
    settings = {"size": 32, "width": 2, "batch_size": 4}
    for cache_gib, cached in ((1.0, True), (1e-6, False)):
        answer = memory.child(
            {
                "mode": "",
                "cache_gib": cache_gib,
                "folder": str(tmp_path / "good"),
                "steps": 1,
                "settings": settings,
            }
        )
        row = memory.Row(**answer["row"])
        assert row.cached is cached
        assert row.n_train == row.n_calibration == 6
        assert min(row.first_read, row.trained, row.first_epoch, row.later_epoch) > 0
        assert 0 < row.peak_before_fitting_gib <= row.peak_gib


def test_plain_loop_has_the_losses_of_the_method() -> None:
    config = CBiGANConfig(width=2, latent=4, alpha=0.1)
    shape = InputShape(3, 32, 32)
    torch.manual_seed(0)
    method = CBiGAN(config, shape)
    plain = import_module("training").Plain(shape, config)
    for name in ("encoder", "generator", "critic"):
        getattr(plain, name).load_state_dict(getattr(method, name).state_dict())
    x = torch.rand(4, 3, 32, 32)

    def batch() -> Batch:
        return Batch(normal=x, generator=torch.Generator().manual_seed(1))

    z, drawn = batch().normals(4), batch()
    drawn.normals(4)
    epsilon = drawn.uniforms()
    torch.testing.assert_close(plain.critic_loss(x, z, epsilon), method.critic_loss(batch()).total)
    torch.testing.assert_close(plain.generator_loss(x, z), method.generator_loss(batch()).total)


def test_elpv_runs_a_cell_once(elpv: ModuleType, cells: Path) -> None:
    first = run_elpv(elpv, cells, "--seeds", "0", "--set", "steps=2")
    assert [line["steps"] for line in first] == [2]
    assert run_elpv(elpv, cells, "--seeds", "0", "--set", "steps=2") == first
    other_seed = run_elpv(elpv, cells, "--seeds", "0", "1", "--set", "steps=2")
    assert [line["seed"] for line in other_seed] == [0, 1]
    other_setting = run_elpv(elpv, cells, "--seeds", "0", "--set", "steps=3")
    assert len({line["config_hash"] for line in other_setting}) == 2


def test_elpv_curve_ends_where_an_unbroken_run_does(elpv: ModuleType, cells: Path) -> None:
    [line] = run_elpv(elpv, cells, "--seeds", "0", "--set", "steps=4")
    again = run_elpv(elpv, cells, "--seeds", "0", "--set", "steps=4", "--curve", "2")
    curve = again[-1]["curve"]
    assert curve["note"] == "diagnostic, selects nothing"
    assert [point["steps"] for point in curve["points"]] == [2, 4]
    assert again[-1]["auroc"] == curve["points"][-1]["auroc"] == line["auroc"]
    assert again[-1]["steps"] == line["steps"]
    # The newest line of a cell counts, once.
    assert len(elpv.read(cells / "results.jsonl")) == 1


def test_elpv_table_has_mean_and_deviation(
    elpv: ModuleType, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run_elpv(elpv, cells, "--seeds", "0", "1", "--set", "steps=1")
    a, b = (line["true_positive_rate"] for line in lines)
    lines[0] |= {"auroc": 0.5, "parts": {"pixels": 0.5}}
    lines[1] |= {"auroc": 0.7, "parts": {"pixels": 0.9}}
    assert "| 2 | 0.600 ± 0.141 | pixels 0.700 ± 0.283 |" in elpv.tables(lines)
    capsys.readouterr()
    assert elpv.main(["--table", "--results", str(cells / "results.jsonl")]) == 0
    assert f"{(a + b) / 2:.3f} ± " in capsys.readouterr().out


def test_elpv_refuses_a_curve_without_even_steps(
    elpv: ModuleType, cells: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--folder", str(cells), "--results", str(cells / "r.jsonl"), "--curve", "2"]
    assert elpv.main([*words, "--methods", "autoencoder", "--set", "minutes=1"]) == 1
    assert "autoencoder has 1 minutes" in capsys.readouterr().err
    assert not (cells / "r.jsonl").exists()
