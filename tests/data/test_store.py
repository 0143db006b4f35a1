from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from onlygood.core.errors import ConfigError, DataError
from onlygood.core.images import Pick, TrainingImages
from onlygood.core.settings import View
from onlygood.data.loading import READ_AHEAD, in_order, iterate
from onlygood.data.preprocess import to_bytes
from onlygood.data.source import ImageSource
from onlygood.data.store import PictureStore
from tests.data.pictures import write

VIEW = View(channels=3, size=16, rotate=(-20.0, 20.0), flip=True)
PIXELS = np.random.RandomState(0).randint(0, 256, (10, 20, 24, 3), dtype=np.uint8)


def plan(store: TrainingImages, steps: int = 5) -> list[Pick]:
    generator = torch.manual_seed(0)
    return [
        Pick(
            torch.randint(len(store), (4,), generator=generator),
            torch.rand(4, store.draws, generator=generator),
        )
        for _ in range(steps)
    ]


@pytest.mark.parametrize(
    "view", [VIEW, View(channels=3, size=16, tile=8), View(size=16, channels=1)]
)
def test_cached_and_streamed_pictures_are_equal(view: View):
    source = ImageSource.of(PIXELS)
    cached = PictureStore(source, view)
    streamed = PictureStore(source, view, cache_gib=0.0, threads=3)
    assert (cached.cached, streamed.cached) == (True, False)
    picks = plan(cached)
    one, two = list(cached.batches(picks)), list(streamed.batches(picks))
    assert len(one) == len(two) == 5
    for a, b in zip(one, two, strict=True):
        assert a.shape == (4, view.channels, *view.sides)
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert cached.fill() == streamed.fill()


def test_a_batch_is_a_function_of_its_pick():
    store = PictureStore(ImageSource.of(PIXELS), VIEW)
    picks = plan(store)
    forwards = list(store.batches(picks))
    backwards = list(store.batches(reversed(picks)))[::-1]
    assert all(torch.equal(a, b) for a, b in zip(forwards, backwards, strict=True))


def test_views_and_draws_and_memory():
    source = ImageSource.of(PIXELS)
    store = PictureStore(
        source, View(channels=3, size=512, tile=64, rotate=(0.0, 45.0)), cache_gib=0.0
    )
    assert (store.views, store.draws, len(store)) == (64, 3, 10)
    assert PictureStore(source, View(channels=3)).views == 1
    assert PictureStore(source, View(channels=3, size=100, tile=64)).views == 4
    assert PictureStore(source, VIEW).memory_bytes() == 10 * 3 * 16 * 16
    many = PictureStore(ImageSource.of([PIXELS] * 10), VIEW, cache_gib=0.0)
    assert many.memory_bytes() == READ_AHEAD * 3 * 16 * 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in "abc":
        write(tmp_path / f"{name}.png", value=ord(name))
    (tmp_path / "bad.png").write_bytes(b"no picture")
    write(tmp_path / "dot.png", side=1)
    return tmp_path


@pytest.mark.parametrize("cache_gib", [0.0, 1.0])
def test_unreadable_pictures_are_set_aside_or_refused(folder: Path, cache_gib: float):
    view = View(channels=3, size=8)
    source = ImageSource.of(folder)
    with pytest.raises(DataError, match=r"bad\.png: is no picture"):
        PictureStore(source, view, cache_gib=cache_gib).fill()
    store = PictureStore(source, view, cache_gib=cache_gib, on_error="skip")
    assert len(store) == 5
    done: list[int] = []
    filled = store.fill(done.append)
    assert done == [1, 2, 3, 4, 5]
    assert [bad.name for bad in filled.unreadable] == ["bad.png", "dot.png"]
    assert "is 1 x 1" in filled.unreadable[1].reason
    assert store.source.names == ["a.png", "b.png", "c.png"]
    assert len(store) == 3
    (batch,) = store.batches([Pick(torch.tensor([2, 0]), torch.empty(2, 0))])
    torch.testing.assert_close(batch[:, 0, 0, 0], torch.tensor([ord("c"), ord("a")]) / 255)


