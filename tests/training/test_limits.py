"""When a run ends: by its budget, by a loss gone wrong, or before it begins."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError, DataError, TrainingDiverged
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import Budget
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss
from onlygood.training import checkpoint as checkpoints
from onlygood.training.precision import SAFE_ROWS
from onlygood.training.trainer import CHECKPOINT
from tests.training.toys import Toy, fit, numbered, staged, steps_of, stop

# Budgets -------------------------------------------------------------------------------------


def test_a_budget_in_steps():
    toy = staged({})
    assert fit(toy, steps=7).steps == 7
    assert steps_of(toy) == [7]


def test_a_budget_in_images_counts_every_update():
    toy = Toy(
        lambda t: [
            Stage(name="s", updates=[t.update("one", t.one, repeat=2), t.update("two", t.two)])
        ]
    )
    # A step consumes 12; the step that passes 30 is the last.
    history = fit(toy, steps=0, images=30)
    assert (history.steps, history.images) == (3, 36)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds pass between two looks at the clock."""

    def times() -> Iterator[float]:
        now = 1000.0
        while True:
            yield now
            now += 10

    clock = times()
    fake = SimpleNamespace(perf_counter=lambda: next(clock), monotonic=lambda: 0.0)
    monkeypatch.setattr("onlygood.training.trainer.time", fake)


@pytest.mark.usefixtures("clock")
def test_a_budget_in_minutes():
    history = fit(staged({}), steps=0, minutes=1.0)
    assert (history.steps, history.seconds) == (6, 60.0)


@pytest.mark.usefixtures("clock")
def test_stages_share_the_minutes():
    toy = staged({}, {"share": 2.0})
    history = fit(toy, steps=0, minutes=1.5)
    assert steps_of(toy) == [3, 6]
    assert history.seconds == 90


@pytest.mark.usefixtures("clock")
def test_passes_over_the_pictures_do_not_use_up_the_minutes():
    toy = Toy(
        lambda t: [Stage(name="s", updates=[t.update("one", t.one)], before=list, after=list)]
    )
    history = fit(toy, steps=0, minutes=1.0)
    assert (history.steps, history.seconds) == (6, 80.0)


@pytest.mark.usefixtures("clock")
def test_time_before_an_interruption_counts(tmp_path: Path):
    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            if batch.progress.step == 3:
                stop()
            return t.one.weight * batch.normal.mean((1, 2, 3))

        return [Stage(name="s", updates=[t.update("one", t.one, term=term)])]

    with pytest.raises(Exception, match="stopped in stage"):
        fit(Toy(build), steps=0, minutes=1.0, run_dir=tmp_path)
    rest = Toy(build)
    assert fit(rest, steps=0, minutes=1.0, run_dir=tmp_path, resume=True).steps == 6
    assert len(rest.seen) == 2


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    ("budgets", "steps"),
    [
        ({"steps": 2, "images": 100, "minutes": 9.0}, 2),
        ({"steps": 90, "images": 12, "minutes": 9.0}, 3),
        ({"steps": 90, "images": 1000, "minutes": 0.5}, 3),
        # Ten pictures in fours: the second pass is complete within the fifth batch.
        ({"steps": 90, "epochs": 2, "minutes": 9.0}, 5),
    ],
)
def test_the_first_budget_that_is_used_up_ends_the_run(budgets: dict[str, float], steps: int):
    assert fit(staged({}), **budgets).steps == steps


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((1.0, 1.0), [4, 4]),
        ((1.0, 3.0), [2, 6]),
        # In floating point 0.7 / (0.7 + 0.1) * 8 is a little more than 7.
        ((0.7, 0.1), [7, 1]),
        ((0.1, 0.7), [1, 7]),
    ],
)
def test_stages_share_the_steps(shares: tuple[float, ...], expected: list[int]):
    toy = staged(*({"share": share} for share in shares))
    assert fit(toy, steps=8).steps == 8
    assert steps_of(toy) == expected


