import pytest

from onlygood.core.errors import DataError
from onlygood.deploy.service.intake import _checked, _plain


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "Screenshot 3.00\u202fPM.png",
        "Schraube-Ä.png",
        "folder/a.png",
        "a..b.png",
        "螺母.png",
        "x" * 255,
    ],
)
def test_names_of_people_are_taken(name: str) -> None:
    assert _checked(name) == name


@pytest.mark.parametrize("name", ["..", "a/..", "/a.png", "\\\\host\\a", "C:/a"])
def test_ways_out_are_not(name: str) -> None:
    with pytest.raises(DataError, match="leads out of its folder"):
        _checked(name)


@pytest.mark.parametrize("character", "\n\x7f\ud800\u2028\u2029\u202a\u202e\u2066\u2069")
def test_nor_is_what_cannot_be_seen(character: str) -> None:
    with pytest.raises(DataError, match="cannot be seen"):
        _checked(f"a{character}b.png")


def test_nor_is_a_name_that_is_too_long() -> None:
    with pytest.raises(DataError, match=r"the name '1x{79}'\.\.\. has 256 characters"):
        _checked("1" + "x" * 255)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("=?utf-8?B?VGVpbCDDpC5wbmc=?=", "Teil ä.png"),  # of .NET's MultipartFormDataContent
        ("=?utf-8?B?Li4vYS5wbmc=?=", "../a.png"),  # which is checked as any other
        ("=?utf-8?B?/////w==?=", "=?utf-8?B?/////w==?="),  # no UTF-8
        ("=?utf-8?B?abc?=", "=?utf-8?B?abc?="),  # no whole Base64
        ("=?a.png", "=?a.png"),
    ],
)
def test_names_that_were_written_as_words_of_mails_are_read(given: str, name: str) -> None:
    assert _plain(given) == name
