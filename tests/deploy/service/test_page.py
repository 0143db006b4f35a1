"""The page in a real browser, over a real service."""

import csv
import os
import re
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from onlygood import Detector
from onlygood.decision.calibration import percent
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from onlygood.deploy.service.server import PAGE
from onlygood.deploy.service.settings import ServiceSettings
from onlygood.report.heatmap import FAINT, PLASMA
from tests.deploy.stream import serving, until
from tests.parts import TINY, normal, scratched, write

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
expect = sync_api.expect
expect.set_options(timeout=30_000)  # other tests run beside these

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path"),
]

NASTY = "<img src=x onerror=alert(1)>.png"
NAME = "parts"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, without_shape_checks: None) -> Path:
    path = tmp_path_factory.mktemp("model") / f"{NAME}.onnx"
    export(Detector.fit("pca", normal(120), settings=TINY), path)
    return path


@pytest.fixture(scope="module")
def runtime(model: Path) -> Runtime:
    return Runtime.load(model, threads=1)


@pytest.fixture
def service(model: Path, tmp_path: Path) -> Iterator[str]:
    """The base URL of a service with this one model and an empty log."""
    log = tmp_path / "service" / "log.sqlite"
    with serving(ServiceSettings(models=(model,), log=log, threads=1)) as client:
        yield str(client.base_url).rstrip("/")


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Two normal pictures, and one with a scratch."""
    return [*write(normal(2, 7), tmp_path, "good"), *write(scratched(1), tmp_path, "bad")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, service: str) -> Iterator[Any]:
    """The page, opened; whatever its console complains about fails the test."""
    with browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: said.type == "error" and complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.complaints = complaints
        page.goto(service)
        expect(page.locator("#rate")).to_contain_text("%")
        yield page
        page.unroute_all(behavior="ignoreErrors")
        assert complaints == []


def drop(page: Any, paths: list[Path]) -> None:
    """What a browser does when files are let go over the page."""
    files = [[path.name, list(path.read_bytes())] for path in paths]
    transfer = page.evaluate_handle(
        """files => {
            const transfer = new DataTransfer();
            for (const [name, bytes] of files) {
                transfer.items.add(new File([new Uint8Array(bytes)], name));
            }
            return transfer;
        }""",
        files,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def tiles(page: Any) -> Any:
    return page.get_by_role("list", name="Scored pictures").get_by_role("listitem")


def score(service: str, paths: list[Path]) -> list[dict[str, Any]]:
    """Somebody else scores pictures."""
    files = [("files", (path.name, path.read_bytes(), "image/png")) for path in paths]
    results: list[dict[str, Any]] = httpx.post(f"{service}/v1/score", files=files).json()["results"]
    return results


def log(service: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = httpx.get(f"{service}/v1/inspections").json()["inspections"]
    return rows


def test_three_dropped_pictures_are_three_results_sorted_by_score(
    page: Any, three: list[Path]
) -> None:
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    expect(tiles(page).first).to_contain_text("bad000.png")
    expect(tiles(page).first).to_contain_text("anomalous")
    expect(tiles(page).last).to_contain_text("normal")
    scores = [float(text.split()[0]) for text in tiles(page).locator(".score").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    expect(page.locator("#count")).to_have_text("1 of 3")
    # A thumbnail and its map, both drawn; 300 x 150 is a canvas that nobody has touched.
    for kind in ("picture", "heat"):
        expect(tiles(page).first.locator(f"canvas.{kind}")).to_have_js_property("width", 20)


def test_a_region_is_outlined_only_where_the_setting_calls_it_anomalous(
    page: Any, three: list[Path]
) -> None:
    drop(page, three[1:])
    bad, good = tiles(page).first, tiles(page).last
    for tile, quiet in ((bad, False), (good, True)):
        expect(tile.locator("canvas.quiet")).to_have_js_property("width", 20)
        expect(tile.locator("canvas.quiet")).to_be_visible(visible=quiet)
        expect(tile.locator("canvas.heat")).to_be_visible(visible=not quiet)
    opacity = """canvas => Math.max(...canvas.getContext("2d")
        .getImageData(0, 0, canvas.width, canvas.height).data.filter((_, i) => i % 4 === 3))"""
    seen = [bad.locator(f"canvas.{kind}").evaluate(opacity) for kind in ("heat", "quiet")]
    assert seen == [255, FAINT]
    page.get_by_role("slider", name="Threshold").press("Home")
    expect(good.locator(".decision")).to_have_text("anomalous")
    expect(good.locator("canvas.heat")).to_be_visible()
    expect(good.locator(".whole")).to_be_visible()
    expect(bad.locator(".whole")).to_be_hidden()


def test_the_threshold_is_moved_without_the_service(
    page: Any, runtime: Runtime, three: list[Path]
) -> None:
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    expect(page.locator("#progress")).to_be_hidden()
    for i in range(3):  # both drawings are there, and nothing more is asked for
        expect(tiles(page).nth(i).locator("canvas.quiet")).to_have_js_property("width", 20)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    calibration = runtime.calibration

    def said_of(threshold: float) -> None:
        calibrated = threshold == calibration.threshold
        rate = percent(calibration.promised_fpr if calibrated else calibration.bound_at(threshold))
        confidence = f"{100 * calibration.confidence:g} %"
        expect(page.locator("#bound")).to_have_text(
            f"at this setting at most {rate} false alarms, {confidence} confidence"
        )

    line = page.get_by_role("slider", name="Threshold")
    expect(line).to_have_attribute("aria-valuenow", str(calibration.threshold))
    said_of(calibration.threshold)
    expect(page.get_by_role("button", name="Back to")).to_be_disabled()

    box, plot = line.bounding_box(), page.locator("#chart .plot").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(plot["x"] + 1, box["y"] + 90, steps=5)
    page.mouse.up()
    dragged = float(line.get_attribute("aria-valuenow"))
    assert dragged < calibration.scores[0]
    said_of(dragged)
    expect(page.locator("#rate")).to_have_text("100 %")
    expect(page.locator("#count")).to_have_text("3 of 3")
    expect(tiles(page).locator(".decision")).to_have_text(["anomalous"] * 3)

    line.press("End")
    far = float(line.get_attribute("aria-valuenow"))
    assert far > calibration.scores[-1]
    said_of(far)
    expect(page.locator("#holds")).to_contain_text("wider than the promise")
    for _ in range(8):
        line.press("PageDown")
    said_of(float(line.get_attribute("aria-valuenow")))

    page.get_by_role("button", name="Back to").click()
    said_of(calibration.threshold)
    expect(page.locator("#count")).to_have_text("1 of 3")
    expect(line).to_be_focused()
    assert requests == []


def test_bars_meet_at_the_calibrated_threshold(page: Any) -> None:
    at = float((page.locator("#chart .mark").get_attribute("x1") or "").removesuffix("%"))
    bars = page.locator("#chart .calibration .bar").evaluate_all(
        "bars => bars.map((bar) => ['x', 'width'].map((of) => parseFloat(bar.getAttribute(of))))"
    )
    # A calibration score that is the threshold is not above it.
    assert any(at - 2 < x < at for x, _ in bars)
    assert all(x + width < at or x > at for x, width in bars)


def test_a_false_alarm_is_in_the_journal(page: Any, service: str, three: list[Path]) -> None:
    drop(page, three)
    tiles(page).first.click()
    viewer = page.get_by_role("dialog", name="bad000.png")
    expect(viewer.get_by_role("button", name="Miss")).to_be_hidden()
    viewer.get_by_label("Comment").fill("only dust")
    viewer.get_by_role("button", name="False alarm").click()
    expect(viewer.get_by_text("Noted: false alarm.")).to_be_visible()
    expect(viewer.get_by_role("button", name="False alarm")).to_have_attribute(
        "aria-pressed", "true"
    )
    marked = {row["name"]: row["feedback"] for row in log(service)}
    assert marked == {"good000.png": None, "good001.png": None, "bad000.png": "false_alarm"}
    viewer.get_by_role("button", name="Next").click()
    miss = page.get_by_role("dialog").get_by_role("button", name="Miss")
    miss.click()
    expect(miss).to_have_attribute("aria-pressed", "true")
    assert [row["feedback"] for row in log(service)].count("miss") == 1
    page.keyboard.press("Escape")
    expect(tiles(page).first).to_contain_text("marked false alarm")


def test_a_picture_is_shown_in_full_with_its_map(page: Any, tmp_path: Path) -> None:
    large = np.full((900, 2000), 40, np.uint8)
    large[300:500, 400:900] = 255
    Image.fromarray(large).save(tmp_path / "large.png")
    drop(page, [tmp_path / "large.png"])
    tiles(page).first.click()
    viewer = page.get_by_role("dialog")
    photo, heat = viewer.locator("img.photo"), viewer.locator("img.heat")
    for image in (photo, heat):
        expect(image).to_have_js_property("naturalWidth", 2000)
        expect(image).to_have_js_property("naturalHeight", 900)
    viewer.get_by_role("button", name="Full resolution").click()
    for image in (photo, heat):
        box = image.bounding_box()
        assert (box["width"], box["height"]) == (2000, 900)
    slider = viewer.get_by_role("slider", name="Heat map")
    slider.focus()
    slider.press("Home")
    expect(heat).to_have_css("opacity", "0")
    slider.press("ArrowRight")
    expect(heat).to_have_css("opacity", "0.01")


def test_a_name_is_only_a_name(page: Any, service: str, three: list[Path]) -> None:
    nasty = three[2].rename(three[2].with_name(NASTY))
    unreadable = nasty.with_name(f"b{NASTY}")
    unreadable.write_bytes(b"no picture")
    drop(page, [nasty, unreadable])
    expect(tiles(page).get_by_text(NASTY, exact=True)).to_be_visible()
    expect(page.get_by_role("rowheader", name=unreadable.name)).to_be_visible()
    tiles(page).first.click()
    expect(page.get_by_role("heading", name=NASTY)).to_be_visible()
    page.keyboard.press("Escape")
    assert page.locator("img[src=x]").count() == 0
    page.get_by_label("Live stream").check()
    expect(tiles(page).get_by_text(NASTY, exact=True)).to_be_visible()
    assert log(service)[-1]["name"] == NASTY


def test_without_a_mouse(page: Any, service: str, three: list[Path]) -> None:
    def tab_to(locator: Any) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if locator.evaluate("element => element === document.activeElement"):
                return
        raise AssertionError(f"the Tab key never reaches {locator}")

    tab_to(page.get_by_label("Model"))
    line = page.get_by_role("slider", name="Threshold")
    tab_to(line)
    with page.expect_file_chooser() as chooser:
        tab_to(page.get_by_role("button", name="Choose pictures"))
        page.keyboard.press("Enter")
    chooser.value.set_files(three)
    expect(tiles(page)).to_have_count(3)
    tab_to(tiles(page).first.get_by_role("button"))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tiles(page).last.get_by_role("button")).to_be_focused()
    page.keyboard.press("Home")
    first = tiles(page).first.get_by_role("button")
    expect(first).to_be_focused()
    outline = first.evaluate("element => getComputedStyle(element).outlineStyle")
    assert outline == "solid"
    page.keyboard.press("Enter")
    viewer = page.get_by_role("dialog")
    tab_to(viewer.get_by_role("slider", name="Heat map"))
    page.keyboard.press("ArrowLeft")
    expect(viewer.locator("img.heat")).to_have_css("opacity", "0.99")
    tab_to(viewer.get_by_role("button", name="False alarm"))
    page.keyboard.press("Enter")
    expect(viewer.get_by_text("Noted: false alarm.")).to_be_visible()
    page.keyboard.press("Escape")
    expect(viewer).to_be_hidden()
    expect(first).to_be_focused()
    assert log(service)[0]["feedback"] == "false_alarm"
    tab_to(line)
    before = page.locator("#threshold").inner_text()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#threshold")).not_to_have_text(before)


def test_the_stream_shows_what_others_score(page: Any, service: str, three: list[Path]) -> None:
    score(service, three[:1])
    page.get_by_label("Live stream").check()
    expect(tiles(page)).to_have_count(1)
    score(service, three[1:])
    expect(tiles(page)).to_have_count(3)
    expect(tiles(page).first).to_contain_text("bad000.png")
    expect(page.get_by_text("The latest 3 pictures")).to_be_visible()
    expect(page.locator("#chart .plot")).to_contain_text("3 pictures")
    page.get_by_role("button", name="Pause").click()
    score(service, three)
    page.wait_for_timeout(2500)
    expect(tiles(page)).to_have_count(3)
    page.get_by_role("button", name="Pause").click()
    expect(tiles(page)).to_have_count(6)


def test_what_is_shown_is_exported(page: Any, three: list[Path], tmp_path: Path) -> None:
    formula = three[0].rename(three[0].with_name("=SUM(1,2).png"))
    drop(page, [formula, *three[1:]])
    expect(tiles(page)).to_have_count(3)
    page.get_by_role("slider", name="Threshold").press("Home")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export CSV").click()
    download.value.save_as(tmp_path / "shown.csv")
    rows = list(csv.DictReader(StringIO((tmp_path / "shown.csv").read_text("utf-8"), newline="")))
    assert download.value.suggested_filename == f"{NAME}.csv"
    assert rows[0]["name"] == "bad000.png"
    assert f"'{formula.name}" in {row["name"] for row in rows}
    assert [row["decision"] for row in rows] == ["anomalous", "normal", "normal"]
    assert [row["decision_here"] for row in rows] == ["anomalous"] * 3


def answering(page: Any, **changes: Any) -> None:
    """From now on the service says something else of its model."""

    def change(route: Any) -> None:
        body = route.fetch().json()
        body["models"][0].update(changes)
        route.fulfill(json=body)

    page.route("**/v1/models", change)
    page.reload()


def test_what_is_wrong_with_model_or_stream_is_said(page: Any) -> None:
    drift = {"state": "left", "n": 200, "words": "the stream scores higher than the calibration"}
    answering(page, state="stale", words="parts.onnx on disk is damaged", drift=drift, note="hm")
    notices = page.locator("#notices")
    expect(notices).to_contain_text("Parts.onnx on disk is damaged.")
    expect(notices).to_contain_text("The stream scores higher than the calibration.")
    expect(page.get_by_text("That does not hold now")).to_be_visible()


def test_between_two_thresholds_pictures_are_unsure(
    page: Any, service: str, three: list[Path]
) -> None:
    worst = max(result["score"] for result in score(service, three))
    answering(page, strict_threshold=2 * worst)
    page.get_by_label("Live stream").check()
    expect(tiles(page).locator(".decision")).to_have_text(["unsure", "normal", "normal"])
    expect(page.locator("#unsure")).to_have_text("1 of 3")
    expect(page.locator("#count")).to_have_text("0 of 3")
    page.get_by_role("slider", name="Threshold").press("Home")
    expect(tiles(page).locator(".decision")).to_have_text(["unsure"] * 3)


def test_a_replaced_model_brings_its_own_scores(page: Any, service: str, three: list[Path]) -> None:
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    page.get_by_role("slider", name="Threshold").press("Home")
    page.route(
        "**/v1/models",
        lambda route: route.fulfill(
            body=re.sub('"sha256":"[0-9a-f]*"', '"sha256":"0123"', route.fetch().text()),
            content_type="application/json",
        ),
    )
    page.get_by_label("Live stream").check()
    expect(page.locator("#notices")).to_contain_text("New model file")
    expect(tiles(page)).to_have_count(0)
    expect(page.get_by_text("3 more were scored by another file")).to_be_visible()
    expect(page.get_by_role("button", name="Back to")).to_be_disabled()


@pytest.fixture
def two(page: Any, model: Path, tmp_path: Path) -> Iterator[str]:
    """The page over a service of two models, `bolt` and `nut`, which is shown."""
    models = tuple(tmp_path / f"{name}.onnx" for name in ("nut", "bolt"))
    for path in models:
        shutil.copy(model, path)
    settings = ServiceSettings(models=models, log=tmp_path / "two.sqlite", threads=1)
    with serving(settings) as client:
        url = str(client.base_url).rstrip("/")
        page.goto(url)
        expect(page.locator("#rate")).to_contain_text("%")
        yield url
        page.goto("about:blank")  # it asks for what is new, as long as it is open


def test_a_model_that_answers_late_is_not_taken_for_the_one_chosen_since(
    page: Any, two: str, three: list[Path]
) -> None:
    held: list[Any] = []
    page.route("**/v1/models/bolt/calibration", lambda route: held.append(route))
    with page.expect_request("**/v1/models/bolt/calibration"):
        page.get_by_label("Model").select_option("bolt")
    with page.expect_response("**/v1/models/nut/calibration"):
        page.get_by_label("Model").select_option("nut")
    with page.expect_response("**/v1/models/bolt/calibration"):
        held[0].continue_()
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    expect(page.get_by_label("Model")).to_have_value("nut")
    assert {row["model"] for row in log(two)} == {"nut"}


def test_pictures_wait_for_the_model_that_is_chosen(page: Any, two: str, three: list[Path]) -> None:
    held: list[Any] = []
    page.route("**/v1/models/bolt/calibration", lambda route: held.append(route))
    with page.expect_request("**/v1/models/bolt/calibration"):
        page.get_by_label("Model").select_option("bolt")
    drop(page, three)
    page.wait_for_timeout(300)
    held[0].continue_()
    expect(tiles(page)).to_have_count(3)
    assert {row["model"] for row in log(two)} == {"bolt"}


def test_a_model_that_cannot_be_had_is_not_shown_as_chosen(
    page: Any, two: str, three: list[Path]
) -> None:
    full = {"status": 503, "json": {"error": "the log cannot be read"}}
    page.route("**/v1/inspections?*", lambda route: route.fulfill(**full), times=1)
    page.get_by_label("Model").select_option("bolt")
    expect(page.get_by_role("alert")).to_have_text("The log cannot be read.")
    expect(page.get_by_label("Model")).to_have_value("nut")
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    assert {row["model"] for row in log(two)} == {"nut"}
    page.complaints.clear()  # the browser notes the 503


def test_a_file_that_is_replaced_meanwhile_does_not_undo_the_choice(
    page: Any, two: str, three: list[Path]
) -> None:
    held: list[Any] = []
    page.route("**/v1/models", lambda route: held.append(route), times=1)
    with page.expect_request("**/v1/models"):
        drop(page, three[:1])
    page.route("**/v1/models/bolt/calibration", lambda route: held.append(route))
    with page.expect_request("**/v1/models/bolt/calibration"):
        page.get_by_label("Model").select_option("bolt")
    replaced = re.sub('"sha256":"[0-9a-f]*"', '"sha256":"0123"', held[0].fetch().text())
    held.pop(0).fulfill(body=replaced, content_type="application/json")
    page.wait_for_timeout(300)
    for route in held:
        route.continue_()
    expect(page).to_have_url(re.compile("model=bolt"))
    page.wait_for_timeout(300)
    drop(page, three[1:])
    until(lambda: len(log(two)) == 3)
    assert [row["model"] for row in log(two)] == ["bolt", "bolt", "nut"]


def test_a_log_that_was_begun_anew_is_seen_from_its_beginning(
    page: Any, service: str, three: list[Path]
) -> None:
    score(service, three)
    page.get_by_label("Live stream").check()
    expect(tiles(page)).to_have_count(3)
    first = {**log(service)[-1], "name": "new.png", "picture_sha256": "ab" * 32}

    def other(route: Any) -> None:
        after = re.search(r"after=(\d+)", route.request.url)
        rows = [] if after and int(after[1]) >= first["id"] else [first]
        route.fulfill(json={"log": "another", "inspections": rows})

    page.route("**/v1/inspections?*", other)
    expect(tiles(page)).to_have_count(1)
    expect(tiles(page)).to_contain_text("new.png")
    expect(page.locator("#notices")).to_contain_text("New inspection log since")
    # The service has another picture of this number.
    tiles(page).get_by_role("button").click()
    page.get_by_role("button", name="Correct").click()
    expect(page.locator(".said")).to_contain_text("Not noted. There is no inspection 1 of this")
    assert log(service)[-1]["feedback"] is None
    page.complaints.clear()  # the browser notes the 404


def test_errors_are_told_in_words(page: Any, service: str, three: list[Path]) -> None:
    said = page.get_by_role("alert")
    full = {"status": 503, "json": {"error": "the log cannot be written"}}
    page.route("**/v1/score*", lambda route: route.fulfill(**full), times=1)
    drop(page, three)
    expect(said).to_have_text("The log cannot be written.")
    page.wait_for_timeout(300)
    expect(said).to_be_visible()
    busy = {"status": 429, "headers": {"Retry-After": "0"}, "json": {"error": "busy"}}
    page.route("**/v1/score*", lambda route: route.fulfill(**busy), times=1)
    drop(page, three)
    expect(tiles(page)).to_have_count(3)
    expect(said).to_be_hidden()
    page.route("**/v1/inspections*", lambda route: route.abort())
    page.get_by_label("Live stream").check()
    expect(said).to_have_text("The service does not answer. Is it running?")
    # The browser itself notes every answer that is no success, and none of this is the page's.
    assert all(text.startswith("Failed to load resource") for text in page.complaints)
    page.complaints.clear()


def test_one_refused_picture_does_not_spoil_the_others(page: Any, three: list[Path]) -> None:
    def refuse(route: Any) -> None:
        if b"good001.png" in route.request.post_data_buffer:
            route.fulfill(status=413, json={"error": "a picture may have 20 MiB"})
        else:
            route.continue_()

    page.route("**/v1/score*", refuse)
    drop(page, three)
    expect(tiles(page)).to_have_count(2)
    row = page.get_by_role("row", name="good001.png")
    expect(row).to_contain_text("A picture may have 20 MiB.")
    page.complaints.clear()  # the browser notes the 413


def test_a_token_is_asked_for_and_sent(
    page: Any, model: Path, three: list[Path], tmp_path: Path
) -> None:
    token = "a-token-that-nobody-guesses"
    log = tmp_path / "guarded.sqlite"
    settings = ServiceSettings(models=(model,), log=log, threads=1, token=token)
    with serving(settings) as client:
        page.goto(str(client.base_url))
        alert = page.get_by_role("alert")
        for given in ("not-the-token-at-all", token):
            expect(alert).to_contain_text("This service needs its token")
            page.get_by_label("token").fill(given)
            page.get_by_role("button", name="Open").click()
        expect(page.locator("#rate")).to_contain_text("%")
        expect(page.get_by_label("token")).to_be_hidden()
        drop(page, three)
        expect(tiles(page)).to_have_count(3)
        tiles(page).first.click()
        viewer = page.get_by_role("dialog")
        expect(viewer.locator("img.heat")).to_have_js_property("naturalWidth", 20)
        page.goto("about:blank")  # it asks for what is new, as long as it is open
    page.complaints.clear()  # the browser notes each 401


def test_numbers_are_those_of_the_library(page: Any, runtime: Runtime) -> None:
    calibration = runtime.calibration
    low, high = calibration.scores[0], calibration.scores[-1]
    thresholds = [*calibration.scores, *np.linspace(low - 1, high + 1, 50)]
    shares = [*np.geomspace(1e-6, 1, 200), 0.05, 0.07, 0.29, 0.999]
    counts, words = page.evaluate(
        """async ([scores, thresholds, shares]) => {
            const { countAbove, percent } = await import("./static/decision.js");
            return [thresholds.map((t) => countAbove(scores, t)), shares.map(percent)];
        }""",
        [calibration.scores.tolist(), list(map(float, thresholds)), list(map(float, shares))],
    )
    assert counts == [int((calibration.scores > threshold).sum()) for threshold in thresholds]
    for mine, share in zip(words, shares, strict=True):
        assert float(mine.removesuffix(" %")) == float(percent(share).removesuffix(" %"))


def test_the_scale_has_the_colours_of_the_maps() -> None:
    style = (PAGE / "style.css").read_text("utf-8")
    scale = re.search(r"linear-gradient\(to right,(.*?)\);", style, re.DOTALL)
    assert scale is not None
    stops = re.findall(r"#([0-9a-f]{6})[0-9a-f]{2} ([\d.]+)%", scale[1])
    # 17 colours, one every 6.25 %; the scale begins where maps become visible.
    assert {colour == PLASMA[round(float(at) / 6.25)] for colour, at in stops} == {True}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_nothing_is_wider_than_the_screen(
    page: Any, scheme: str, width: int, tmp_path: Path
) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    good, bad = write(normal(8, 7), tmp_path, "good"), write(scratched(4), tmp_path, "bad")
    drop(page, [*good, *bad, write(normal(1), tmp_path, "a-rather-long-name-" * 5)[0]])
    expect(tiles(page)).to_have_count(13)
    tiles(page).first.scroll_into_view_if_needed()
    expect(tiles(page).first.locator("canvas.heat")).to_have_js_property("width", 20)

    def fits() -> bool:
        page.screenshot(path=tmp_path / f"{width}-{scheme}.png", full_page=True)
        inner, outer = page.evaluate(
            "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
        )
        return bool(inner <= outer)

    assert fits()
    tiles(page).first.click()
    expect(page.get_by_role("dialog").locator("img.heat")).to_have_js_property("naturalWidth", 20)
    page.screenshot(path=tmp_path / f"viewer-{width}-{scheme}.png")
    assert fits()
