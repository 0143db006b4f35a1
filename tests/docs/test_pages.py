import re
import shlex
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import typer.main
from typer.core import TyperGroup

from onlygood.cli import app
from onlygood.core.method import InputShape
from onlygood.core.stage import Batch
from onlygood.methods import METHODS
from onlygood.report.page import LEAST_ANOMALOUS, MISTAKES, MOST_ANOMALOUS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
each_method = pytest.mark.parametrize("name", METHODS)
each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)


def page(name: str) -> str:
    return (ROOT / "docs" / "methods" / f"{name}.md").read_text("utf-8")


def commands(path: Path) -> list[str]:
    """Lines of code blocks that call onlygood, without their comments."""
    blocks = re.findall(r"^```(?:sh|bash)?\n(.*?)^```", path.read_text("utf-8"), re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("onlygood ")]


@pytest.fixture(scope="module")
def pages() -> ModuleType:
    return import_module("pages")


@each_method
def test_what_comes_from_the_class_is_as_the_class_has_it(pages: ModuleType, name: str) -> None:
    assert page(name) == pages.rewritten(page(name), METHODS[name]), "make pages"


def test_the_table_of_all_methods_is_as_the_classes_have_it(pages: ModuleType) -> None:
    text = (ROOT / "docs" / "use.md").read_text("utf-8")
    assert text == pages.used(text), "make pages"


def test_departures_are_told_as_markdown_wants_lists(pages: ModuleType) -> None:
    told = pages.departures(METHODS["anogan"])
    assert told.startswith("From the paper:\n\n- How fast the search goes")
    assert "\n\nFrom the authors' code: none known" in told
    assert "we know that\n\n- EGBAD's and ALAD's authors" in told
    assert "`score_features=0.9`;\n- PyOD trains" in told
    with pytest.raises(ValueError, match="has to have one"):
        pages.rewritten("no page", METHODS["anogan"])


@each_method
def test_every_logged_term_is_explained(name: str) -> None:
    cls = METHODS[name]
    method = cls(cls.config_class(), InputShape(1, 32, 32))
    x = torch.rand(2, 1, 32, 32)
    logged: set[str] = set()
    for stage in method.stages():
        for update in stage.updates:
            batch = Batch(normal=x, generator=torch.Generator().manual_seed(0))
            terms = {*update.loss(batch).terms, "gradient_norm", *update.gradients.logged}
            logged |= {f"{update.name}/{term}" for term in terms}
    if logged and not cls.searches:
        logged |= {f"validation/{term}" for term in {"total", *method.eval().score(x).terms}}
    section = page(name).partition("## What the log should look like")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]+`) \|", section, re.M)
    assert set(re.findall(r"`([^`]+)`", " ".join(first_cells))) == logged


def test_every_method_has_a_page_and_every_page_a_method() -> None:
    assert {path.stem for path in (ROOT / "docs" / "methods").glob("*.md")} == set(METHODS)


def test_guide_has_commands() -> None:
    assert len(commands(ROOT / "docs" / "guides" / "first-detector.md")) > 10


def test_the_guide_says_how_many_examples_a_report_shows() -> None:
    guide = " ".join((ROOT / "docs" / "guides" / "first-detector.md").read_text("utf-8").split())
    assert f"the {MOST_ANOMALOUS} most and the {LEAST_ANOMALOUS} least anomalous pictures" in guide
    assert f"up to {MISTAKES} false alarms and {MISTAKES} misses" in guide


@each_page
def test_commands_are_understood(path: Path) -> None:
    cli = typer.main.get_command(app)
    for line in commands(path):
        words = shlex.split(line, comments=True)[1:]
        verb = cli.get_command(cli.make_context("onlygood", words[:1]), words[0])
        assert verb is not None, line
        if isinstance(verb, TyperGroup):
            verb, words = verb.commands[words[1]], words[1:]
        verb.make_context(words[0], words[1:]).close()


@each_page
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)\)", path.read_text("utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), f"{path.name} links to {target}"
