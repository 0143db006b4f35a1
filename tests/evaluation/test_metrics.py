"""Metrics against hand-computed cases, scikit-learn and brute force."""

from collections.abc import Sequence

import numpy as np
import pytest
from scipy import ndimage, stats
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from onlygood.core.errors import DataError, ShapeError
from onlygood.evaluation.metrics import (
    PixelCurve,
    auroc,
    average_precision,
    by_kind,
    f1_max,
    fpr_at_tpr,
    max_balanced_accuracy,
    max_balanced_accuracy_by_kind,
    rate_interval,
    rates,
)

LABELS = [0, 0, 0, 1, 1]
SCORES = [0.1, 0.2, 0.8, 0.5, 0.9]
OF_SCORES = [auroc, average_precision, f1_max, max_balanced_accuracy, fpr_at_tpr]


def test_hand_computed() -> None:
    assert auroc(LABELS, SCORES) == pytest.approx(5 / 6)
    assert average_precision(LABELS, SCORES) == pytest.approx((1 + 2 / 3) / 2)
    assert max_balanced_accuracy(LABELS, SCORES) == pytest.approx((1 + 2 / 3) / 2)
    assert f1_max(LABELS, SCORES) == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert fpr_at_tpr(LABELS, SCORES) == pytest.approx(1 / 3)
    assert fpr_at_tpr(LABELS, SCORES, tpr=0.5) == 0.0
    assert fpr_at_tpr(LABELS, SCORES, tpr=1e-12) == 0.0  # Of any share at least one is found.
    # The usual 95 of 100 are at 5 or above.
    assert fpr_at_tpr([1] * 100 + [0] * 2, [*range(100), 4.5, 5.5]) == 0.5
    # 0.07 * 100 is a little more than 7; the 7 highest are at 93 or above.
    assert fpr_at_tpr([1] * 100 + [0] * 2, [*range(100), 92.5, 93.5], tpr=0.07) == 0.5
    assert fpr_at_tpr(LABELS, SCORES, tpr=1.0) == pytest.approx(1 / 3)


def test_ties_count_half() -> None:
    assert auroc([0, 1], [3.0, 3.0]) == 0.5
    assert max_balanced_accuracy([0, 1], [3.0, 3.0]) == 0.5
    assert fpr_at_tpr([0, 1], [3.0, 3.0]) == 1.0


@pytest.mark.parametrize("scale", [1.0, 1e6, 1e30, 1e-30])
def test_large_raw_scores_that_separate_are_perfect(scale: float) -> None:
    scores = scale * (1000 + np.arange(10.0))
    labels = np.arange(10) >= 6
    assert auroc(labels, scores) == 1.0
    assert average_precision(labels, scores) == 1.0
    assert max_balanced_accuracy(labels, scores) == 1.0
    assert fpr_at_tpr(labels, scores) == 0.0


def test_infinite_scores_have_an_order() -> None:
    assert auroc([0, 0, 1, 1], [-np.inf, 1.0, 2.0, np.inf]) == 1.0


@pytest.mark.parametrize("metric", OF_SCORES)
@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_one_kind_alone_is_undefined(metric, labels: list[int]) -> None:
    assert metric(labels, [1.0, 2.0][: len(labels)]) is None


@pytest.mark.parametrize("metric", OF_SCORES)
@pytest.mark.parametrize(
    ("labels", "scores", "words"),
    [
        ([0, 1], [1.0, np.nan], "1 of 2 scores are NaN"),
        ([0, 1, 1], [1.0, 2.0], "one for each picture"),
        ([[0, 1]], [[1.0, 2.0]], "one for each picture"),
        ([-1, 1], [1.0, 2.0], r"labels are 0 .* got \[-1\]"),
        (["0", "1"], [1.0, 2.0], r"got \['0', '1'\]"),
        ([0, None, 1], [1.0, 2.0, 3.0], r"got \[None\]"),
    ],
)
def test_spoilt_input_is_refused(metric, labels: list, scores: list[float], words: str) -> None:
    with pytest.raises(DataError, match=words):
        metric(labels, scores)


