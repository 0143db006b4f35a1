from pathlib import Path

import pytest
from torch import nn

from onlygood.core.errors import OtherBudget
from onlygood.core.optimizers import Adam
from onlygood.core.settings import Budget, Training
from onlygood.core.stage import Stage, Update
from onlygood.core.terms import Loss
from onlygood.training.spending import Done, Spending

PATH = Path("checkpoint")
NONE = Done(0, 0, 0, 0.0)


def unused(_: object) -> Loss:
    raise AssertionError


def stage(**fields: object) -> Stage:
    update = Update(name="all", trains=(nn.Linear(1, 1),), loss=unused, optimizer=Adam(lr=0.1))
    return Stage(name="it", updates=(update,), **fields)


def test_stages_share_the_budget_of_the_run_by_their_shares() -> None:
    short, long = stage(share=1.0), stage(share=3.0)
    idle = Stage(name="statistics", share=9.0)
    spending = Spending([idle, short, long], Training(steps=40), 10)
    assert spending.spent(short, NONE._replace(steps=5)) == 0.5
    assert spending.spent(long, NONE._replace(steps=15)) == 0.5


@pytest.mark.parametrize(
    ("done", "share"),
    [
        (NONE, 0.0),
        (NONE._replace(steps=25), 0.25),
        (NONE._replace(images=30), 0.5),
        (NONE._replace(batches=15), 0.75),  # 60 of 80 images, which are 8 passes over 10
        (NONE._replace(seconds=54.0), 0.9),
        (Done(25, 15, 30, 54.0), 0.9),
    ],
)
def test_of_several_budgets_the_scarcest_one_counts(done: Done, share: float) -> None:
    budget = Training(steps=100, images=60, epochs=8, minutes=1.0, batch_size=4)
    assert Spending([stage()], budget, 10).spent(stage(), done) == pytest.approx(share)


def test_a_budget_of_its_own_ends_a_stage_early_and_never_late() -> None:
    own = stage(budget=Budget(steps=5))
    done = NONE._replace(steps=4)
    assert Spending([own], Training(steps=8), 10).spent(own, done) == 0.8
    assert Spending([own], Training(steps=4), 10).spent(own, done) == 1.0
    assert Spending([own], Training(), 10).spent(own, done) == 0.8


@pytest.mark.parametrize(
    ("now", "decay_from", "goes_on"),
    [
        (4, 1.0, True),  # the same
        (8, 1.0, True),  # longer, and rates never fall
        (3, 1.0, True),  # shorter, but not over by now
        (2, 1.0, True),  # over just now
        (1, 1.0, False),  # would have been over
        (8, 0.5, True),  # rates have not begun to fall
        (8, 0.4, False),
        (3, 0.5, False),  # would have begun to
    ],
)
def test_another_budget_is_refused_where_weights_would_be_others(
    now: int, decay_from: float, *, goes_on: bool
) -> None:
    spending = Spending([stage()], Training(steps=now, decay_from=decay_from), 10)
    done = [NONE._replace(steps=2)]
    if goes_on:
        spending.check(Budget(steps=4), done, PATH)
        return
    with pytest.raises(OtherBudget, match="whose budget was steps=4, and"):
        spending.check(Budget(steps=4), done, PATH)


def test_a_stage_that_a_smaller_budget_has_ended_is_over() -> None:
    stages = [stage(), stage()]
    done = [NONE._replace(steps=2), NONE]
    with pytest.raises(OtherBudget):
        Spending(stages, Training(steps=8), 10).check(Budget(steps=4), done, PATH)
