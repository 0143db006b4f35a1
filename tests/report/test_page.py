"""The page: complete, closed to the outside, and unimpressed by odd input."""

import base64
import dataclasses
import io
import math
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from onlygood.report import page
from onlygood.report.content import (
    DecisionSummary,
    EvaluationSummary,
    Item,
    KindSummary,
    ReportContent,
)
from onlygood.report.heatmap import FAINT
from onlygood.report.plots import training_curves

DECISION = DecisionSummary(
    threshold=2.0,
    target_fpr=0.05,
    confidence=0.9,
    promised_fpr=0.05,
    guarantee="at most 5 % of normal pictures are called anomalous, with 90 % confidence",
    n_calibration=200,
)
BARE = ReportContent(
    title="Nuts",
    created="2026-11-22T10:00:00+00:00",
    method="pca",
    method_summary="principal components",
    decision=DECISION,
)
EVALUATION = EvaluationSummary(
    auroc=0.91,
    average_precision=0.8,
    max_balanced_accuracy=0.85,
    false_positive_rate=0.04,
    true_positive_rate=0.7,
    n_normal=3,
    n_anomalous=3,
    words="2 of 3 anomalous pictures are found",
    parts={"reconstruction": 0.9},
    kinds={"hole": KindSummary(2, 1, 0.875), "cut": KindSummary(1, 1, 1.0)},
)

VOID = {"meta", "img", "br", "input"}


