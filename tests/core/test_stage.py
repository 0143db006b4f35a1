from typing import Any

import pytest
import torch
from torch import nn

from onlygood.core.errors import ConfigError
from onlygood.core.optimizers import Adam
from onlygood.core.stage import Batch, Stage, Update
from tests.conftest import unchecked

IMAGES = torch.rand(6, 1, 2, 2)


def batch(rank: int = 0, world: int = 1) -> Batch:
    n = len(IMAGES) // world
    return Batch(
        normal=IMAGES[rank * n : (rank + 1) * n],
        generator=torch.Generator().manual_seed(0),
        rank=rank,
        world=world,
    )


@pytest.mark.parametrize("draw", [Batch.normals, Batch.uniforms])
@pytest.mark.parametrize("shape", [(), (3,), (2, 5)])
def test_draws_have_a_row_for_each_image(draw, shape: tuple[int, ...]):
    assert draw(batch(), *shape).shape == (6, *shape)


@pytest.mark.parametrize("draw", [Batch.normals, Batch.uniforms])
@pytest.mark.parametrize("world", [2, 3])
def test_the_parts_of_all_processes_are_the_draws_of_one(draw, world: int):
    parts = [batch(rank, world) for rank in range(world)]
    whole = batch()
    # Twice, as the second draw shows whether the first moved all generators alike.
    for _ in range(2):
        assert torch.equal(torch.cat([draw(part, 4) for part in parts]), draw(whole, 4))


def test_draws_follow_the_generator_and_leave_the_global_state_alone():
    before = torch.random.get_rng_state()
    one, two = batch(), batch()
    first = one.normals(4)
    assert torch.equal(first, two.normals(4))
    assert not torch.equal(first, one.normals(4))
    assert torch.equal(before, torch.random.get_rng_state())


def test_draws_have_the_distribution_they_say():
    many = Batch(normal=torch.zeros(4000, 1, 1, 1), generator=torch.Generator().manual_seed(0))
    normals, uniforms = many.normals(5), many.uniforms(5)
    assert abs(normals.mean()) < 0.03
    assert abs(normals.std() - 1) < 0.03
    assert 0 <= uniforms.min() < 0.001 < 0.999 < uniforms.max() < 1
    assert abs(uniforms.mean() - 0.5) < 0.01


def update(**settings: Any) -> Update:
    one = {"name": "u", "trains": (nn.ReLU(),), "loss": print, "optimizer": Adam(), **settings}
    return Update(**one)


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (lambda: update(every=0), "every must be 1 or more, got 0"),
        (lambda: update(repeat=0), "repeat must be 1 or more, got 0"),
        (lambda: update(batch="new"), "batch of update 'u' cannot be 'new'; known: fresh, shared"),
        (lambda: update(trains=nn.ReLU()), "trains a tuple of modules, got a ReLU"),
        (
            lambda: Stage(name="s", order="simultanous"),
            "order of stage 's' cannot be 'simultanous'; did you mean \"simultaneous\"",
        ),
        (lambda: Stage(name="s", visits="heldout"), "visits of stage 's' cannot be 'heldout'"),
        # A checkpoint would hold the optimiser of one of them for both.
        (
            lambda: Stage(name="s", updates=[update(), update()]),
            "two updates of stage 's' have one name, of u, u",
        ),
    ],
)
def test_what_would_be_run_otherwise_than_it_is_meant_is_refused(build, says: str):
    with unchecked(), pytest.raises(ConfigError, match=says):
        build()
