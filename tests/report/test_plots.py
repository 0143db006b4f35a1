from onlygood.report.plots import training_curves


def test_each_curve_is_a_plot_on_the_scale_that_it_asks_for() -> None:
    figure = training_curves(
        {
            "two decades": [(0, 1.0), (5, 100.0)],
            "more": [(0, 101.0), (5, 1.0)],
            "negative": [(0, -1.0), (5, 1000.0)],
            "zero": [(0, 0.0), (5, 1000.0)],
        }
    )
    assert [axes.get_title() for axes in figure.axes] == ["two decades", "more", "negative", "zero"]
    assert [axes.get_yscale() for axes in figure.axes] == ["linear", "log", "linear", "linear"]
    [line] = figure.axes[1].lines
    assert line.get_xydata().tolist() == [[0, 101], [5, 1]]
    assert line.get_marker() == ""
    # Three beside each other, and the fourth below the first.
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(at.rowspan.start, at.colspan.start) for at in places if at is not None] == [
        *[(0, 0), (0, 1), (0, 2), (1, 0)]
    ]
    assert tuple(figure.get_size_inches()) == (12, 5.2)


def test_few_curves_leave_no_room_for_others() -> None:
    for count in (1, 2, 3):
        figure = training_curves({f"{i}": [(0, 1.0), (5, 2.0)] for i in range(count)})
        assert tuple(figure.get_size_inches()) == (4 * count, 2.6)
        assert {axes.get_gridspec().get_geometry() for axes in figure.axes} == {(1, count)}