class _Page(HTMLParser):
    """Tags, attributes, text and headings; fails on tags that do not close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str, str]] = []
        self.headings: list[str] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag
        self.text += " " if tag in {"dt", "dd", "th", "td"} else ""

    def handle_data(self, data) -> None:
        self.text += "" if self.open and self.open[-1] == "style" else data
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def _item(name: str, score: float, label: bool | None = None, **more) -> Item:
    decision = "anomalous" if score > DECISION.threshold else "normal"
    return Item(name=name, score=score, p_value=0.1, decision=decision, label=label, **more)


def _pictured(name: str, score: float, label: bool | None = None) -> Item:
    return _item(
        name,
        score,
        label,
        picture=Image.new("L", (16, 12), 90),
        map=np.full((12, 16), 1.2, np.float32),
    )


def _given_back(name: str, score: float) -> Item:
    return dataclasses.replace(_pictured(name, score), reconstruction=Image.new("L", (8, 6), 70))


def _full() -> ReportContent:
    return dataclasses.replace(
        BARE,
        calibration_scores=[0.5, 1.0, 1.5],
        items=[
            _pictured("a.png", 3.0, True),
            _pictured("b.png", 2.5, False),
            _pictured("c.png", 0.5, True),
            _item("d.png", 0.4, False),
            Item(name="e.png", error="the file is empty"),
        ],
        curves={"critic.real": [(0, 1.0), (10, 2.0)]},
        verdict="Healthy.",
        provenance={"seed": 0},
        evaluation=EVALUATION,
    )


def test_a_curve_of_one_point_is_a_dot() -> None:
    for points, dots in ([(0, 1.0)], 1), ([(0, 1.0), (9, 1.0)], 0), ([(0, 1.0), (5, math.nan)], 1):
        html = page.render(dataclasses.replace(BARE, curves={"loss": points}))
        assert html.count('class="dot"') == dots
    [line] = training_curves({"loss": [(0, 1.0)]}).axes[0].lines
    assert line.get_marker() == "o"


def test_no_mark_is_drawn_over_a_label() -> None:
    decision = dataclasses.replace(DECISION, strict_threshold=2.1)
    html = page.render(dataclasses.replace(BARE, decision=decision, calibration_scores=[0.0, 2.2]))
    chart = html[html.index('<svg class="plot bars"') :]
    assert ", unsure above 2, anomalous above 2.1" in chart
    assert chart.rindex('class="mark"') < chart.index('class="label over"')


def test_a_number_at_the_edge_of_a_phone_is_left_out_rather_than_cut_off() -> None:
    html = page.render(dataclasses.replace(BARE, calibration_scores=[1.0] * 12_345))
    assert '12345 pictures<tspan class="peak">, highest bar 12345</tspan>' in html
    narrow = html.partition("@media (max-width: 34rem) {")[2].partition("@media")[0]
    assert ".peak { display: none; }" in narrow


def test_bare_content_shows_the_decision_and_no_empty_section() -> None:
    parsed = _Page(page.render(BARE))
    assert parsed.headings == ["Decision", "How to read this page"]
    assert (
        "At most 5 % of normal pictures are called anomalous, with 90 % confidence." in parsed.text
    )


def test_full_content_has_every_section_with_the_promise_first() -> None:
    parsed = _Page(page.render(_full()))
    assert parsed.headings == [
        "Decision",
        "Scores",
        "Against known labels",
        "Most anomalous",
        "False alarms",
        "Misses",
        "Unreadable pictures",
        "Training",
        "Provenance",
        "How to read this page",
    ]
    words = " ".join(parsed.text.split())
    assert "False alarms promised, at most 5 %" in words
    assert "False alarms found on 3 normal pictures 4 %" in words
    assert "score 3 (1.5 × threshold) p = 0.1 · known anomalous" in words
    assert "2 of 3 anomalous pictures are found. ROC curve" in words
    assert "hole 1 of 2 0.875 cut 1 of 1 1" in words
    for ids in (value.split() for _, name, value in parsed.attributes if name == "aria-labelledby"):
        assert all(("h2", "id", each) in parsed.attributes for each in ids)


def test_no_promise_is_rounded_to_a_greater_one() -> None:
    decision = dataclasses.replace(DECISION, confidence=0.9999, promised_fpr=0.02771)
    words = " ".join(_Page(page.render(dataclasses.replace(BARE, decision=decision))).text.split())
    assert "Confidence 99.99 %" in words
    assert "False alarms promised, at most 2.78 % False alarms asked for, at most 5 %" in words


def test_nothing_is_whole_that_one_picture_lacks() -> None:
    figures = dataclasses.replace(EVALUATION, auroc=0.99996, true_positive_rate=0.9996)
    content = dataclasses.replace(BARE, evaluation=figures)
    words = " ".join(_Page(page.render(content)).text.split())
    assert "AUROC 0.99996" in words
    assert "Anomalous pictures above the threshold 99.96 %" in words


def test_counts_name_every_state_that_occurs() -> None:
    items = [*_full().items, Item(name="f", score=2.1, p_value=0.01, decision="unsure")]
    words = " ".join(_Page(page.render(dataclasses.replace(BARE, items=items))).text.split())
    assert "normal 2 unsure 1 anomalous 2 unreadable 1" in words
    assert page._counts(items[3:4]) == {"normal": 1}


def test_the_list_of_unreadable_pictures_is_bounded() -> None:
    def words(count: int) -> str:
        items = [Item(name=f"{i}.png", error="damaged") for i in range(count)]
        return _Page(page.render(dataclasses.replace(BARE, items=items))).text

    assert "more." not in words(page.UNREADABLE)
    longer = words(page.UNREADABLE + 2)
    assert longer.count("damaged") == page.UNREADABLE and "and 2 more." in longer


@pytest.mark.parametrize(
    ("words", "sentence"),
    [("the AUROC of A", "The AUROC of A."), ("is it?", "Is it?"), ("no!", "No!"), ("yes.", "Yes.")],
)
def test_words_become_sentences(words: str, sentence: str) -> None:
    assert page._sentence(words) == sentence


def test_the_scale_is_quiet_up_to_a_quarter_and_marked_from_the_middle_on() -> None:
    bar = Image.open(io.BytesIO(base64.b64decode(page._colour_bar().partition(",")[2])))
    opacity = np.asarray(bar.getchannel("A"))[4]
    assert bar.width == 256 and not opacity[:64].any()
    assert 0 < opacity[90] < opacity[118] <= FAINT < opacity[128:].min()


def test_nothing_comes_from_outside_and_no_script_can_run() -> None:
    html = page.render(_full())
    parsed = _Page(html)
    tags = {tag for tag, _, _ in parsed.attributes}
    assert not tags & {"script", "link", "iframe", "object", "base", "a"}
    for _, name, value in parsed.attributes:
        assert not name.startswith("on")
        if name in ("src", "href"):
            assert value.startswith(("data:image/webp;base64,", "#"))
    assert "url(" not in html and "@import" not in html and "http" not in html.replace("http-", "")
    policy = next(value for _, _, value in parsed.attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")
    assert "script-src" not in policy


def test_every_reference_in_the_page_resolves() -> None:
    parsed = _Page(page.render(_full()))
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = {value[1:] for tag, name, value in parsed.attributes if tag == "use" and name == "href"}
    assert used and used <= set(ids)


def test_names_and_words_are_escaped_everywhere() -> None:
    evil = "<img src=x onerror=alert(1)>'\".png"
    content = dataclasses.replace(
        BARE,
        title=evil,
        created=evil,
        method=evil,
        method_summary=evil,
        verdict=evil,
        decision=dataclasses.replace(DECISION, guarantee=evil, note=evil),
        calibration_scores=[1.0],
        items=[
            _pictured(evil, 3.0, False),
            _pictured(evil, 1.0, True),
            Item(name=evil, error=evil),
        ],
        curves={evil: [(0, 1.0)]},
        provenance={evil: evil},
        evaluation=dataclasses.replace(
            EVALUATION, parts={evil: 0.5}, kinds=EVALUATION.kinds | {evil: KindSummary(1, 1, 1.0)}
        ),
    )
    html = page.render(content)
    assert "<img src=x" not in html
    parsed = _Page(html)
    assert not [name for _, name, _ in parsed.attributes if name.startswith("on")]
    assert parsed.text.count("<img src=x onerror=alert(1)>") > 10


def test_numbers_that_are_none_or_not_finite_never_break_the_page() -> None:
    odd = (math.nan, math.inf, -math.inf)
    items = [
        Item(name=f"{value}", score=value, p_value=value, label=bool(index % 2))
        for index, value in enumerate(odd)
    ]
    content = dataclasses.replace(
        BARE,
        decision=dataclasses.replace(
            DECISION, threshold=math.nan, promised_fpr=math.nan, strict_threshold=math.inf
        ),
        calibration_scores=odd,
        items=[*items, Item(name="nothing known"), _item("sound", 1.0, True)],
        curves={"gone": [(0, math.nan)], "part": [(0, 1.0), (1, math.inf)]},
        provenance={"loss": math.nan},
        evaluation=EvaluationSummary(
            auroc=math.nan,
            average_precision=math.nan,
            max_balanced_accuracy=math.nan,
            false_positive_rate=math.nan,
            true_positive_rate=math.inf,
            n_normal=0,
            n_anomalous=0,
            parts={"code": math.nan},
            pixel_auroc=math.nan,
            aupro=math.nan,
        ),
    )
    parsed = _Page(page.render(content))
    geometry = {"x", "x1", "x2", "y", "y1", "y2", "cx", "cy", "width", "height", "points", "style"}
    for _, name, value in parsed.attributes:
        if name in geometry:
            assert "nan" not in value and "inf" not in value
    zero = dataclasses.replace(
        BARE, decision=dataclasses.replace(DECISION, threshold=0.0), items=[_item("a", 1.0)]
    )
    assert "× threshold" not in page.render(zero)


def test_galleries_are_ordered_and_bounded() -> None:
    items = [_item(f"normal {i}", 3.0 + i, False) for i in range(30)]
    items += [_item(f"anomalous {i}", 1.0 - i / 100, True) for i in range(30)]
    items += [Item(name="nan", score=math.nan), Item(name="broken", error="damaged")]
    gallery = page._gallery(items)
    assert gallery.most_anomalous == list(range(29, 5, -1))
    assert gallery.false_alarms == list(range(29, 17, -1))
    assert gallery.least_anomalous == list(range(59, 47, -1))
    assert gallery.misses == list(range(59, 47, -1))
    assert page.shown(items) == {*range(6, 30), *range(48, 60)}


def test_galleries_of_mistakes_say_how_many_they_leave_out() -> None:
    items = [_item(f"normal {i}", 3.0 + i, False) for i in range(13)]
    items += [_item(f"anomalous {i}", 1.0 - i / 100, True) for i in range(30)]

    def words(items: list[Item]) -> str:
        return " ".join(_Page(page.render(dataclasses.replace(BARE, items=items))).text.split())

    assert "above the threshold; highest score first. 12 of 13 are shown." in words(items)
    assert "above the threshold; lowest score first. 12 of 30 are shown." in words(items)
    assert "12 of 12" not in words(items[1:])


def test_the_least_anomalous_are_none_of_the_most_anomalous() -> None:
    items = [_item(f"{i}", float(i)) for i in range(30)]
    gallery = page._gallery(items)
    assert gallery.least_anomalous == [0, 1, 2, 3, 4, 5]
    assert gallery.most_anomalous == list(range(29, 5, -1))
    assert page._gallery(items[:24]).least_anomalous == []
    assert page.shown(items) == set(range(30))


def test_reconstructions_stand_between_picture_and_heat_map() -> None:
    items = [_given_back("a.png", 3.0), _pictured("b.png", 2.5)]
    parsed = _Page(page.render(dataclasses.replace(BARE, items=items)))
    assert [value for tag, name, value in parsed.attributes if tag == "svg" and name == "aria-label"
            ][-5:] == [
        "Picture a.png", "Reconstruction of a.png", "Heat map of a.png",
        "Picture b.png", "Heat map of b.png",
    ]  # fmt: skip
    words = " ".join(parsed.text.split())
    assert "the picture, what the method gives back of it, and the heat map." in words
    bare = dataclasses.replace(items[0], map=None)
    words = " ".join(_Page(page.render(dataclasses.replace(BARE, items=[bare]))).text.split())
    assert "the picture, what the method gives back of it." in words
    assert "gives back" not in page.render(dataclasses.replace(BARE, items=[items[1]]))


def test_unusual_calibration_pictures_are_a_section_of_their_own() -> None:
    unusual = [_given_back(f"kept {i}", 2.0 - i) for i in range(3)]
    parsed = _Page(page.render(dataclasses.replace(_full(), unusual=unusual)))
    assert parsed.headings[1:5] == [
        "Scores", "Against known labels", "Most unusual calibration pictures", "Most anomalous"
    ]  # fmt: skip
    assert "Kept aside from training, with the highest scores of all 200" in parsed.text
    ids = [value for _, name, value in parsed.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {f"given-calibration-{i}" for i in range(3)} <= set(ids)


def test_every_part_is_drawn_where_there_are_several() -> None:
    items = [
        _item("a", 1.0, False, parts={"r": 5.0, "a": 1.0}),
        _item("b", 3.0, True, parts={"r": 9.0, "a": 3.0}),
        Item(name="c", error="damaged"),
    ]
    content = dataclasses.replace(
        BARE,
        items=items,
        calibration_scores=[1.0, 1.5],
        calibration_parts={"a": [1.0, 1.5], "r": [4.0, 6.0]},
        evaluation=dataclasses.replace(EVALUATION, parts={"a": 1.0, "r": 0.25}),
    )
    drawn = page._parts(content)
    assert list(drawn) == ["r", "a"]  # as the method has them
    kinds = ["calibration", "normal", "anomalous"]
    assert [(row.kind, row.count) for row in drawn["r"].rows] == list(
        zip(kinds, (2, 1, 1), strict=True)
    )
    assert (drawn["r"].low, drawn["r"].high) == (4.0, 9.0)
    words = " ".join(_Page(page.render(content)).text.split())
    assert "Parts of the score" in words and "r AUROC 0.25" in words
    one = dataclasses.replace(content, calibration_parts={"a": [1.0]}, items=[])
    assert page._parts(one) == {}


def test_unsure_pictures_are_above_the_threshold() -> None:
    items = [
        Item(name=f"{label}", score=2.2, decision="unsure", label=label) for label in (False, True)
    ]
    gallery = page._gallery(items)
    assert gallery.false_alarms == [0] and gallery.misses == []


def test_pictures_shrink_and_a_picture_on_two_lists_is_stored_once() -> None:
    large = _item(
        "a",
        5.0,
        False,
        picture=Image.new("CMYK", (2000, 1000)),
        map=np.zeros((2000, 1000), np.float32),
    )
    html = page.render(dataclasses.replace(BARE, items=[large]))
    assert 'viewBox="0 0 320 160"' in html
    assert html.count("<image ") == 2
    assert html.count('href="#photo-0"') == 4


def test_five_thousand_pictures_render_fast_into_a_small_file(tmp_path) -> None:
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8))
    map = rng.normal(0.5, 0.5, (64, 64)).astype(np.float32)
    items = [
        _item(f"line/{i:05}.png", float(score), bool(i % 2), picture=picture, map=map)
        for i, score in enumerate(rng.normal(2.0, 1.0, 5000))
    ]
    items += [Item(name=f"broken/{i}.png", error="damaged") for i in range(5000)]
    content = dataclasses.replace(
        _full(),
        items=items,
        calibration_scores=rng.normal(1.0, 0.3, 5000).tolist(),
        curves={"loss": [(i, float(i)) for i in range(50_000)]},
    )
    start = time.process_time()  # what others do on the machine is not ours
    page.write_report(content, tmp_path / "report.html")
    assert time.process_time() - start < 3
    assert (tmp_path / "report.html").stat().st_size < 1_000_000


def test_write_is_atomic_and_takes_names_that_are_not_text(tmp_path, monkeypatch) -> None:
    target = tmp_path / "report.html"
    page.write_report(dataclasses.replace(BARE, items=[_item("bad\udcff.png", 3.0)]), target)
    written = target.read_text("utf-8")
    assert "bad\\udcff.png" in written

    def fail(*_) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("onlygood.core.files.os.replace", fail)
    with pytest.raises(OSError, match="no space"):
        page.write_report(BARE, target)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert target.read_text("utf-8") == written


@pytest.mark.parametrize("broken", [True, False])
def test_a_broken_promise_stands_where_the_promise_does(broken: bool) -> None:
    found = dataclasses.replace(
        EVALUATION,
        promise="22 of 40 are above",
        promise_broken=broken,
        promise_advice="look at light" if broken else "",
    )
    html = page.render(dataclasses.replace(_full(), evaluation=found))
    decision = html[html.index('id="decision"') : html.index('id="scores"')]
    assert "22 of 40 are above." in decision
    for words in ('class="lead void"', 'class="alarm"', "Look at light."):
        assert (words in decision) == broken


def test_words_and_pictures_agree() -> None:
    """Anomalous with a region, anomalous as a whole, normal with values above 1."""
    quiet = dataclasses.replace(_pictured("whole.png", 3.0), map=np.zeros((12, 16), np.float32))
    items = [_pictured("region.png", 4.0), quiet, _pictured("normal.png", 1.0)]
    html = page.render(dataclasses.replace(BARE, items=items))
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html, re.DOTALL)
    whole = ["the score is of the whole picture" in caption for caption in captions[-3:]]
    assert whole == [False, True, False]
    heat = [_decoded(html, f"heat-{i}").getchannel("A") for i in range(3)]
    assert [np.max(alpha) > FAINT for alpha in heat] == [True, False, False]


def _decoded(html: str, identifier: str) -> Image.Image:
    found = re.search(rf'id="{identifier}"[^>]*href="data:image/webp;base64,([^"]+)"', html)
    assert found is not None
    return Image.open(io.BytesIO(base64.b64decode(found[1])))