def test_no_readable_picture_is_refused(folder: Path):
    source = ImageSource.of([folder / "bad.png", folder / "dot.png"])
    with pytest.raises(DataError, match=r"none of 2 pictures can be read; the first: .*bad\.png"):
        PictureStore(source, View(channels=3, size=8), on_error="skip").fill()


def test_pictures_are_decoded_once_where_they_fit(folder: Path):
    source = ImageSource.of(folder).subset([0, 1])
    store = PictureStore(source, View(channels=3, size=8))
    store.fill()
    for picture in source:
        assert picture.path is not None
        picture.path.unlink()
    list(store.batches(plan(store)))
    streamed = PictureStore(source, View(channels=3, size=8), cache_gib=0.0)
    with pytest.raises(DataError, match=r"a\.png: does not exist"):
        list(streamed.batches(plan(streamed)))


def test_the_digest_depends_on_pixels_alone(folder: Path):
    def digest(source: Any, **options: Any) -> str:
        return (
            PictureStore(ImageSource.of(source), View(channels=3, size=8), **options).fill().digest
        )

    path = folder / "a.png"
    assert (
        digest(path) == digest(np.full((8, 8), ord("a"), np.uint8)) == digest(path, cache_gib=0.0)
    )
    assert digest(path) != digest(folder / "b.png")


def test_scoring_gets_pictures_in_order_with_the_unreadable_in_their_places(folder: Path):
    batches = list(
        iterate(ImageSource.of(folder), View(size=16, channels=3), batch_size=2, threads=3)
    )
    assert [len(batch) for batch in batches] == [2, 2, 1]
    items = [item for batch in batches for item in batch]
    assert [item.name for item in items] == ["a.png", "b.png", "bad.png", "c.png", "dot.png"]
    assert [item.error is None for item in items] == [True, True, False, True, False]
    assert [item.size for item in items] == [(8, 8), (8, 8), None, (8, 8), None]
    assert items[2].pixels is None and items[2].path == folder / "bad.png"
    assert items[0].pixels is not None and items[0].pixels.shape == (16, 16, 3)


def test_training_and_scoring_see_the_same_pixels():
    source = ImageSource.of(PIXELS)
    view = View(channels=3, size=16)
    (items,) = iterate(source, view, batch_size=10)
    (batch,) = PictureStore(source, view).batches([Pick(torch.arange(10), torch.empty(10, 0))])
    scored = torch.stack([to_bytes(item.pixels) for item in items if item.pixels is not None])
    torch.testing.assert_close(batch, scored / 255, rtol=0, atol=0)


def test_reading_ahead_is_bounded_and_stops_with_the_caller():
    asked: list[int] = []
    futures: list[Future[int]] = []

    def squares(pool: ThreadPoolExecutor) -> Iterator[Future[int]]:
        for i in range(10_000):
            asked.append(i)
            futures.append(pool.submit(lambda i: i * i, i))
            yield futures[-1]

    with ThreadPoolExecutor(2) as pool:
        results = in_order(squares(pool))
        assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
        assert len(asked) <= READ_AHEAD + 6
        results.close()
    assert len(asked) <= READ_AHEAD + 6
    assert all(future.done() for future in futures)


def test_an_endless_plan_can_be_streamed():
    store = PictureStore(ImageSource.of(PIXELS), VIEW, cache_gib=0.0, threads=2)

    def endless() -> Iterator[Pick]:
        while True:
            yield Pick(torch.tensor([1, 2]), torch.full((2, 2), 0.9))

    batches = store.batches(endless())
    first, second = next(iter(batches)), next(iter(batches))
    assert torch.equal(first, second)


@pytest.mark.parametrize("size", [0, -1])
def test_no_batch_has_less_than_one_picture(size: int) -> None:
    """Else it would have all of them, and of a stream that does not end there would be none."""
    with pytest.raises(ConfigError, match=f"batch_size must be 1 or more, got {size}"):
        next(iterate(ImageSource.of(np.zeros((8, 8))), View(size=16, channels=1), size))