def test_balanced_accuracy_by_kind_by_hand() -> None:
    kinds = ["good", "good", "good", "good", "hole", "hole", "hole", "cut"]
    scores = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 2.5]
    # above 2: good 2/4, hole 1, cut 1; above 4: good 1, hole 1, cut 0
    assert max_balanced_accuracy_by_kind(kinds, scores) == pytest.approx((0.5 + 1) / 2)
    assert max_balanced_accuracy_by_kind(kinds[:7], scores[:7]) == 1.0
    assert max_balanced_accuracy_by_kind(["good", "hole", "cut"], [3.0, 2.0, 1.0]) == 0.5
    # pooled, the one cut weighs a quarter: above 4, (1 + 3/4) / 2
    labels = [kind != "good" for kind in kinds]
    assert max_balanced_accuracy(labels, scores) == pytest.approx(0.875)


def test_balanced_accuracy_by_kind_of_equally_frequent_kinds_is_the_pooled_one() -> None:
    rng = np.random.default_rng(0)
    kinds = ["good"] * 30 + ["hole", "cut", "spot"] * 10
    scores = rng.integers(0, 12, 60) + np.repeat([0, 3], 30)
    labels = np.arange(60) >= 30
    by_kind = max_balanced_accuracy_by_kind(kinds, scores)
    assert by_kind == pytest.approx(max_balanced_accuracy(labels, scores))
    assert 0.5 < by_kind < 1


def test_each_kind_of_defect_by_itself_by_hand() -> None:
    kinds = ["good", "hole", "good", "cut", "hole", "cut", "spot"]
    scores = [1.0, 5.0, 3.0, 2.0, 4.0, 0.5, 3.0]
    decisions = ["normal", "anomalous", "unsure", "normal", "unsure", "normal", "normal"]
    told = by_kind(kinds, scores, decisions)
    assert told == {"cut": (2, 0, 0.25), "spot": (1, 0, 0.75), "hole": (2, 2, 1.0)}
    assert list(told) == ["cut", "spot", "hole"]  # The least found first.
    assert by_kind(kinds, scores, decisions, normal="spot")["good"] == (2, 1, 0.25)
    assert by_kind(["hole"], [1.0], ["normal"]) == {"hole": (1, 0, None)}
    assert by_kind(["good"], [1.0], ["normal"]) == {}
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        by_kind(["good", "cut"], [1.0, np.nan], ["normal"] * 2)


def test_balanced_accuracy_by_kind_needs_both() -> None:
    assert max_balanced_accuracy_by_kind(["good", "good"], [1.0, 2.0]) is None
    assert max_balanced_accuracy_by_kind(["hole", "cut"], [1.0, 2.0]) is None
    assert max_balanced_accuracy_by_kind(["ok", "cut"], [1.0, 2.0], normal="ok") == 1.0


def test_rates_count_unsure_as_not_normal() -> None:
    decisions = ["normal", "unsure", "normal", "anomalous", "normal", "unsure"]
    assert rates([0, 0, 0, 0, 1, 1], decisions) == (0.5, 0.5)
    assert rates([1, 1], ["normal", "anomalous"]) == (None, 0.5)
    assert rates([0], np.array(["normal"])) == (0.0, None)
    with pytest.raises(DataError, match="got \\['good'\\]"):
        rates([0], ["good"])
    with pytest.raises(DataError, match="one for each picture"):
        rates([0, 1], ["normal"])


@pytest.mark.parametrize("share", [0.0, 1.01])
def test_what_needs_a_share_takes_no_other_number(share: float) -> None:
    with pytest.raises(DataError, match=r"^tpr must be above 0"):
        fpr_at_tpr([0, 1], [0.0, 1.0], tpr=share)
    with pytest.raises(DataError, match="max_fpr must be above 0"):
        curve([np.eye(2)], [np.eye(2)]).aupro(share)


