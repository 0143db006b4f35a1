"""What a step does: which update sees which pictures, trains what, and moves whom by how much."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import ConfigError
from onlygood.core.optimizers import Adam, Schedule
from onlygood.core.settings import Training
from onlygood.core.stage import Batch, Ema, Stage
from onlygood.core.terms import Loss
from onlygood.training import Trainer
from onlygood.training.health import WITHOUT_STEPS
from onlygood.training.plan import Plan, seed_of
from tests.training.toys import Pictures, Small, Toy, fit, numbered, numbers, textures

# With eps = 1 the first step of Adam is lr g / (|g| + 1): sizes of gradients stay visible.
VISIBLE = Adam(lr=1.0, eps=1.0)


def rows(batches: int) -> list[list[int]]:
    """The pictures of the first batches of a run of seed 0 over ten pictures in fours."""
    plan = Plan(10, 4, 0, seed_of(0, 0))
    return [plan.pick(i).indices.tolist() for i in range(batches)]


def one_stage(*updates, **settings) -> list[Stage]:
    return [Stage(name="stage", updates=list(updates), **settings)]


def test_updates_run_in_order_each_on_a_fresh_batch():
    toy = Toy(lambda t: one_stage(t.update("one", t.one), t.update("two", t.two)))
    history = fit(toy, steps=2)
    assert [s.update for s in toy.seen] == ["one", "two", "one", "two"]
    assert [s.numbers for s in toy.seen] == rows(4)
    assert [s.step for s in toy.seen] == [0, 0, 1, 1]
    assert (history.steps, history.images) == (2, 16)


def test_an_update_runs_in_steps_that_its_interval_divides():
    toy = Toy(lambda t: one_stage(t.update("one", t.one), t.update("two", t.two, every=3)))
    fit(toy, steps=7)
    assert [s.step + 1 for s in toy.seen if s.update == "two"] == [3, 6]
    assert [s.step + 1 for s in toy.seen if s.update == "one"] == [1, 2, 3, 4, 5, 6, 7]


def test_a_step_without_any_update_is_a_step():
    toy = Toy(lambda t: one_stage(t.update("one", t.one, every=2)))
    history = fit(toy, steps=4, log_every=1)
    assert [s.step for s in toy.seen] == [1, 3]
    assert [r["step"] for r in history.records] == [1, 2, 3, 4]
    assert ["one/value" in r for r in history.records] == [False, True, False, True]


def test_repetitions_take_fresh_batches():
    toy = Toy(lambda t: one_stage(t.update("one", t.one, repeat=3), t.update("two", t.two)))
    fit(toy, steps=2)
    assert [s.update for s in toy.seen] == ["one", "one", "one", "two"] * 2
    assert [s.numbers for s in toy.seen] == rows(8)


def test_repetitions_share_a_batch_where_they_say_so():
    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, repeat=3, batch="shared"),
            t.update("two", t.two, batch="shared"),
        )
    )
    fit(toy, steps=2)
    first, second = rows(2)
    assert [s.numbers for s in toy.seen] == [first] * 4 + [second] * 4


def test_shared_means_the_batch_drawn_last():
    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, repeat=2), t.update("two", t.two, batch="shared")
        )
    )
    fit(toy, steps=2)
    a, b, c, d = rows(4)
    assert [s.numbers for s in toy.seen] == [a, b, b, c, d, d]


def test_noise_is_new_in_every_update_and_repetition():
    draws: list[Tensor] = []

    def noisy(batch: Batch) -> Tensor:
        draws.append(batch.normals(3))
        return toy.one.weight * batch.uniforms()

    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, term=noisy, repeat=2, batch="shared"),
            t.update("two", t.one, term=noisy, batch="shared"),
        )
    )
    fit(toy, steps=2)
    assert len(torch.cat(draws).unique(dim=0)) == 2 * 3 * 4


def test_epochs_are_passes_over_the_pictures():
    toy = Toy(lambda t: one_stage(t.update("one", t.one)))
    fit(toy, steps=6)
    assert [s.epoch for s in toy.seen] == [0, 0, 0, 1, 1, 2]


def test_epochs_do_not_run_ahead_when_a_batch_is_shared():
    toy = Toy(lambda t: one_stage(t.update("one", t.one, repeat=5, batch="shared")))
    fit(toy, steps=4)
    assert [s.epoch for s in toy.seen] == [0] * 15 + [1] * 5


def test_known_anomalous_pictures_come_along():
    seen: list[list[int]] = []

    def term(batch: Batch) -> Tensor:
        assert batch.anomalous is not None
        seen.append(numbers(batch.anomalous))
        return toy.one.weight * batch.normal.mean((1, 2, 3))

    toy = Toy(lambda t: one_stage(t.update("one", t.one, term=term, repeat=2, batch="shared")))
    fit(toy, anomalous=numbered(3), steps=3)
    assert seen[0] == seen[1]
    # Three batches of four are four passes over three pictures.
    assert sorted(seen[0] + seen[2] + seen[4]) == sorted([0, 1, 2] * 4)


@pytest.mark.parametrize("anomalous", [None, numbered(0)])
def test_without_anomalous_pictures_there_are_none(anomalous):
    def term(batch: Batch) -> Tensor:
        assert batch.anomalous is None
        return toy.one.weight * batch.normal.mean((1, 2, 3))

    toy = Toy(lambda t: one_stage(t.update("one", t.one, term=term)))
    fit(toy, anomalous=anomalous)


def tug_of_war(order) -> Toy:
    """`one` plays down the product, `two` plays it up."""

    def build(t: Toy) -> list[Stage]:
        def product(sign: int):
            return lambda batch: (sign * t.one.weight * t.two.weight).expand(4)

        return one_stage(
            t.update("one", t.one, term=product(1), adam=VISIBLE),
            t.update("two", t.two, term=product(-1), adam=VISIBLE),
            order=order,
        )

    return Toy(build)


def test_alternating_updates_see_the_steps_before_them():
    toy = tug_of_war("alternating")
    fit(toy, steps=1)
    # one: gradient 1, step 1/2, from 2 to 1.5; two: gradient -1.5, step 1.5/2.5, from 1 to 1.6.
    assert toy.one.weight.item() == pytest.approx(1.5)
    assert toy.two.weight.item() == pytest.approx(1.6)


def test_simultaneous_updates_do_not():
    toy = tug_of_war("simultaneous")
    fit(toy, steps=1)
    # two: gradient -2, step 2/3.
    assert toy.one.weight.item() == pytest.approx(1.5)
    assert toy.two.weight.item() == pytest.approx(1 + 2 / 3)


def test_simultaneous_updates_may_train_the_same_module():
    def build(t: Toy) -> list[Stage]:
        return one_stage(
            t.update("up", t.one, term=lambda b: -t.one.weight.expand(4), adam=VISIBLE),
            t.update("down", t.one, term=lambda b: 3 * t.one.weight.expand(4), adam=VISIBLE),
            order="simultaneous",
        )

    toy = Toy(build)
    fit(toy, steps=1)
    # Gradients -1 and 3 are not added up: steps of 1/2 up and 3/4 down.
    assert toy.one.weight.item() == pytest.approx(2 + 1 / 2 - 3 / 4)


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_gradients_do_not_pile_up(order):
    grey = Pictures(torch.full((3, 1, 2, 2), 0.5))
    toy = Toy(lambda t: one_stage(t.update("one", t.one, repeat=2), order=order))
    history = fit(toy, grey, steps=6, log_every=1)
    assert [r["one/gradient_norm"] for r in history.records] == [0.5] * 6


@pytest.mark.parametrize("order", ["alternating", "simultaneous"])
def test_only_trained_modules_require_gradients(order):
    seen: list[tuple[bool, ...]] = []

    def term(batch: Batch) -> Tensor:
        product = toy.one.weight * toy.two.weight
        seen.append(
            (
                toy.one.weight.requires_grad,
                toy.two.weight.requires_grad,
                # No graph is built for what is not trained.
                (toy.one.weight * 2).requires_grad,
                (toy.two.weight * 2).requires_grad,
            )
        )
        return product * batch.normal.mean((1, 2, 3))

    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, term=term), t.update("two", t.two, term=term), order=order
        )
    )
    fit(toy, steps=2)
    assert seen == [(True, False, True, False), (False, True, False, True)] * 2


def test_others_get_no_gradient_and_do_not_move():
    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, term=lambda b: (t.one.weight * t.two.weight).expand(4))
        )
    )
    fit(toy, steps=3)
    assert toy.two.weight.item() == 1.0
    assert toy.two.weight.grad is None
    assert toy.one.weight.item() != 2.0


def test_afterwards_parameters_require_gradients_as_they_did_before():
    toy = Toy(lambda t: one_stage(t.update("one", t.one)))
    toy.two.weight.requires_grad_(False)
    fit(toy)
    assert toy.one.weight.requires_grad
    assert not toy.two.weight.requires_grad


def test_trained_modules_are_in_train_mode_and_others_in_eval_mode():
    modes: list[tuple[bool, bool, bool]] = []

    def term(batch: Batch) -> Tensor:
        modes.append((toy.training, toy.one.training, toy.two.training))
        return toy.one.weight * batch.normal.mean((1, 2, 3))

    toy = Toy(lambda t: one_stage(t.update("one", t.one, term=term)))
    # Looking at the validation pictures in between must put the modes back.
    fit(toy, validation=numbered(3), steps=4, validate_every=2)
    assert modes == [(False, True, False)] * 4
    assert not any(module.training for module in toy.modules())


def test_a_module_of_any_update_of_the_stage_is_in_train_mode():
    method = Small()
    modes: list[tuple[str, bool, bool]] = []
    method.at_moment = lambda m: modes.append(
        (m[0], method.encoder.training, method.critic.training)
    )
    Trainer(Training(steps=4, batch_size=4, precision="float32"), device="cpu").fit(
        method, textures(7, 4, 2), anomalous=textures(2, 4, 2)
    )
    assert set(modes) == {
        ("before", False, False),
        ("autoencoder", True, False),
        ("critic", True, True),
        ("encoder", True, True),
        ("after", False, False),
    }


# Averages ------------------------------------------------------------------------------------


def averaged(steps: int, *, decay: float = 0.5, every: int = 1, start: int = 0) -> float:
    """Average of a weight that is k after step k."""

    def build(t: Toy) -> list[Stage]:
        # Adam with a constant gradient moves by lr exactly, up to eps.
        t.one.weight.data.zero_()
        return one_stage(
            t.update("one", t.one, term=lambda b: -t.one.weight.expand(4), adam=Adam(lr=1.0)),
            ema=Ema(modules=(t.one,), decay=decay, every=every, start=start),
        )

    toy = Toy(build)
    fit(toy, steps=steps)
    return toy.one.weight.item()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        # 0, then (0 + 1) / 2, (1/2 + 2) / 2, (5/4 + 3) / 2.
        ({"steps": 3}, 2.125),
        # 0.9 * 0 + 0.1 * 1 = 0.1, 0.9 * 0.1 + 0.1 * 2 = 0.29.
        ({"steps": 2, "decay": 0.9}, 0.29),
        # Steps 2 and 4 alone: (0 + 2) / 2, (1 + 4) / 2; step 5 is trained but not averaged.
        ({"steps": 5, "every": 2}, 2.5),
        # Up to step 3 the weight itself, then (3 + 4) / 2.
        ({"steps": 4, "start": 3}, 3.5),
        ({"steps": 3, "start": 10}, 3.0),
        # The start counts also where it is not one of the steps that are averaged.
        ({"steps": 4, "start": 3, "every": 2}, 3.5),
    ],
)
def test_averages(settings, expected: float):
    assert averaged(**settings) == pytest.approx(expected, rel=1e-5)


def test_averages_take_no_part_in_training():
    values: list[float] = []

    def term(batch: Batch) -> Tensor:
        values.append(toy.one.weight.item())
        return -toy.one.weight.expand(4)

    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, term=term, adam=Adam(lr=1.0)),
            ema=Ema(modules=(t.one,), decay=0.5, every=1),
        )
    )
    fit(toy, steps=3)
    assert values == pytest.approx([2, 3, 4])
    # 2, 2.5, 3.25, 4.125.
    assert toy.one.weight.item() == pytest.approx(4.125)


def test_the_next_stage_begins_with_the_average():
    toy = Toy(
        lambda t: [
            Stage(
                name="first",
                updates=[t.update("one", t.one, term=lambda b: -t.one.weight.expand(4))],
                ema=Ema(modules=(t.one,), decay=1.0, every=1),
            ),
            Stage(name="second", updates=[t.update("two", t.two)]),
        ]
    )
    fit(toy, steps=4)
    assert toy.one.weight.item() == 2.0


def test_running_statistics_are_averaged_with_the_weights_they_belong_to():
    averaged, last = nn.BatchNorm1d(1, momentum=1.0), nn.BatchNorm1d(1, momentum=1.0)

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            grey = batch.normal[:, 0, 0, :1]
            return (averaged(grey) + last(grey))[:, 0]

        return one_stage(
            t.update("one", t.one, t.two, term=term, adam=Adam(lr=0.0)),
            ema=Ema(modules=(t.one,), decay=0.5, every=1),
        )

    toy = Toy(build)
    toy.one.norm, toy.two.norm = averaged, last
    fit(toy, steps=2)
    # With this momentum the running mean is that of the last batch; it begins at 0.
    first, second = (sum(seen.numbers) / 400 for seen in toy.seen)
    assert averaged.running_mean.item() == pytest.approx(first / 4 + second / 2, abs=1e-6)
    assert averaged.running_var.item() != last.running_var.item()
    assert averaged.num_batches_tracked == 2
    assert last.running_mean.item() == pytest.approx(second, abs=1e-6)


# Passes --------------------------------------------------------------------------------------


def test_passes_see_every_view_once_in_eval_mode_without_gradients():
    order: list[str] = []
    seen: dict[str, list[int]] = {}

    def visit(name: str):
        def look(batches) -> None:
            order.append(name)
            seen[name] = []
            for images in batches:
                assert not torch.is_grad_enabled()
                assert not any(module.training for module in toy.modules())
                assert len(images) <= 4
                seen[name] += numbers(images)

        return look

    def build(t: Toy) -> list[Stage]:
        def term(batch: Batch) -> Tensor:
            order.append("update")
            return t.one.weight * batch.normal.mean((1, 2, 3))

        return one_stage(
            t.update("one", t.one, term=term), before=visit("before"), after=visit("after")
        )

    toy = Toy(build)
    history = fit(toy, numbered(5, views=2), steps=2)
    assert order == ["before", "update", "update", "after"]
    assert seen == {"before": [0, 1, 2, 3, 4] * 2, "after": [0, 1, 2, 3, 4] * 2}
    assert history.steps == 2


def test_views_of_a_picture_differ():
    seen: list[Tensor] = []
    toy = Toy(lambda t: [Stage(name="look", before=seen.extend)])
    fit(toy, numbered(5, views=3, draws=2))
    assert len(torch.cat(seen)[:, 0, 0, 0].unique()) == 15


@pytest.mark.parametrize(
    ("validation", "expected"), [(3, [20, 21, 22]), (0, [0, 1, 2, 3, 4]), (None, [0, 1, 2, 3, 4])]
)
def test_a_stage_may_visit_held_out_pictures_where_there_are_any(validation, expected):
    seen: list[Tensor] = []
    held_out = None if validation is None else Pictures(numbered(23).pixels[23 - validation :])
    toy = Toy(lambda t: [Stage(name="look", visits="held_out", before=seen.extend)])
    history = fit(toy, numbered(5), validation=held_out)
    assert [n for images in seen for n in numbers(images)] == expected
    assert history.images == len(expected)


def test_a_method_without_updates_needs_no_budget():
    seen: list[Tensor] = []
    toy = Toy(lambda t: [Stage(name="look", before=seen.extend)])
    history = fit(toy, steps=0)
    assert len(torch.cat(seen)) == 10
    assert (history.steps, history.verdict.words) == (0, WITHOUT_STEPS)


def test_the_average_is_what_a_pass_after_sees():
    seen: list[float] = []
    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one),
            ema=Ema(modules=(t.one,), decay=1.0, every=1),
            after=lambda images: seen.append(t.one.weight.item()),
        )
    )
    fit(toy)
    assert seen == [2.0]


def test_the_learning_rate_falls_when_the_passes_are_complete():
    adam = Adam(lr=1.0, eps=1e-30, betas=(0.0, 0.0), schedule=Schedule(epochs=(1, 2), factor=0.5))
    toy = Toy(lambda t: one_stage(t.update("one", t.one, adam=adam)))
    values = [toy.one.weight.item()]
    # Ten pictures in fours: batches 0 to 2 begin in pass 0, 3 and 4 in pass 1, the rest in pass 2.
    for steps in range(1, 7):
        toy.one.weight.data.fill_(2.0)
        fit(toy, steps=steps)
        values.append(toy.one.weight.item())
    moves = [round(a - b, 4) for a, b in pairwise(values)]
    assert moves == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]


def prepared_toy(seen: list[Tensor | None]) -> Toy:
    class Preparing(Toy):
        asked = 0

        def prepare(self, x: Tensor) -> Tensor:
            self.asked += 1
            return 2 * x.mean((1, 2, 3))[:, None]

    def term(batch: Batch) -> Tensor:
        grey = batch.normal.mean((1, 2, 3))
        if batch.prepared is not None:
            torch.testing.assert_close(batch.prepared[:, 0], 2 * grey)
        seen.append(batch.prepared)
        return toy.one.weight * grey

    toy = Preparing(lambda t: one_stage(t.update("one", t.one, term=term)))
    return toy


@pytest.mark.parametrize(
    ("pictures", "cache_gib", "asked", "kept"),
    [
        (numbered(10), 1.0, 3, True),  # the ten pictures are looked at once, in fours
        (numbered(10), 1e-9, 1, False),  # too large to keep, as the first look shows
        (numbered(10, draws=2), 1.0, 0, False),  # augmented: never the same twice
    ],
)
def test_what_a_method_prepares_reaches_its_losses_where_it_is_kept(
    pictures: Pictures, cache_gib: float, asked: int, kept: bool
):
    seen: list[Tensor | None] = []
    toy = prepared_toy(seen)
    fit(toy, pictures, steps=5, cache_gib=cache_gib)
    assert [prepared is not None for prepared in seen] == [kept] * 5
    assert toy.asked == asked


@pytest.mark.parametrize(("batch", "equal"), [("shared", False), ("same", True)])
def test_the_same_batch_has_the_same_noise(batch: str, equal: bool):
    noise: list[Tensor] = []

    def term(given: Batch) -> Tensor:
        noise.append(given.normals(3))
        return toy.one.weight * given.normal.mean((1, 2, 3))

    toy = Toy(
        lambda t: one_stage(
            t.update("one", t.one, term=term), t.update("two", t.one, term=term, batch=batch)
        )
    )
    fit(toy, steps=2)
    first, second, third, fourth = noise
    assert torch.equal(first, second) == torch.equal(third, fourth) == equal
    assert not torch.equal(first, third)


def test_each_module_may_have_an_optimizer_of_its_own():
    slow = Adam(lr=0.25, eps=1e-30, schedule=Schedule(epochs=(1,)))
    fast = Adam(lr=1.0, eps=1e-30, betas=(0.0, 0.0))

    def term(batch: Batch) -> Tensor:
        return (toy.one.weight + toy.two.weight) * (1 + batch.normal.mean((1, 2, 3)))

    toy = Toy(lambda t: one_stage(t.update("both", t.one, t.two, term=term, adam=(slow, fast))))
    fit(toy, steps=1)
    assert (toy.one.weight.item(), toy.two.weight.item()) == pytest.approx((1.75, 0.0))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda _: torch.ones(()), "the loss of update 'one' is a Tensor; it must be a Loss"),
        (
            lambda batch: Loss.weighted(grey=(1.0, batch.normal.mean((1, 2, 3)))),
            "the loss of update 'one' has no gradient: nothing that the update trains",
        ),
    ],
)
def test_a_loss_that_trains_nothing_is_refused(loss, says: str):
    toy = Toy(lambda t: one_stage(replace(t.update("one", t.one), loss=loss)))
    with pytest.raises(ConfigError, match=says):
        fit(toy, steps=1)
