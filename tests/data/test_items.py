"""Pictures that somebody else holds: data sets, loaders, streams."""

import io
import itertools
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from onlygood.core.errors import DataError, OnlygoodError, ShapeError
from onlygood.data.items import is_indexed, is_stream
from onlygood.data.layout import labelled_items
from onlygood.data.source import ImageSource, pictures_of
from tests.data.pictures import GREY, RGB, encoded, write


class Held(Dataset[Any]):
    """What torchvision has: items by position."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


class Flowing(IterableDataset[Any]):
    def __init__(self, *items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


class Column(Held):
    """What pandas has: `[index]` by the names of its rows, which a shuffle leaves as they were."""

    @property
    def iloc(self) -> Held:
        return Held(*self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[::-1][index]


def flow(*items: Any) -> Iterator[Any]:
    yield from items


FLOAT = torch.from_numpy(GREY)[None] / 255


@pytest.mark.parametrize("hold", [Held, Column, Flowing, flow])
def test_items_in_every_form_are_the_same_pictures(
    hold: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "rgb.png"
    path.write_bytes(encoded(RGB))
    source = ImageSource.of(
        hold(
            RGB,
            (Image.fromarray(RGB), 3),
            {"image": {"bytes": encoded(RGB), "path": None}, "label": 0},
            [torch.from_numpy(RGB).permute(2, 0, 1), torch.tensor(1)],
            {"img": str(path)},
            RGB[None],
        )
    )
    assert source.names[3] == f"{type(hold(RGB)).__name__}[3]"
    assert len(source) == 6
    for picture in [*source, *source]:  # again, also of what can be read once
        np.testing.assert_array_equal(picture.load(), RGB)


def test_a_loader_gives_batches() -> None:
    held = Held(*[(FLOAT * level, 0) for level in (0.25, 0.5, 1)])
    source = ImageSource.of(DataLoader(held, batch_size=2))
    assert source.names == ["DataLoader[0]", "DataLoader[1]", "DataLoader[2]"]
    np.testing.assert_array_equal(source[2].load(), GREY[:, :, None])


@pytest.mark.parametrize("size", [1, 3, 5])
def test_a_loader_of_grey_arrays_gives_each_of_them(size: int) -> None:
    held = Held(*[(GREY + level, level) for level in range(5)])  # (H, W): a batch is (N, H, W)
    source = ImageSource.of(DataLoader(held, batch_size=size))
    assert len(source) == 5
    for level, picture in enumerate(source):
        np.testing.assert_array_equal(picture.load(), (GREY + level)[:, :, None])


def test_a_loader_of_colour_arrays_is_told_where_channels_belong() -> None:
    held = Held(RGB, RGB)  # (H, W, C): a batch is a tensor (N, H, W, C)
    for size in (2, None):
        with pytest.raises(DataError, match=r"give tensor\.movedim\(-1, -3\), and of a DataLoader"):
            ImageSource.of(DataLoader(held, batch_size=size))
    with pytest.raises(ShapeError, match="for grey pictures add an axis"):
        ImageSource.of(torch.zeros(5, 8, 9))


@pytest.mark.parametrize(
    ("pictures", "collate"),
    [
        (["a.png", "b.JPG", "c.png"], None),  # torch leaves them a list
        ([RGB, RGB[:5], RGB], list),
        ([Image.fromarray(RGB)] * 3, list),
        ([FLOAT, FLOAT[:, :5], FLOAT], lambda items: items),
    ],
)
def test_no_picture_of_a_list_is_lost(pictures: Any, collate: Any) -> None:
    loader = DataLoader(pictures, batch_size=2, collate_fn=collate)
    with pytest.raises(DataError, match=r"\[0\]: is a list of 2 pictures, .* its data set"):
        ImageSource.of(loader)


@pytest.mark.parametrize(
    "pictures",
    [
        (GREY, GREY[:5]),
        (RGB, RGB, RGB),
        (FLOAT, FLOAT[:, :5]),
        ("a.png", Path("b.png")),
        (Image.fromarray(RGB), Image.fromarray(RGB)),
    ],
)
def test_no_picture_of_a_tuple_is_lost(pictures: tuple[Any, ...]) -> None:
    words = rf"\[0\]: is a tuple of {len(pictures)} pictures, .* its data set"
    with pytest.raises(DataError, match=words):
        ImageSource.of(flow(pictures))
    with pytest.raises(DataError, match="is a tuple of 2 pictures"):
        ImageSource.of(DataLoader([pictures[0]] * 2, batch_size=2, collate_fn=tuple))


def test_a_list_of_a_picture_with_its_mask_or_label_is_an_item() -> None:
    held = Held((FLOAT, FLOAT), (FLOAT, FLOAT))  # of tuples torch makes lists
    assert len(ImageSource.of(DataLoader(held, batch_size=None))) == 2
    assert len(ImageSource.of(DataLoader(held, batch_size=2))) == 2
    assert len(ImageSource.of(flow((RGB, GREY), [GREY, "good"], [GREY, np.int64(1)]))) == 3
    assert len(ImageSource.of(flow((GREY, GREY > 9), (GREY, "a.png"), (GREY, 3, GREY)))) == 3


def test_items_are_fetched_when_they_are_loaded() -> None:
    asked: list[int] = []

    class Asked(Held):
        def __getitem__(self, index: int) -> Any:
            asked.append(index)
            return self.items[index]

    source = ImageSource.of(Asked(GREY, GREY, GREY))
    assert asked == [0]  # a look at what kind of items they are
    source[2].load()
    assert asked == [0, 2]


def test_a_stream_does_not_fill_memory() -> None:
    big = 2**20
    tracemalloc.start()
    source = ImageSource.of(np.full((1024, 1024), i, np.uint8) for i in range(64))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * big
    assert [int(picture.load()[0, 0, 0]) for picture in source] == list(range(64))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_stream_that_there_is_no_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    full = open("/dev/full", "w+b", buffering=0)
    monkeypatch.setattr("onlygood.data.items.TemporaryFile", lambda prefix: full)
    with pytest.raises(OnlygoodError, match=r"No space left on device; .*TMPDIR"):
        ImageSource.of(iter([GREY]))


def test_a_stream_without_an_end_is_taken_as_it_is_needed() -> None:
    taken = []

    def forever() -> Iterator[Any]:
        for i in itertools.count():
            taken.append(i)
            yield GREY, i

    pictures = iter(pictures_of(forever()))
    assert [next(pictures).name for _ in range(2)] == ["generator[0]", "generator[1]"]
    assert taken == [0, 1]


def test_a_picture_of_a_stream_is_what_it_was_when_it_came() -> None:
    memory = np.zeros_like(GREY)
    tensor = torch.zeros(1, 8, 9, dtype=torch.uint8)

    def camera() -> Iterator[Any]:
        for value in (1, 2, 3):
            yield memory.__iadd__(1) if value % 2 else tensor.fill_(value)

    pictures = list(pictures_of(camera()))
    assert [int(picture.load()[0, 0, 0]) for picture in pictures] == [1, 2, 2]


def test_an_image_of_a_stream_is_the_frame_that_it_was_though_its_file_goes_on(
    tmp_path: Path,
) -> None:
    path = tmp_path / "frames.tif"
    first, *more = (Image.new("L", (9, 8), value) for value in (1, 2, 3))
    first.save(path, save_all=True, append_images=more)
    whole = io.BytesIO()
    first.save(whole, "PNG")
    cut = Image.open(io.BytesIO(whole.getvalue()[:45]))

    def frames() -> Iterator[Image.Image]:
        with Image.open(path) as image:
            for number in range(3):
                image.seek(number)
                yield image
        yield cut

    *pictures, last = pictures_of(frames())
    assert [int(picture.load()[0, 0, 0]) for picture in pictures] == [1, 2, 3]
    with pytest.raises(DataError, match=r"^generator\[3\]: is damaged or cut off"):
        last.load()


@pytest.mark.parametrize("hold", [Held, flow])
@pytest.mark.parametrize(
    ("item", "message"),
    [
        (None, r"\[1\]: is None, no picture; an item is a picture, \(picture, label\), or"),
        (7, r"\[1\]: is int 7, no picture"),
        ((3, GREY), r"\[1\]: is int 3, no picture"),
        (torch.tensor(7), r"\[1\]: is Tensor tensor\(7\), no picture"),
        ({"text": "a"}, r"\[1\]: has no image, img, picture or pixel_values among \['text'\]"),
        (FLOAT * 3 - 1, r"\[1\]: has the value .*floating point pictures must be .* in \[0, 1\]"),
        (torch.zeros(3, 4, 5, 6, 7), r"\[1\]: pictures are tensors"),
        (np.zeros((3, 8, 9)), r"\[1\]: an array of shape \(3, 8, 9\) is either"),
    ],
)
def test_what_is_no_picture_is_named_by_its_position(
    hold: Callable[..., Any], item: object, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        for picture in ImageSource.of(hold(GREY, item)):
            picture.load()


def test_the_first_item_is_looked_at_at_once() -> None:
    with pytest.raises(DataError, match=r"Held\[0\]: is int 5, no picture"):
        ImageSource.of(Held(5, GREY))
    with pytest.raises(DataError, match=r"Held\[0\]: holds 2 pictures; an item of a data set is"):
        ImageSource.of(Held(torch.zeros(2, 1, 8, 8)))


def test_what_a_data_set_raises_is_told_with_the_position() -> None:
    class Broken(Held):
        def __getitem__(self, index: int) -> Any:
            return {0: GREY}[index]

    source = ImageSource.of(Broken(1, 2))
    with pytest.raises(DataError, match=r"Broken\[1\]: its data set raised KeyError: 1"):
        source[1].load()


def test_what_a_stream_raises_is_told_with_the_position() -> None:
    held = Held(*[torch.zeros(1, 8, 8)] * 2, torch.zeros(1, 8, 8), torch.zeros(1, 8, 9))
    message = (
        r"DataLoader\[2\]: its stream raised RuntimeError: stack expects each .*give its data set"
    )
    with pytest.raises(DataError, match=message):
        ImageSource.of(DataLoader(held, batch_size=2))


def test_what_is_neither_is_refused(tmp_path: Path) -> None:
    with write(tmp_path / "a.png").open("rb") as file:
        for anything in ({"a": GREY}, {1, 2}, file, 5):
            assert not is_indexed(anything)
            assert not is_stream(anything)
            with pytest.raises(DataError, match="cannot take pictures from"):
                ImageSource.of(anything)
    with pytest.raises(DataError, match="empty generator"):
        list(pictures_of(flow()))


# Labels --------------------------------------------------------------------------------------


@pytest.mark.parametrize("hold", [Held, flow])
def test_labels_tell_normal_from_anomalous(hold: Callable[..., Any]) -> None:
    items = [(GREY, 1), (GREY, torch.tensor(0)), (GREY, np.int64(2)), (GREY, False)]
    found = labelled_items(hold(*items))
    name = type(hold()).__name__
    assert found.source.names == [f"{name}[{i}]" for i in (1, 3, 0, 2)]
    assert found.labels.tolist() == [False, False, True, True]
    assert found.kinds == ["good", "good", "1", "2"]
    assert labelled_items(hold(*items), normal=[0, 1]).labels.tolist() == [False] * 3 + [True]


def test_labels_may_stand_beside_the_pictures() -> None:
    found = labelled_items([GREY, RGB], labels=["bad", "fine"], normal="fine")
    assert found.source.names == ["array[1]", "array[0]"]
    with pytest.raises(DataError, match="got 1 labels for 2 pictures"):
        labelled_items([GREY, RGB], labels=[1])


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        (Held((GREY, 0), GREY), r"Held\[1\]: has no label; give \(picture, label\)"),
        (flow((GREY, 0), (GREY, np.zeros(2))), r"generator\[1\]: has no label"),
        (Held((GREY, 0.0), (GREY, 0.5)), r"Held\[1\]: its label is 0.5; give"),
        (Held((GREY, 1), (GREY, 2)), r"Held: no normal pictures; labels are 1, 2, normal is 0"),
        (Held((GREY, 0)), "Held: only normal pictures"),
        ([GREY], "list holds no labels; give labels="),
        (flow((torch.zeros(2, 1, 8, 8), [0])), r"batch of 2 pictures with 1 labels"),
    ],
)
def test_labels_that_are_missing_are_named(pictures: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        labelled_items(pictures)
