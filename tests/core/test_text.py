import pytest

from onlygood.core.text import cell, figure, fixed, signed, visible


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


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.99996, "0.99996"),
        (0.999_999_7, "0.9999997"),
        (0.98765432, "0.9877"),
        (1.0, "1"),
        (1 - 1e-12, "1"),
        (1.00001, "1"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
    ],
)
def test_a_share_is_one_only_where_nothing_is_missing(value: float, shown: str):
    assert figure(value) == shown
    assert figure(100 * 0.9996, 3, whole=100.0) == "99.96"
    assert figure(100.0, 3, whole=100.0) == "100"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((0.9996, "0.9996"), (0.99996, "0.99996"), (0.9994, "0.999"), (1.0, "1.000")),
        *((1 - 1e-12, "1.000"), (0.5, "0.500"), (0.0, "0.000"), (float("nan"), "nan")),
    ],
)
def test_so_it_is_in_columns(value: float, shown: str):
    assert fixed(value, 3) == shown
    assert fixed(99.96, 1, whole=100.0) == "99.96"
    assert fixed(100.0, 1, whole=100.0) == "100.0"


def test_what_rounds_to_nothing_has_no_sign():
    shown = [signed(value, 4) for value in (0.12345, -0.00005001, -0.00004, 0.00004, 0.0, -0.0)]
    assert shown == ["+0.1235", "-0.0001", "0.0000", "0.0000", "0.0000", "0.0000"]
