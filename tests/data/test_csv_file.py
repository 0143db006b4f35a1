from pathlib import Path

import pytest

from onlygood.core.errors import DataError
from onlygood.data.csv_file import read_csv
from onlygood.data.layout import labelled, layout, unseen
from tests.data.pictures import write

TABLE = """\
path,label,split,mask
a.png,good,train,
sub/b.png,0,test,
c.png,Scratch,test,c_mask.png
d.png,1,,
e.png,hole,train,
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a", "sub/b", "c", "c_mask", "d", "e"):
        write(tmp_path / f"{name}.png")
    return tmp_path


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "list.csv"
    path.write_text(text, encoding)
    return path


def test_a_table_says_who_trains_and_who_tests(folder: Path) -> None:
    path = table(folder, TABLE)
    fit, check = layout(path), labelled(path)
    assert (fit.kind, fit.normal.names) == ("csv", ["a.png"])
    assert fit.description.endswith("not used for it: hole 1")
    assert unseen(path).normal.names == ["sub/b.png"]
    assert check.source.names == ["sub/b.png", "c.png", "d.png"]
    assert check.labels.tolist() == [False, True, True]
    assert check.kinds == ["good", "scratch", "1"]
    assert [mask and mask.path for mask in check.masks] == [None, folder / "c_mask.png", None]
    assert check.description.endswith(
        "1 normal picture, 2 anomalous (1 1, scratch 1), 1 with masks"
    )


def test_what_excel_writes_is_the_same(folder: Path) -> None:
    plain = read_csv(table(folder, TABLE))
    excel = read_csv(table(folder, TABLE.replace(",", ";").replace("\n", "\r\n"), "utf-8-sig"))
    assert [one._replace(picture=None, mask=None) for one in excel] == [
        one._replace(picture=None, mask=None) for one in plain
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", 'has no column "path"; the first line names the columns'),
        ("path,lable\na.png,0\n", 'has no column "label".*it is: path,lable'),
        ("path,label\na.png,\n", "line 2: has no label"),
        ("path,label\na.png\n", "line 2: has no label"),
        ("path,label\na.png,0\nx.png,0\n", "line 3: there is no file .*x.png; paths start in"),
        ("path,label\na.png,0\na.png,1\n", "line 3: a.png is in line 2 already"),
        ("path,label\na.png,0\nsub/../a.png,1\n", "line 3: sub/../a.png is in line 2 already"),
        ("path,label,Label\na.png,0,1\n", 'has 2 columns "label"; name one of them otherwise'),
        (f"path,label\n{'a' * 300},0\n", "line 2: there is no file .*aaa; paths start in"),
        ("path,label,split\na.png,0,val\n", 'line 2: split is train or test, got "val"'),
        ("path,label,mask\na.png,1,m.png\n", "line 2: there is no file .*m.png"),
        ('path,label\na.png,"0\nb.png,0\n', "behind line 1: unexpected end of data"),
        ('path,label\na.png,"0"x\n', "behind line 1: ',' expected after"),
        (f"path,label\n{'a' * 200_000},0\n", "behind line 1: field larger than field limit"),
    ],
)
def test_a_faulty_line_is_named(folder: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_csv(table(folder, text))


def test_a_table_without_what_is_needed_is_refused(folder: Path) -> None:
    path = table(folder, "path,label\na.png,0\n")
    with pytest.raises(DataError, match="no line is both train"):
        layout(path)
    with pytest.raises(DataError, match="no anomalous pictures in the 1 lines to test on"):
        labelled(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        labelled(path)
