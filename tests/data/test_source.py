from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from onlygood.core.errors import DataError, ShapeError
from onlygood.data.source import ImageSource
from tests.data.pictures import GREY, RGB, encoded, write


def test_a_folder_is_searched_at_any_depth_and_sorted(tmp_path: Path):
    for name in ("b.PNG", "a/z.jpeg", "a/b/c.tif", "a.png", ".hidden.png", ".git/x.png"):
        write(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no picture")
    source = ImageSource.of(tmp_path)
    assert source.names == ["a/b/c.tif", "a/z.jpeg", "a.png", "b.PNG"]
    assert source[0].path == tmp_path / "a/b/c.tif"
    assert ImageSource.of(str(tmp_path)).names == source.names


def test_masks_of_an_mvtec_layout_are_no_pictures_of_its_folder(tmp_path: Path):
    expected = ["c_mask.png", "ground_truth/b.png", "test/cut/a.png"]
    for name in [*expected, "ground_truth/cut/a_mask.png"]:
        write(tmp_path / "nuts" / name)
    assert ImageSource.of(tmp_path / "nuts").names == expected
    assert ImageSource.of(tmp_path).names == [f"nuts/{name}" for name in expected]
    assert ImageSource.of(tmp_path / "nuts/ground_truth/cut").names == ["a_mask.png"]
    write(tmp_path / "lone/ground_truth/cut/a_mask.png")
    with pytest.raises(DataError, match="found 1 masks in ground_truth in it"):
        ImageSource.of(tmp_path / "lone")


def test_links_are_followed_and_loops_end(tmp_path: Path):
    write(tmp_path / "real/a.png")
    (tmp_path / "real/loop").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "real")
    (tmp_path / "outside").mkdir()
    write(tmp_path / "outside/b.png")
    (tmp_path / "real/link").symlink_to(tmp_path / "outside")
    # `again` comes first, and what it leads to counts once.
    assert ImageSource.of(tmp_path).names == ["again/a.png", "again/link/b.png"]
    assert ImageSource.of(tmp_path / "real").names[:1] == ["a.png"]


def test_odd_names_work(tmp_path: Path):
    names = ["Prüfling 日本語 🔩.png", "n" * 251 + ".png", "a\nb.png", "100%.png"]
    for name in names:
        write(tmp_path / name, value=7)
    source = ImageSource.of(tmp_path)
    assert sorted(source.names) == sorted(names)
    assert all((picture.load() == 7).all() for picture in source)


def test_names_that_are_not_unicode_can_be_printed(tmp_path: Path):
    write(tmp_path / "plain.png").rename(tmp_path / "caf\udce9.png")
    (picture,) = ImageSource.of(tmp_path)
    assert picture.name.encode("utf-8").startswith(b"caf")
    assert picture.load().shape == (8, 8, 1)


def test_a_folder_without_pictures_says_what_it_holds(tmp_path: Path):
    (tmp_path / "a/b").mkdir(parents=True)
    for name in ("x.txt", "a/y.txt", "a/z.csv", "a/b/noext"):
        (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=r"looked for \.bmp .*2 \.txt, 1 \.csv, 1 without suffix"):
        ImageSource.of(tmp_path)
    with pytest.raises(DataError, match="found no files in it and its 0 subfolders"):
        (tmp_path / "empty").mkdir()
        ImageSource.of(tmp_path / "empty")


def test_a_folder_that_cannot_be_searched_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(DataError, match=r"cannot be searched \(Permission denied\)"):
        ImageSource.of(tmp_path)


def test_a_list_may_mix_forms(tmp_path: Path):
    path, other = write(tmp_path / "a.png"), write(tmp_path / "folder/b.png")
    source = ImageSource.of(
        [path, encoded(RGB), Image.fromarray(GREY), RGB, torch.zeros(3, 8, 8), other.parent, path]
    )
    assert source.names == [
        path.as_posix(), "bytes[1]", "image[2]", "array[3]", "tensor[4]", other.as_posix(),
        path.as_posix(),
    ]  # fmt: skip
    assert [picture.path for picture in source] == [path, None, None, None, None, other, path]
    assert [picture.load().shape[2] for picture in source] == [1, 3, 1, 3, 3, 1, 1]


def test_a_source_is_taken_as_it_is_and_can_be_renamed_and_cut():
    source = ImageSource.of(np.zeros((3, 8, 8, 1), np.uint8), names=["a", "b", "a"])
    assert ImageSource.of(source).names == ImageSource.of([source]).names == ["a", "b", "a"]
    assert source.subset(np.array([1, 0])).names == ["b", "a"]
    with pytest.raises(DataError, match="got 1 names for 3 pictures"):
        ImageSource.of(source, names=["a"])


