from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy import stats

from onlygood import ImageSource, evaluate
from onlygood.core.errors import DataError
from onlygood.evaluation.compare import (
    Comparison,
    bootstrapped_precision,
    compare,
    compared,
    delong,
    mcnemar,
)
from onlygood.evaluation.metrics import auroc, average_precision
from tests import parts

LABELS = np.array([0, 0, 0, 1, 1])
A = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
B = np.array([1.0, 2.0, 2.0, 2.0, 3.0])


def test_delong_by_hand() -> None:
    # A: the anomalous 3 is above 2 of 3 normal ones, 5 above all: (2/3, 1); the normal 1 and 2 are
    # below both, 4 below one: (1, 1, 1/2). B, ties one half: (2/3, 1) and (1, 3/4, 3/4).
    found = delong(LABELS, A, B)
    assert (found.a, found.b) == pytest.approx((5 / 6, 5 / 6))
    # A less B: (0, 0) and (0, 1/4, -1/4), whose variance is 1/16.
    deviation = (1 / 16 / 3) ** 0.5
    assert (found.low, found.high) == pytest.approx((-1.959964 * deviation, 1.959964 * deviation))
    assert found.p_value == pytest.approx(1)


def test_delong_is_what_its_paper_writes() -> None:
    """Equations 3 to 8 with the kernel in full and covariances of both areas."""
    draw = np.random.RandomState(0)
    labels = np.arange(50) >= 30
    scores = [np.round(draw.normal(labels * shift, 1), 1) for shift in (1.5, 0.9)]

    def kernel(x: float, y: float) -> float:
        return float(y < x) + 0.5 * (y == x)

    v10 = [[np.mean([kernel(x, y) for y in s[~labels]]) for x in s[labels]] for s in scores]
    v01 = [[np.mean([kernel(x, y) for x in s[labels]]) for y in s[~labels]] for s in scores]
    covariance = np.cov(v10) / 20 + np.cov(v01) / 30
    contrast = np.array([1, -1])
    deviation = (contrast @ covariance @ contrast) ** 0.5
    areas = [np.mean(one) for one in v10]
    z = (areas[0] - areas[1]) / deviation
    found = delong(labels, *scores, confidence=0.9)
    assert (found.a, found.b) == pytest.approx(areas)
    assert (found.a, found.b) == pytest.approx([auroc(labels, s) for s in scores])
    assert found.p_value == pytest.approx(2 * stats.norm.sf(abs(z)))
    assert found.low == pytest.approx(areas[0] - areas[1] - stats.norm.ppf(0.95) * deviation)
    back = delong(labels, *reversed(scores), confidence=0.9)
    assert (back.low, back.high, back.p_value) == pytest.approx(
        (-found.high, -found.low, found.p_value)
    )


def test_delong_holds_its_level() -> None:
    """Of 400 pairs of equally good detectors about 20 are told apart at 5 %."""
    draw = np.random.RandomState(1)
    labels = np.arange(60) >= 30
    told = 0
    for _ in range(400):
        shared = draw.normal(labels, 1)
        p_value = delong(labels, *(shared + draw.normal(size=(2, 60)))).p_value
        told += p_value is not None and p_value < 0.05
    assert stats.binomtest(told, 400, 0.05).pvalue > 0.001


def test_without_variance_nothing_is_known_of_a_difference() -> None:
    perfect, blind = np.arange(5), np.zeros(5)
    assert delong(LABELS, perfect, 2 * perfect)[2:] == (0, 0, 1)
    # Both tell all apart, in another order: that is no proof of equality.
    other = perfect[[1, 0, 2, 3, 4]]
    assert delong(LABELS, perfect, other) == (1, 1, None, None, None)
    assert delong(LABELS, perfect, blind) == (1, 0.5, None, None, None)
    # Every component differs by a third, which is no third to the last digit.
    turns = np.array([0, 1, 0, 1, 0, 1])
    assert delong(turns, np.arange(6), [1, 0, 3, 2, 5, 4])[2:] == (None, None, None)


def test_without_variance_nothing_is_known_of_precisions_either() -> None:
    perfect, blind = np.arange(5), np.zeros(5)
    assert bootstrapped_precision(LABELS, perfect, 2 * perfect)[2:] == (0, 0, None)
    other = perfect[[1, 0, 2, 3, 4]]
    assert bootstrapped_precision(LABELS, perfect, other) == (1, 1, None, None, None)
    assert bootstrapped_precision(LABELS, perfect, blind) == (1, 0.4, None, None, None)


def test_mcnemar_is_exact() -> None:
    a = np.array([1, 1, 1, 1, 1, 0, 1, 0], bool)
    b = np.array([0, 0, 0, 0, 0, 1, 1, 0], bool)
    found = mcnemar(a, b)
    # 5 against 1: of the 64 ways that six coins fall, 7 + 7 are as unequal.
    assert found == (6 / 8, 2 / 8, 5, 1, pytest.approx(14 / 64))
    assert found.difference == 0.5
    assert mcnemar(a, a).p_value == 1


