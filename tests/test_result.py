"""Results that can be looked at."""

import base64
import io
import math
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood import Detector, Result, Results
from onlygood.core.errors import DataError
from onlygood.report.heatmap import overlay
from onlygood.report.regions import Region
from onlygood.result import GREY, SHOWN, THUMBNAIL
from onlygood.training import health
from tests import parts

PICTURE = np.full((30, 40, 3), 200, np.uint8)
MAP = np.zeros((30, 40), np.float32)
MAP[5:15, 5:15] = 1.5
WHOLE = Result("a.png", 3.25, 0.02, "anomalous", {"residual": 3.25}, MAP, None, PICTURE)
BARE = WHOLE._replace(name="b.png", map=None, picture=None, decision="normal")
BROKEN = Result("c<b>.png", math.nan, math.nan, "error", {}, error="c<b>.png: is empty")


def images(page: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/webp;base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(image))) for image in found]


def test_they_say_what_they_are() -> None:
    assert repr(WHOLE) == "<Result a.png: anomalous, score 3.25, p 0.02, map 40 x 30>"
    assert repr(BARE) == "<Result b.png: normal, score 3.25, p 0.02>"
    assert repr(BROKEN) == "<Result c<b>.png: error, c<b>.png: is empty>"
    assert repr(Results([WHOLE, BARE, WHOLE])) == "<Results: 3 pictures: 1 normal, 2 anomalous>"
    assert repr(Results()) == "<Results: 0 pictures>"


def test_the_overlay_is_the_map_on_its_picture(tmp_path: Path) -> None:
    expected = np.asarray(overlay(PICTURE, MAP, opacity=0.5))
    np.testing.assert_array_equal(np.asarray(WHOLE.overlay(opacity=0.5)), expected)
    WHOLE.save(tmp_path / "a.png", opacity=0.5)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png")), expected)
    # What is not called anomalous has nothing marked, however high its map is.
    unmarked = np.asarray(overlay(PICTURE, MAP, outline=False))
    assert (unmarked != np.asarray(WHOLE.overlay())).any()
    normal = np.asarray(WHOLE._replace(decision="normal").overlay())
    np.testing.assert_array_equal(normal, unmarked)


def test_regions_are_what_is_outlined() -> None:
    assert WHOLE.regions == [(5, 5, 10, 10, 100, 1.5)]
    assert WHOLE._replace(decision="normal").regions == BARE.regions == BROKEN.regions == []


def test_what_was_not_kept_is_grey_and_what_is_not_known_is_left_out() -> None:
    assert WHOLE._replace(picture=None).overlay().getpixel((39, 29)) == (GREY, GREY, GREY)
    np.testing.assert_array_equal(np.asarray(WHOLE._replace(map=None).overlay()), PICTURE)
    with pytest.raises(DataError, match=r"b\.png: has neither picture nor map .* keep=True"):
        BARE.overlay()
    with pytest.raises(DataError, match=r"^c<b>\.png: is empty$"):
        BROKEN.overlay()


def test_show_opens_the_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = []
    monkeypatch.setattr(Image.Image, "show", lambda image, title: shown.append((image, title)))
    WHOLE.show(opacity=0.5)
    ((image, title),) = shown
    assert (image, title) == (WHOLE.overlay(opacity=0.5), "a.png")