def test_interval_of_a_rate() -> None:
    assert rate_interval(0, 30, 0.9) == (0.0, pytest.approx(1 - 0.05 ** (1 / 30)))
    assert rate_interval(30, 30, 0.9) == (pytest.approx(0.05 ** (1 / 30)), 1.0)
    low, high = rate_interval(5, 20)
    assert stats.binom.sf(4, 20, low) == pytest.approx(0.025)
    assert stats.binom.cdf(5, 20, high) == pytest.approx(0.025)
    for nonsense in ((3, 2), (0, 0), (1, 2, 0.0), (1, 2, 1.0)):
        with pytest.raises(DataError, match=f"count={nonsense[0]}, total={nonsense[1]}"):
            rate_interval(*nonsense)


def pictures(seed: int, levels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Masks with blobs and maps that see them dimly; few levels make many ties."""
    rng = np.random.default_rng(seed)
    masks, maps = [], []
    for height, width in [(24, 32), (16, 16), (20, 28)]:
        mask = ndimage.gaussian_filter(rng.normal(size=(height, width)), 2) > 0.2
        noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), 1)
        maps.append(np.round((mask + 3 * noise) * levels).astype(np.float32) / levels)
        masks.append((mask * 255).astype(np.uint8))
    masks.append(np.zeros((8, 8), np.uint8))
    maps.append(rng.normal(size=(8, 8)).astype(np.float32))
    return masks, maps


def curve(masks: Sequence[np.ndarray], maps: Sequence[np.ndarray]) -> PixelCurve:
    found = PixelCurve.of(masks, maps)
    assert found is not None
    return found


def brute_aupro(masks: list[np.ndarray], maps: list[np.ndarray], max_fpr: float) -> float:
    """The definition, threshold by threshold, integrated on a fine grid."""
    regions = []
    for mask, heat in zip(masks, maps, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [heat[labels == i + 1] for i in range(count)]
    normal = np.concatenate([heat[mask == 0] for mask, heat in zip(masks, maps, strict=True)])
    thresholds = np.unique(np.concatenate([heat.ravel() for heat in maps]))[::-1]
    fpr = [0.0] + [(normal >= t).mean() for t in thresholds]
    pro = [0.0] + [np.mean([(region >= t).mean() for region in regions]) for t in thresholds]
    grid = np.linspace(0, max_fpr, 200_001)
    # vertical steps: at one rate the higher overlap counts, so keep the last of equal rates
    last = np.append(np.diff(fpr) > 0, True)
    steps = np.interp(grid, np.array(fpr)[last], np.array(pro)[last])
    return float(np.trapezoid(steps, grid) / max_fpr)


@pytest.mark.parametrize("levels", [2, 100_000])
def test_pixel_metrics_equal_scikit_learn(levels: int) -> None:
    masks, maps = pictures(0, levels)
    truth = np.concatenate([mask.ravel() > 0 for mask in masks])
    values = np.concatenate([heat.ravel() for heat in maps])
    expected = roc_auc_score(truth, values)
    assert 0.5 < expected < 0.95
    found = curve(masks, maps)
    assert found.auroc == pytest.approx(expected, abs=1e-12)
    precise = average_precision_score(truth, values)
    assert found.average_precision == pytest.approx(precise, abs=1e-12)
    precision, recall, _ = precision_recall_curve(truth, values)
    both = 2 * precision * recall / (precision + recall)
    assert found.f1_max == pytest.approx(np.nanmax(both), abs=1e-12)


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_aupro_equals_its_definition(seed: int, max_fpr: float) -> None:
    masks, maps = pictures(seed, 3)
    expected = brute_aupro(masks, maps, max_fpr)
    assert 0.05 < expected < 0.95
    assert curve(masks, maps).aupro(max_fpr) == pytest.approx(expected, abs=2e-5)


def test_aupro_by_hand() -> None:
    mask = np.array([[1, 0, 0, 0, 0], [0, 0, 0, 1, 1]], dtype=bool)
    heat = np.array([[9.0, 5.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 7.0, 3.0]])
    # regions {9} and {7, 3}; 7 normal pixels, one of them (5) above the 3:
    # the overlap is 3/4 up to the rate 1/7, then 1
    assert curve(mask[None], heat[None]).aupro(1.0) == pytest.approx((3 / 4 + 6) / 7)
    assert curve(mask[None], heat[None]).aupro(2 / 7) == pytest.approx((3 / 4 + 1) / 2)
    assert curve(mask[None], heat[None]).aupro(1 / 14) == pytest.approx(3 / 4)
    assert curve(mask[None], heat[None]).aupro() == pytest.approx((3 / 4 / 7 + 0.3 - 1 / 7) / 0.3)


def test_regions_weigh_the_same_and_corners_connect() -> None:
    diagonal = np.eye(3, dtype=np.uint8)
    heat = np.diag([4.0, 4.0, 0.0])
    # one region, two thirds of it found at rate 0; its last pixel ties with all 6 normal ones
    assert curve([diagonal], [heat]).aupro(1.0) == pytest.approx((2 / 3 + 1) / 2)
    apart = np.array([[1, 0, 1, 1, 1]], dtype=np.uint8)
    heat = np.array([[0.0, 1.0, 2.0, 2.0, 2.0]])
    assert curve([apart], [heat]).aupro(1.0) == pytest.approx(1 / 2)
    assert curve([apart], [heat]).auroc == pytest.approx(3 / 4)


@pytest.mark.parametrize("max_fpr", [0.05, 0.3, 0.7, 1.0])
def test_perfect_maps_reach_one_and_not_more(max_fpr: float) -> None:
    masks = np.zeros((3, 7, 7), dtype=bool)
    masks[0, 1:3, 1:4] = masks[0, 5:, 5:] = masks[1, :, 0] = True
    noise = np.random.default_rng(0).random(masks.shape)
    assert curve(masks, masks + 0.5 * noise).aupro(max_fpr) == 1.0
    assert curve(masks, masks + 0.5 * noise).auroc == 1.0
    assert curve(masks, -(masks + 0.5 * noise)).aupro(max_fpr) == 0.0


def test_pixel_metrics_need_both_kinds_of_pixel() -> None:
    heat = [np.ones((2, 2))]
    assert PixelCurve.of([np.zeros((2, 2))], heat) is None
    assert PixelCurve.of([np.ones((2, 2))], heat) is None
    assert PixelCurve.of([], []) is None


def test_spoilt_maps_are_refused() -> None:
    mask, heat = np.eye(2), np.ones((2, 2))
    with pytest.raises(DataError, match="2 masks and 1 maps"):
        PixelCurve.of([mask, mask], [heat])
    with pytest.raises(ShapeError, match=r"picture 1 must both be \(H, W\)"):
        PixelCurve.of([mask, mask], [heat, np.ones((2, 3))])
    with pytest.raises(ShapeError, match=r"picture 0 must both be \(H, W\)"):
        PixelCurve.of([mask[None]], [heat[None]])
    with pytest.raises(DataError, match="map of picture 0 holds NaN"):
        PixelCurve.of([mask], [np.full((2, 2), np.nan)])


def test_average_precision_equals_scikit_learn_with_ties() -> None:
    rng = np.random.default_rng(0)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, 9, 200)
    expected = average_precision_score(labels, scores)
    assert average_precision(labels, scores) == pytest.approx(expected)


def test_pixels_that_are_not_looked_at_are_no_part_of_a_curve() -> None:
    draw = np.random.RandomState(0)
    masks, maps = draw.rand(3, 12, 12) < 0.1, draw.rand(3, 12, 12)
    looked = np.zeros((3, 12, 12), bool)
    looked[:, 2:9, 3:11] = True
    found = PixelCurve.of(masks, maps, list(looked))
    assert found is not None
    assert found.auroc == pytest.approx(roc_auc_score(masks[looked], maps[looked]))
    assert found.passed[-1] == (~masks & looked).sum()
    whole = PixelCurve.of(masks, maps, list(np.ones_like(looked)))
    assert whole is not None
    assert np.array_equal(whole.overlap, curve(masks, maps).overlap)
