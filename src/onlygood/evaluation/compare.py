"""Two detectors on the same labelled pictures: how they differ, and how sure that is.

All figures are paired: what is hard for both counts for neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from onlygood.core.errors import DataError
from onlygood.core.text import figure, many, signed
from onlygood.evaluation.evaluate import Evaluation, Judge, evaluate, labelled_pictures
from onlygood.evaluation.metrics import Floats, OfKind, by_kind, labelled_ranks
from onlygood.evaluation.promise import SEEN

CONFIDENCE = 0.95
"""Of intervals."""
RESAMPLES = 2000
"""Of the bootstrap, drawn from `SEED`."""
SEED = 0
ENOUGH = 10
"""Pictures of each kind from which on intervals and p-values hold about what they say."""
ROUNDING = 1e-28
"""A smaller variance is none: equal shares, such as thirds, are equal to rounding alone."""


class Difference(NamedTuple):
    """A figure of A less that of B, on the same pictures."""

    a: float
    b: float
    low: float | None
    """End of the interval for the difference, that is, for A less B. None: nothing is known."""
    high: float | None
    p_value: float | None
    """Of so large a difference, in either direction, if there were none. None: not computed."""

    @property
    def difference(self) -> float:
        """A less B."""
        return self.a - self.b

    def to_json(self) -> dict[str, float | None]:
        """Everything, by name."""
        return {**self._asdict(), "difference": self.difference}


class Disagreement(NamedTuple):
    """How often one alone calls a picture anomalous (or unsure), among pictures of one kind."""

    a: float
    """Share of the pictures that A does not call normal."""
    b: float
    a_alone: int
    """Pictures that A alone does not call normal."""
    b_alone: int
    p_value: float
    """Of so unequal numbers, if each picture on which they disagree were a toss of a coin."""

    @property
    def difference(self) -> float:
        """A less B."""
        return self.a - self.b

    def to_json(self) -> dict[str, float]:
        """Everything, by name."""
        return {**self._asdict(), "difference": self.difference}


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Figures of two detectors over the pictures that both can read."""

    auroc: Difference
    average_precision: Difference
    false_alarms: Disagreement
    """On normal pictures, each detector with its own threshold."""
    found: Disagreement
    """On anomalous ones."""
    kinds: dict[str, tuple[OfKind, OfKind]]
    """How A and B tell each kind of defect from the normal pictures; A's least found first."""
    n_normal: int
    n_anomalous: int
    n_unreadable: int
    n_known: tuple[int, int]
    """Pictures that A, and B, was learnt from or calibrated on."""
    description: str
    """How the folder was understood."""

    @property
    def words(self) -> str:
        """What can be concluded of the order of pictures, and of the thresholds."""
        return "; ".join((self._of_order(), *self._of_thresholds()))

    def _of_order(self) -> str:
        p, difference = self.auroc.p_value, self.auroc.difference
        on = f"{self.n_normal} normal and {many(self.n_anomalous, 'anomalous picture')}"
        if p is None:
            by = signed(difference, 4)
            return f"AUROC differs by {by}, but {on} are too few or too clear to test"
        chance = _chance(p)
        if p >= 1 - CONFIDENCE:
            return f"these {on} do not tell A and B apart (AUROC, {chance})"
        better = "A" if difference > 0 else "B"
        return f"{better} tells normal from anomalous better on these {on} (AUROC, {chance})"

    def _of_thresholds(self) -> list[str]:
        """Two that order all pictures alike may still decide otherwise."""
        return [
            f"by its threshold {'A' if called.difference > 0 else 'B'} {does} "
            f"({_chance(called.p_value)})"
            for called, does in (
                (self.found, "finds more defects"),
                (self.false_alarms, "gives more false alarms"),
            )
            if called.p_value < 1 - CONFIDENCE
        ]

    @property
    def note(self) -> str:
        """Why intervals and p-value are not to be taken at their word; empty where they are."""
        return "; ".join(filter(None, (self._of_known(), self._of_few())))

    def _of_known(self) -> str:
        whole = self.n_normal + self.n_anomalous
        sides = [(n, side) for n, side in zip(self.n_known, "AB", strict=True) if n >= SEEN * whole]
        if not sides:
            return ""
        told = " and ".join(f"{side} has seen {n} of these pictures" for n, side in sides)
        return (
            f"{told} while it was fitted or calibrated, and looks better on them than on others; "
            "compare on pictures that neither has seen"
        )

    def _of_few(self) -> str:
        fewest = min(self.n_normal, self.n_anomalous)
        if fewest >= ENOUGH:
            return ""
        kind = "normal" if self.n_normal == fewest else "anomalous"
        return (
            f"with {many(fewest, f'{kind} picture')} intervals are too narrow, and the "
            "p-value of AUROC is too small: with three, an interval of "
            f"{100 * CONFIDENCE:g} % has held the true difference in about 80 % of "
            f"cases; {ENOUGH} of each kind are needed"
        )

    def to_json(self) -> dict[str, Any]:
        """All figures, what can be concluded, and how far."""
        inner = (Difference, Disagreement)
        figures = {k: v.to_json() if isinstance(v, inner) else v for k, v in vars(self).items()}
        kinds = {kind: {"a": a._asdict(), "b": b._asdict()} for kind, (a, b) in self.kinds.items()}
        told = {"n_known": list(self.n_known), "kinds": kinds}
        return {**figures, **told, "words": self.words, "note": self.note}