def test_the_bootstrap_is_over_all_samples_of_each_kind() -> None:
    """Of so few pictures all resamples can be counted."""
    found = bootstrapped_precision(LABELS, A, B, confidence=0.5)
    exact = []
    for normal, anomalous in product(product(range(3), repeat=3), product((3, 4), repeat=2)):
        chosen = [*normal, *anomalous]
        both = [average_precision(LABELS[chosen], scores[chosen]) for scores in (A, B)]
        exact.append(both[0] - both[1])
    assert (found.a, found.b) == pytest.approx(
        (average_precision(LABELS, A), average_precision(LABELS, B))
    )
    assert (found.low, found.high) == pytest.approx(np.quantile(exact, (0.25, 0.75)), abs=0.02)
    assert found == bootstrapped_precision(LABELS, A, B, confidence=0.5)


def test_who_has_seen_the_pictures_is_told() -> None:
    normal, labels = list(parts.normal(120)), [0] * 120 + [1] * 30
    seeing = parts.fit(normal)
    other = parts.fit(parts.normal(120, seed=9))
    found = compare(seeing, other, zip([*normal, *parts.scratched(30)], labels, strict=True))
    assert found.n_known[0] > 100 and found.n_known[1] < 15
    assert found.note.startswith(f"A has seen {found.n_known[0]} of these pictures while")
    assert found.to_json()["note"] == found.note


@pytest.fixture(scope="module")
def labelled() -> tuple[ImageSource, list[int]]:
    pictures = [*parts.normal(20, seed=5), *parts.scratched(10)]
    return ImageSource.of(pictures), [0] * 20 + [1] * 10


def test_two_detectors_on_the_same_pictures(labelled: tuple[ImageSource, list[int]]) -> None:
    source, labels = labelled
    good = parts.fit()
    blind = parts.fit(settings={"roi": "0,0,0.3,0.3"})  # sees nothing of the scratch
    pictures = list(zip((p.load() for p in source), labels, strict=True))
    found = compare(good, blind, iter(pictures))
    evaluations = [evaluate(one, source, labels=labels) for one in (good, blind)]
    assert found == replace(compared(*evaluations), description=found.description)
    scores = [[result.score for result in one.results] for one in evaluations]
    assert found.auroc == delong(labels, *scores)
    assert (found.auroc.a, found.auroc.b) == tuple(one.auroc for one in evaluations)
    assert found.found.a == evaluations[0].true_positive_rate
    assert found.false_alarms.b == evaluations[1].false_positive_rate
    assert (found.n_normal, found.n_anomalous, found.n_unreadable) == (20, 10, 0)
    assert found.kinds == {"1": tuple(one.kinds["1"] for one in evaluations)}
    assert found.to_json()["kinds"]["1"]["b"] == found.kinds["1"][1]._asdict()
    assert found.words.startswith("A tells normal from anomalous better on these 20 normal and 10")
    assert compare(good, good, iter(pictures)).words.startswith("these 20 normal and 10 anomalous")


def test_thresholds_that_decide_otherwise_are_told(
    labelled: tuple[ImageSource, list[int]],
) -> None:
    one = parts.fit()
    loose, strict = (
        evaluate(made, labelled[0], labels=labelled[1])
        for made in (one, one.calibrate([*parts.normal(30), *parts.scratched(15)], target_fpr=0.05))
    )
    words = compared(loose, strict).words
    assert "(AUROC, p = 1); by its threshold A finds more defects" in words
    assert "by its threshold B finds more defects" in compared(strict, loose).words
    assert "threshold" not in compared(loose, loose).words


def test_few_pictures_are_said_to_be_few(labelled: tuple[ImageSource, list[int]]) -> None:
    one = evaluate(parts.fit(), labelled[0], labels=labelled[1])
    assert compared(one, one).note == ""
    fewer = replace(one, results=one.results[:23], labels=one.labels[:23], kind_of=one.kind_of[:23])
    found = compared(fewer, fewer)
    assert found.note.startswith("with 3 anomalous pictures intervals are too narrow")
    assert found.to_json()["note"] == found.note


def test_a_picture_that_one_cannot_read_counts_for_neither(
    labelled: tuple[ImageSource, list[int]],
) -> None:
    one = evaluate(parts.fit(), labelled[0], labels=labelled[1])
    broken = one.results[3]._replace(error="is damaged", score=float("nan"), decision="error")
    other = replace(one, results=[*one.results[:3], broken, *one.results[4:]])
    found: Comparison = compared(one, other)
    assert (found.n_normal, found.n_unreadable, found.auroc.difference) == (19, 1, 0)
    with pytest.raises(DataError, match="other pictures"):
        compared(one, replace(one, labels=[not label for label in one.labels]))


def test_too_few_pictures_are_refused() -> None:
    with pytest.raises(
        DataError, match="two normal and two anomalous pictures at least, got 4 and"
    ):
        delong([0, 0, 0, 0, 1], A, B)