def test_a_mask_cuts_as_numpy_does():
    source = ImageSource.of(np.zeros((3, 8, 8, 1), np.uint8), names=["a", "b", "c"])
    assert source.subset(np.array([True, False, True])).names == ["a", "c"]
    assert source.subset([]).names == []
    with pytest.raises(ShapeError, match=r"a mask of shape \(2,\) for 3 pictures"):
        source.subset(np.array([True, False]))


def test_a_limit_stays_with_its_pictures(tmp_path: Path):
    source = ImageSource.of(write(tmp_path / "a.png"), max_pixels=10)
    for again in (source, [source], [source, tmp_path]):
        with pytest.raises(DataError, match="over the limit of 0 million"):
            ImageSource.of(again)[0].load()
    assert ImageSource.of(source, max_pixels=1000)[0].load().shape
    assert ImageSource.of([source, tmp_path])[1].load().shape


@pytest.mark.parametrize(
    ("shape", "count", "decoded"),
    [
        ((8, 9), 1, (8, 9, 1)),
        ((8, 9, 1), 1, (8, 9, 1)),
        ((8, 9, 2), 1, (8, 9, 1)),
        ((8, 9, 3), 1, (8, 9, 3)),
        ((8, 9, 4), 1, (8, 9, 3)),
        ((3, 9, 3), 1, (3, 9, 3)),
        ((1, 8, 9), 1, (8, 9, 1)),
        ((5, 8, 9), 5, (8, 9, 1)),
        ((3, 8, 9, 1), 3, (8, 9, 1)),
        ((5, 8, 9, 3), 5, (8, 9, 3)),
        ((5, 3, 9, 3), 5, (3, 9, 3)),
    ],
)
def test_shapes_of_arrays(shape: tuple[int, ...], count: int, decoded: tuple[int, ...]):
    source = ImageSource.of(np.zeros(shape, np.uint8))
    assert len(source) == count
    assert all(picture.load().shape == decoded for picture in source)


@pytest.mark.parametrize(
    ("shape", "count", "decoded"),
    [
        ((8, 9), 1, (8, 9, 1)),
        ((3, 8, 9), 1, (8, 9, 3)),
        ((1, 8, 9), 1, (8, 9, 1)),
        ((5, 3, 8, 9), 5, (8, 9, 3)),
    ],
)
def test_shapes_of_tensors(shape: tuple[int, ...], count: int, decoded: tuple[int, ...]):
    source = ImageSource.of(torch.zeros(shape, requires_grad=True))
    assert len(source) == count
    assert all(picture.load().shape == decoded for picture in source)


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (np.zeros, (3, 8, 9), "either 3 grey pictures or one channels-first picture; say which"),
        (np.zeros, (4, 8, 9), "either 4 grey pictures"),
        (np.zeros, (5, 3, 8, 9), r"channels-first; give np\.moveaxis"),
        (np.zeros, (5, 8, 9, 7), "got shape"),
        (np.zeros, (8,), "got shape"),
        (lambda shape: np.full(shape, "a.png"), (2,), r"<U5 holds .* of paths, .*\.tolist\(\)"),
        (np.zeros, (2, 2, 8, 8, 3), "got shape"),
        (torch.zeros, (5, 8, 9), "add an axis"),
        (torch.zeros, (5, 8, 9, 3), "got shape"),
        (torch.zeros, (8,), "got shape"),
    ],
)
def test_doubtful_shapes_are_refused(
    make: Callable[..., np.ndarray | torch.Tensor], shape: tuple[int, ...], message: str
):
    with pytest.raises(ShapeError, match=message):
        ImageSource.of(make(shape))


@pytest.mark.parametrize(
    ("nothing", "message"),
    [
        ([], "empty list"),
        (np.zeros((0, 8, 8, 3), np.uint8), "empty ndarray"),
        (torch.zeros(0, 3, 8, 8), "empty Tensor"),
        (None, "cannot take pictures from NoneType"),
        ([[1, 2]], "cannot take pictures from int"),
        ("no/such/folder", "no/such/folder: there is no such file or folder"),
        ("n" * 300, "n: there is no such file or folder"),
    ],
)
def test_nothing_is_refused(nothing: object, message: str):
    with pytest.raises(DataError, match=message):
        ImageSource.of(nothing)
