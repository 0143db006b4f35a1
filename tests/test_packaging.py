import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager

from onlygood.cli import EXTRA_OF
from onlygood.cli.doctor import EXTRAS

ROOT = Path(__file__).parents[1]
EXTRAS_OF_DEVELOPERS = {"dev", "docs"}


def metadata() -> Any:
    return ProjectMetadata(str(ROOT), PluginManager()).core


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("SERVER_URL", "REPOSITORY", "REF_NAME"):
        monkeypatch.delenv(f"GITHUB_{part}", raising=False)


@pytest.mark.usefixtures("elsewhere")
def test_links_lead_to_the_repository_that_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (metadata().urls, metadata().readme) == ({}, (ROOT / "README.md").read_text("utf-8"))
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://git.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "a/b")
    monkeypatch.setenv("GITHUB_REF_NAME", "v1.2.3")
    found = metadata()
    assert found.urls["Source"] == "https://git.example/a/b"
    targets = re.findall(r"\]\(([^)\s]+)\)", found.readme)
    assert len(targets) > 30
    assert {target.partition(":")[0] for target in targets} == {"https"}
    picture = "](https://git.example/a/b/raw/v1.2.3/docs/images/heatmap.png)"
    assert picture in found.readme
    for target in targets:
        ours = re.fullmatch(r"https://git\.example/a/b/(?:raw|blob)/v1\.2\.3/([^#]+).*", target)
        assert ours is None or (ROOT / ours[1]).exists()


def test_what_the_licence_and_the_pythons_are_is_said() -> None:
    told = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata().license_expression == "Apache-2.0"
    assert told["authors"]
    pythons = [c for c in told["classifiers"] if re.search(r":: 3\.\d+$", c)]
    workflow = (ROOT / ".github/workflows/test.yml").read_text("utf-8")
    [tested] = re.findall(r"python: \[(.*)\]", workflow)
    assert re.findall(r"3\.\d+", tested) == [c.rpartition(" ")[2] for c in pythons]


def test_every_extra_brings_what_some_line_imports() -> None:
    extras = set(metadata().optional_dependencies) - EXTRAS_OF_DEVELOPERS
    assert set(EXTRAS) == extras
    assert set(EXTRA_OF.values()) <= extras
    assert all(module in EXTRAS[extra] for module, extra in EXTRA_OF.items())
