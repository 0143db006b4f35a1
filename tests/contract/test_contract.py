"""What every registered method promises, by being registered."""

import re
import sys
from pathlib import Path

import pytest

from onlygood.core.method import Method
from onlygood.methods import METHODS
from onlygood.testing.contract import *  # noqa: F403
from tests.contract.cases import case_of

DOCS = Path(__file__).parents[2] / "docs" / "methods"
SECTIONS = [
    "Equations",
    "What the log should look like",
    "Departures",
    "Settings",
    "Measured",
    "References",
]

pytestmark = pytest.mark.parametrize("name", METHODS)


def test_it_has_a_case(name: str) -> None:
    case_of(name)


def test_it_inherits_from_no_method(name: str) -> None:
    assert METHODS[name].__bases__ == (Method,)


def test_its_file_names_its_source_and_its_departures(name: str) -> None:
    text = sys.modules[METHODS[name].__module__].__doc__ or ""
    assert re.search(r"\b(19|20)\d\d\b", text), "a citation has a year"
    assert "Departures from the paper:" in text
    assert "Departures from the authors' code" in text


def test_it_has_a_page_in_the_fixed_form(name: str) -> None:
    page = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    title, sentence, *_ = page.split("\n\n")
    assert title.startswith("# ")
    assert sentence.endswith(".")
    assert not re.search(r"\.\s+[A-Z]", sentence), "the first paragraph is one sentence"
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == SECTIONS
