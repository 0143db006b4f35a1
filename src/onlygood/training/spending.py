"""How much of its budget each stage of a run has used up."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple, final

from onlygood.core.errors import OtherBudget
from onlygood.core.settings import Budget, Training
from onlygood.core.stage import Stage

WHOLE = 1 - 1e-9
"""So much of a budget ends a stage: shares are rounded fractions, which could add a step."""


class Done(NamedTuple):
    """What a stage has done."""

    steps: float
    batches: float
    images: float
    seconds: float


@final
class Spending:
    """Shares of budgets; of several the scarcest one counts.

    Stages that take steps share the run's budget, and one may have its own besides.
    """

    def __init__(self, stages: Sequence[Stage], training: Training, pictures: int) -> None:
        self._stages, self._training, self._pictures = stages, training, pictures
        self._shares = sum(stage.share for stage in stages if stage.updates)

    def spent(self, stage: Stage, done: Done) -> float:
        """Share of a stage's time that is over; from `WHOLE` on it ends."""
        own = self._of(stage.budget, done, 1.0) if stage.budget else 0.0
        return max(own, self._of_run(self._training, stage, done))

    def check(self, before: Budget, done: Sequence[Done], path: Path) -> None:
        """Refuse to go on where the weights would be others with today's budget from the start.

        Args:
            before: the budget of the run that wrote the checkpoint.
            done: by each stage so far, the one it is in last.
            path: of the checkpoint.

        Raises:
            OtherBudget: they would.
        """
        now = self._training.budget
        if now == before:
            return
        told = False
        for number, (stage, so_far) in enumerate(zip(self._stages, done, strict=False)):
            if not stage.updates:
                continue
            start = self._budgeted_from(stage)
            was, would = (self._of_run(budget, stage, so_far) for budget in (before, now))
            # Rates fell, or would have; it would have ended by now; or it is over, and was ended.
            told |= start < max(was, would) if start < 1 else would * WHOLE > 1
            told |= number < len(done) - 1 and was >= WHOLE
        if told:
            words = " and ".join(f"{k}={v}" for k, v in asdict(before).items() if v) or "none"
            raise OtherBudget(
                f"{path} was written by a run whose budget was {words}, and with another one its "
                "weights would be others by now, as stages share the budget, learning rates may "
                f"fall by it, or a smaller one has been used up; resume with {words}, or start "
                "without --resume"
            )

    def _of_run(self, budget: Budget, stage: Stage, done: Done) -> float:
        """How much of its part of the run's budget a stage has used up."""
        return self._of(budget, done, stage.share / self._shares)

    def _of(self, budget: Budget, done: Done, share: float) -> float:
        """What a stage has done, in units of a share of a budget."""
        passes = done.batches * self._training.batch_size / self._pictures
        pairs = (
            (done.steps, budget.steps),
            (done.images, budget.images),
            (passes, budget.epochs),
            (done.seconds, budget.minutes * 60),
        )
        return max((d / (whole * share) for d, whole in pairs if whole), default=0.0)

    def _budgeted_from(self, stage: Stage) -> float:
        """Share of the budget from which on a stage's learning rates depend on it; 1: none."""
        schedules = [o.schedule.budgeted_from for u in stage.updates for o in u.optimizers]
        return min(self._training.decay_from, *schedules) if schedules else 1.0
