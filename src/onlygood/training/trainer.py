"""The one loop: runs the stages of any method.

What it promises is tested in `tests/training`: only the trained modules require gradients, every
update sees the batch it asked for, the same seed gives the same numbers, a resumed run equals an
unbroken one bit for bit, several processes equal one, a run that goes wrong stops and says so.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from onlygood.core import randomness
from onlygood.core.errors import (
    ConfigError,
    DataError,
    ModelFileError,
    TrainingDiverged,
    TrainingInterrupted,
)
from onlygood.core.exact import exactly
from onlygood.core.images import TrainingImages
from onlygood.core.machine import keep_freed_memory
from onlygood.core.method import Method
from onlygood.core.settings import Budget, Training
from onlygood.core.shapes import Batches, Images
from onlygood.core.stage import Batch, Progress, Shared, Stage, Update
from onlygood.core.terms import Loss
from onlygood.core.threads import InCommon
from onlygood.training import checkpoint as checkpoints
from onlygood.training import distributed, health
from onlygood.training.ema import Averager, running_statistics
from onlygood.training.gradients import Backward, rule_of
from onlygood.training.optimizers import Place, built, lay_out_gradients, set_rates
from onlygood.training.plan import Plan, generator_at, seed_of
from onlygood.training.precision import autocast, unaffected, uses_bf16
from onlygood.training.reporting import Reporter, Silent
from onlygood.training.spending import WHOLE, Done, Spending

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"
RUNAWAY = 1e6
"""A loss this many times larger than any of its first ones has run away."""
IMPATIENCE = 2.0
"""Seconds from a first SIGINT to one that is meant to stop whatever takes so long."""


class History(NamedTuple):
    """What a run leaves behind besides the weights."""

    records: list[health.Record]
    verdict: health.Verdict
    steps: int
    images: int
    seconds: float
    """Time in the loop, over all resumptions."""


@dataclass
class _Position:
    """How far the run is; all of it is in the checkpoint."""

    stage: int = 0
    step: int = 0
    """Steps of this stage."""
    batches: int = 0
    """Batches drawn from the plan, by all stages."""
    images: int = 0
    """Images consumed by updates, by all stages."""
    seconds: float = 0.0
    stage_batches: int = 0
    stage_images: int = 0
    stage_seconds: float = 0.0
    total_steps: int = 0
    past: list[Done] = field(default_factory=list)
    """By each stage before this one."""

    @property
    def done(self) -> Done:
        """By this stage, so far."""
        return Done(self.step, self.stage_batches, self.stage_images, self.stage_seconds)

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> "_Position":
        """From JSON, which knows no tuples of a name."""
        return cls(**{**facts, "past": [Done(*done) for done in facts["past"]]})


@dataclass
class _Mover:
    """An update with its optimiser."""

    update: Update
    optimizer: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    rule: Backward
    first: list[float] = field(default_factory=list)
    """Sizes of its first losses, to tell a runaway by."""

    def move(self, at: Place) -> None:
        """Step with the gradients that the parameters have, which are then gone."""
        set_rates(self.optimizer, self.update, at)
        lay_out_gradients(self.parameters)
        self.optimizer.step()
        self.optimizer.zero_grad()


class Trainer:
    """Runs the stages of a method on normal pictures.

    Args:
        training: Budget, batch size, precision, intervals.
        seed: Fixes order, augmentation, noise and dropout.
        device: Where to compute; by default the first GPU, else the processor.
        run_dir: Folder for checkpoint and log; without it neither is written.
        fingerprint: Names the run; a checkpoint with another one is refused.
        reporter: Hears of the progress.
    """

    def __init__(
        self,
        training: Training,
        *,
        seed: int = 0,
        device: torch.device | str | None = None,
        run_dir: Path | None = None,
        fingerprint: str = "",
        reporter: Reporter | None = None,
    ) -> None:
        self.training, self.seed, self.fingerprint = training, seed, fingerprint
        self.device = torch.device(device) if device else distributed.default_device()
        self.run_dir = run_dir
        self.reporter: Reporter = reporter or Silent()
        self._interrupted = False

    def fit(
        self,
        method: Method,
        images: TrainingImages,
        *,
        validation: TrainingImages | None = None,
        anomalous: TrainingImages | None = None,
        resume: bool = False,
    ) -> History:
        """Train; the method holds the last (or averaged) weights afterwards, in eval mode.

        Args:
            method: Fresh, or as it comes: weights are overwritten when resuming.
            images: Normal pictures to learn from.
            validation: Normal pictures to look at now and then; they select nothing. What a stage
                measures on held-out pictures is measured on them.
            anomalous: Known anomalous pictures, for methods that use them.
            resume: Go on from the checkpoint in `run_dir`.

        Raises:
            ConfigError: no budget, a batch that processes or networks cannot take, or a
                checkpoint of another run.
            OtherBudget: the weights in the checkpoint depend on the budget, which is another now.
            DataError: no pictures.
            TrainingDiverged: a loss became NaN or ran away, or weights are not finite at the end.
            TrainingInterrupted: SIGINT or SIGTERM came; a checkpoint was written.
            KeyboardInterrupt: SIGINT came again, `IMPATIENCE` later; nothing is saved.
            ModelFileError: the checkpoint is missing, damaged or of other networks, or it or the
                log cannot be written.
        """
        keep_freed_memory()
        distributed.start()
        distributed.check_batch(self.training.batch_size, method)
        if not len(images):
            raise DataError("there are no pictures to train on; give at least one normal picture")
        if resume and self.run_dir is None:
            raise ConfigError("resuming needs the run folder of the run that was interrupted")
        with unaffected(self.device), _seeded_globally(self.seed), self._signals():
            method.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            required = [parameter.requires_grad for parameter in method.parameters()]
            run = _Run(self, method, images, validation, anomalous)
            try:
                return run.go(resume)
            finally:
                run.log.close()
                self.reporter.finish()
                method.eval()
                for parameter, was in zip(method.parameters(), required, strict=True):
                    parameter.requires_grad_(was)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a wish to stop after the step that is running."""
        self._interrupted = False
        first = math.inf

        def wish(number: int, frame: FrameType | None) -> None:
            nonlocal first
            now = time.monotonic()
            # What calls many processes may pass a signal on that they have had from a terminal.
            if number == signal.SIGINT and now - first > IMPATIENCE:
                raise KeyboardInterrupt
            first = min(first, now)
            self._interrupted = True

        # Python allows handlers in the main thread alone; elsewhere the caller's rules hold.
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {s: signal.signal(s, wish) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Run:
    """One call of `Trainer.fit`."""

    def __init__(
        self,
        trainer: Trainer,
        method: Method,
        images: TrainingImages,
        validation: TrainingImages | None,
        anomalous: TrainingImages | None,
    ) -> None:
        self.trainer, self.training, self.device = trainer, trainer.training, trainer.device
        self.reporter = trainer.reporter
        self.method, self.images = method, images
        self.validation, self.anomalous = validation or None, anomalous or None
        self.spending: Spending
        self.plan = self._plan_for(images, 0)
        self.at = _Position()
        self.log = health.Log(None)
        self.movers: list[_Mover] = []
        self.averager: Averager | None = None
        self.statistics: list[Tensor] = []
        self.stream: Iterator[Images] = iter(())
        self.anomalous_stream: Iterator[Images] | None = None
        self.current: Batch | None = None
        self.last_checkpoint = ""
        self.prepared: Tensor | None = None
        self.noise = (0, 0)
        self.drops = any(isinstance(m, _DropoutNd) and m.p for m in method.modules())

    def _plan_for(self, images: TrainingImages, stream: int) -> Plan:
        return Plan(
            len(images),
            self.training.batch_size,
            images.draws,
            seed_of(self.trainer.seed, stream),
            distributed.rank(),
            distributed.world(),
        )

    def _validation_plan(self, images: TrainingImages) -> Plan:
        seed = seed_of(self.trainer.seed, 5)
        return Plan(len(images), self.training.batch_size, images.draws, seed)

    # The run ---------------------------------------------------------------------------------

    def go(self, resume: bool) -> History:
        stages = self.method.stages()
        endless = [s for s in stages if s.updates and not (s.budget and s.budget.ends)]
        if endless and not self.training.ends:
            raise ConfigError("training needs a budget: set minutes, steps, images or epochs")
        self.spending = Spending(stages, self.training, len(self.images))
        saved = None
        path = self._file(CHECKPOINT)
        if resume and path is not None:
            saved = checkpoints.load(path, self.trainer.fingerprint)
            with _of_this_method(path):
                self.method.load_state_dict(saved.part("method"))
            self.at = _Position.of(saved.facts["position"])
            done = [*self.at.past, self.at.done]
            self.spending.check(Budget(**saved.facts["budget"]), done, path)
            self.last_checkpoint = str(path)
        distributed.broadcast(self.method.state_dict().values())
        # Only process 0 writes; the others have the same records.
        log_path = self._file(LOG) if distributed.rank() == 0 else None
        self.log = health.Log(log_path, saved.facts["log"] if saved else ())
        for number in range(self.at.stage, len(stages)):
            stage = stages[number]
            self.at.stage = number
            if self.at.step == 0 and stage.before is not None:
                self._pass(stage, stage.before)
            if stage.updates:
                self._train(stage, saved)
            saved = None
            if stage.after is not None:
                self._pass(stage, stage.after)
                if stage.updates:
                    self._validate(stage)  # Of what the pass has changed, too.
            self.at.past.append(self.at.done)
            self.at.step = self.at.stage_batches = self.at.stage_images = 0
            self.at.stage_seconds = 0.0
        if self.trainer._interrupted:
            raise self._interruption("at the end of the last stage")
        at = self.at
        return History(
            self.log.records,
            health.verdict(self.log.records),
            at.total_steps,
            at.images,
            at.seconds,
        )

    def _pass(self, stage: Stage, visit: Callable[[Batches], None]) -> None:
        """One pass over the views that the stage visits, in eval mode and without gradients."""
        name = stage.name
        pictures, plan = self.images, self.plan
        if stage.visits == "held_out" and self.validation is not None:
            pictures, plan = self.validation, self._validation_plan(self.validation)
        self.reporter.start(name)
        self.method.eval()
        began = time.perf_counter()
        with torch.no_grad(), exactly(self.device):
            if isinstance(visit, Shared) and (part := plan.part_of_once(pictures.views)):
                first, picks = part
                views = self._views(name, pictures.batches(picks))
                visit.settle(distributed.merged(visit.gather(views, first)))
            else:
                visit(self._views(name, pictures.batches(plan.once(pictures.views))))
        self._heed(name)  # What was done with the last views may have taken minutes.
        self.at.seconds += time.perf_counter() - began
        self.at.images += len(pictures) * pictures.views
        self._log({"stage": name, "step": 0, "images": self.at.images, "seconds": self.at.seconds})
        self.reporter.finish()

    def _views(self, name: str, batches: Batches) -> Iterator[Images]:
        for images in batches:
            self._heed(name)
            yield images

    def _heed(self, name: str) -> None:
        """Stop a pass where that is wanted."""
        if self.trainer._interrupted:
            raise self._interruption(f"in stage {name!r}, in a pass over all pictures")

    def _interruption(self, where: str) -> TrainingInterrupted:
        if self.last_checkpoint:
            what = f"{self.last_checkpoint} is written: repeat the command with --resume to go on"
        elif self.trainer.run_dir is None:
            what = "nothing was saved, as the run has no folder (--run-dir)"
        else:
            what = "nothing was saved, as there is nothing yet to go on from"
        return TrainingInterrupted(f"stopped {where}; {what}")

    def _train(self, stage: Stage, saved: checkpoints.Checkpoint | None) -> None:
        self.prepared = self._prepared()
        self._set_up(stage, saved)
        self.reporter.start(stage.name)
        self.stream = self.images.batches(self.plan.picks(self.at.batches))
        if self.anomalous is not None:
            known = self._plan_for(self.anomalous, 1)
            self.anomalous_stream = self.anomalous.batches(known.picks(self.at.batches))
        clock, at, training = _Clock(self.at), self.at, self.training
        while (spent := distributed.agreed(self.spending.spent(stage, at.done))) < WHOLE:
            terms = self._step(stage, spent)
            clock.tick()
            if self.averager is not None:
                self.averager.update(at.step)
            if at.step == 1 or at.step % training.log_every == 0:
                self._record(stage, terms, clock.rate())
            if at.step % training.validate_every == 0:
                self._validate(stage)
            if distributed.agreed(self.trainer._interrupted):
                self._checkpoint()
                raise self._interruption(f"in stage {stage.name!r} after step {at.step}")
            if at.step % training.checkpoint_every == 0:
                self._checkpoint()
        # Before averages replace the weights: a finished run may be taken further.
        self._checkpoint()
        # A gradient may be NaN where the loss is finite, and not each loss is looked at.
        if not _finite(self.method.state_dict().values()):
            self._diverged(f"weights of stage {stage.name!r} are not finite")
        if self.averager is not None:
            self.averager.finish()
        # A loss may have filled buffers by its own part of each batch. From here on there is one
        # network: the next stage, what is fitted to it and the calibration are of the one saved.
        distributed.broadcast(self.method.buffers())
        if self.averager is not None or at.step % training.validate_every:
            self._validate(stage)
        self.reporter.finish()

    def _set_up(self, stage: Stage, saved: checkpoints.Checkpoint | None) -> None:
        """Optimisers, averages and modes of a stage, from a checkpoint if there is one."""
        self.movers = []
        for update in stage.updates:
            parameters = [p for module in update.trains for p in module.parameters()]
            rule = rule_of(update, parameters)
            self.movers.append(_Mover(update, built(update), parameters, rule))
        self.averager = Averager(stage.ema) if stage.ema is not None else None
        if saved is not None:
            with _of_this_method(self.last_checkpoint):
                self._go_on_from(saved)
        trained = dict.fromkeys(module for update in stage.updates for module in update.trains)
        self.statistics = [t for module in trained for t in running_statistics(module)]
        self._modes(stage)

    def _go_on_from(self, saved: checkpoints.Checkpoint) -> None:
        """Put back what a checkpoint has of optimisers and averages."""
        for mover in self.movers:
            name = mover.update.name
            checkpoints.load_optimizer(mover.optimizer, saved.part(f"optimizer.{name}"))
            mover.first += saved.facts["first"][name]
            mover.rule.load(saved.facts["balance"].get(name, {}))
        if self.averager is not None:
            self.averager.load(saved.part("ema"))

    @torch.no_grad()
    def _prepared(self) -> Tensor | None:
        """What the method prepares of all training pictures, where it can be kept."""
        if self.images.draws:
            return None  # Augmented pictures are never the same twice.
        rows: list[Tensor] = []
        self.method.eval()
        for images in self.images.batches(self.plan.once()):
            with autocast(self.training, self.device):
                row = self.method.prepare(images)
            if row is None:
                return None
            size = row.nbytes / len(row) * len(self.images)
            if size > self.training.cache_gib * 2**30:
                return None
            rows.append(row)
        return torch.cat(rows)

    def _modes(self, stage: Stage) -> None:
        """Modules that the stage trains are in train mode, all others in eval mode."""
        self.method.eval()
        for update in stage.updates:
            for module in update.trains:
                module.train()

    # One step --------------------------------------------------------------------------------

    def _step(self, stage: Stage, spent: float) -> dict[str, Tensor]:
        """Run the updates that are due, when a share `spent` of the stage's budget is over.

        Gives their terms, by `UPDATE/TERM`.
        """
        self.at.step += 1
        self.at.total_steps += 1
        self.current = None
        logged = self.at.step == 1 or self.at.step % self.training.log_every == 0
        terms: dict[str, Tensor] = {}
        waiting: list[tuple[_Mover, list[Tensor | None], Place]] = []
        for number, mover in enumerate(self.movers):
            if self.at.step % mover.update.every:
                continue
            for repetition in range(mover.update.repeat):
                loss = self._gradients(mover, number, repetition)
                gradients = [p.grad for p in mover.parameters]
                terms |= {f"{mover.update.name}/{k}": v for k, v in loss.terms.items()}
                if logged:
                    norm = torch.nn.utils.get_total_norm([g for g in gradients if g is not None])
                    terms[f"{mover.update.name}/gradient_norm"] = norm
                for name, value in mover.rule.logged().items():
                    terms[f"{mover.update.name}/{name}"] = torch.tensor(value, device=self.device)
                if stage.order == "alternating":
                    mover.move(self._place(spent))
                else:
                    waiting.append((mover, gradients, self._place(spent)))
                    mover.optimizer.zero_grad()
        for mover, gradients, place in waiting:
            for parameter, gradient in zip(mover.parameters, gradients, strict=True):
                parameter.grad = gradient
            mover.move(place)
        # Each process has measured its own part of the batch. A loss may use what was measured, and
        # the checkpoint, of process 0, has one of each: they are in common, as weights are.
        distributed.average(self.statistics)
        return terms

    def _place(self, spent: float) -> Place:
        """Where the step that is running began, with the passes complete by now."""
        factor = _falling(self.training.decay_from, spent)
        return Place(self.at.step - 1, self._epoch(), spent, factor)

    def _epoch(self) -> int:
        """Passes of this stage that were complete before the newest batch."""
        return self.plan.epoch(self.at.stage_batches - 1)

    def _gradients(self, mover: _Mover, number: int, repetition: int) -> Loss:
        """Loss and gradients of one update, averaged over processes."""
        self.method.requires_grad_(False)
        for parameter in mover.parameters:
            parameter.requires_grad_(True)
        batch = self._batch(mover.update, number, repetition)
        with self._seeded(number, repetition), autocast(self.training, self.device):
            loss = mover.update.loss(batch)
        _check_loss(mover.update.name, loss)
        self._guard(mover, loss)
        mover.rule.backward(loss, step=self.at.step, repetition=repetition)
        self.at.images += self.training.batch_size
        self.at.stage_images += self.training.batch_size
        return loss

    def _batch(self, update: Update, number: int, repetition: int) -> Batch:
        """The batch that an update asked for."""
        at = self.at
        if update.batch != "same" or self.current is None:
            self.noise = number, repetition
        if update.batch == "fresh" or self.current is None:
            normal = next(self.stream)
            anomalous = next(self.anomalous_stream) if self.anomalous_stream else None
            prepared = None
            if self.prepared is not None:
                prepared = self.prepared[self.plan.pick(at.batches).indices.to(self.device)]
            at.batches += 1
            at.stage_batches += 1
        else:
            normal, anomalous = self.current.normal, self.current.anomalous
            prepared = self.current.prepared
        self.current = Batch(
            normal=normal,
            anomalous=anomalous,
            prepared=prepared,
            generator=generator_at(
                self.trainer.seed, 3, at.stage, at.step, *self.noise, device=self.device
            ),
            progress=Progress(step=at.step - 1, epoch=self._epoch()),
            rank=distributed.rank(),
            world=distributed.world(),
            gather=distributed.whole,
        )
        return self.current

    @contextmanager
    def _seeded(self, number: int, repetition: int) -> Iterator[None]:
        """Dropout and the like draw from the global state: tie it to the place in the run too.

        It is that of all threads. Where something drops out, none but this one seeds or draws
        until the loss is there; other runs need not wait for each other.
        """
        at, rank = self.at, distributed.rank()
        seed = seed_of(self.trainer.seed, 4, at.stage, at.step, number, repetition, rank)
        with randomness.STATE:
            _seed_globally(seed)
            if self.drops:
                yield
                return
        yield

    # Watching --------------------------------------------------------------------------------

    def _guard(self, mover: _Mover, loss: Loss) -> None:
        """Stop before a loss that is not finite, or has run away, reaches the weights."""
        if self.device.type == "cuda" and self.at.step % self.training.log_every:
            return  # Looking at the number would make the processor wait for the GPU.
        total = loss.whole.detach().clone()
        distributed.average([total])  # All processes stop, or none.
        value = total.item()
        settled = len(mover.first) == 10
        if not math.isfinite(value) or (settled and abs(value) > RUNAWAY * max(1.0, *mover.first)):
            self._diverged(f"loss of update {mover.update.name!r} is {value:.3g}")
        if not settled:
            mover.first.append(abs(value))

    def _diverged(self, what: str) -> NoReturn:
        at = self.last_checkpoint
        rounded = uses_bf16(self.training, self.device)
        raise TrainingDiverged(
            f"{what} at step {self.at.step}; "
            + (f"last good checkpoint: {at}; " if at else "no checkpoint was written; ")
            + f"try {'--set precision=float32, ' if rounded else ''}a lower learning rate or, in a "
            "game, a stronger penalty"
        )

    def _log(self, record: health.Record) -> None:
        self.log.add(record)
        self.reporter.record(record)

    def _record(self, stage: Stage, terms: dict[str, Tensor], rate: float) -> None:
        numbers: dict[str, float] = {}
        if terms:  # Else no update was due.
            values = torch.stack([value.float() for value in terms.values()])
            distributed.average([values])
            numbers = dict(zip(terms, values.tolist(), strict=True))
        at = self.at
        self._log(
            {
                "stage": stage.name,
                "step": at.step,
                "images": at.images,
                "seconds": round(at.seconds, 3),
                "images_per_second": round(rate, 2),
                **numbers,
            }
        )
        self.reporter.advance(min(1.0, self.spending.spent(stage, at.done)), rate, numbers)

    @torch.no_grad()
    def _validate(self, stage: Stage) -> None:
        """Mean score parts of held-out normal pictures, for the log alone.

        Not of a method that searches: a look would take longer than the steps between two.
        """
        if self.validation is None or self.method.searches:
            return
        self.method.eval()
        sums: dict[str, float] = {}
        plan = self._validation_plan(self.validation)
        with autocast(self.training, self.device):
            for images in self.validation.batches(plan.once()):
                scores = self.method.score(images)
                for name, values in {"total": scores.total, **scores.terms}.items():
                    sums[name] = sums.get(name, 0.0) + values.sum().item()
        self._log(
            {
                "stage": stage.name,
                "step": self.at.step,
                "images": self.at.images,
                "seconds": round(self.at.seconds, 3),
                **{
                    f"validation/{name}": value / len(self.validation)
                    for name, value in sums.items()
                },
            }
        )
        self._modes(stage)

    # Checkpoints -----------------------------------------------------------------------------

    def _checkpoint(self) -> None:
        path = self._file(CHECKPOINT)
        if path is None:
            return
        written = distributed.rank() == 0 and self._written(path)
        # The others know of it, and none ends before it is there: that would end all of them.
        if distributed.agreed(written):
            self.last_checkpoint = str(path)

    def _written(self, path: Path) -> bool:
        """Write a checkpoint, unless it holds what is no number."""
        tensors = {f"method.{name}": t for name, t in self.method.state_dict().items()}
        for mover in self.movers:
            tensors |= checkpoints.optimizer_tensors(mover.update.name, mover.optimizer)
        if self.averager is not None:
            tensors |= {f"ema.{name}": t for name, t in self.averager.state().items()}
        if not _finite(tensors.values()):
            # The last good one must survive; the next loss, or the end, will stop the run.
            return False
        facts = {
            "fingerprint": self.trainer.fingerprint,
            "budget": asdict(self.training.budget),
            "position": vars(self.at),
            "first": {mover.update.name: mover.first for mover in self.movers},
            "balance": {m.update.name: state for m in self.movers if (state := m.rule.state())},
            "log": self.log.records,
        }
        checkpoints.save(path, checkpoints.Checkpoint(tensors, facts))
        return True

    def _file(self, name: str) -> Path | None:
        return self.trainer.run_dir / name if self.trainer.run_dir is not None else None


def _check_loss(name: str, loss: object) -> None:
    """Refuse what a method of one's own may give: torch would say nothing that helps.

    Raises:
        ConfigError: it is no `Loss`, or has no gradient.
    """
    if not isinstance(loss, Loss):
        raise ConfigError(
            f"the loss of update {name!r} is a {type(loss).__name__}; it must be a Loss of "
            "onlygood.core.terms, as Loss.weighted(name=(1.0, one number per image)) gives"
        )
    if not loss.whole.requires_grad:
        raise ConfigError(
            f"the loss of update {name!r} has no gradient: nothing that the update trains takes "
            "part in it; see trains, and detach() or no_grad() in the loss"
        )


class _Clock:
    """Adds the time of each step to the position; gives the rate since it was last asked."""

    def __init__(self, at: _Position) -> None:
        self.at = at
        self.last = self.asked = time.perf_counter()
        self.images = at.images

    def tick(self) -> None:
        now = time.perf_counter()
        self.at.seconds += now - self.last
        self.at.stage_seconds += now - self.last
        self.last = now

    def rate(self) -> float:
        images, seconds = self.at.images - self.images, self.last - self.asked
        self.images, self.asked = self.at.images, self.last
        return images / max(seconds, 1e-9)


@contextmanager
def _of_this_method(path: Path | str) -> Iterator[None]:
    """Refuse what a checkpoint has of networks and updates that are not those of the method."""
    try:
        yield
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise ModelFileError(
            f"{path} does not fit this method, whose networks or updates were others when it was "
            "written; start without --resume"
        ) from error


def _finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors if t.is_floating_point())


def _falling(start: float, spent: float) -> float:
    """1 up to a share of the budget, then linearly to 0 at its end; always 1 for `start` 1."""
    return (1 - spent) / (1 - start) if spent > start else 1.0


_FENCE = InCommon(lambda: torch.random.fork_rng(range(torch.cuda.device_count())), randomness.STATE)


@contextmanager
def _seeded_globally(seed: int) -> Iterator[None]:
    """Fence the global random state: what the run does to it ends with the run."""
    with _FENCE:
        with randomness.STATE:  # Not while another thread draws.
            _seed_globally(seed_of(seed))
        yield


def _seed_globally(seed: int) -> None:
    """For whoever holds `randomness.STATE`."""
    # Not `torch.manual_seed`: for each kind of device that has not started yet it keeps the call,
    # with a stack trace, for later; once an update that is slow, and a leak.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
