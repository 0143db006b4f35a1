"""Whether labelled normal pictures contradict what a calibration has promised."""

from typing import NamedTuple

from scipy import stats

from onlygood.core.text import many
from onlygood.decision.calibration import Calibration, percent
from onlygood.evaluation.metrics import rate_interval

RISK = 0.01
"""Of calling a promise broken where exactly the promised share of normal pictures is above."""
TINY = 1e-6
"""A smaller probability is not worth its digits."""


class PromiseTest(NamedTuple):
    """What normal pictures that took no part in the calibration say of its promise."""

    promised: float
    """Largest share of normal pictures above the threshold."""
    found: int
    """Normal pictures above the threshold,"""
    n_normal: int
    """of so many."""
    p_value: float | None
    """`P(Binom(n_normal, promised) >= found)`. None: the promise is about parts, and pictures of
    one part are not independent."""
    words: str
    advice: str = ""
    """What to do about a broken one."""

    @property
    def broken(self) -> bool:
        """Whether so many would hardly ever be found if the promise held."""
        return self.p_value is not None and self.p_value < RISK

    def to_json(self) -> dict[str, float | int | str | bool | None]:
        """Everything, by name."""
        return {**self._asdict(), "broken": self.broken}


def check_promise(calibration: Calibration, found: int, n_normal: int) -> PromiseTest:
    """Test the promise of `threshold` on `n_normal` pictures, of which `found` are above it.

    The test is exact and one-sided; fewer false alarms than promised keep the promise.

    Raises:
        DataError: `found` is not in 0..n_normal, or there are no pictures.
    """
    promised = calibration.promised_fpr
    low, high = (f"{100 * end:.3g} %" for end in rate_interval(found, n_normal))
    seen = (
        f"{found} of {many(n_normal, 'normal picture')} {'is' if found == 1 else 'are'} above the "
        f"threshold ({100 * found / n_normal:.3g} %), where at most {percent(promised)} were "
        "promised"
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
    return test._replace(
        words=f"{seen}: that agrees with the promise (p = {p_value:.2g}; the share behind it is "
        f"between {low} and {high}, with 95 % confidence)"
    )
