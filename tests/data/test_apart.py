import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.data import apart
from onlygood.data.apart import Budget, decode_apart, decode_guarded, opened
from onlygood.data.decode import decode
from onlygood.data.loading import Decoders
from onlygood.data.resize import viewed
from onlygood.data.source import ImageSource, Picture
from tests.data.pictures import GREY, RGB, encoded, write

NOISE = np.random.RandomState(0).randint(0, 256, (500, 500, 3), dtype=np.uint8)
CUT, WHOLE = View(size=8, crop=6, channels=1), View(size=8, channels=3)
SLOW = encoded(NOISE, "JPEG2000")
"""A part of a second's work, in a format that is never light."""


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "WEBP", "JPEG2000", "PPM", "PNG"])
def test_a_picture_is_the_same_from_another_process(kind: str, tmp_path: Path):
    data = encoded(RGB, kind)
    path = tmp_path / "ü.bin"
    path.write_bytes(data)
    for content in (data, path):
        whole, fitted = decode_apart(content), decode_apart(content, fit=CUT)
        assert whole is not None and fitted is not None
        assert whole.size == fitted.size == (9, 7)
        np.testing.assert_array_equal(whole.pixels, decode(data))
        np.testing.assert_array_equal(fitted.pixels, viewed(decode(data), CUT))


def test_what_is_wrong_is_said_as_here_and_the_process_goes_on():
    for data in (b"", b"no picture", encoded(RGB, "GIF")[:-20]):
        with pytest.raises(DataError) as here:
            decode(data)
        with pytest.raises(DataError) as there:
            decode_apart(data)
        assert str(there.value) == str(here.value)
    with pytest.raises(DataError, match="over the limit of 0 million"):
        decode_apart(encoded(RGB, "TIFF"), 62)
    assert len({id(worker) for worker in apart._idle}) == len(apart._idle) >= 1


def test_only_small_pictures_of_plain_formats_are_light(tmp_path: Path):
    assert opened(encoded(GREY, "JPEG")) is not None
    assert opened(write(tmp_path / "a.png")) is not None
    assert opened(encoded(RGB, "TIFF")) is None
    assert opened(encoded(Image.new("L", (1920, 1080)), "JPEG")) is not None
    assert opened(encoded(Image.new("L", (1920, 1100)), "PNG")) is None
    # Goes over all pixels again and again.
    scans = encoded(Image.new("L", (1000, 700)), "JPEG", progressive=True)
    assert opened(scans) is not None
    assert opened(scans[:-2] + 30 * scans[scans.rindex(b"\xff\xda") : -2] + scans[-2:]) is None
    assert opened(b"\0" * (apart.LIGHT_BYTES + 1)) is None


def test_a_picture_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch):
    decode_guarded(SLOW)
    monkeypatch.setattr(apart, "SECONDS", 0.05)
    monkeypatch.setattr(apart, "SECONDS_PER_MEGAPIXEL", 0.0)
    with pytest.raises(DataError, match="was not decoded within 0 seconds, which no sound picture"):
        decode_guarded(SLOW)
    monkeypatch.undo()
    assert decode_guarded(encoded(RGB, "TIFF")).shape == RGB.shape


def test_a_process_that_was_ended_is_replaced():
    decode_guarded(encoded(RGB, "TIFF"))
    for worker in apart._idle:
        worker._process.kill()
        worker._process.wait()
    assert decode_guarded(encoded(RGB, "TIFF")).shape == RGB.shape


def test_what_is_no_text_among_paths_of_modules_is_passed_over(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [*sys.path, Path("notebooks")])
    apart._end_workers()
    assert decode_guarded(encoded(RGB, "TIFF")).shape == RGB.shape


def test_a_process_that_cannot_start_is_no_damage(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "path", [])
    apart._end_workers()
    with pytest.raises(DataError, match="no process to decode it can be started"):
        decode_guarded(encoded(RGB, "TIFF"))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_after_a_fork_each_has_its_own(recwarn: pytest.WarningsRecorder):
    decode_guarded(encoded(RGB, "TIFF"))

    def child() -> None:
        assert not apart._idle
        assert decode_guarded(encoded(RGB, "TIFF")).shape == RGB.shape
        apart._end_workers()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert decode_guarded(encoded(RGB, "TIFF")).shape == RGB.shape


def test_memory_goes_to_those_who_came_first():
    budget, order = Budget(10), []
    inside, leave = threading.Event(), threading.Event()

    def first() -> None:
        with budget.take(8):
            inside.set()
            leave.wait(10)
            order.append("first")

    def other(name: str, amount: int) -> None:
        with budget.take(amount):
            order.append(name)

    threads = [threading.Thread(target=first)]
    threads[0].start()
    inside.wait(10)
    for name, amount in (("larger than all", 99), ("small", 1)):
        threads.append(threading.Thread(target=other, args=(name, amount)))
        threads[-1].start()
        while not budget._turn.locked():  # It is the first of those who wait.
            time.sleep(0.001)
        threads[-1].join(0.1)
    leave.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "larger than all", "small"]


def test_an_honest_picture_does_not_wait_for_bombs():
    with Decoders(1) as decoders:
        bombs = [decoders.submit(Picture(f"bomb {i}", SLOW), WHOLE) for i in range(8)]
        honest = decoders.submit(Picture("honest", encoded(RGB)), WHOLE).result(60)
        assert honest.pixels is not None
        assert sum(bomb.done() for bomb in bombs) < 8
    assert all(bomb.result().size == (500, 500) for bomb in bombs)


def test_a_huge_picture_leaves_the_lane_of_others(monkeypatch: pytest.MonkeyPatch):
    small = Budget(2**30, largest=12 * 100 * 100)
    assert decode_apart(SLOW, budget=small) is None
    assert decode_apart(encoded(RGB, "TIFF"), budget=small) is not None


def test_a_picture_without_memory_is_a_row(monkeypatch: pytest.MonkeyPatch):
    def none_left(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("onlygood.data.loading.viewed", none_left)
    with Decoders(1) as decoders:
        (picture,) = ImageSource.of(RGB)
        loaded = decoders.submit(picture, WHOLE).result()
    assert loaded.error == "array[0]: needs more memory than there is; scale it down"


def test_whole_pictures_are_kept_where_they_are_wanted():
    contents = [encoded(RGB, "TIFF"), encoded(RGB), RGB]
    with Decoders(2) as decoders:
        for picture in ImageSource.of(contents):
            kept = decoders.submit(picture, WHOLE, keep=True).result()
            np.testing.assert_array_equal(kept.whole, RGB)
            np.testing.assert_array_equal(kept.pixels, viewed(RGB, WHOLE))
            assert decoders.submit(picture, WHOLE).result().whole is None


def test_libtiff_speaks_to_nobody(capfd: pytest.CaptureFixture[str]):
    data = bytearray(encoded(NOISE[:90, :70], "TIFF", compression="tiff_deflate"))
    half = len(data) // 2
    data[half : half + 40] = b"\xff" * 40
    with pytest.raises(DataError):
        decode(bytes(data))
    assert "ZIPDecode" in capfd.readouterr().err
    with pytest.raises(DataError):
        decode_guarded(bytes(data))
    assert capfd.readouterr() == ("", "")
