"""That the optimisers which the trainer builds are torch's, and that a resumed run keeps them."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import OtherBudget, TrainingInterrupted
from onlygood.core.optimizers import SGD, Adam, Adamax, Optimizer, RMSProp, Schedule
from onlygood.core.stage import Batch, Stage
from onlygood.training.optimizers import lay_out_gradients
from tests.training.toys import Toy, fit, numbered, stop

SCHEDULE = Schedule(epochs=(2,), shares=(0.5,), factor=0.5, per_step=0.9, warmup=3)
KINDS = [
    (Adam(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1), torch.optim.Adam),
    (Adamax(lr=0.1, betas=(0.5, 0.9), eps=1e-3, weight_decay=0.1), torch.optim.Adamax),
    (SGD(lr=0.1, weight_decay=0.1), torch.optim.SGD),
    (SGD(lr=0.1, momentum=0.9, nesterov=True), torch.optim.SGD),
    (RMSProp(lr=0.1, alpha=0.9, eps=1e-3, momentum=0.5), torch.optim.RMSprop),
]
STEPS = 8


def bowl(one: Tensor, two: Tensor) -> Tensor:
    return (one - 1) ** 2 + one * two + 3 * two**2


def toy(optimizer: Optimizer, *, stop_at: int = 0) -> Toy:
    """Slides down a bowl; the second module three times as fast as the first."""
    fast = type(optimizer)(**{**vars(optimizer), "lr": 3 * optimizer.lr, "schedule": SCHEDULE})

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            if batch.progress.step + 1 == stop_at:
                stop()
            return bowl(t.one.weight, t.two.weight).expand(len(batch.normal))

        both = t.update("both", t.one, t.two, term=term, adam=(optimizer, fast))
        return [Stage(name="stage", updates=[both])]

    return Toy(build)


@pytest.mark.parametrize(("optimizer", "reference"), KINDS)
def test_steps_are_those_of_torch(optimizer: Optimizer, reference: type[torch.optim.Optimizer]):
    mine = toy(optimizer)
    fit(mine, numbered(8), steps=STEPS)

    one, two = torch.tensor(2.0, requires_grad=True), torch.tensor(1.0, requires_grad=True)
    settings = {k: v for k, v in vars(optimizer).items() if k != "schedule"}
    expected = reference([{"params": [one]}, {"params": [two]}], **settings)
    for step in range(STEPS):
        # Two batches of four are a pass.
        fall = 0.5 ** ((step >= 4) + (step >= STEPS / 2))
        rise = min(1, (step + 1) / 3)
        expected.param_groups[1]["lr"] = 3 * optimizer.lr * fall * 0.9**step * rise
        expected.zero_grad()
        bowl(one, two).backward()
        expected.step()
    weights = torch.stack([mine.one.weight, mine.two.weight])
    torch.testing.assert_close(weights, torch.stack([one, two]))


@pytest.mark.parametrize("optimizer", [optimizer for optimizer, _ in KINDS])
def test_a_resumed_run_keeps_what_an_optimiser_knows(optimizer: Optimizer, tmp_path: Path):
    whole, rest = toy(optimizer), toy(optimizer)
    fit(whole, steps=STEPS)
    with pytest.raises(TrainingInterrupted):
        fit(toy(optimizer, stop_at=5), steps=STEPS, run_dir=tmp_path)
    fit(rest, steps=STEPS, run_dir=tmp_path, resume=True)
    assert torch.equal(whole.one.weight, rest.one.weight)
    assert torch.equal(whole.two.weight, rest.two.weight)


def test_a_rate_that_fell_by_the_budget_belongs_to_it(tmp_path: Path):
    with pytest.raises(TrainingInterrupted):
        fit(toy(SGD(lr=0.1), stop_at=5), steps=STEPS, run_dir=tmp_path)
    with pytest.raises(OtherBudget, match="learning rates may fall by it"):
        fit(toy(SGD(lr=0.1)), steps=2 * STEPS, run_dir=tmp_path, resume=True)


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 4, 1, 1), (8, 1, 3, 3)])
def test_how_a_gradient_lies_in_memory_moves_no_weight_elsewhere(shape: tuple[int, ...]):
    weights = torch.arange(8.0 * shape[1] * shape[2] * shape[3]).reshape(shape)
    moved = []
    for layout in (torch.contiguous_format, torch.channels_last):
        parameter = nn.Parameter(weights.clone())
        parameter.grad = (weights - 20).to(memory_format=layout)
        lay_out_gradients([parameter])
        assert parameter.grad.stride() == parameter.stride()
        torch.optim.Adam([parameter], lr=1.0, fused=True).step()
        moved.append(parameter.detach())
    assert torch.equal(*moved)
