"""Which pictures calibrate, the thresholds they give, and what speaks against the promise.

It is about pictures that are as new as those that calibrate, which chance must have chosen.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import CalibrationError, DataError
from onlygood.core.text import many
from onlygood.data.overlap import pieces_of_one
from onlygood.data.sequence import in_sequence
from onlygood.data.source import ImageSource
from onlygood.data.split import Split, group_names, split
from onlygood.decision.calibration import Calibration
from onlygood.decision.thresholds import images_needed
from onlygood.detector.raw_scores import BATCH, RawScorer, Survey

LEARNT_FROM = 1 / 3
"""Share of calibration pictures that were learnt from, from which on they are refused. Equal ones
count once, as empty pictures of separate lots are equal. Of what `fit` was given it is 0.45 or
more: half at most is kept aside, and a twentieth watches training."""

ROUNDINGS, ROUNDED = 16, 1e-3
"""Room above the score of a calibration of one picture alone: times what batches of two sizes
differ by, where exported files were seen to differ by up to 3 times that, and share of itself."""


def parted(
    names: Sequence[str],
    kept: Sequence[int],
    target_fpr: float,
    confidence: float,
    seed: int,
    group_by: str | None,
) -> Split:
    """Part the pictures that are kept: a fifth calibrates, more if the promise needs it.

    At most half do. With `group_by` the promise is about parts, and needs as many of these. From
    100 pictures on a twentieth (64 at most) watches training besides, where training takes steps.
    """
    n = len(kept)
    if n < 2:
        raise DataError(
            f"{n} picture is too few: at least one is needed to learn from and one to calibrate; "
            "45 to calibrate are needed for 5 % false alarms at 90 % confidence"
        )
    parts = len(set(group_names([names[i] for i in kept], group_by))) if group_by else n
    needed = -(-images_needed(target_fpr, confidence) * n // parts)
    wanted = max(n // 5, needed)
    return split(
        names,
        calibration=min(wanted, n // 2),
        validation=min(64, n // 20) if n >= 100 else 0,
        seed=seed,
        group_by=group_by,
        kept=kept,
    )


def calibration_of(
    survey: Survey, scorer: RawScorer, group_by: str | None, **promise: Any
) -> Calibration:
    """Thresholds from the scores of normal pictures; `promise` as `Calibration.fit` takes it.

    Raises:
        CalibrationError, ConfigError, DataError: as `Calibration.fit` and `group_names`.
    """
    totals, pixel_maxima = survey.totals, survey.pixel_maxima
    if len(set(survey.digests)) == 1:
        # One picture, alone or again and again: its score is the threshold, and would be above
        # that in another batch, or in an exported file, which round otherwise.
        again = scorer.survey(survey.pictures.subset([0] * (BATCH + 1)))
        totals = _raised(totals, again.totals)
        if pixel_maxima is not None and again.pixel_maxima is not None:
            pixel_maxima = _raised(pixel_maxima, again.pixel_maxima)
    return Calibration.fit(
        totals,
        pixel_maxima=pixel_maxima,
        pixel_median=survey.pixel_median,
        groups=group_names(survey.pictures.names, group_by) if group_by else None,
        **promise,
    )


def _raised(values: NDArray[np.float64], again: NDArray[np.float64]) -> NDArray[np.float64]:
    """Values that are one but for rounding, above all that it may become by that."""
    seen = np.concatenate([values, again])
    highest = seen.max()
    return np.full_like(values, highest + ROUNDINGS * np.ptp(seen) + ROUNDED * abs(highest))


def seen(pictures: ImageSource, digests: Sequence[int], learnt_from: NDArray[np.int64]) -> str:
    """How many pictures were learnt from, in words; nothing where none was.

    `digests` are those of the pictures as they are seen, `learnt_from` of those learnt from.

    Raises:
        CalibrationError: they are so many that the promise would be false.
    """
    different, first = np.unique(np.array(digests, np.int64), return_index=True)
    seen = np.isin(different, learnt_from)
    if not seen.any():
        return ""
    n = int(np.isin(digests, learnt_from).sum())
    words = f"{n} of {many(len(digests), 'picture')}"
    one = pictures[int(first[seen].min())].name
    if seen.mean() >= LEARNT_FROM:
        raise CalibrationError(
            f"{words} were learnt from, {one} for one, and what a model has seen promises nothing; "
            "give other normal pictures"
        )
    return f"{words} equal some that were learnt from, {one} for one"


def doubts(
    survey: Survey,
    learnt_from: NDArray[np.int64],
    sketches: Sequence[bytes],
    pieces: Sequence[bytes],
    group_by: str | None,
) -> list[str]:
    """What speaks against the promise after chance has parted the pictures of `fit`, in words.

    Args:
        survey: of those that calibrate.
        learnt_from: short digests of those that were learnt from.
        sketches: of the first of these, in order.
        pieces: finer ones of fewer.
        group_by: what tells parts apart, if that was said; pictures of one part then calibrate
            together.
    """
    found = []
    equal = np.isin(survey.digests, learnt_from)
    if n := int(equal.sum()):
        those = "equals one that was" if n == 1 else "equal some that were"
        found.append(
            f"{n} of {many(len(equal), 'picture')} kept aside to calibrate {those} learnt from, "
            f"{survey.pictures[int(equal.argmax())].name} for one: the promise may not hold of "
            "other pictures; give each picture once"
        )
    if group_by is None and (n := in_sequence(sketches)):
        found.append(
            f"{n} of {len(sketches)} pictures look most like one next to them in order, as frames "
            "of a film and shots of one part do: those that calibrate then have their like among "
            "those that were learnt from, and other parts may give more false alarms than "
            "promised; calibrate on pictures of other parts, or tell parts apart (group_by)"
        )
    elif group_by is None and (n := pieces_of_one(pieces)):
        found.append(
            f"{n} of the first {len(pieces)} pictures are pieces of one larger ground, which "
            "overlap: those that calibrate show again what was learnt from, and another stretch "
            "of the ground may give more false alarms than promised; calibrate on pieces of "
            "another stretch, or tell stretches apart (group_by)"
        )
    return found
