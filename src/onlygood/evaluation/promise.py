"""Whether labelled normal pictures contradict what a calibration has promised."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from onlygood.core.text import figure, many
from onlygood.decision.calibration import Calibration, percent
from onlygood.evaluation.metrics import Floats, rate_interval

RISK = 0.01
"""Of calling a promise broken where exactly the promised share of normal pictures is above."""
TINY = 1e-6
"""A smaller probability is not worth its digits."""
SEEN, FEWEST = 0.1, 3
"""Share of the pictures that have calibrated or were learnt from, from which on nothing is tested,
and how many it must be at least."""
SAME = 0.003
"""Part of the usual distance of neighbouring calibration scores within which a score is one of
them. It is more than batches and exported files round, and one in a hundred others is so near."""
DISTINCT = 0.9
"""Share of calibration scores that must differ for scores to tell pictures apart."""


class PromiseTest(NamedTuple):
    """What normal pictures that took no part in the calibration say of its promise."""

    promised: float
    """Largest share of normal pictures above the threshold."""
    found: int
    """Normal pictures above the threshold,"""
    n_normal: int
    """of so many."""
    p_value: float | None
    """`P(Binom(n_normal, promised) >= found)`. None: not tested, as the promise is about parts, and
    pictures of one part are not independent, or as the pictures have calibrated or were learnt
    from."""
    words: str
    advice: str = ""
    """What to do about a broken one, or one that is not tested."""

    @property
    def broken(self) -> bool:
        """Whether so many would hardly ever be found if the promise held."""
        return self.p_value is not None and self.p_value < RISK

    def to_json(self) -> dict[str, float | int | str | bool | None]:
        """Everything, by name."""
        return {**self._asdict(), "broken": self.broken}


def calibrated_on(calibration: Calibration, scores: Floats) -> int:
    """How many of `(n,)` scores are scores of the calibration pictures, to within rounding.

    So pictures that have calibrated are known, of an exported model too. 0 where scores tell
    nothing: calibration scores that are equal are shared by other pictures as well.
    """
    known = np.unique(calibration.scores)
    if len(known) < max(DISTINCT * calibration.n, 2):
        return 0
    places = np.clip(np.searchsorted(known, scores), 1, len(known) - 1)
    nearest = np.minimum(np.abs(scores - known[places - 1]), np.abs(scores - known[places]))
    return int((nearest <= SAME * np.median(np.diff(known))).sum())


def check_promise(
    calibration: Calibration,
    found: int,
    n_normal: int,
    n_calibrated: int = 0,
    n_learnt: int = 0,
) -> PromiseTest:
    """Test the promise of `threshold` on `n_normal` pictures, of which `found` are above it.

    The test is exact and one-sided: that more are above than promised. Fewer false alarms than
    promised keep the promise.

    Args:
        calibration: What promises.
        found: Pictures above its threshold.
        n_normal: All of them.
        n_calibrated: Those that took part in the calibration, see `calibrated_on`.
        n_learnt: Others that the model was learnt from. Where both together are more than a few
            nothing is tested, unless the promise is broken all the same.

    Raises:
        DataError: `found` is not in 0..n_normal, or there are no pictures.
    """
    promised = calibration.promised_fpr
    low, high = (f"{100 * end:.3g} %" for end in rate_interval(found, n_normal))
    share = figure(100 * found / n_normal, 3, whole=100.0)
    seen = (
        f"{found} of {many(n_normal, 'normal picture')} {'is' if found == 1 else 'are'} above the "
        f"threshold ({share} %), where at most {percent(promised)} were promised"
    )
    if calibration.grouped:
        words = f"{seen} of parts; that is not tested: pictures of one part are not independent"
        return PromiseTest(promised, found, n_normal, None, words)
    p_value = float(stats.binomtest(found, n_normal, promised, alternative="greater").pvalue)
    test = PromiseTest(promised, found, n_normal, p_value, "")
    if test.broken:
        chance = f"{p_value:.1g}" if p_value > TINY else f"less than {TINY:f}"
        return test._replace(
            words=f"the promise is broken on these pictures: {seen}; if it held, so many would be "
            f"found with probability {chance}",
            advice="look at light, focus, camera and lot: these pictures are not like the "
            "calibration's, or those were too favourable a choice. If they are what is to come, "
            "calibrate on normal pictures of this lot (onlygood calibrate MODEL FOLDER), or fit "
            "with some of them",
        )
    if n_calibrated + n_learnt >= max(SEEN * n_normal, FEWEST):
        why = []
        if n_calibrated:
            why.append(
                f"{n_calibrated} of these pictures, by their scores, have calibrated the model, "
                "and a threshold that was taken from pictures fits them"
            )
        if n_learnt:
            equal = "equals one" if n_learnt == 1 else "equal some"
            why.append(
                f"{n_learnt} of these pictures {equal} that the model was learnt from, and what it "
                "has learnt from looks more normal to it than others do"
            )
        return test._replace(
            p_value=None,
            words=f"{seen}; that is not tested: {'; '.join(why)}",
            advice="evaluate on pictures that fit and calibrate have not seen",
        )
    return test._replace(
        words=f"{seen}: that does not contradict the promise (exact one-sided test at a level of "
        f"{percent(RISK)}: if just {percent(promised)} of all normal pictures were above, {found} "
        f"or more of {n_normal} would be found with probability p = {figure(p_value, 2)}). The "
        f"share behind it is between {low} and {high}, with 95 % confidence"
    )
