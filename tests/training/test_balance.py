"""Two parts of a loss pull equally hard: facts of PIAD's Algorithms 2 and 3, worked out by hand."""

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import TrainingInterrupted
from onlygood.core.gradients import Balance, Plain
from onlygood.core.optimizers import SGD, Adam
from onlygood.core.stage import Batch, Stage, Update
from onlygood.core.terms import Loss
from onlygood.training.balance import Balancer
from tests.training.toys import Pictures, Toy, fit, stop

SLOPES = torch.tensor([1.0, 3.0, -2.0])
"""Gradient of the total; that of the balanced part is `scale` times as large, and reversed."""


class Row(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.bias = nn.Parameter(torch.zeros(1))


def parted(row: Row, scale: float, bias: float = 5.0) -> Loss:
    total = (SLOPES * row.weight).sum() + row.bias.sum()
    balanced = scale * (SLOPES.flip(0) * row.weight).sum() + bias * row.bias.sum()
    return Loss.weighted(a=(1.0, total[None])).balancing(b=(1.0, balanced[None]))


def balancer(row: Row, **rule: object) -> Balancer:
    return Balancer(Balance(modules={"row": row}, **rule), list(row.parameters()))


def test_a_balanced_part_is_not_in_the_total_but_in_the_log():
    loss = Loss.weighted(a=(2.0, torch.ones(2))).balancing(b=(3.0, torch.ones(2)))
    assert (loss.total.item(), loss.balanced.item()) == (2.0, 3.0)
    assert {name: value.item() for name, value in loss.terms.items()} == {"a": 1.0, "b": 1.0}
    assert loss.watching(c=torch.zeros(2)).balanced is loss.balanced


def test_until_the_first_measurement_the_weight_is_one():
    row = Row()
    balancer(row).fill(parted(row, 4.0), measure=False)
    assert torch.equal(row.weight.grad, SLOPES + 4 * SLOPES.flip(0))
    assert torch.equal(row.bias.grad, torch.tensor([6.0]))


def test_weights_can_be_given_for_each_module_and_hold_where_nothing_is_measured():
    one, two = Row(), Row()
    rule = Balancer(
        Balance(modules={"one": one, "two": two}, initial={"two": 100.0}, every=0),
        [*one.parameters(), *two.parameters()],
    )
    loss, other = parted(one, 4.0), parted(two, 4.0)
    both = Loss(loss.total + other.total, {}, loss.balanced + other.balanced)
    rule.backward(both, step=100, repetition=0)
    assert torch.equal(one.weight.grad, SLOPES + 4 * SLOPES.flip(0))
    assert torch.equal(two.weight.grad, SLOPES + 400 * SLOPES.flip(0))
    assert torch.equal(two.bias.grad, torch.tensor([501.0]))


def test_a_weight_that_was_given_ends_with_the_first_measurement():
    row = Row()
    rule = balancer(row, initial={"row": 7.0})
    rule.fill(parted(row, 4.0), measure=True)
    assert rule.weights["row"] == pytest.approx(1 / 4)


@pytest.mark.parametrize("size", ["std", "l2"])
def test_the_weight_is_the_ratio_of_sizes_of_weight_tensors_and_holds_for_all_parameters(size: str):
    row = Row()
    rule = balancer(row, size=size)
    rule.fill(parted(row, 4.0), measure=True)
    # SLOPES and its reverse are of the same size, in either sense; the bias does not count.
    assert rule.weights["row"] == pytest.approx(1 / 4)
    torch.testing.assert_close(row.weight.grad, SLOPES + SLOPES.flip(0))
    torch.testing.assert_close(row.bias.grad, torch.tensor([1 + 5 / 4]))


def test_a_part_that_is_multiplied_gets_a_weight_that_is_divided():
    one, two = Row(), Row()
    a, b = balancer(one), balancer(two)
    a.fill(parted(one, 0.7), measure=True)
    b.fill(parted(two, 70.0), measure=True)
    assert a.weights["row"] == pytest.approx(100 * b.weights["row"])
    torch.testing.assert_close(one.weight.grad, two.weight.grad)


def test_each_module_has_a_weight_of_its_own():
    one, two = Row(), Row()
    rule = Balancer(
        Balance(modules={"one": one, "two": two}), [*one.parameters(), *two.parameters()]
    )
    loss = parted(one, 2.0)
    other = parted(two, 8.0)
    both = Loss(loss.total + other.total, {}, loss.balanced + other.balanced)
    rule.fill(both, measure=True)
    assert rule.weights == pytest.approx({"one": 1 / 2, "two": 1 / 8})


def test_a_module_without_gradients_is_passed_over_and_what_is_in_none_weighs_one():
    silent, row, free = Row(), Row(), Row()
    modules = {"silent": silent, "row": row}
    parameters = [p for one in (silent, row, free) for p in one.parameters()]
    loss, other = parted(row, 1e-6), parted(free, 4.0)
    both = Loss(loss.total + other.total, {}, loss.balanced + other.balanced)
    rule = Balancer(Balance(modules=modules), parameters)
    rule.fill(both, measure=True)
    assert rule.weights == pytest.approx({"silent": 1.0, "row": 1e6})
    assert silent.weight.grad is None
    assert torch.equal(free.weight.grad, SLOPES + 4 * SLOPES.flip(0))


def smoothed(values: list[float], share: float) -> list[float]:
    result = values[:1]
    for value in values[1:]:
        result.append((1 - share) * result[-1] + share * value)
    return result


@pytest.mark.parametrize("window", [3, 2])  # Of an even number the median lies between two.
@pytest.mark.parametrize("reduce", [statistics.median, statistics.mean])
def test_histories_are_smoothed_and_the_oldest_measurements_forgotten(
    reduce: Callable[[list[float]], float], window: int
):
    row = Row()
    rule = balancer(row, window=window, smoothing=0.25, reduce=reduce.__name__)
    scales = [100.0, 1.0, 2.0, 8.0]
    for scale in scales:
        rule.fill(parted(row, scale), measure=True)
    ratios = [1 / value for value in smoothed(scales[-window:], 0.25)]
    assert rule.weights["row"] == pytest.approx(reduce(ratios))


def test_a_gradient_of_nothing_gives_a_finite_weight():
    row = Row()
    rule = balancer(row)
    rule.fill(parted(row, 0.0), measure=True)
    assert math.isfinite(rule.weights["row"])
    assert torch.isfinite(row.weight.grad).all()


def balanced_stage(toy: Toy, at: int = 0) -> list[Stage]:
    def loss(batch: Batch) -> Loss:
        if batch.progress.step + 1 == at:
            stop()
        grey = batch.normal.mean((1, 2, 3))
        value: Tensor = toy.one.weight
        return Loss.weighted(down=(1.0, grey * value)).balancing(up=(3.0, -(value**2) * grey))

    update = Update(
        name="one",
        trains=(toy.one,),
        loss=loss,
        optimizer=Adam(lr=0.1),
        gradients=Balance(modules={"one": toy.one}, every=3, window=2, size="l2"),
    )
    return [Stage(name="stage", updates=[update])]


def test_the_trainer_measures_in_steps_that_the_interval_divides_and_logs_the_weight():
    history = fit(Toy(balanced_stage), steps=7, log_every=1)
    weights = [record["one/weight_one"] for record in history.records]
    changes = [a != b for a, b in zip([1.0, *weights], weights, strict=False)]
    assert changes == [False, False, True, False, False, True, False]
    assert "one/up" in history.records[0]


def test_without_a_rule_a_part_apart_has_weight_one():
    def stages(toy: Toy) -> list[Stage]:
        (stage,) = balanced_stage(toy)
        (update,) = stage.updates
        plain = replace(update, gradients=Plain(), optimizer=SGD(lr=1.0))
        return [replace(stage, updates=[plain])]

    toy = Toy(stages)
    black_and_white = Pictures(torch.tensor([0.0, 1.0]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2))
    fit(toy, black_and_white, steps=1, batch_size=2)
    # Of (w - 3 w^2) times the mean grey, at w = 2.
    assert toy.one.weight.item() == pytest.approx(2 - (1 - 6 * 2) / 2)


def test_the_trainer_leaves_given_weights_alone():
    def stages(toy: Toy) -> list[Stage]:
        (stage,) = balanced_stage(toy)
        (update,) = stage.updates
        balance = Balance(modules={"one": toy.one}, initial={"one": 0.25}, every=0)
        return [replace(stage, updates=[replace(update, gradients=balance)])]

    history = fit(Toy(stages), steps=4, log_every=1)
    assert [record["one/weight_one"] for record in history.records] == [0.25] * 4


def test_a_resumed_run_keeps_its_weights_and_their_history(tmp_path: Path):
    whole, broken, rest = (
        Toy(balanced_stage),
        Toy(lambda t: balanced_stage(t, 4)),
        Toy(balanced_stage),
    )
    history = fit(whole, steps=9, log_every=1)
    with pytest.raises(TrainingInterrupted):
        fit(broken, steps=9, log_every=1, run_dir=tmp_path)
    resumed = fit(rest, steps=9, log_every=1, run_dir=tmp_path, resume=True)
    assert torch.equal(whole.one.weight, rest.one.weight)
    name = "one/weight_one"
    assert [r[name] for r in history.records] == [r[name] for r in resumed.records]
