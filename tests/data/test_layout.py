import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.data.layout import (
    known_anomalous,
    labelled,
    labelled_items,
    layout,
    read_mask,
    unseen,
)
from onlygood.data.source import Picture
from tests.data.pictures import write


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    for name in ("train/good/000", "train/good/001", "test/good/000", "test/scratch/000",
                 "test/scratch/001", "test/dent/000", "ground_truth/scratch/000_mask",
                 "ground_truth/dent/000_mask"):  # fmt: skip
        write(tmp_path / f"{name}.png")
    return tmp_path


def test_mvtec_for_fitting(mvtec: Path):
    found = layout(mvtec)
    assert found.kind == "mvtec"
    assert found.normal.names == ["train/good/000.png", "train/good/001.png"]
    assert found.description.endswith("taken as an MVTec layout, 2 pictures from train/good")


def test_mvtec_says_what_of_train_it_leaves_out(mvtec: Path):
    write(mvtec / "train/scratch/000.png")
    write(mvtec / "train/loose.png")
    found = layout(mvtec)
    assert len(found.normal) == 2
    assert found.description.endswith(
        "; not used for fitting: scratch 1; 1 in no subfolder left out"
    )


def test_mvtec_for_evaluation(mvtec: Path):
    found = labelled(mvtec)
    assert found.source.names == [
        "test/good/000.png", "test/dent/000.png", "test/scratch/000.png", "test/scratch/001.png",
    ]  # fmt: skip
    assert found.labels.tolist() == [False, True, True, True]
    assert found.kinds == ["good", "dent", "scratch", "scratch"]
    truth = mvtec / "ground_truth"
    assert [mask and mask.path for mask in found.masks] == [
        None, truth / "dent/000_mask.png", truth / "scratch/000_mask.png", None,
    ]  # fmt: skip
    assert found.description.endswith(
        "test: 1 normal picture from good, 3 anomalous (dent 1, scratch 2), 2 with masks"
    )


def test_masks_that_are_called_otherwise_are_told(mvtec: Path):
    write(mvtec / "ground_truth/scratch/001.png")
    write(mvtec / "ground_truth/scratch/002.png")
    write(mvtec / "ground_truth/good/000_mask.png")  # black, as some data sets have them
    words = "2 with masks; 2 in ground_truth left out: masks of these pictures would be called "
    assert labelled(mvtec).description.endswith(words + "ground_truth/KIND/NAME_mask.png")


def test_the_test_folder_of_mvtec_finds_its_masks(mvtec: Path):
    found = labelled(mvtec / "test")
    assert found.source.names[0] == "good/000.png"
    expected = [mask and mask.path for mask in labelled(mvtec).masks]
    assert [mask and mask.path for mask in found.masks] == expected


