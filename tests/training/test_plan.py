import pytest
import torch

from onlygood.core.images import Pick
from onlygood.training.plan import Plan, generator_at, seed_of


def indices(plan: Plan, batches: int) -> list[int]:
    return torch.cat([plan.pick(i).indices for i in range(batches)]).tolist()


def test_a_pick_is_a_function_of_its_place():
    one, two = Plan(10, 4, 3, seed=5), Plan(10, 4, 3, seed=5)
    forwards = [one.pick(i) for i in range(20)]
    backwards = [two.pick(i) for i in reversed(range(20))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert torch.equal(a.indices, b.indices)
        assert torch.equal(a.draws, b.draws)


@pytest.mark.parametrize("batch_size", [1, 4, 10, 25])
def test_every_pass_is_a_permutation_of_its_own(batch_size: int):
    plan = Plan(10, batch_size, 0, seed=0)
    row = indices(plan, 100)
    passes = [row[i : i + 10] for i in range(0, 50, 10)]
    assert all(sorted(one) == list(range(10)) for one in passes)
    assert len({tuple(one) for one in passes}) == 5
    assert len(plan._shuffles) <= 4  # however long the run


def test_a_batch_runs_from_one_pass_into_the_next():
    row = indices(Plan(3, 4, 0, seed=0), 3)
    assert [sorted(row[i : i + 3]) for i in (0, 3, 6, 9)] == [[0, 1, 2]] * 4


def test_one_picture_fills_any_batch():
    assert indices(Plan(1, 4, 0, seed=0), 2) == [0] * 8


def test_epochs_count_the_passes_that_are_complete():
    plan = Plan(10, 4, 0, seed=0)
    assert [plan.epoch(batch) for batch in range(6)] == [0, 0, 0, 1, 1, 2]


def test_another_seed_is_another_order_with_other_draws():
    one, two = Plan(50, 8, 2, seed=0).pick(0), Plan(50, 8, 2, seed=1).pick(0)
    assert not torch.equal(one.indices, two.indices)
    assert not torch.equal(one.draws, two.draws)


def test_draws_differ_from_batch_to_batch_and_belong_to_the_seed():
    plan = Plan(4, 4, 2, seed=0)
    assert not torch.equal(plan.pick(0).draws, plan.pick(1).draws)
    (same,), (again,), (other,) = (list(Plan(4, 4, 2, seed=seed).once()) for seed in (0, 0, 1))
    assert torch.equal(same.draws, again.draws)
    assert not torch.equal(same.draws, other.draws)
    assert not torch.equal(same.draws, plan.pick(0).draws)


@pytest.mark.parametrize("world", [2, 4])
def test_the_parts_of_all_processes_are_the_batch_of_one(world: int):
    whole = Plan(10, 8, 3, seed=0)
    parts = [Plan(10, 8, 3, seed=0, rank=rank, world=world) for rank in range(world)]
    for batch in range(5):
        picks = [part.pick(batch) for part in parts]
        assert torch.equal(torch.cat([p.indices for p in picks]), whole.pick(batch).indices)
        assert torch.equal(torch.cat([p.draws for p in picks]), whole.pick(batch).draws)
        assert {len(p.indices) for p in picks} == {8 // world}


def test_picks_begin_where_they_are_asked_to():
    plan = Plan(10, 4, 1, seed=0)
    picks = plan.picks(3)
    for batch in (3, 4, 5):
        assert torch.equal(next(picks).draws, plan.pick(batch).draws)


@pytest.mark.parametrize("views", [1, 3])
def test_once_covers_every_picture_as_often_as_it_has_views(views: int):
    picks = list(Plan(10, 4, 2, seed=0, rank=1, world=2).once(views))
    assert torch.cat([p.indices for p in picks]).tolist() == list(range(10)) * views
    assert max(len(p.indices) for p in picks) == 4
    draws = torch.cat([p.draws for p in picks])
    # Views of one picture are views of different places in it.
    assert len(draws.unique(dim=0)) == 10 * views


@pytest.mark.parametrize("world", [2, 3, 5])
def test_parts_of_once_make_the_whole(world: int):
    whole = list(Plan(10, 4, 2, seed=0).once(2))
    joined: list[Pick] = []
    for rank in range(world):
        part = Plan(10, 4, 2, seed=0, rank=rank, world=world).part_of_once(2)
        assert part is not None and part[0] == 4 * len(joined)
        joined += part[1]
    for one, expected in zip(joined, whole, strict=True):
        assert torch.equal(one.indices, expected.indices)
        assert torch.equal(one.draws, expected.draws)
    assert Plan(10, 4, 2, seed=0, rank=1, world=6).part_of_once(2) is None
    assert Plan(10, 4, 2, seed=0).part_of_once(2) is None


def test_orders_and_draws_come_from_places_of_their_own_that_stay_for_ever():
    plan = Plan(5, 4, 2, seed=7)
    orders = [torch.randperm(5, generator=generator_at(7, 0, epoch)) for epoch in (0, 1)]
    assert torch.equal(plan.pick(1).indices, torch.cat(orders)[4:8])
    assert torch.equal(plan.pick(1).draws, torch.rand(4, 2, generator=generator_at(7, 1, 1)))
    first = next(plan.once())
    assert torch.equal(first.draws, torch.rand(4, 2, generator=generator_at(7, 2)))


def test_draws_are_uniform():
    draws = torch.cat([Plan(10, 100, 5, seed=0).pick(i).draws for i in range(20)])
    assert 0 <= draws.min() < 0.01 < 0.99 < draws.max() < 1
    assert abs(draws.mean() - 0.5) < 0.02


def test_neighbouring_places_have_unrelated_seeds():
    seeds = {seed_of(*place) for place in [(0,), (1,), (0, 0), (0, 1), (1, 0), (11, 1), (1, 11)]}
    assert len(seeds) == 7
    assert all(0 <= seed < 2**63 for seed in seeds)
    # Written down, as a resumed run must find the same on another day and machine.
    assert seed_of(0, 1, 2) == 5458876493991123480


def test_a_generator_is_its_own():
    before = torch.random.get_rng_state()
    first = torch.rand(3, generator=generator_at(0, 1))
    assert torch.equal(first, torch.rand(3, generator=generator_at(0, 1)))
    assert torch.equal(before, torch.random.get_rng_state())
