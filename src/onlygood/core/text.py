"""Words of others, names of files above all, where they could be taken for commands."""

import unicodedata
from collections.abc import Sequence


def visible(text: str) -> str:
    """The text with what a terminal would obey, or not show, as escapes; line ends stay.

    Control characters, those that turn the direction of writing, and surrogates.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c
        if c == "\n" or not unicodedata.category(c).startswith("C")
        else c.encode("unicode_escape").decode()
        for c in text
    )


def cell(value: object) -> object:
    """A cell of a CSV file; text that a spreadsheet would take for a formula is marked as text."""
    return f"'{value}" if isinstance(value, str) and value[:1] in tuple("=+-@\t\r") else value


def many(number: int | float, what: str, form: str = "") -> str:
    """A number of things, written in `form`: `1 picture`, `2 pictures`."""
    return f"{number:{form}} {what}{'' if number == 1 else 's'}"


def figure(value: float, digits: int = 4, *, whole: float = 1.0) -> str:
    """A number for reading; a share is shown as `whole` only where nothing is missing.

    A billionth less is taken for rounding.
    """
    return _short_of(whole, value, digits, "g")


def fixed(value: float, places: int, *, whole: float = 1.0) -> str:
    """The same with so many digits behind the point, as columns of tables have."""
    return _short_of(whole, value, places, "f")


def signed(value: float, places: int) -> str:
    """A difference with its sign; one that is nothing to so many places has none."""
    text = f"{value:+.{places}f}"
    return text if float(text) else text[1:]


def _short_of(whole: float, value: float, digits: int, form: str) -> str:
    text = f"{value:.{digits}{form}}"
    while float(text) == whole and value < (1 - 1e-9) * whole:
        digits += 1
        text = f"{value:.{digits}{form}}"
    return text


def left_out(reasons: Sequence[str]) -> str:
    """How many pictures cannot be read, and why the first cannot; nothing where all can."""
    if not reasons:
        return ""
    return f"left out, as they cannot be read: {len(reasons)} of them; the first: {reasons[0]}"
