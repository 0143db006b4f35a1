"""Parts of pages that scripts write: found by a pattern, replaced in place."""

import re
from collections.abc import Sequence

FIGURES = r"(?m)^## Measured\n\nMade from the records.*?\n\n\|.*?(?=\n\n|\n\Z)"
"""What the records in `results` say of a method, on its page."""


def replaced(page: str, pattern: str, text: str) -> str:
    """The page with one part replaced.

    Raises:
        ValueError: the page has no such part, or several.
    """
    page, count = re.subn(pattern, lambda _: text, page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"a page has to have one {pattern}, and this one has {count}")
    return page


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [" | ".join(row) for row in (heads, ["---"] * len(heads), *rows)]
    return "\n".join(f"| {line} |" for line in lines)


def with_rows(page: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The page with other rows in its table of these heads.

    Raises:
        ValueError: the page has no such table, or several.
    """
    return replaced(page, rf"{re.escape(table(heads, []))}(?:\n\|[^\n]*)*", table(heads, rows))
