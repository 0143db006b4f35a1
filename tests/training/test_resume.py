"""Same seed, same numbers; and a run that was broken off ends as if it had not been."""

import json
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import (
    ConfigError,
    ModelFileError,
    OtherBudget,
    TrainingInterrupted,
)
from onlygood.core.method import InputShape, Method
from onlygood.core.settings import Budget, Training
from onlygood.core.stage import Batch, Ema, Stage
from onlygood.core.terms import Loss, Scores
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig
from onlygood.training import History, Trainer
from onlygood.training import checkpoint as checkpoints
from onlygood.training.trainer import CHECKPOINT, LOG
from tests.training.toys import Moment, Small, Toy, fit, numbered, staged, stop, textures

INTERVALS = {
    **{"batch_size": 4, "log_every": 2, "validate_every": 3, "checkpoint_every": 3},
    "decay_from": 0.3,
}
TIMES = ("seconds", "images_per_second")


class Crash(Exception):
    """What nobody expects."""


def train(
    method: Method,
    folder: Path | None = None,
    *,
    seed: int = 0,
    resume: bool = False,
    validation: bool = True,
    **training: Any,
) -> History:
    settings = {"steps": 12, "precision": "float32", **INTERVALS, **training}
    return Trainer(
        Training(**settings), seed=seed, device="cpu", run_dir=folder, fingerprint="small"
    ).fit(
        method,
        textures(7, 4, 2, draws=2, views=2),
        validation=textures(3, 4, 2, seed=1, draws=1) if validation else None,
        anomalous=textures(2, 4, 2, seed=2),
        resume=resume,
    )


def timeless(history: History) -> list[dict[str, Any]]:
    return [{k: v for k, v in r.items() if k not in TIMES} for r in history.records]


def assert_same(one: Method, two: Method) -> None:
    a, b = one.state_dict(), two.state_dict()
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name], b[name]), name


def unlike(one: Method, two: Method) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return any(not torch.equal(a[name], b[name]) for name in a)


def broken_off(folder: Path, moment: Moment, *, crash: bool = False) -> Small:
    """A run that ends early, by Ctrl-C or without a word, the first time `moment` comes."""
    method = Small()

    def at_moment(now: Moment) -> None:
        if now == moment:
            if crash:
                raise Crash
            stop()

    method.at_moment = at_moment
    with pytest.raises(Crash if crash else TrainingInterrupted):
        train(method, folder)
    return method


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Small, History]:
    method = Small()
    return method, train(method, tmp_path_factory.mktemp("unbroken"))


def test_the_same_seed_gives_the_same_numbers(unbroken: tuple[Small, History]):
    method, history = unbroken
    again = Small()
    torch.manual_seed(123)  # Whatever the caller did before.
    assert timeless(train(again)) == timeless(history)
    assert_same(again, method)


def test_another_seed_gives_others(unbroken: tuple[Small, History]):
    other = Small()
    train(other, seed=1)
    assert unlike(other, unbroken[0])


def test_the_global_random_states_are_untouched():
    # Not Python's: the checks of annotations draw from it.
    before = torch.random.get_rng_state(), np.random.get_state()[1].tolist()
    train(Small(), steps=4)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_validation_does_not_change_the_weights(unbroken: tuple[Small, History]):
    method = Small()
    history = train(method, validation=False)
    assert_same(method, unbroken[0])
    assert not any("validation/total" in record for record in history.records)


def test_the_small_run_is_worth_comparing(unbroken: tuple[Small, History]):
    method, history = unbroken
    assert (history.steps, history.seconds > 0) == (12, True)
    assert unlike(method, Small())
    assert method.mean.any() and method.error > 0
    # Images: two passes over 7 pictures of 2 views, 6 updates of 4, then 6 * 2 + 3 of 4.
    assert history.images == 2 * 14 + (6 + 15) * 4


