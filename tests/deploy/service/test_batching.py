import threading
import time
from collections.abc import Iterator

import pytest

from onlygood.deploy.service.batching import Batches, BusyError


class Doubling:
    """Doubles numbers, as slowly as it is told, and remembers in which batches."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.go = threading.Event()
        self.go.set()

    def __call__(self, items: list[int]) -> list[int]:
        self.go.wait()
        self.batches.append(items)
        if 13 in items:
            raise ValueError("thirteen")
        return [2 * item for item in items]


@pytest.fixture
def doubling() -> Doubling:
    return Doubling()


@pytest.fixture
def batches(doubling: Doubling) -> Iterator[Batches[int, int]]:
    made: Batches[int, int] = Batches(doubling, name="test", size=4, limit=6, wait_s=600.0)
    yield made
    doubling.go.set()
    made.close(timeout_s=60.0)


def test_what_has_room_is_waited_for_and_done_together(
    batches: Batches[int, int], doubling: Doubling
) -> None:
    with batches.room(3) as room:
        futures = [room.submit(1)]
        time.sleep(0.05)
        assert not futures[0].done()
        futures += [room.submit(2), room.submit(3)]
        assert [future.result(60) for future in futures] == [2, 4, 6]
    assert doubling.batches == [[1, 2, 3]]


def test_nobody_waits_where_nobody_is_coming(batches: Batches[int, int]) -> None:
    with batches.room(1) as room:
        assert room.submit(1).result(60) == 2  # of the 600 that a batch may wait


def test_who_leaves_without_coming_is_not_waited_for(batches: Batches[int, int]) -> None:
    with batches.room(1) as room:
        with batches.room(2):
            future = room.submit(1)
            time.sleep(0.05)  # it waits for the two
        assert future.result(60) == 2


def test_a_full_batch_waits_for_nobody(batches: Batches[int, int]) -> None:
    with batches.room(5) as room:
        futures = [room.submit(i) for i in range(4)]
        assert [future.result(60) for future in futures] == [0, 2, 4, 6]


def test_batches_have_a_size(batches: Batches[int, int], doubling: Doubling) -> None:
    with batches.room(6) as room:
        doubling.go.clear()
        futures = [room.submit(i) for i in range(6)]
        doubling.go.set()
        assert [future.result(60) for future in futures] == [0, 2, 4, 6, 8, 10]
    assert [len(batch) for batch in doubling.batches] == [4, 2]


def test_a_full_house_is_said_and_room_comes_back(batches: Batches[int, int]) -> None:
    with batches.room(4):
        with pytest.raises(BusyError, match="4 pictures are being worked on and at most 6 may be"):
            batches.room(3)
        assert batches.held == 4
        with batches.room(2):
            pass
    assert batches.held == 0
    with batches.room(6):
        pass


def test_a_failure_is_told_to_those_it_concerns(batches: Batches[int, int]) -> None:
    with batches.room(2) as room:
        futures = [room.submit(1), room.submit(13)]
        for future in futures:
            with pytest.raises(ValueError, match="thirteen"):
                future.result(60)
    with batches.room(1) as room:
        assert room.submit(4).result(60) == 8


def test_who_gets_no_answer_hears_of_it() -> None:
    batches: Batches[int, int] = Batches(lambda items: [], name="test", size=4, limit=6)
    with batches.room(1) as room, pytest.raises(ValueError, match="shorter"):
        room.submit(1).result(60)
    batches.close(timeout_s=60.0)


def test_what_nobody_waits_for_is_not_done(batches: Batches[int, int], doubling: Doubling) -> None:
    doubling.go.clear()
    with batches.room(1) as room:
        first = room.submit(1)
        while first.running() is False:
            time.sleep(0.001)
        second = batches.submit(2)
        assert second.cancel()
        third = batches.submit(3)
        doubling.go.set()
        assert third.result(60) == 6
    assert [2] not in doubling.batches and [2, 3] not in doubling.batches


def test_closing_answers_what_has_room_and_then_ends(doubling: Doubling) -> None:
    batches: Batches[int, int] = Batches(doubling, name="test", size=4, limit=6)
    room = batches.room(2)
    batches.close()
    with room:
        assert room.submit(1).result(60) == 2
        assert room.submit(2).result(60) == 4
    batches.close(timeout_s=60.0)
    assert not batches._thread.is_alive()