def test_the_test_folder_finds_them_from_within(mvtec: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(mvtec / "test")
    assert sum(mask is not None for mask in labelled(".").masks) == 2


def test_what_is_there_to_fit_on_does_not_calibrate(mvtec: Path):
    with pytest.raises(DataError, match=r"its normal pictures are in train, .* other normal pict"):
        unseen(mvtec)
    assert unseen(mvtec / "test").normal.names == ["good/000.png"]
    assert unseen(mvtec / "test/good").kind == "flat"


def test_a_picture_with_too_long_a_name_for_its_mask_has_none(mvtec: Path):
    write(mvtec / "test/scratch" / f"{'n' * 251}.png")
    assert sum(mask is not None for mask in labelled(mvtec).masks) == 2


@pytest.mark.parametrize("name", ["good", "OK", "Normal"])
def test_a_labelled_folder(name: str, tmp_path: Path):
    for file in (f"{name}/a.png", f"{name}/deep/b.png", "crack/c.png", "hole/d.png", "loose.png"):
        write(tmp_path / file)
    fit, check = layout(tmp_path), labelled(tmp_path)
    assert fit.kind == "labelled"
    assert fit.normal.names == [f"{name}/a.png", f"{name}/deep/b.png"]
    assert fit.description.endswith(
        f"2 pictures from {name}; not used for fitting: crack 1, hole 1; 1 in no subfolder left out"
    )
    assert check.kinds == [name, name, "crack", "hole"]
    assert check.labels.tolist() == [False, False, True, True]
    assert check.description.endswith("0 with masks; 1 in no subfolder left out")


def test_train_beside_a_labelled_test_is_used_alone(tmp_path: Path):
    for file in ("train/monday/a.png", "test/good/b.png", "test/crack/c.png"):
        write(tmp_path / file)
    found = layout(tmp_path)
    assert (found.kind, found.normal.names) == ("halves", ["train/monday/a.png"])
    # What is normal in it is nothing to fit on.
    shutil.rmtree(tmp_path / "test/good")
    write(tmp_path / "ground_truth/crack/c_mask.png")
    assert layout(tmp_path).normal.names == ["train/monday/a.png"]
    (tmp_path / "train/monday/a.png").unlink()
    with pytest.raises(DataError, match="train: has no pictures"):
        layout(tmp_path)


def test_what_trains_is_no_defect_beside_good_ones(tmp_path: Path):
    for file in ("train/good/a.png", "good/b.png", "bad/c.png"):
        write(tmp_path / file)
    assert labelled(tmp_path).kinds == ["good", "bad"]
    (tmp_path / "train/good/a.png").rename(tmp_path / "train/a.png")
    (tmp_path / "train/good").rmdir()
    assert labelled(tmp_path).kinds == ["good", "bad"]


def test_a_defect_may_be_called_good():
    pictures = [np.zeros((8, 8), np.uint8)] * 3
    found = labelled_items(pictures, labels=["excellent", "good", "poor"], normal="excellent")
    assert found.kinds == ["good", "good (label)", "poor"]
    assert found.labels.tolist() == [False, True, True]
    assert "2 anomalous (good (label) 1, poor 1)" in found.description


def test_a_flat_folder_is_all_normal(tmp_path: Path):
    for file in ("a.png", "monday/b.png", "tuesday/c.png"):
        write(tmp_path / file)
    found = layout(tmp_path)
    assert found.kind == "flat"
    assert found.normal.names == ["a.png", "monday/b.png", "tuesday/c.png"]
    assert found.description.endswith("3 pictures, in monday, tuesday, all taken as normal")


def test_folders_without_what_is_needed_are_refused(tmp_path: Path):
    with pytest.raises(DataError, match="does not exist"):
        layout(tmp_path / "gone")
    for too_long in ("n" * 300, "n" * 300 + ".csv"):
        with pytest.raises(DataError, match="does not exist"):
            layout(too_long)
    with pytest.raises(DataError, match="is a file; give a folder"):
        labelled(write(tmp_path / "a.png"))
    with pytest.raises(DataError, match=r"no labels; needs a subfolder good or .*found none"):
        labelled(tmp_path)
    (tmp_path / "good").mkdir()
    with pytest.raises(DataError, match="there are no pictures in good"):
        layout(tmp_path)
    write(tmp_path / "good/a.png")
    with pytest.raises(DataError, match="no anomalous pictures in its subfolders"):
        labelled(tmp_path)
    write(tmp_path / "crack/a.png")
    (tmp_path / "good/a.png").unlink()
    with pytest.raises(DataError, match=r"no normal pictures in its subfolders \(good\)"):
        labelled(tmp_path)


def test_masks_are_anomalous_where_not_zero(tmp_path: Path):
    mask = Picture("m.png", tmp_path / "m.png")
    for value in (0, 1, 255):
        write(tmp_path / "m.png", value=value, side=8)
        np.testing.assert_array_equal(read_mask(mask, (8, 8)), np.full((8, 8), value > 0))
    with pytest.raises(DataError, match=r"m\.png: the mask is 8 x 8, its picture 9 x 8"):
        read_mask(mask, (8, 9))


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [("png", np.uint16), *(("tiff", dtype) for dtype in (np.uint16, np.int32, np.float32))],
)
def test_small_numbers_of_a_deep_mask_are_anomalous(tmp_path: Path, suffix: str, dtype: type):
    numbers = np.array([[0, 1, 255], [256, 0, 3]], dtype)
    Image.fromarray(numbers).save(tmp_path / f"m.{suffix}")
    for content in (tmp_path / f"m.{suffix}", numbers):
        marked = read_mask(Picture("m", content), (2, 3))
        np.testing.assert_array_equal(marked, numbers > 0)


def test_good_ones_and_masks_are_not_known_to_be_anomalous(mvtec: Path, tmp_path: Path):
    expected = {p.path for p, bad in zip(*labelled(mvtec)[:2], strict=True) if bad}
    for folder in (mvtec, mvtec / "test"):
        source, words = known_anomalous(folder)
        assert {p.path for p in source} == expected
        assert words.endswith("), all taken as anomalous")
    write(tmp_path / "bad" / "deep" / "a.png")
    source, words = known_anomalous(tmp_path / "bad")
    assert (source.names, words.endswith("bad: 1 picture, all taken as anomalous")) == (
        ["deep/a.png"],
        True,
    )
