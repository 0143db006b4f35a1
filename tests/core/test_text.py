import pytest

from onlygood.core.text import cell, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünd → 部品", "plain, ünd → 部品"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\rb\x07", "a\\rb\\x07"),
        ("gnp.\u202eexe", "gnp.\\u202eexe"),
        ("\x9b1m", "\\x9b1m"),
        ("\udce4", "\\udce4"),
        ("two\nlines", "two\nlines"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text: str, shown: str):
    assert visible(text) == shown


def test_formulas_become_text_and_numbers_stay_numbers():
    assert [cell(v) for v in ("=1", "+1", "-1", "@a", "\t=1", "\r=1")] == [
        "'=1", "'+1", "'-1", "'@a", "'\t=1", "'\r=1",
    ]  # fmt: skip
    assert [cell(v) for v in ("a=1", "", -1.5, None)] == ["a=1", "", -1.5, None]