INTERRUPTIONS = [
    ("autoencoder", 2),
    ("autoencoder", 3),  # Just where a checkpoint is due anyway.
    ("autoencoder", 6),  # The last step of the first stage.
    ("critic", 1),  # The first step of the second stage.
    ("critic", 3),
    ("encoder", 4),
    ("encoder", 6),  # The very last step.
]


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_an_interrupted_run_goes_on_bit_for_bit(
    tmp_path: Path, moment: Moment, unbroken: tuple[Small, History]
):
    interrupted = broken_off(tmp_path, moment)
    assert unlike(interrupted, unbroken[0])
    resumed = Small(seed=9)  # What it begins with is overwritten.
    history = train(resumed, tmp_path, resume=True)
    assert_same(resumed, unbroken[0])
    assert timeless(history) == timeless(unbroken[1])
    assert (history.steps, history.images) == (unbroken[1].steps, unbroken[1].images)


# Step 5 of the second stage is three steps into it; the passes stand between two checkpoints.
@pytest.mark.parametrize("moment", [("autoencoder", 5), ("critic", 5), ("critic", 1), ("after", 0)])
def test_a_crashed_run_goes_on_from_its_last_checkpoint(
    tmp_path: Path, moment: Moment, unbroken: tuple[Small, History]
):
    broken_off(tmp_path, moment, crash=True)
    resumed = Small(seed=9)
    history = train(resumed, tmp_path, resume=True)
    assert_same(resumed, unbroken[0])
    assert timeless(history) == timeless(unbroken[1])
    # Also on disk there is no line twice.
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in lines] == [
        (r["stage"], r["step"]) for r in unbroken[1].records
    ]


def test_a_run_can_be_interrupted_again_and_again(tmp_path: Path, unbroken: tuple[Small, History]):
    broken_off(tmp_path, ("autoencoder", 1))
    for moment in INTERRUPTIONS[1:]:
        method = Small(seed=3)
        method.at_moment = lambda now, moment=moment: stop() if now == moment else None
        with pytest.raises(TrainingInterrupted):
            train(method, tmp_path, resume=True)
    resumed = Small()
    assert timeless(train(resumed, tmp_path, resume=True)) == timeless(unbroken[1])
    assert_same(resumed, unbroken[0])


def test_the_time_of_all_parts_is_added_up(tmp_path: Path):
    broken_off(tmp_path, ("critic", 3))
    first = checkpoints.load(tmp_path / CHECKPOINT, "small").facts["position"]["seconds"]
    assert train(Small(), tmp_path, resume=True).seconds > first > 0


def test_a_longer_budget_makes_a_run_of_one_stage_longer(tmp_path: Path):
    long, short = (Toy(lambda t: [Stage(name="s", updates=[t.update("one", t.one)])]) for _ in "12")
    fit(long, steps=8)
    fit(short, steps=5, checkpoint_every=5, run_dir=tmp_path)
    fit(short, steps=8, run_dir=tmp_path, resume=True)
    assert_same(long, short)


def stopped(toy: Toy, stage: int, step: int) -> Toy:
    """The same, with Ctrl-C in a step of a stage."""

    def build(t: Toy) -> Sequence[Stage]:
        def interrupted(loss: Callable[[Batch], Loss]) -> Callable[[Batch], Loss]:
            def wrapped(batch: Batch) -> Loss:
                if batch.progress.step + 1 == step:
                    stop()
                return loss(batch)

            return wrapped

        stages = list(toy.build(t))
        (update,) = stages[stage].updates
        stages[stage] = replace(
            stages[stage], updates=[replace(update, loss=interrupted(update.loss))]
        )
        return stages

    return Toy(build)


FALLING = {"decay_from": 0.5}

