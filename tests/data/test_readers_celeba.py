from pathlib import Path

import numpy as np
import pytest

from onlygood.core.errors import DataError
from onlygood.data.readers import celeba
from tests.data.pictures import write

ATTRIBUTES = """4
Bald Bangs Wearing_Hat
000001.jpg -1  1  1
000002.jpg -1 -1 -1
000003.jpg  1 -1 -1
000004.jpg -1  1 -1
"""
PARTITION = "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n000004.jpg 0\n"


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    (tmp_path / "list_attr_celeba.txt").write_text(ATTRIBUTES)
    (tmp_path / "list_eval_partition.txt").write_text(PARTITION)
    for i in range(1, 5):
        write(tmp_path / f"img_align_celeba/00000{i}.jpg", 10 * i)
    return tmp_path


def test_attributes_and_parts(faces: Path):
    found = celeba(faces)
    assert (found.name, found.attribute_names) == ("celeba", ("Bald", "Bangs", "Wearing_Hat"))
    assert found.train.pictures.names == ["000001.jpg", "000004.jpg"]
    assert found.validation.pictures.names == ["000002.jpg"]
    assert found.test.pictures.names == ["000003.jpg"]
    np.testing.assert_array_equal(
        found.train.attributes, [[False, True, True], [False, True, False]]
    )
    np.testing.assert_array_equal(found.validation.attributes, [[False, False, False]])
    np.testing.assert_array_equal(found.test.attributes, [[True, False, False]])
    assert found.train.pictures[1].load()[0, 0, 0] == 40


def test_as_it_is_distributed(faces: Path):
    for below, name in {
        "Anno": "list_attr_celeba.txt",
        "Eval": "list_eval_partition.txt",
        "Img": "img_align_celeba",
    }.items():
        (faces / below).mkdir()
        (faces / name).rename(faces / below / name)
    assert len(celeba(faces).train.pictures) == 2


DAMAGED = {
    "attributes cut": (
        "list_attr_celeba.txt",
        ATTRIBUTES[: ATTRIBUTES.index("000004")],
        "has 3 lines of files, its first line says 4",
    ),
    "attributes cut in a line": ("list_attr_celeba.txt", ATTRIBUTES[:-4], "is not a count"),
    "attributes empty": ("list_attr_celeba.txt", "", "is not a count"),
    "attributes by commas": (
        "list_attr_celeba.txt",
        ATTRIBUTES.replace("  ", ",").replace(" ", ","),
        "is not a count, a line of attributes, and lines",
    ),
    "a wrong attribute": (
        "list_attr_celeba.txt",
        ATTRIBUTES.replace("  1  1", "  0  1"),
        "a value is neither 1 nor -1",
    ),
    "parts cut": ("list_eval_partition.txt", PARTITION[:-13], "does not list the 4 files"),
    "parts cut in a line": ("list_eval_partition.txt", PARTITION[:-2], "parts other than 0"),
    "parts of others": (
        "list_eval_partition.txt",
        PARTITION.replace("3.jpg", "5.jpg"),
        "does not list the 4 files",
    ),
    "a wrong part": ("list_eval_partition.txt", PARTITION.replace(" 2", " 3"), "parts other than"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_lists_are_refused(case: str, faces: Path):
    name, text, message = DAMAGED[case]
    (faces / name).write_text(text)
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        celeba(faces)


def test_what_is_missing_is_named(faces: Path):
    (faces / "img_align_celeba/000003.jpg").unlink()
    with pytest.raises(DataError, match=r"lacks 1 of 4 pictures, among them 000003\.jpg"):
        celeba(faces)
    (faces / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"has neither list_eval_partition\.txt nor Eval/list"):
        celeba(faces)
    with pytest.raises(DataError, match=r"celeba: no folder .*gone; give the folder that holds"):
        celeba(faces / "gone")
