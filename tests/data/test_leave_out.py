"""Names that a person wrote down find their pictures, or an error."""

import os
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest

from onlygood.core.errors import DataError
from onlygood.data.leave_out import read_names, remaining
from onlygood.data.source import ImageSource
from tests import parts


def test_names_are_one_a_line(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_bytes(b"\xef\xbb\xbfa b.png\r\n\r\n# scratched\r\n  sub/c.png \n")
    assert read_names(tmp_path / "out.txt") == ["a b.png", "# scratched", "  sub/c.png "]
    (tmp_path / "out.txt").write_text("a\u2028b.png\nc\x85d.png\n", "utf-8")
    assert read_names(tmp_path / "out.txt") == ["a\u2028b.png", "c\x85d.png"]
    for mark, code in ((b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        (tmp_path / "out.txt").write_bytes(mark + "a.png\r\nü.png\r\n".encode(code))
        assert read_names(tmp_path / "out.txt") == ["a.png", "ü.png"]
    (tmp_path / "out.txt").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe")
    for name in ("out.txt", "nowhere.txt", "pipe"):
        with pytest.raises(DataError, match=f"{name}: cannot be read as a list of names"):
            read_names(tmp_path / name)


def test_pictures_go_by_name_or_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = parts.write(parts.normal(4), tmp_path / "good")
    monkeypatch.chdir(tmp_path)
    source = ImageSource.of("good")
    out = ["000.png", Path("good/001.png"), str(paths[2])]
    assert remaining(source, out) == [3]
    assert remaining(source, ()) == [0, 1, 2, 3]
    assert remaining(source, ["# scratched", "  000.png "]) == [1, 2, 3]
    arrays = ImageSource.of([np.zeros((8, 8), np.uint8)] * 3)
    assert remaining(arrays, ["array[1]"]) == [0, 2]


def test_a_name_may_begin_as_a_remark_or_with_a_blank(tmp_path: Path) -> None:
    for name in ("#1.png", " 2.png", "3.png"):
        parts.write(parts.normal(1), tmp_path)[0].rename(tmp_path / name)
    source = ImageSource.of(tmp_path)
    assert sorted(source.names) == [" 2.png", "#1.png", "3.png"]
    kept = remaining(source, ["#1.png", " 2.png", "#3.png"])
    assert [source.names[i] for i in kept] == ["3.png"]


def test_an_umlaut_is_the_same_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for kind in ("NFC", "NFD"):
        (path,) = parts.write(parts.normal(1), tmp_path / kind)
        path.rename(path.with_name(normalize(kind, "Prüfling.png")))
        parts.write(parts.normal(1), tmp_path / kind, "z")
        for other in ("NFC", "NFD"):
            name = normalize(other, "Prüfling.png")
            assert remaining(ImageSource.of(kind), [name]) == [1]
            assert remaining(ImageSource.of(kind), [f"{kind}/{name}"]) == [1]
    # Where both are there, each is itself.
    (path,) = parts.write(parts.normal(1), tmp_path / "NFC")
    path.rename(path.with_name(normalize("NFD", "Prüfling.png")))
    both = ImageSource.of("NFC")
    name = normalize("NFD", "Prüfling.png")
    assert [both.names[i] for i in range(3) if i not in remaining(both, [name])] == [name]


def test_a_name_that_means_nothing_is_refused(tmp_path: Path) -> None:
    parts.write(parts.normal(2), tmp_path)
    source = ImageSource.of(tmp_path)
    with pytest.raises(DataError, match=r'is called "00O.png"; did you mean "00..png"'):
        remaining(source, ["00O.png"])
    with pytest.raises(DataError, match="names are as the report has them"):
        remaining(source, ["x"])
    with pytest.raises(DataError, match="all 2 pictures are to be left out"):
        remaining(source, source.names)


def test_one_name_is_no_list_of_its_letters(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        parts.write(parts.normal(1), tmp_path)[0].rename(tmp_path / name)
    with pytest.raises(DataError, match=r'takes a list of names, got "a.png"; write \["a.png"\]'):
        remaining(ImageSource.of(tmp_path), "a.png")
