from pathlib import Path
from typing import Any

import pytest

from onlygood.core.errors import ConfigError
from onlygood.scale import Local, Part, Ray, job, score
from onlygood.scale.engine import TRIES, Outcome, Queue
from onlygood.scale.units import Unit
from onlygood.scale.work import Task


def test_a_unit_that_fails_comes_again_behind_all_others_and_is_tried_three_times() -> None:
    bad, good = Unit("bad", ()), Unit("good", ())
    queue = Queue([bad, good])
    taken = []
    outcomes: list[Outcome] = []
    while (unit := queue.take()) is not None:
        taken.append(unit)
        outcomes += queue.settle(unit, f"try {taken.count(bad)}" if unit is bad else None)
    assert taken == [bad, good, bad, bad]
    assert outcomes == [(good, None), (bad, "try 3")]
    assert TRIES == 3  # as docs/scale.md says


def test_of_two_that_fail_none_is_tried_twice_in_a_row() -> None:
    queue = Queue(units := [Unit("a", ()), Unit("b", ())])
    first = [queue.take(), queue.take()]
    for unit in units:
        assert list(queue.settle(unit, "no")) == []
    assert [*first, queue.take(), queue.take(), queue.take()] == [*units, *units, None]


def test_a_part_has_its_own_number_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def local(workers: int) -> Local:
        asked.append(workers)
        return Local(workers)

    monkeypatch.setattr(job, "Local", local)
    task = Task(out="file:///out", model=Path("m.onnx"), sha256="0")
    assert list(Part(0, 2, workers=3).run(task, [])) == []
    assert asked == [3]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Part(-1, 2), "parts of 2 are 0/2 to 1/2, got -1/2"),
        (lambda: Local(0), "there must be 1 worker or more, got 0"),
        (lambda: Ray(workers=-1), "there must be 0 workers, for all cores, or more, got -1"),
        (lambda: score("m.onnx", "line", "out", pictures=0), "a unit has 1 picture or more, got 0"),
    ],
)
def test_numbers_that_there_are_not(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()
