"""Geometry of the charts: counts, cut axes, breaks, and numbers that cannot be drawn."""

import math

import pytest

from onlygood.report import charts


def _one(values, reference=(), marks=()):
    return charts.histogram([("all", "scored", values)], reference, marks)


def test_bars_stand_where_their_scores_are() -> None:
    chart = _one([0.0, 0.0, 10.0])
    assert [bar.x for bar in chart.rows[0].bars] == pytest.approx([0, 98])
    assert [bar.height for bar in chart.rows[0].bars] == [1.0, 0.5]
    assert (chart.rows[0].count, chart.rows[0].peak) == (3, 2)
    assert (chart.below, chart.above) == (0, 0)


def test_threshold_is_marked_in_place_and_always_within_the_axis() -> None:
    chart = _one([0.0, 10.0], marks=[("threshold", 2.125)])
    assert chart.marks == [(21.25, "threshold 2.125")]
    beyond = _one([0.0, 1.0], marks=[("threshold", 3.0)])
    assert beyond.marks[0].at == 100.0


def test_no_bar_lies_on_both_sides_of_a_mark() -> None:
    scores = [0.0, 1.0, 1.001, 2.0, 3.0, 7.0]
    chart = _one(scores, marks=[("unsure above", 1.0), ("anomalous above", 3.0)])
    for mark, value in zip(chart.marks, (1.0, 3.0), strict=True):
        left = [bar for bar in chart.rows[0].bars if bar.x + bar.width < mark.at]
        right = [bar for bar in chart.rows[0].bars if bar.x > mark.at - 1e-9]
        assert len(left) + len(right) == len(chart.rows[0].bars)
        assert sum(bar.height * chart.rows[0].peak for bar in left) == sum(
            score <= value for score in scores
        )


def test_scores_far_out_are_counted_in_a_bar_at_the_end() -> None:
    reference = [1.0, 1.1, 1.2, 1.3]
    chart = _one([*reference, 500.0, 1e9, -1e6], reference, [("threshold", 1.35)])
    assert (chart.below, chart.above) == (1, 2)
    # 8 times from the median to the threshold away.
    assert (chart.low, chart.high) == pytest.approx((1.15 - 1.6, 1.15 + 1.6))
    beyond = [bar for bar in chart.rows[0].bars if bar.beyond]
    assert [bar.x for bar in beyond] == [0.0, 97.0]
    assert [bar.height * chart.rows[0].peak for bar in beyond] == [1, 2]
    inside = [bar for bar in chart.rows[0].bars if not bar.beyond]
    assert all(5 <= bar.x and bar.x + bar.width <= 95 for bar in inside)


def test_only_the_end_that_is_cut_has_room_set_apart() -> None:
    reference = [0.0, 1.0]
    below, above = (_one([*reference, *[far] * 3], reference) for far in (-1e6, 1e6))
    assert below.rows[0].bars[1].x + below.rows[0].bars[1].width / 0.92 == pytest.approx(100)
    assert above.rows[0].bars[0].x == 0
    for chart in (below, above):  # nor is the bar beyond higher than the row
        assert [bar.height for bar in chart.rows[0].bars] == pytest.approx([1 / 3, 1 / 3, 1.0])


@pytest.mark.parametrize(
    "values",
    [[3.0], [0.0] * 5, [-2.0, -2.0], [1e-310, 2e-310], [1e299, -1e299], [1.0, 1.0 + 1e-15]],
)
def test_degenerate_scores_still_make_a_chart(values) -> None:
    chart = _one(values, values, [("threshold", values[0])])
    assert chart.rows[0].count == len(values)
    for bar in chart.rows[0].bars:
        assert 0 <= bar.x <= 100 and 0 < bar.height <= 1
    assert all(0 <= tick.at <= 100 for tick in [*chart.ticks, *chart.marks])


def test_numbers_that_cannot_be_drawn_are_left_out() -> None:
    odd = [math.nan, math.inf, -math.inf]
    assert _one(odd) is None
    chart = _one([1.0, 2.0, *odd], odd, [("threshold", math.nan)])
    assert chart.rows[0].count == 2 and chart.marks == []


