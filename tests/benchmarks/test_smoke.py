import json
from importlib import import_module
from pathlib import Path

import pytest
import torch

from onlygood.core.method import InputShape
from onlygood.core.stage import Batch
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SCRIPTS = ("memory", "promise", "scoring", "startup", "training")


@pytest.fixture(autouse=True)
def _found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_every_script_is_known_here() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SCRIPTS, "measure"}


def test_make_bench_runs_them_all() -> None:
    makefile = (BENCHMARKS.parent / "Makefile").read_text()
    line = next(text for text in makefile.splitlines() if text.startswith("BENCHMARKS :="))
    assert sorted(line.split()[2:]) == sorted(SCRIPTS)


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
