import pytest

from onlygood.core.errors import ConfigError
from onlygood.core.optimizers import SGD, Adam, Schedule
from onlygood.core.stage import Update
from tests.training.toys import Player


def test_passes_lower_the_rate():
    schedule = Schedule(epochs=(2, 4), factor=0.5)
    factors = [schedule.at(step=9, epoch=epoch) for epoch in range(5)]
    assert factors == [1, 1, 0.5, 0.5, 0.25]


def test_shares_of_the_budget_lower_it():
    tenths = Schedule(shares=tuple(i / 10 for i in range(1, 10)), factor=0.5)
    factors = [tenths.at(step=step, spent=step / 30) for step in range(30)]
    assert factors == [0.5 ** (step // 3) for step in range(30)]


def test_each_place_may_have_a_factor_of_its_own():
    schedule = Schedule(epochs=(3,), shares=(0.4, 0.6), factor=(0.2, 0.1, 0.5))
    places = [(0, 0.3), (0, 0.4), (0, 0.6), (3, 0.6)]
    factors = [schedule.at(step=0, epoch=epoch, spent=spent) for epoch, spent in places]
    assert factors == pytest.approx([1, 0.1, 0.05, 0.01])


def test_the_rate_rises_at_first_and_falls_with_every_step():
    schedule = Schedule(warmup=4, per_step=0.5)
    assert [schedule.at(step=step) for step in range(5)] == [1 / 4, 2 / 8, 3 / 16, 4 / 32, 1 / 16]


def test_what_a_schedule_cannot_be():
    with pytest.raises(ConfigError, match=r"shares must be in \[0, 1\], got \(1.5,\)"):
        Schedule(shares=(1.5,))
    with pytest.raises(ValueError, match="a schedule of 1 places needs as many factors"):
        Schedule(epochs=(1,), factor=(0.1, 0.2))


@pytest.mark.parametrize("optimizer", [(Adam(),), (Adam(), SGD())])
def test_optimisers_of_an_update_are_of_one_kind_and_one_for_each_module(optimizer):
    with pytest.raises(ValueError, match="update 'both' needs one optimiser, or one of the same"):
        Update(name="both", trains=(Player(1.0), Player(1.0)), loss=print, optimizer=optimizer)
