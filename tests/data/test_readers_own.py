import shutil
from pathlib import Path

import pytest

from onlygood.core.errors import DataError
from onlygood.data.readers.own import fingerprint, own, own_splits
from tests.data.pictures import write


def pictures(folder: Path, *names: str) -> Path:
    """Files that all differ."""
    for name in names:
        write(folder / name, value=sum(name.encode()) % 256)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    names = ("train/good/a.png", "test/good/b.png", "test/hole/c.png")
    return pictures(tmp_path / "nuts", *names)


def test_three_ways_to_lie(place: Path, tmp_path: Path) -> None:
    plain = pictures(tmp_path / "plain", "train/monday/a.png", "test/ok/b.png", "test/x/c.png")
    table = place / "list.csv"
    table.write_text(
        "path,label,split\ntrain/good/a.png,0,train\ntest/good/b.png,0,test\ntest/hole/c.png,1,test"
    )
    found = [own(one) for one in (place, plain, table)]
    assert [len(train) for train, _ in found] == [1, 1, 1]
    assert found[1].train.names == ["train/monday/a.png"]
    assert [test.labels.tolist() for _, test in found] == [[False, True]] * 3


def test_a_folder_of_folders_has_a_split_for_each(place: Path) -> None:
    shutil.copytree(place, place.parent / "bolts")
    (place.parent / ".cache/train").mkdir(parents=True)  # hidden, and so not of them
    splits = own_splits(place.parent)
    assert splits is not None and list(splits) == ["bolts", "nuts"]
    assert own_splits(place) is own_splits(place / "test") is None


def test_nothing_both_trains_and_tests(place: Path, tmp_path: Path) -> None:
    labelled = pictures(tmp_path / "one", "good/a.png", "hole/b.png")
    with pytest.raises(DataError, match="1 of 1 pictures would both train and test"):
        own(labelled)
    shutil.copy(place / "train/good/a.png", place / "test/good/again.png")
    with pytest.raises(
        DataError, match=r"test/good/again\.png is, byte by byte, train/good/a\.png"
    ):
        fingerprint({"all": own(place)})


def test_the_fingerprint_is_of_bytes_names_and_labels_and_not_of_the_place(place: Path) -> None:
    def current(folder: Path = place) -> str:
        return fingerprint({"all": own(folder)})

    seen = [current()]
    assert current(Path(shutil.copytree(place, place.parent / "copy"))) == seen[0]
    pictures(place, "ground_truth/hole/c_mask.png")
    seen.append(current())
    (place / "test/hole").rename(place / "test/crack")
    seen.append(current())
    (place / "train/good/a.png").rename(place / "train/good/z.png")
    seen.append(current())
    write(place / "train/good/z.png", value=1)
    seen.append(current())
    assert len(set(seen)) == 5