def test_empty_groups_have_no_row() -> None:
    chart = charts.histogram([("a", "x", []), ("b", "y", [1.0])], [], [])
    assert [row.label for row in chart.rows] == ["b"]


def test_roc_of_a_perfect_and_of_a_hand_computed_ranking() -> None:
    assert charts.roc([False, True], [0.0, 1.0]) == "0.00,100.00 0.00,0.00 100.00,0.00"
    points = charts.roc([True, False, True, False], [4.0, 3.0, 2.0, 1.0])
    assert points == "0.00,100.00 0.00,50.00 50.00,50.00 50.00,0.00 100.00,0.00"


def test_roc_needs_both_classes_and_finite_scores() -> None:
    assert charts.roc([], []) is None
    assert charts.roc([True, True], [1.0, 2.0]) is None
    assert charts.roc([False, True], [1.0, math.nan]) is None


def test_curve_is_linear_or_logarithmic_as_its_values_ask() -> None:
    linear = charts.curve("a", [(0, 0.0), (10, 4.0)])
    assert linear is not None and not linear.log and linear.last == 4.0
    assert linear.lines == ["0.00,100.00 100.00,0.00"]
    log = charts.curve("a", [(0, 1000.0), (5, 10.0), (10, 1.0)])
    assert log is not None and log.log
    assert log.lines == ["0.00,0.00 50.00,66.67 100.00,100.00"]
    assert [tick.label for tick in log.y_ticks] == ["1", "10", "100", "1000"]
    assert [tick.at for tick in log.y_ticks] == pytest.approx([100, 66.67, 33.33, 0], abs=0.01)
    edge = charts.curve("a", [(0, 1.0), (1, 100.0)])
    assert edge is not None and not edge.log


def test_axes_of_a_curve_have_few_labels_that_fit() -> None:
    wide = charts.curve("a", [(0, 1e-6), (1, 10.0)])
    assert wide is not None
    assert [tick.label for tick in wide.y_ticks] == ["1e-6", "1e-4", "0.01", "1"]
    linear = charts.curve("a", [(0, 0.0), (1, 4.0)])
    assert linear is not None
    assert [(tick.at, tick.label) for tick in linear.y_ticks][:2] == [(100.0, "0"), (75.0, "1")]
    # There is no half of a step.
    assert [tick.label for tick in linear.x_ticks] == ["0", "1"]


def test_curve_breaks_where_a_value_is_not_finite() -> None:
    curve = charts.curve("a", [(0, 1.0), (1, 2.0), (2, math.nan), (3, math.inf), (4, 3.0)])
    assert curve is not None
    assert curve.gaps == 2
    assert curve.lines == ["0.00,100.00 25.00,50.00", "100.00,0.00 100.00,0.00"]


def test_values_whose_difference_would_overflow_are_gaps() -> None:
    curve = charts.curve("a", [(0, -1.7e308), (1, 0.0), (2, 1.0), (3, 1.7e308)])
    assert curve is not None
    assert (curve.gaps, curve.lines) == (2, ["33.33,100.00 66.67,0.00"])


def test_a_curve_of_many_pieces_is_not_larger_than_others() -> None:
    for gap in (2, 5):
        points = [(step, math.nan if step % gap == 0 else 1.0) for step in range(3000)]
        curve = charts.curve("a", points)
        assert curve is not None and curve.gaps == 3000 // gap
        assert len(curve.lines) == charts.MAX_POINTS
        assert {len(line.split()) for line in curve.lines} == {2}


def test_curve_of_nothing_and_of_one_point() -> None:
    assert charts.curve("a", []) is None
    assert charts.curve("a", [(1, math.nan)]) is None
    single = charts.curve("a", [(7, 0.0)])
    assert single is not None and single.lines == ["50.00,50.00 50.00,50.00"]


def test_long_curves_are_thinned_and_keep_their_ends() -> None:
    curve = charts.curve("a", [(step, float(step)) for step in range(100_000)])
    assert curve is not None
    points = curve.lines[0].split()
    assert len(points) <= charts.MAX_POINTS
    assert (points[0], points[-1]) == ("0.00,100.00", "100.00,0.00")
