import pytest

from onlygood.core.errors import DataError
from onlygood.deploy.service.intake import _checked


@pytest.mark.parametrize(
    "name",
    [
        "a.png",
        "Screenshot 3.00\u202fPM.png",
        "Schraube-Ä.png",
        "folder/a.png",
        "a..b.png",
        "螺母.png",
    ],
)
def test_names_of_people_are_taken(name: str) -> None:
    assert _checked(name) == name


@pytest.mark.parametrize("name", ["..", "a/..", "/a.png", "\\\\host\\a", "C:/a", "a\nb", "a\x7f"])
def test_tricks_are_not(name: str) -> None:
    with pytest.raises(DataError, match=r"leads out of its folder|cannot be seen"):
        _checked(name)