LARGER = [
    # Two stages: the first one goes on, whatever its budget was to be.
    (lambda: staged({}, {}), {"steps": 8}, (0, 3), {"steps": 12}),
    # The first stage has a budget of its own, so the second alone is longer.
    (lambda: staged({"budget": Budget(steps=2)}, {}), {"steps": 8}, (1, 3), {"steps": 12}),
    (lambda: staged({"budget": Budget(steps=2)}, {}), {"steps": 8}, (1, 3), {"epochs": 4}),
    # Up to here no rate has fallen, and none would have.
    (lambda: staged({}), {"steps": 8, **FALLING}, (0, 4), {"steps": 12, **FALLING}),
]
REFUSED = [
    (lambda: staged({}, {}), {"steps": 8}, (1, 1), {"steps": 12}),
    (lambda: staged({"budget": Budget(steps=2)}, {}), {"steps": 4}, (1, 1), {"steps": 12}),
    (lambda: staged({}), {"steps": 8, **FALLING}, (0, 5), {"steps": 12, **FALLING}),
    # Nothing has fallen so far, but with the shorter budget it would have.
    (lambda: staged({}), {"steps": 8, **FALLING}, (0, 4), {"steps": 6, **FALLING}),
    (lambda: staged({}), {"steps": 8, **FALLING}, (0, 5), {"epochs": 9, **FALLING}),
    # More is done than the shorter budget allows, here and in a stage with a budget of its own.
    (lambda: staged({}), {"steps": 8}, (0, 6), {"steps": 5}),
    (lambda: staged({"budget": Budget(steps=4)}, {}), {"steps": 20}, (1, 1), {"steps": 6}),
]


@pytest.mark.parametrize(("build", "before", "where", "after"), LARGER)
def test_another_budget_gives_what_an_unbroken_run_has(
    tmp_path: Path,
    build: Callable[[], Toy],
    before: dict[str, float],
    where: tuple[int, int],
    after: dict[str, float],
):
    unbroken, resumed = build(), build()
    fit(unbroken, **{"steps": 0, **after})
    with pytest.raises(TrainingInterrupted):
        fit(stopped(build(), *where), run_dir=tmp_path, **before)
    fit(resumed, run_dir=tmp_path, resume=True, **{"steps": 0, **after})
    assert_same(unbroken, resumed)


@pytest.mark.parametrize(("build", "before", "where", "after"), REFUSED)
def test_another_budget_is_refused_where_weights_depend_on_it(
    tmp_path: Path,
    build: Callable[[], Toy],
    before: dict[str, float],
    where: tuple[int, int],
    after: dict[str, float],
):
    with pytest.raises(TrainingInterrupted):
        fit(stopped(build(), *where), run_dir=tmp_path, **before)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(OtherBudget, match=f"resume with steps={before['steps']}, or start without"):
        fit(build(), run_dir=tmp_path, resume=True, **{"steps": 0, **after})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    unbroken, resumed = build(), build()
    fit(unbroken, **before)
    fit(resumed, run_dir=tmp_path, resume=True, **before)
    assert_same(unbroken, resumed)


def test_a_longer_run_goes_on_from_the_weights_and_not_from_their_average(tmp_path: Path):
    def build(t: Toy) -> list[Stage]:
        ema = Ema(modules=(t.one,), decay=0.5, every=1)
        return [Stage(name="s", updates=[t.update("one", t.one)], ema=ema)]

    whole, part = Toy(build), Toy(build)
    fit(whole, steps=8)
    fit(part, steps=5, run_dir=tmp_path)
    fit(part, steps=8, run_dir=tmp_path, resume=True)
    assert_same(whole, part)


@pytest.mark.parametrize("config", [{}, {"ema_decay": 0.5, "critic_steps": 2}])
def test_a_method_of_the_package_goes_on_bit_for_bit(tmp_path: Path, config: dict[str, Any]):
    pictures = textures(5, 32, 1, draws=1)

    def method(interrupt_at: int = 0) -> CBiGAN:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            new = CBiGAN(CBiGANConfig(width=2, latent=4, **config), InputShape(1, 32, 32))

        def watch(*_: object) -> None:
            new.passes += 1
            if new.passes == interrupt_at:
                stop()

        new.passes = 0
        new.register_forward_pre_hook(watch)
        return new

    def run(new: CBiGAN, resume: bool = False) -> None:
        settings = Training(steps=6, batch_size=4, precision="float32")
        Trainer(settings, device="cpu", run_dir=tmp_path).fit(new, pictures, resume=resume)

    whole, part, rest = method(), method(interrupt_at=7), method()
    run(whole)
    with pytest.raises(TrainingInterrupted):
        run(part)
    run(rest, resume=True)
    assert_same(whole, rest)