def _chance(p: float) -> str:
    return f"p = {figure(p, 2)}" if p >= 1e-6 else "p < 0.000001"


def compare(a: Judge, b: Judge, pictures: Any) -> Comparison:
    """Score labelled pictures with two detectors and compare.

    Args:
        a: One detector, or what was exported from one.
        b: The other.
        pictures: What `onlygood.evaluation.evaluate` takes; it must not be part of what either has
            learnt from.

    Raises:
        ConfigError: `a` or `b` is no detector.
        DataError: there are not at least two normal and two anomalous pictures that both can read.
    """
    data = labelled_pictures(pictures)
    data = data._replace(masks=[None] * len(data.masks))  # Else maps would be made for nothing.
    return compared(evaluate(a, data), evaluate(b, data))


def compared(a: Evaluation, b: Evaluation) -> Comparison:
    """Compare two evaluations of the same pictures.

    Raises:
        DataError: they are of other pictures, or there are not at least two normal and two
            anomalous ones that both could read.
    """
    names = [[result.name for result in one.results] for one in (a, b)]
    if names[0] != names[1] or a.labels != b.labels:
        raise DataError(
            "A and B were evaluated on other pictures; a comparison is of the same ones"
        )
    readable = np.array(
        [x.error is None and y.error is None for x, y in zip(a.results, b.results, strict=True)]
    )
    labels = np.array(a.labels)[readable]
    scores = [np.array([result.score for result in one.results])[readable] for one in (a, b)]
    decisions = [np.array([result.decision for result in one.results])[readable] for one in (a, b)]
    rejected = [one != "normal" for one in decisions]
    kind_of = np.array(a.kind_of)[readable]
    of_a, of_b = (by_kind(kind_of, *one) for one in zip(scores, decisions, strict=True))
    return Comparison(
        auroc=delong(labels, *scores),
        average_precision=bootstrapped_precision(labels, *scores),
        false_alarms=mcnemar(*(one[~labels] for one in rejected)),
        found=mcnemar(*(one[labels] for one in rejected)),
        kinds={kind: (of_a[kind], of_b[kind]) for kind in of_a},
        n_normal=int((~labels).sum()),
        n_anomalous=int(labels.sum()),
        n_unreadable=int((~readable).sum()),
        n_known=(
            a.n_normal_known + a.n_anomalous_learnt,
            b.n_normal_known + b.n_anomalous_learnt,
        ),
        description=a.description,
    )


def delong(
    labels: ArrayLike, a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE
) -> Difference:
    """Difference of the areas under two ROC curves of the same pictures.

    Its variance is that of the structural components: for each anomalous picture the share of
    normal ones below it (ties count one half), for each normal one the share of anomalous ones
    above it. The difference is taken as normally distributed, which needs some ten pictures of
    each kind, and areas that are not all but 1. Where the components do not vary at all, nothing
    can be said of a difference, unless both order all pictures alike.

    Args:
        labels: `(N,)`, 1 or True = anomalous.
        a: `(N,)` scores of one detector.
        b: `(N,)` scores of the other.
        confidence: Of the interval.

    Raises:
        DataError: a score is NaN, numbers differ, or there are not two pictures of each kind.

    Source: DeLong, DeLong, Clarke-Pearson 1988, Biometrics 44, equations 3 to 8; components by
    ranks as in Sun and Xu 2014, IEEE Signal Processing Letters 21.
    """
    of_a, of_b = (_components(labels, scores) for scores in (a, b))
    area_a, area_b = (float(above.mean()) for above, _ in (of_a, of_b))
    variance = sum(float(np.var(x - y, ddof=1)) / len(x) for x, y in zip(of_a, of_b, strict=True))
    if variance < ROUNDING:
        # Detectors that order all pictures alike do not differ; of others these pictures, which
        # both tell apart, say nothing.
        ends = (0.0, 0.0, 1.0) if _alike(a, b) else (None, None, None)
        return Difference(area_a, area_b, *ends)
    deviation = variance**0.5
    reach = float(stats.norm.isf((1 - confidence) / 2)) * deviation
    difference = area_a - area_b
    return Difference(
        area_a,
        area_b,
        max(difference - reach, -1.0),
        min(difference + reach, 1.0),
        float(2 * stats.norm.sf(abs(difference) / deviation)),
    )


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> Disagreement:
    """How two detectors disagree on pictures of one kind; the test is exact.

    Args:
        a: `(N,)`, whether A rejects each picture.
        b: `(N,)`, the same of B.

    Source: McNemar 1947, Psychometrika 12, with the binomial distribution in place of its limit.
    """
    a_alone, b_alone = int((a & ~b).sum()), int((~a & b).sum())
    p_value = 1.0
    if a_alone + b_alone:
        p_value = float(stats.binomtest(a_alone, a_alone + b_alone, 0.5).pvalue)
    return Disagreement(float(a.mean()), float(b.mean()), a_alone, b_alone, p_value)


