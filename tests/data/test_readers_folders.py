from pathlib import Path

import pytest

from onlygood.core.errors import DataError
from onlygood.data.readers import Part, read_set
from tests.data.pictures import write


def values(part: Part) -> list[int]:
    return [int(picture.load()[0, 0, 0]) for picture in part.pictures]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    for number in (2, 10, 1):
        for angle in (0, 5, 100):
            write(tmp_path / f"coil-100/obj{number}__{angle}.png", number + angle)
    (tmp_path / "coil-100/convertGroupppm2png.pl").write_text("#!/usr/bin/perl")
    return tmp_path


def test_coil100_in_order_of_numbers(objects: Path):
    for folder in (objects, objects / "coil-100"):
        found = read_set("coil100", folder)
        assert found.class_names == ("obj1", "obj2", "obj10")
        assert len(found.train.pictures) == 0
        assert found.test.classes.tolist() == [0] * 3 + [1] * 3 + [2] * 3
        assert values(found.test) == [1, 6, 101, 2, 7, 102, 10, 15, 110]


def test_coil100_with_views_lost(objects: Path):
    (objects / "coil-100/obj2__5.png").unlink()
    with pytest.raises(DataError, match="coil-100: obj2 has 2 views, others have 3; copy it again"):
        read_set("coil100", objects)
    for path in (objects / "coil-100").glob("*.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"has no pictures called like obj1__0\.png"):
        read_set("coil100", objects)


@pytest.fixture
def alphabets(tmp_path: Path) -> Path:
    for half, alphabet, shade in (("background", "Greek", 1), ("evaluation", "Atlantean", 101)):
        for character in (1, 2):
            for drawing in (1, 2):
                name = f"{alphabet}/character0{character}/000{character}_0{drawing}.png"
                write(tmp_path / f"images_{half}" / name, shade + 10 * character + drawing)
    return tmp_path


def test_omniglot_has_other_classes_in_the_test(alphabets: Path):
    found = read_set("omniglot", alphabets)
    assert found.class_names == (
        "Atlantean/character01",
        "Atlantean/character02",
        "Greek/character01",
        "Greek/character02",
    )
    assert (found.train.classes.tolist(), values(found.train)) == ([2, 2, 3, 3], [12, 13, 22, 23])
    assert (found.test.classes.tolist(), values(found.test)) == ([0, 0, 1, 1], [112, 113, 122, 123])


def test_omniglot_with_drawings_lost_or_astray(alphabets: Path):
    path = alphabets / "images_evaluation/Atlantean/character02/0002_01.png"
    path.rename(alphabets / "images_evaluation/Atlantean/0002_01.png")
    with pytest.raises(DataError, match=r"Atlantean/0002_01\.png: lies elsewhere than in ALPHABET"):
        read_set("omniglot", alphabets)
    (alphabets / "images_evaluation/Atlantean/0002_01.png").unlink()
    with pytest.raises(DataError, match="Atlantean/character02 has 1 drawings, others have 2"):
        read_set("omniglot", alphabets)
    (alphabets / "images_evaluation").rename(alphabets / "gone")
    with pytest.raises(DataError, match="has no folder images_evaluation; unpack"):
        read_set("omniglot", alphabets)


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    write(tmp_path / "bedroom_train/a/b/0.png", 1)
    write(tmp_path / "bedroom_train/a/c/1.png", 2)
    write(tmp_path / "bedroom_val/2.png", 3)
    write(tmp_path / "conference_room_val/3.png", 4)
    return tmp_path


def test_lsun_with_and_without_conference_rooms_to_train_on(scenes: Path):
    found = read_set("lsun", scenes)
    assert found.class_names == ("bedroom", "conference_room")
    assert (found.train.classes.tolist(), values(found.train)) == ([0, 0], [1, 2])
    assert (found.test.classes.tolist(), values(found.test)) == ([0, 1], [3, 4])
    write(scenes / "conference_room_train/4.png", 5)
    found = read_set("lsun", scenes)
    assert (found.train.classes.tolist(), values(found.train)) == ([0, 0, 1], [1, 2, 5])


def test_lsun_with_folders_missing_or_empty(scenes: Path):
    (scenes / "conference_room_val/3.png").unlink()
    with pytest.raises(DataError, match="conference_room_val: has no pictures at any depth"):
        read_set("lsun", scenes)
    (scenes / "conference_room_val").rmdir()
    with pytest.raises(DataError, match="has no folder conference_room_val; export the LMDB"):
        read_set("lsun", scenes)


def test_imagenet_is_any_folder(tmp_path: Path):
    write(tmp_path / "Imagenet_resize/1.png", 7)
    found = read_set("imagenet", tmp_path)
    assert (len(found.train.pictures), values(found.test)) == (0, [7])
    assert found.test.classes.tolist() == [0]
