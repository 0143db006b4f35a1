import pytest

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.deploy.intake import Upload, _checked, prepare
from tests.deploy.stream import normal


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


def test_a_picture_is_brought_to_the_size_of_the_network() -> None:
    prepared = prepare(Upload("a.png", normal(0)), View(size=16, channels=3), 10_000)
    assert prepared.loaded.pixels is not None and prepared.loaded.pixels.shape == (16, 16, 3)
    assert prepared.loaded.size == (40, 50)
    assert len(prepared.sha256) == 64


def test_memory_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onlygood.deploy.intake.load", fail)
    prepared = prepare(Upload("a.png", normal(0)), View(size=16, channels=3), 10_000)
    assert prepared.loaded.pixels is None
    assert "more memory than there is" in str(prepared.loaded.error)
