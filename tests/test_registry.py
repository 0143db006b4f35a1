"""Methods from elsewhere: of a file, and of packages."""

import hashlib
import re
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from unittest.mock import Mock

import pytest

from onlygood import Detector, registry, testing
from onlygood.core.errors import ConfigError, ModelFileError, ShapeError
from onlygood.methods import METHODS
from onlygood.methods.pca import PCA
from tests import parts
from tests.command_line import Run

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "own-method.md"
TINY = {"size": 16, "hidden": 2, "steps": 2, "batch_size": 4}


def denoiser() -> str:
    """The method of the guide."""
    (code,) = re.findall(r"^```python\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    return str(code)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(registry, "_introduced", {})
    path = tmp_path / "denoiser.py"
    path.write_text(denoiser())
    return path


def offer(monkeypatch: pytest.MonkeyPatch, *points: EntryPoint) -> None:
    monkeypatch.setattr(registry, "entry_points", lambda group: points)


def test_the_method_of_the_guide_learns_from_its_file(file: Path, run: Run) -> None:
    folder = file.parent / "parts"
    parts.write(parts.normal(6), folder)
    model = file.parent / "m.safetensors"
    settings = [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]
    fitted = run("fit", f"{file}:Denoiser", folder, "-o", model, "--no-report", *settings)
    assert fitted.status == 0, fitted.err
    assert Detector.load(model).method == "denoiser.py:Denoiser"
    page = run("methods", f"{file}:Denoiser").out
    assert "Denoising autoencoder" in page
    assert f"onlygood fit {file}:Denoiser FOLDER" in " ".join(page.split())


def test_a_method_that_localizes_has_a_map(file: Path) -> None:
    file.write_text(denoiser().replace("weighted(error, error=", "weighted(error="))
    with pytest.raises(ShapeError, match="no map, and the method says localizes = True; give"):
        Detector.fit(f"{file}:Denoiser", list(parts.normal(6)), settings=TINY)
    file.write_text(file.read_text().replace("localizes = True", "localizes = False"))
    made = Detector.fit(f"{file}:Denoiser", list(parts.normal(6)), settings=TINY)
    assert made.score(parts.normal(1))[0].map is None


def test_a_model_never_runs_a_file_by_itself(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = file.parent / "m.safetensors"
    made = Detector.fit(f"{file}:Denoiser", list(parts.normal(6)), settings=TINY)
    made.save(model)
    registry._introduced.clear()
    monkeypatch.chdir(file.parent)  # not even one that lies there
    words = r"needs the method denoiser\.py:Denoiser of a file, .* ONLYGOOD_METHODS=path/to/denois"
    with pytest.raises(ModelFileError, match=words):
        Detector.load(model)
    monkeypatch.setenv(registry.VARIABLE, f"other.py:Other,{file}:Denoiser")
    told = [result.score for result in Detector.load(model).score(list(parts.normal(3)))]
    assert told == [result.score for result in made.score(list(parts.normal(3)))]


def test_a_file_finds_what_lies_beside_it(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (file.parent / "only_beside_it.py").write_text("LEAST = 3\n")
    (file.parent / "json.py").write_text("1 / 0")  # hides nothing
    file.write_text("import json\nfrom only_beside_it import LEAST\n" + file.read_text())
    assert registry.introduce(f"{file}:Denoiser") == "denoiser.py:Denoiser"


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("1 / 0", r"mine\.py cannot be imported \(ZeroDivisionError: division by zero\); mend it"),
        ("Other = 1", r"mine\.py has no Mine"),
        ("Mine = 1", r"mine\.py:Mine is 1; it must be a class whose base is onlygood\.core"),
        (
            "from onlygood.core.method import Method\nclass Mine(Method):\n    localizes = True",
            r"mine\.py:Mine lacks config_class, presets, __init__\(\), score\(\), stages\(\)",
        ),
    ],
)
def test_a_file_that_holds_no_method_is_refused(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(code)
    for _ in range(2):  # of a module that breaks off no half is kept
        with pytest.raises(ConfigError, match=message):
            registry.introduce(f"{tmp_path / 'mine.py'}:Mine")


def test_a_class_that_is_misspelt_is_told_what_methods_there_are(file: Path) -> None:
    words = r'denoiser\.py has no Denoisr; did you mean "Denoiser"\? known: Denoiser$'
    with pytest.raises(ConfigError, match=words):
        registry.introduce(f"{file}:Denoisr")


def test_one_file_may_be_named_in_several_ways(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    names = (f"{file}:Denoiser", "denoiser.py:Denoiser", "./denoiser.py:Denoiser")
    assert {registry.introduce(name) for name in names} == {"denoiser.py:Denoiser"}


@pytest.mark.parametrize(
    ("was", "becomes", "message"),
    [
        ("hidden: int = 16", "hidden: int", "DenoiserConfig has none for hidden"),
        ("@dataclass(frozen=True, kw_only=True)", "", "DenoiserConfig is no dataclass"),
        ('"default": Preset', '"small": Preset', 'Denoiser has no preset "default"; see docs/'),
    ],
)
def test_settings_that_cannot_be_made_are_refused(
    file: Path, was: str, becomes: str, message: str
) -> None:
    file.write_text(denoiser().replace(was, becomes))
    with pytest.raises(ConfigError, match=message):
        registry.introduce(f"{file}:Denoiser")


def test_a_default_may_be_made(file: Path) -> None:
    made = "from dataclasses import field\n" + denoiser()
    made = made.replace("hidden: int = 16", "hidden: int = field(default_factory=lambda: 8)")
    file.write_text(made)
    cls = registry.method_named(registry.introduce(f"{file}:Denoiser"))
    assert cls.config_class().hidden == 8


@pytest.mark.parametrize("name", ["denoiser.py", "denoiser:Denoiser"])
def test_a_file_that_is_named_by_halves_is_told_how(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is named path/to/file\.py:Class"):
        registry.method_named(name)


def test_two_files_of_one_name_are_refused(file: Path) -> None:
    (file.parent / "other").mkdir()
    other = file.parent / "other" / file.name
    other.write_text(denoiser() + "\n# another one\n")
    name = registry.introduce(f"{file}:Denoiser")
    first = registry.method_named(name)
    with pytest.raises(ConfigError, match=rf"{name} is the method of {file.resolve()} here"):
        registry.introduce(f"{other}:Denoiser")
    assert registry.method_named(name) is first
    file.write_text(other.read_text())  # changed in its place
    assert registry.method_named(registry.introduce(f"{file}:Denoiser")) is not first


def test_a_file_that_is_not_there_is_refused(run: Run, tmp_path: Path) -> None:
    done = run("fit", "no.py:Mine", tmp_path, "-o", tmp_path / "m.safetensors")
    assert done.status == 1
    assert "no.py:Mine: there is no file no.py; write path/to/file.py:Class" in done.err


def test_packages_offer_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(
        monkeypatch,
        EntryPoint("yours", "onlygood.methods.pca:PCA", registry.GROUP),
        EntryPoint("mine", "onlygood.methods.pca:PCA", registry.GROUP),
        EntryPoint("reflect", "onlygood.methods.pca:PCA", registry.GROUP),
    )
    assert registry.method_named("mine") is PCA
    assert registry.method_named("reflect") is METHODS["reflect"]  # nobody takes a name away
    assert [one.name for one in registry.listed()] == [*METHODS, "mine", "yours"]
    with pytest.raises(ConfigError, match=r'unknown method "min"; did you mean "mine"\?'):
        registry.method_named("min")


def test_a_package_that_cannot_be_imported_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    offer(monkeypatch, EntryPoint("mine", "no_such_module:Mine", registry.GROUP))
    words = 'method "mine" cannot be imported (ModuleNotFoundError: No module named'
    assert words in run("methods").out
    assert run("methods", "pca").status == 0
    with pytest.raises(ConfigError, match=re.escape(words)):
        Detector.fit("mine", parts.normal(6))


@pytest.mark.parametrize(
    ("needs", "message"),
    [
        (
            {"package": "mine-pkg", "version": "1.0"},
            "of the package mine-pkg 1.0, which is not installed here: pip install mine-pkg$",
        ),
        ({"module": "notebook"}, "which the module notebook has put into onlygood.METHODS"),
    ],
)
def test_a_model_says_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: dict[str, str], message: str
) -> None:
    monkeypatch.setitem(METHODS, "mine", PCA)
    made = Detector.fit("mine", list(parts.normal(6)), settings=parts.TINY)
    monkeypatch.setattr(registry, "needs", lambda name: needs)
    made.save(tmp_path / "m.safetensors")
    monkeypatch.delitem(METHODS, "mine")
    with pytest.raises(ModelFileError, match=message):
        Detector.load(tmp_path / "m.safetensors")


def test_needs_are_those_of_where_it_comes_from(
    monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    cls = registry.method_named(registry.introduce(f"{file}:Denoiser"))
    monkeypatch.setitem(METHODS, "mine", cls)
    assert registry.needs("pca") == {}
    text = hashlib.sha256(file.read_bytes()).hexdigest()
    of_file = {"file": "denoiser.py:Denoiser", "sha256": text}
    assert registry.needs("denoiser.py:Denoiser") == of_file
    assert registry.needs("mine") == {"module": cls.__module__}


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("no_such_method", "a=1", 'unknown method "no_such_method"'),
        ("pca", "components", "a setting is written field=value"),
    ],
)
def test_the_plugin_says_what_is_wrong_with_its_options(
    method: str, setting: str, message: str
) -> None:
    options = {"--onlygood-method": method, "--onlygood-set": [setting], "--onlygood-learn": []}
    config = Mock(spec=pytest.Config)
    config.getoption.side_effect = options.get
    with pytest.raises(pytest.UsageError, match=message):
        testing.pytest_configure(config)