# What an interruption says ---------------------------------------------------------------------


def toy_that_stops(at: int, number: int = signal.SIGINT) -> Toy:
    def build(t: Toy) -> list[Stage]:
        def term(batch):
            if batch.progress.step + 1 == at:
                stop(number)
            return t.one.weight * batch.normal.mean((1, 2, 3))

        return [Stage(name="only", updates=[t.update("one", t.one, term=term)])]

    return Toy(build)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_the_step_write_a_checkpoint_and_say_how_to_go_on(tmp_path: Path, number: int):
    before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(TrainingInterrupted) as caught:
        fit(toy_that_stops(2, number), run_dir=tmp_path)
    path = tmp_path / CHECKPOINT
    assert "'only' after step 2" in str(caught.value)
    assert f"{path} is written: repeat the command with --resume" in str(caught.value)
    assert checkpoints.load(path, "toy").facts["position"]["step"] == 2
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == before


def test_without_a_folder_nothing_is_saved_and_that_is_said():
    with pytest.raises(TrainingInterrupted, match="nothing was saved, as the run has no folder"):
        fit(toy_that_stops(2))


def test_a_trainer_can_be_used_again_after_an_interruption():
    trainer = Trainer(Training(steps=3, batch_size=4, precision="float32"), device="cpu")
    with pytest.raises(TrainingInterrupted):
        trainer.fit(toy_that_stops(2), numbered(10))
    assert trainer.fit(toy_that_stops(0), numbered(10)).steps == 3


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_pass_can_be_interrupted(tmp_path: Path, where: str):
    seen = 0

    def look(batches) -> None:
        nonlocal seen
        for _ in batches:
            seen += 1
            stop()

    def build(t: Toy) -> list[Stage]:
        return [Stage(name="only", updates=[t.update("one", t.one)], **{where: look})]

    with pytest.raises(TrainingInterrupted, match="in a pass over all pictures") as caught:
        fit(Toy(build), run_dir=tmp_path, checkpoint_every=2)
    assert seen == 1
    ending = {"before": "nothing yet to go on from", "after": "with --resume to go on"}
    assert ending[where] in str(caught.value)


@pytest.mark.parametrize("where", ["before", "after"])
def test_what_a_pass_does_in_the_end_is_not_gone_on_from(where: str):
    def look(batches) -> None:
        list(batches)
        stop()

    def build(t: Toy) -> list[Stage]:
        return [Stage(name="only", updates=[t.update("one", t.one)], **{where: look})]

    with pytest.raises(TrainingInterrupted, match="in a pass over all pictures"):
        fit(Toy(build))


def test_a_signal_behind_the_last_step_counts(tmp_path: Path):
    def build(t: Toy) -> list[Stage]:
        return [Stage(name="only", updates=[t.update("one", t.one)])]

    class Last(Toy):
        def score(self, x: torch.Tensor) -> Scores:
            stop()
            return super().score(x)

    with pytest.raises(TrainingInterrupted, match=r"at the end of the last stage; .* is written"):
        fit(Last(build), run_dir=tmp_path, validation=numbered(2))
    whole, rest = Toy(build), Toy(build)
    fit(whole)
    fit(rest, run_dir=tmp_path, resume=True)
    assert_same(whole, rest)
    assert rest.seen == []


@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_ctrl_c_again_waits_for_nothing(monkeypatch: pytest.MonkeyPatch, pause: float):
    clock = iter([100.0, 100.0 + pause])
    reached = False

    def look(batches) -> None:
        nonlocal reached
        with monkeypatch.context() as patched:
            patched.setattr("onlygood.training.trainer.time.monotonic", lambda: next(clock))
            stop()
            stop()
        reached = True
        list(batches)

    def build(t: Toy) -> list[Stage]:
        return [Stage(name="only", before=look)]

    # At once it is a terminal's and a launcher's, which both pass it on.
    with pytest.raises(KeyboardInterrupt if pause else TrainingInterrupted):
        fit(Toy(build))
    assert reached == (pause == 0)