def bootstrapped_precision(
    labels: ArrayLike, a: ArrayLike, b: ArrayLike, confidence: float = CONFIDENCE
) -> Difference:
    """Difference of the average precisions, with the interval of the paired percentile bootstrap.

    Normal and anomalous pictures are drawn apart, so that their shares stay: average precision
    depends on these. Where every sample has the same difference, nothing can be said of it, unless
    both order all pictures alike.

    Raises:
        DataError: a score is NaN, numbers differ, or there are not two pictures of each kind.
    """
    anomalous, _ = _of_both_kinds(labels, a)
    precisions = [_weighted_precision(*_of_both_kinds(labels, scores)) for scores in (a, b)]
    draw = np.random.default_rng(SEED)
    differences = np.empty(RESAMPLES)
    # How often a picture is drawn is its weight.
    weights = np.empty(len(anomalous))
    for i in range(RESAMPLES):
        for kind in (anomalous, ~anomalous):
            count = int(kind.sum())
            weights[kind] = draw.multinomial(count, np.full(count, 1 / count))
        differences[i] = precisions[0](weights) - precisions[1](weights)
    low, high = np.quantile(differences, ((1 - confidence) / 2, (1 + confidence) / 2))
    whole = [of(np.ones(len(anomalous))) for of in precisions]
    if np.ptp(differences) ** 2 < ROUNDING and not _alike(a, b):
        return Difference(whole[0], whole[1], None, None, None)
    return Difference(whole[0], whole[1], float(low), float(high), None)


def _alike(a: ArrayLike, b: ArrayLike) -> bool:
    return np.array_equal(stats.rankdata(a), stats.rankdata(b))


def _weighted_precision(
    anomalous: NDArray[np.bool_], ranks: NDArray[np.intp]
) -> Callable[[Floats], float]:
    """Average precision as a function of the weights of pictures; a thousand times in no time."""
    order = np.argsort(-ranks, kind="stable")
    truth = anomalous[order]
    ends = np.flatnonzero(np.diff(ranks[order], append=-1))  # equal scores are passed together

    def average_precision(weights: Floats) -> float:
        passed = weights[order]
        found, seen = np.cumsum(passed * truth)[ends], np.cumsum(passed)[ends]
        gained = np.diff(found, prepend=0)
        precision = np.divide(found, seen, out=np.zeros(len(ends)), where=seen > 0)
        return float(gained @ precision / found[-1])

    return average_precision


def _components(labels: ArrayLike, scores: ArrayLike) -> tuple[Floats, Floats]:
    """Shares of normal pictures below each anomalous one, of anomalous ones above each normal one.

    `(n_anomalous,)` and `(n_normal,)`; ties count one half.
    """
    anomalous, ranks = _of_both_kinds(labels, scores)
    among_all = stats.rankdata(ranks)
    above = among_all[anomalous] - stats.rankdata(ranks[anomalous])
    below = among_all[~anomalous] - stats.rankdata(ranks[~anomalous])
    return above / (~anomalous).sum(), 1 - below / anomalous.sum()


def _of_both_kinds(
    labels: ArrayLike, scores: ArrayLike
) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    anomalous, ranks = labelled_ranks(labels, scores)
    counts = (int((~anomalous).sum()), int(anomalous.sum()))
    if min(counts) < 2:
        raise DataError(
            f"a comparison needs two normal and two anomalous pictures at least, got {counts[0]} "
            f"and {counts[1]}"
        )
    return anomalous, ranks