def test_stages_share_the_images():
    toy = staged({}, {})
    fit(toy, steps=0, images=40)
    assert steps_of(toy) == [5, 5]


def test_a_stage_without_updates_takes_no_share():
    toy = Toy(
        lambda t: [
            Stage(name="look", before=list, share=10.0),
            Stage(name="train", updates=[t.update("one", t.one)]),
        ]
    )
    fit(toy, steps=5)
    assert steps_of(toy) == [5]


# Ten pictures in fours: the second pass is complete within the fifth batch.
OWN = ({"budget": Budget(epochs=2)}, {"budget": Budget(steps=9)})


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        ({"steps": 0}, [5, 9]),
        # Each ends where its half of the run's budget does, if that is sooner.
        ({"steps": 8}, [4, 4]),
        ({"steps": 14}, [5, 7]),
        ({"steps": 100}, [5, 9]),
        ({"steps": 0, "images": 48}, [5, 6]),
    ],
)
def test_a_stage_may_have_a_budget_of_its_own(run: dict[str, int], expected: list[int]):
    toy = staged(*OWN)
    fit(toy, **run)
    assert steps_of(toy) == expected


def test_stages_without_one_need_that_of_the_run():
    toy = staged({}, OWN[1])
    with pytest.raises(ConfigError, match="set minutes, steps, images or epochs"):
        fit(toy, steps=0)
    fit(toy, steps=8)
    assert steps_of(toy) == [4, 4]


def test_epochs_are_passes_of_the_stage():
    toy = staged({}, OWN[0])
    fit(toy, steps=12)
    assert [(seen.update, seen.epoch) for seen in toy.seen] == [
        *(("0", epoch) for epoch in (0, 0, 0, 1, 1, 2)),
        *(("1", epoch) for epoch in (0, 0, 0, 1, 1)),
    ]


@pytest.mark.parametrize("share", [0.0, -1.0])
def test_a_share_of_nothing(share: float):
    with pytest.raises(ConfigError, match="share must be more than 0"):
        fit(staged({"share": share}))


# Shares of the budget ------------------------------------------------------------------------


def paced(*schedules: dict[str, Any], **settings: Any) -> tuple[Toy, list[float]]:
    """Stages whose steps are as long as their learning rate, and where they were before each."""
    places: list[float] = []

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            places.append(t.one.weight.item())
            return -t.one.weight.expand(4)

        return [
            Stage(
                name=str(i),
                updates=[
                    t.update(
                        *("one", t.one),
                        term=term,
                        adam=Adam(lr=1.0, betas=(0.0, 0.0), eps=1e-30, **schedule),
                        repeat=2,
                    )
                ],
                after=lambda images: places.append(t.one.weight.item()),
                **settings,
            )
            for i, schedule in enumerate(schedules)
        ]

    return Toy(build), places


def paces(places: list[float]) -> list[float]:
    """Lengths of the steps; both repetitions of an update are one."""
    moves = [round(after - before, 4) for before, after in pairwise(places)]
    assert moves[::2] == moves[1::2]
    return moves[::2]


# With eight steps for it, the budget is spent by 5/8 when step 6 begins.
FROM_HALF = [1.0] * 5 + [0.75, 0.5, 0.25]


@pytest.mark.usefixtures("clock")
@pytest.mark.parametrize(
    "budget",
    [
        {"steps": 8},
        {"steps": 0, "images": 64},
        {"steps": 0, "minutes": 80 / 60},
        # The scarcest counts; ten pictures in fours: 6.4 passes.
        {"steps": 8, "images": 65, "epochs": 7, "minutes": 9.0},
    ],
)
def test_the_learning_rate_falls_from_a_share_of_the_budget(budget: dict[str, float]):
    toy, places = paced({})
    fit(toy, decay_from=0.5, **budget)
    assert paces(places) == FROM_HALF


