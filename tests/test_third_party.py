"""A package of somebody else, installed by pip: its method is as good as those of the house."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from onlygood import Detector, registry
from onlygood.core.errors import ModelFileError
from tests import parts
from tests.test_registry import denoiser

PROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "denoiser-package"
version = "1.2"

[project.entry-points."onlygood.methods"]
denoiser = "denoiser_package.denoiser:Denoiser"
broken = "denoiser_package.nothing:Nothing"
"""

LOAD = """
from onlygood import Detector
from onlygood.cli import main
from tests import parts
made = Detector.load("m.safetensors")
print([result.score for result in made.score(list(parts.normal(3)))])
run = "bench run --protocol mvtec --dataset mvtec --classes bottle --folder . --results r.jsonl"
raise SystemExit(main([*run.split(), "--methods", "denoiser", "--set", "steps=2", "--json"]))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the package is installed."""
    project = tmp_path_factory.mktemp("project")
    package = project / "denoiser_package"
    package.mkdir()
    (project / "pyproject.toml").write_text(PROJECT)
    (package / "__init__.py").touch()
    (package / "denoiser.py").write_text(denoiser())
    target = tmp_path_factory.mktemp("site")
    pip = "-m pip install -q --no-index --no-build-isolation --no-deps --disable-pip-version-check"
    command = [sys.executable, *pip.split(), "--target", str(target), str(project)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


def python(site: Path, *words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A fresh process that finds the package."""
    root = str(Path(__file__).parents[1])
    places = [os.environ.get("PYTHONPATH", ""), root, str(site)]
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_fits_saves_loads_and_benches(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts.write(parts.normal(6), tmp_path / "bottle/train/good")
    parts.write(parts.normal(3, seed=3), tmp_path / "bottle/test/good")
    parts.write(parts.scratched(3), tmp_path / "bottle/test/scratched")
    with monkeypatch.context() as patch:
        patch.syspath_prepend(site)
        settings = {"size": 16, "steps": 3}
        made = Detector.fit("denoiser", list(parts.normal(12)), settings=settings)
        made.save(tmp_path / "m.safetensors")
    used = python(site, "-c", LOAD, folder=tmp_path)
    assert used.returncode == 0, used.stderr
    scores, _, answer = used.stdout.partition("\n")
    assert scores == str([result.score for result in made.score(list(parts.normal(3)))])
    assert json.loads(answer)["run"] == 1
    (record,) = (tmp_path / "r.jsonl").read_text().splitlines()
    line = json.loads(record)
    assert (line["method"], line["versions"]["denoiser-package"]) == ("denoiser", "1.2")

    # Where the package is not, the file says what to install.
    message = 'needs the method "denoiser" of the package denoiser-package 1.2, which is not'
    with pytest.raises(ModelFileError, match=message):
        Detector.load(tmp_path / "m.safetensors")


def test_it_keeps_the_contract(site: Path, tmp_path: Path) -> None:
    plugin = "-m pytest -q -p no:cacheprovider -p onlygood.testing --onlygood-method denoiser"
    # All of it but the fresh process, which the test above has had.
    options = ("--onlygood-set", "hidden=4", "-k", "not fresh_process")
    done = python(site, *plugin.split(), *options, folder=tmp_path)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^1\d passed", done.stdout, re.M)


def test_a_broken_neighbour_is_one_sentence(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(site)
    assert registry.method_named("denoiser").__name__ == "Denoiser"
    broken = [one for one in registry.listed() if one.name == "broken"]
    assert broken[0].error == (
        'method "broken" of the package denoiser-package 1.2 cannot be imported '
        "(ModuleNotFoundError: No module named 'denoiser_package.nothing'); mend or uninstall that "
        "package; other methods do without it"
    )