def test_runs_in_a_thread_too():
    # Signal handlers are for the main thread alone.
    done: list[History] = []
    toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one)])])
    thread = threading.Thread(target=lambda: done.append(fit(toy)))
    thread.start()
    thread.join()
    assert done[0].steps == 4


def test_runs_of_several_threads_leave_the_global_random_state():
    """The one that begins first ends first, too."""
    begun, ended = threading.Event(), threading.Event()

    def running(wait: Callable[[], object]) -> Callable[[], object]:
        def term(batch: Batch) -> Tensor:
            wait()
            return toy.one.weight.expand(len(batch.normal))

        toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one, term=term)])])
        return lambda: fit(toy, steps=1)

    def second() -> None:
        begun.set()
        ended.wait(30)

    before = torch.random.get_rng_state()
    other = threading.Thread(target=running(second))

    def first() -> None:
        other.start()
        begun.wait(30)

    running(first)()
    ended.set()
    other.join()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_what_drops_out_does_not_depend_on_other_threads():
    def dropped(seed: int, meanwhile: Callable[[], object]) -> list[float]:
        seen: list[Tensor] = []

        def term(batch: Batch) -> Tensor:
            meanwhile()
            seen.append(toy.one.drop(torch.ones(32)))
            return toy.one.weight.expand(len(batch.normal))

        toy = Toy(lambda t: [Stage(name="only", updates=[t.update("one", t.one, term=term)])])
        toy.one.drop = nn.Dropout(0.5)
        fit(toy, steps=1, seed=seed)
        return seen[0].tolist()

    seeded, ended = threading.Event(), threading.Event()

    def second() -> None:
        seeded.set()
        ended.wait(30)

    other = threading.Thread(target=dropped, args=(1, second))

    def first() -> None:
        other.start()
        seeded.wait(0.5)  # In vain: it has to wait until this one has drawn.

    alone, together = dropped(0, bool), dropped(0, first)
    ended.set()
    other.join()
    assert together == alone


# What is refused -------------------------------------------------------------------------------


def test_a_checkpoint_of_another_network_or_update_is_refused(tmp_path: Path):
    def named(name: str) -> Toy:
        return Toy(lambda t: [Stage(name="only", updates=[t.update(name, t.one)])])

    fit(named("one"), run_dir=tmp_path)
    larger = named("one")
    larger.two.more = torch.nn.Linear(1, 1)
    for other in (named("renamed"), larger):
        with pytest.raises(ModelFileError, match=r"does not fit this method.* without --resume"):
            fit(other, run_dir=tmp_path, resume=True, steps=8)


def test_resuming_needs_a_folder():
    with pytest.raises(ConfigError, match="needs the run folder"):
        fit(toy_that_stops(0), resume=True)


def test_resuming_needs_a_checkpoint(tmp_path: Path):
    with pytest.raises(ModelFileError, match="resume from; start without --resume"):
        fit(toy_that_stops(0), run_dir=tmp_path, resume=True)


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str):
    fit(toy_that_stops(0), run_dir=tmp_path, checkpoint_every=2)
    path = tmp_path / CHECKPOINT
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[:-7], "empty": b"", "foreign": b"\x00" * 1000}[damage])
    with pytest.raises(ModelFileError, match="is damaged"):
        fit(toy_that_stops(0), run_dir=tmp_path, resume=True)


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path):
    fit(toy_that_stops(0), run_dir=tmp_path, checkpoint_every=2)
    other = Trainer(Training(steps=4), device="cpu", run_dir=tmp_path, fingerprint="other")
    toy = toy_that_stops(0)
    with pytest.raises(ConfigError, match="another method, settings, seed, pictures or version"):
        other.fit(toy, numbered(10), resume=True)
    assert toy.one.weight.item() == 2.0


def test_a_refused_checkpoint_and_its_log_stay_as_they_are(tmp_path: Path):
    fit(toy_that_stops(0), run_dir=tmp_path, checkpoint_every=2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    other = Trainer(Training(steps=4), device="cpu", run_dir=tmp_path, fingerprint="other")
    with pytest.raises(ConfigError, match="another method"):
        other.fit(toy_that_stops(0), numbered(10), resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