@pytest.mark.parametrize(
    ("share", "expected"),
    [(1.0, [1.0] * 4), (0.0, [1.0, 0.75, 0.5, 0.25]), (0.6, [1.0] * 3 + [0.625])],
)
def test_where_the_learning_rate_begins_to_fall(share: float, expected: list[float]):
    toy, places = paced({})
    fit(toy, steps=4, decay_from=share)
    assert paces(places) == expected


def test_each_stage_has_its_own_shares_and_milestones():
    once = {"schedule": Schedule(epochs=(3,), factor=0.5)}
    toy, places = paced({}, once, {})
    fit(toy, steps=24, decay_from=0.5)
    # What a stage ends with, the next one begins with.
    for end in (16, 32):
        del places[end]
    # Two batches of four a step: step 5 is the first to begin behind three passes over ten.
    halved = [1.0] * 4 + [0.5] * 4
    expected = [a * b for a, b in zip(halved, FROM_HALF, strict=True)]
    assert paces(places) == FROM_HALF + expected + FROM_HALF


def test_shares_of_a_budget_of_its_own():
    toy, places = paced({}, budget=Budget(steps=8))
    fit(toy, steps=100, decay_from=0.5)
    assert paces(places) == FROM_HALF


# Sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
def test_fewer_pictures_than_the_batch(n: int):
    toy = staged({})
    history = fit(toy, numbered(n), steps=3, batch_size=8)
    assert history.images == 24
    assert all(len(seen.numbers) == 8 for seen in toy.seen)
    assert {number for seen in toy.seen for number in seen.numbers} == set(range(n))


def test_no_pictures():
    with pytest.raises(DataError, match="give at least one normal picture"):
        fit(staged({}), numbered(0))


def test_no_validation_pictures():
    assert fit(staged({}), validation=numbered(0)).steps == 4


# Before it begins ----------------------------------------------------------------------------


def test_no_budget_is_found_before_any_work(tmp_path: Path):
    def look(images: object) -> None:
        raise AssertionError("the pictures were read for nothing")

    toy = Toy(lambda t: [Stage(name="s", updates=[t.update("one", t.one)], before=look)])
    with pytest.raises(ConfigError, match="set minutes, steps, images or epochs"):
        fit(toy, steps=0, run_dir=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "least", "given"),
    [
        ("batch_size", 1, 0),
        ("log_every", 1, 0),
        ("validate_every", 1, 0),
        ("checkpoint_every", 1, 0),
        ("steps", 0, -1),
        ("images", 0, -1),
        ("epochs", 0, -1),
        ("minutes", 0, -0.5),
    ],
)
def test_numbers_out_of_range(name: str, least: int, given: float):
    with pytest.raises(ConfigError, match=f"{name} must be {least} or more, got {given}"):
        fit(staged({}), **{name: given})


@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_share_is_between_none_and_all(share: float):
    with pytest.raises(ConfigError, match=r"decay_from must be in \[0, 1\]"):
        fit(staged({}), decay_from=share)


# Losses gone wrong ---------------------------------------------------------------------------


def going(values: Callable[[int], float]) -> Toy:
    """A loss that is `values(step)`, with a gradient of 0."""

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            return (0 * t.one.weight + values(batch.progress.step + 1)).expand(len(batch.normal))

        return [Stage(name="s", updates=[t.update("one", t.one, term=term)])]

    return Toy(build)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_the_run_at_the_last_good_checkpoint(
    tmp_path: Path, bad: float
):
    toy = going(lambda step: bad if step == 5 else 1.0)
    with pytest.raises(TrainingDiverged) as caught:
        fit(toy, steps=9, checkpoint_every=2, run_dir=tmp_path)
    path = tmp_path / CHECKPOINT
    assert f"loss of update 'one' is {bad} at step 5; last good checkpoint: {path}" in str(
        caught.value
    )
    # It was in float32 already.
    assert "; try a lower learning rate" in str(caught.value)
    with pytest.raises(TrainingDiverged, match="try --set precision=float32, a lower learning"):
        fit(toy, steps=9, precision="bf16", batch_size=SAFE_ROWS)
    good = checkpoints.load(path, "toy")
    assert good.facts["position"]["step"] == 4
    assert all(tensor.isfinite().all() for tensor in good.tensors.values())
    assert toy.one.weight.isfinite()