def test_a_notebook_shows_a_table_that_is_escaped_and_small() -> None:
    large = np.zeros((1000, 2000, 1), np.uint8)
    defect = np.zeros((1000, 2000), np.float32)
    defect[500, 1000] = 2.0
    big = WHOLE._replace(picture=large, map=defect)
    page = Results([big, BARE, BROKEN, WHOLE._replace(name="caf\udce9")])._repr_html_()
    thumbnail, other = images(page)
    assert (thumbnail.size, other.size) == ((THUMBNAIL, THUMBNAIL // 2), (40, 30))
    assert np.asarray(thumbnail).max() > 100, "one pixel of a defect is seen in the thumbnail"
    assert "c&lt;b&gt;.png: is empty" in page and "<b>" not in page
    assert "<td>normal</td><td>3.25</td><td>0.02</td>" in page
    assert "nan" not in page and "caf?" in page
    assert len(page) < 10_000
    assert images(WHOLE._repr_html_())[0].size == (40, 30)


def test_of_many_results_a_notebook_shows_some() -> None:
    page = Results([BARE] * (SHOWN + 7))._repr_html_()
    assert page.count("b.png") == SHOWN
    assert "57 pictures: 57 normal" in page and "and 7 more" in page
    assert "more" not in Results([BARE] * SHOWN)._repr_html_()


def test_some_of_the_results_can_be_looked_at_as_all_can() -> None:
    results = Results([WHOLE, BARE, BROKEN])
    assert repr(results[1:]) == "<Results: 2 pictures: 1 normal, 1 error>"
    assert results[np.int64(1)] is results[-2] is BARE


def test_rows_are_flat() -> None:
    whole = {"name": "a.png", "score": 3.25, "p_value": 0.02, "decision": "anomalous"}
    whole |= {"error": None, "part_residual": 3.25}
    assert Results([WHOLE._replace(map=None)]).rows() == [whole]
    worst = {"left": 5, "top": 5, "width": 10, "height": 10, "area": 100, "peak": 1.5}
    where = {"regions": 1} | {f"region_{name}": value for name, value in worst.items()}
    assert Results([WHOLE]).rows() == [whole | where]
    none = dict.fromkeys(where) | {"regions": 0}
    assert WHOLE._replace(decision="normal").row() == whole | none | {"decision": "normal"}


def test_a_frame_needs_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ModuleNotFoundError, match=r"to_frame needs pandas: pip install pandas; "):
        Results([WHOLE]).to_frame()


def test_a_frame_has_a_column_for_each_part() -> None:
    pandas = pytest.importorskip("pandas")
    frame = Results([WHOLE, BARE]).to_frame()
    assert isinstance(frame, pandas.DataFrame)
    where = ["regions", *(f"region_{name}" for name in Region._fields)]
    known = ["name", "score", "p_value", "decision", "error"]
    assert list(frame) == [*known, *where, "part_residual"]
    assert frame.regions.fillna(-1).tolist() == [1, -1]
    assert frame.part_residual.tolist() == [3.25, 3.25]


# Detectors -----------------------------------------------------------------------------------


def test_a_detector_says_what_it_is(tmp_path: Path) -> None:
    made = parts.fit(parts.normal(12))
    words = repr(made)
    assert words.startswith(
        "<Detector pca; learnt from 6 pictures; 16 x 16 px, grey; at most 31.9 % of normal"
    )
    assert "without training steps" in words
    tiled = parts.fit(parts.normal(12), {"size": 32, "tile": 16})
    assert "24 x 32 px in tiles of 16" in repr(tiled)
    page = made._repr_html_()
    assert "<th>promise</th><td>at most 31.9 % of normal" in page
    made.report(tmp_path / "r.html")
    assert "pca: learnt from normal pictures" in (tmp_path / "r.html").read_text("utf-8")


def test_results_of_a_detector_can_be_looked_at() -> None:
    made = parts.fit(parts.normal(12))
    found = made.score(list(parts.scratched(2)), keep=True)
    assert isinstance(found, Results)
    assert found[0].overlay().size == (20, 24)
    assert made.score(list(parts.normal(2)))[0].picture is None


def test_curves_are_drawn() -> None:
    settings = {"size": 32, "width": 2, "steps": 4, "log_every": 1}
    made = Detector.fit("autoencoder", list(parts.normal(8)), settings=settings)
    figure = made.plot()
    drawn = {axes.get_title(): axes.lines[0].get_xydata().tolist() for axes in figure.axes}
    assert list(drawn) == health.names(made.history)
    for name, points in drawn.items():
        assert [tuple(point) for point in points] == health.series(made.history, name)
    figure.savefig(io.BytesIO())
    with pytest.raises(DataError, match='no curves: method "pca" takes no steps'):
        parts.fit(parts.normal(6)).plot()