def test_a_balanced_part_that_is_no_number_stops_the_run_too():
    def build(t: Toy) -> list[Stage]:
        def loss(batch: Batch) -> Loss:
            bad = float("nan") if batch.progress.step == 1 else 1.0
            first = Loss.weighted(a=(1.0, t.one.weight.expand(4)))
            return first.balancing(b=(1.0, (bad * t.two.weight).expand(4)))

        both = Update(name="both", trains=(t.one, t.two), loss=loss, optimizer=Adam())
        return [Stage(name="s", updates=[both])]

    with pytest.raises(TrainingDiverged, match="at step 2"):
        fit(Toy(build))


def test_weights_that_are_no_numbers_in_the_end_are_said():
    # The loss is finite, its gradient is not: the root of 0 has none.
    def term(batch: Batch) -> Tensor:
        root = (0 * toy.one.weight).sqrt() if batch.progress.step == 3 else toy.one.weight
        return root * batch.normal.mean((1, 2, 3))

    toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one, term=term)])])
    with pytest.raises(TrainingDiverged, match="weights of stage 'only' are not finite at step 4"):
        fit(toy)


def test_without_a_checkpoint_it_says_so():
    with pytest.raises(TrainingDiverged, match="no checkpoint was written"):
        fit(going(lambda step: float("nan")))


@pytest.mark.parametrize(("size", "stops"), [(9e5, False), (1.1e6, True), (-1.1e6, True)])
def test_a_runaway_is_measured_by_the_first_ten_losses(size: float, stops: bool):
    toy = going(lambda step: size if step == 11 else 0.5)
    if stops:
        with pytest.raises(TrainingDiverged, match="at step 11"):
            fit(toy, steps=12)
    else:
        assert fit(toy, steps=12).steps == 12


def test_losses_that_begin_large_may_stay_so():
    assert fit(going(lambda step: 1e7), steps=15).steps == 15


def test_a_resumed_run_remembers_the_first_losses(tmp_path: Path):
    def values(step: int) -> float:
        if step == 11:
            stop()
        return 1.1e6 if step == 12 else 0.5

    with pytest.raises(Exception, match="stopped in stage"):
        fit(going(values), steps=20, run_dir=tmp_path)
    with pytest.raises(TrainingDiverged, match="at step 12"):
        fit(going(values), steps=20, run_dir=tmp_path, resume=True)


def test_weights_that_are_no_numbers_do_not_replace_a_good_checkpoint(tmp_path: Path):
    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            # From step 3 on a finite loss with a gradient that is none: 0 / 0 in the root.
            flat = (0 * t.one.weight).sqrt()
            return (flat if batch.progress.step >= 2 else t.one.weight).expand(4)

        return [Stage(name="s", updates=[t.update("one", t.one, term=term)])]

    with pytest.raises(TrainingDiverged, match="at step 4; last good checkpoint"):
        fit(Toy(build), steps=9, checkpoint_every=1, run_dir=tmp_path)
    good = checkpoints.load(tmp_path / CHECKPOINT, "toy")
    assert good.facts["position"]["step"] == 2
    assert all(tensor.isfinite().all() for tensor in good.tensors.values())


def test_a_run_can_go_on_from_the_last_good_checkpoint(tmp_path: Path):
    with pytest.raises(TrainingDiverged):
        fit(
            going(lambda step: float("nan") if step == 5 else 1.0),
            steps=9,
            checkpoint_every=2,
            run_dir=tmp_path,
        )
    toy = going(lambda step: 1.0)
    assert fit(toy, steps=9, run_dir=tmp_path, resume=True).steps == 9
    assert len(toy.seen) == 5
    assert torch.isfinite(toy.one.weight)
