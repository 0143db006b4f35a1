"""The interface, asked over real HTTP."""

import csv
import io
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import httpx
import numpy as np
import onnx
import pytest
from PIL import Image

from onlygood.decision.thresholds import simultaneous_bound
from onlygood.deploy.runtime import Runtime
from onlygood.deploy.runtime.file import write
from onlygood.deploy.service.settings import ServiceSettings
from tests.deploy.stream import altered, anomalous, another, files, normal, pixels, serving, until

pytestmark = pytest.mark.slow

TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture
def service(settings: ServiceSettings) -> Iterator[httpx.Client]:
    with serving(settings) as client:
        yield client


def test_decisions_are_those_of_the_runtime(service: httpx.Client, exported: Path) -> None:
    pictures = [normal(1000), anomalous(1001), normal(1002)]
    answer = service.post("/v1/score", files=files(*pictures))
    assert answer.status_code == 200
    expected = Runtime.load(exported).score(pictures, maps=False)
    for found, wanted in zip(answer.json()["results"], expected, strict=True):
        assert found["score"] == pytest.approx(wanted.score, rel=1e-5)
        assert found["p_value"] == wanted.p_value
        assert found["decision"] == wanted.decision
        assert found["parts"] == pytest.approx(wanted.parts, rel=1e-5)
        assert (found["width"], found["height"]) == (50, 40)
        assert found["latency_ms"] > 0
    assert [each["name"] for each in answer.json()["results"]] == ["000.png", "001.png", "002.png"]


def test_each_decision_is_in_the_log_as_it_was_answered(service: httpx.Client) -> None:
    answered = service.post("/v1/score", files=files(normal(1), anomalous(2))).json()["results"]
    logged = service.get("/v1/inspections").json()["inspections"]
    assert [each["id"] for each in logged] == [answered[1]["id"], answered[0]["id"]]
    for row, result in zip(reversed(logged), answered, strict=True):
        assert row["feedback"] is None
        assert {name: row[name] for name in row if name in result} == {
            name: result[name] for name in row if name in result
        }
    anomalies = service.get("/v1/inspections?decision=anomalous&model=nut&limit=5").json()
    assert [each["name"] for each in anomalies["inspections"]] == ["001.png"]
    newer = service.get(f"/v1/inspections?after={answered[0]['id']}").json()["inspections"]
    assert [each["id"] for each in newer] == [answered[1]["id"]]
    table = list(csv.DictReader(io.StringIO(service.get("/v1/inspections.csv").text)))
    assert [line["id"] for line in table] == [str(each["id"]) for each in logged]
    for chosen, count in (("decision=anomalous&model=nut", 1), ("decision=unsure", 0)):
        whole = service.get(f"/v1/inspections.csv?{chosen}")
        assert len(whole.text.splitlines()) == 1 + count
        assert whole.headers["content-disposition"] == 'attachment; filename="inspections.csv"'


def test_unreadable_pictures_stand_among_the_others(service: httpx.Client) -> None:
    answer = service.post("/v1/score", files=files(b"no picture", normal(1)))
    assert answer.status_code == 200
    broken, whole = answer.json()["results"]
    assert (broken["decision"], broken["score"], broken["id"]) == ("error", None, None)
    assert "is no picture" in broken["error"]
    assert whole["decision"] == "normal" and whole["id"] == 1


def test_maps_lie_over_their_pictures(service: httpx.Client) -> None:
    content = anomalous(5)
    answer = service.post("/v1/map", files=files(content, field="file"))
    assert answer.headers["content-type"] == "image/png"
    drawn = pixels(answer.content)
    assert (drawn.mode, drawn.size) == ("RGBA", (50, 40))
    alpha = np.asarray(drawn)[:, :, 3]
    assert alpha[10:20, 10:20].mean() > 2 * alpha[25:, 25:].mean()
    (result,) = service.post("/v1/score", files=files(content)).json()["results"]
    assert result["found_in"] == "region"
    found = result["regions"][0]
    inside = alpha[found["top"] :, found["left"] :][: found["height"], : found["width"]]
    assert (inside > alpha[25:, 25:].max()).sum() >= found["area"] > 50
    assert found["peak"] > 1
    assert result["times_threshold"] == pytest.approx(result["score"] / result["threshold"])
    again = service.get(f"/v1/inspections/{result['id']}/map")
    assert again.content == answer.content
    assert service.get(f"/v1/inspections/{result['id']}/picture").content == content
    assert len(service.get("/v1/inspections").json()["inspections"]) == 1  # a map is none


def calibrated_on(scores: list[float], model: Path, **settings: float) -> None:
    """Make an exported model one that was calibrated on other scores, with other settings."""
    calibration = Runtime.load(model).facts["calibration"]
    altered(
        model,
        calibration={
            "settings": {**calibration["settings"], **settings},
            "arrays": {**calibration["arrays"], "scores": scores},
        },
    )


def test_unsure_pictures_have_regions_and_a_threshold_may_be_zero(
    settings: ServiceSettings, model: Path
) -> None:
    content = anomalous(5)
    runtime = Runtime.load(model)
    (found,) = runtime.score([content])
    scores = [0.0] * (runtime.calibration.n - 2) + [10 * found.score] * 2
    calibrated_on(scores, model, target_fpr=0.3, strict_fpr=0.01)
    with serving(settings) as service:
        (result,) = service.post("/v1/score", files=files(content)).json()["results"]
        assert (result["decision"], result["found_in"]) == ("unsure", "region")
        assert (result["threshold"], result["times_threshold"]) == (0.0, None)
        drawn = service.post("/v1/map", files=files(content, field="file")).content
        assert service.get("/v1/inspections/1/map").content == drawn
        outlined = service.get("/v1/inspections/1/map?outline_normal=true").content
        assert outlined == drawn


def test_regions_of_a_normal_picture_are_outlined_where_that_is_asked_for(
    settings: ServiceSettings, model: Path
) -> None:
    content = anomalous(5)
    runtime = Runtime.load(model)
    (found,) = runtime.score([content])
    calibrated_on([10 * found.score] * runtime.calibration.n, model)
    with serving(settings) as service:
        (result,) = service.post("/v1/score", files=files(content)).json()["results"]
        assert result["decision"] == "normal"
        sent = files(content, field="file")
        ways = ("", "?outline_normal=true")
        plain, outlined = (service.post(f"/v1/map{way}", files=sent).content for way in ways)
        assert plain != outlined
        recent = [service.get(f"/v1/inspections/1/map{way}").content for way in ways]
        assert recent == [plain, outlined]


def test_a_model_that_does_not_localise_has_no_maps(settings: ServiceSettings, model: Path) -> None:
    network = onnx.load(model)
    (heat,) = (output for output in network.graph.output if output.name == "map")
    network.graph.output.remove(heat)
    del network.metadata_props[-1]  # the digest
    write(model, network.SerializeToString())
    with serving(settings) as service:
        (result,) = service.post("/v1/score", files=files(anomalous(1))).json()["results"]
        assert (result["decision"], result["found_in"]) == ("anomalous", None)
        assert result["regions"] == []
        asked = service.post("/v1/map", files=files(anomalous(1), field="file"))
        recent = service.get("/v1/inspections/1/map")
        for answer, status in ((asked, 422), (recent, 404)):
            assert answer.status_code == status and "does not localise" in answer.json()["error"]


def test_recent_pictures_make_room(settings: ServiceSettings) -> None:
    with serving(replace(settings, recent_bytes=3 * len(normal(0)))) as service:
        service.post("/v1/score", files=files(*(normal(i) for i in range(6))))
        gone = service.get("/v1/inspections/1/picture")
        assert gone.status_code == 404 and "is gone" in gone.json()["error"]
        assert service.get("/v1/inspections/6/picture").status_code == 200


def test_pictures_that_browsers_do_not_show_come_as_png(service: httpx.Client) -> None:
    file = io.BytesIO()
    pixels(normal(1)).save(file, "TIFF")
    service.post("/v1/score", files=files(file.getvalue()))
    shown = service.get("/v1/inspections/1/picture")
    assert shown.headers["content-type"] == "image/png"
    np.testing.assert_array_equal(pixels(shown.content), pixels(normal(1)))
    for number, (mode, format, kind) in enumerate(
        (("L", "TIFF", "image/png"), ("RGB", "JPEG", "image/jpeg")), 2
    ):
        file = io.BytesIO()
        pixels(normal(1)).convert(mode).save(file, format)
        service.post("/v1/score", files=files(file.getvalue()))
        shown = service.get(f"/v1/inspections/{number}/picture")
        assert (shown.headers["content-type"], pixels(shown.content).mode) == (kind, mode)
        assert (shown.content == file.getvalue()) == (format == "JPEG")


def test_models_and_calibration_say_all(service: httpx.Client, exported: Path) -> None:
    (model,) = service.get("/v1/models").json()["models"]
    runtime = Runtime.load(exported)
    assert (model["name"], model["sha256"]) == ("nut", runtime.sha256)
    assert (model["state"], model["words"]) == ("ready", "")
    assert model["guarantee"] == runtime.calibration.guarantee
    assert model["drift"]["state"] == "too_few"
    known = service.get("/v1/models/nut/calibration").json()
    assert known["scores"] == sorted(runtime.calibration.scores)
    n = runtime.calibration.n
    np.testing.assert_allclose(known["bounds"], [*simultaneous_bound(n, 0.9), 1.0])
    assert known["threshold"] == model["threshold"] == runtime.calibration.threshold
    assert model["strict_threshold"] is None


def test_feedback_is_found_in_the_log(service: httpx.Client) -> None:
    service.post("/v1/score", files=files(anomalous(1)))
    said = service.post("/v1/feedback", json={"id": 1, "verdict": "false_alarm", "comment": "ok"})
    assert (said.status_code, said.json()) == (201, {"id": 1})
    (found,) = service.get("/v1/inspections").json()["inspections"]
    assert (found["feedback"], found["comment"]) == ("false_alarm", "ok")


def test_several_models_are_told_apart(settings: ServiceSettings, tmp_path: Path) -> None:
    bolt = tmp_path / "bolt.onnx"
    bolt.write_bytes(settings.models[0].read_bytes())
    digest = another(bolt)
    with serving(replace(settings, models=(*settings.models, bolt))) as service:
        answer = service.post("/v1/score?model=bolt", files=files(normal(1))).json()
        assert answer["results"][0]["model_sha256"] == digest
        unsaid = service.post("/v1/score", files=files(normal(1)))
        assert unsaid.status_code == 422 and "say which model" in unsaid.json()["error"]
        unknown = service.post("/v1/score?model=bold", files=files(normal(1)))
        assert unknown.status_code == 404 and 'did you mean "bolt"' in unknown.json()["error"]


def test_a_pin_on_request_refuses_other_models(service: httpx.Client, exported: Path) -> None:
    digest = Runtime.load(exported).sha256
    for path, field in (("/v1/score", "files"), ("/v1/map", "file")):
        sent = files(normal(1), field=field)
        right = service.post(f"{path}?sha256={digest[:12]}", files=sent)
        assert right.status_code == 200
        wrong = service.post(f"{path}?sha256={'0' * 12}", files=sent)
        assert wrong.status_code == 409 and digest in wrong.json()["error"]
    assert len(service.get("/v1/inspections").json()["inspections"]) == 1


def test_health_and_metrics(service: httpx.Client) -> None:
    assert service.get("/healthz").json() == {"status": "alive"}
    assert service.get("/readyz").json() == {"status": "ready"}
    scored = service.post("/v1/score", files=files(normal(1), anomalous(1), b"none"))
    service.get("/made/up")
    told = service.get("/metrics").text
    for decision in ("normal", "anomalous", "error"):
        assert f'onlygood_pictures_total{{decision="{decision}",model="nut"}} 1.0' in told
    # Of scores alone: what cannot be read is refused at once, and would look like a fast service.
    assert 'onlygood_latency_seconds_count{model="nut"} 2.0' in told
    total = float(told.partition('onlygood_latency_seconds_sum{model="nut"} ')[2].split()[0])
    milliseconds = [result["latency_ms"] for result in scored.json()["results"][:2]]
    assert total == pytest.approx(sum(milliseconds) / 1000)
    assert 'onlygood_requests_total{path="/v1/score",status="200"} 1.0' in told
    assert 'onlygood_requests_total{path="other",status="404"} 1.0' in told
    assert "made" not in told
    assert 'onlygood_model_stale{model="nut"} 0.0' in told


def test_a_load_balancer_may_ask_for_the_head_alone(service: httpx.Client) -> None:
    for path in ("/", "/healthz", "/readyz"):
        answer = service.head(path)
        assert (answer.status_code, answer.content) == (200, b"")


def test_a_slash_too_many_leads_on_behind_a_proxy_too(service: httpx.Client) -> None:
    for path, to in (
        ("/v1/models/", "/v1/models"),
        ("/v1/inspections/?model=nut&limit=1", "/v1/inspections?model=nut&limit=1"),
        ("/static", "/static/"),
    ):
        answer = service.get(path, headers={"Host": "localhost"})
        assert answer.status_code == 307
        asked = f"https://line3.example/inspect{path}"
        assert urljoin(asked, answer.headers["location"]) == f"https://line3.example/inspect{to}"
        assert service.get(to).status_code in (200, 404)


def test_the_interface_describes_itself_and_loads_nothing(service: httpx.Client) -> None:
    described = service.get("/openapi.json").json()
    assert set(described["paths"]) == {
        *("/v1/score", "/v1/map", "/v1/models", "/v1/models/{name}/calibration", "/v1/feedback"),
        *("/v1/inspections", "/v1/inspections.csv", "/v1/inspections/{number}/picture"),
        *("/v1/inspections/{number}/map", "/healthz", "/readyz", "/metrics"),
    }
    assert described["components"]["schemas"]["ScoredPicture"]["examples"]
    for path in ("/docs", "/redoc"):
        assert service.get(path).status_code == 404


def test_the_page_is_served_where_it_is_installed(
    settings: ServiceSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page"
    page.mkdir()
    (page / "index.html").write_text("<title>here</title>")
    (page / "app.js").write_text("1")
    monkeypatch.setattr("onlygood.deploy.service.server.PAGE", page)
    with serving(settings) as service:
        index = service.get("/")
        assert "here" in index.text and index.headers["cache-control"] == "no-cache"
        script = service.get("/static/app.js")
        assert script.text == "1"
        # Kept by browsers, which ask whether it is the same still.
        again = service.get("/static/app.js", headers={"If-None-Match": script.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert {each.headers["cache-control"] for each in (script, again)} == {"no-cache"}
        assert again.headers["x-content-type-options"] == "nosniff"
        for path in (
            "/static/../log.sqlite",
            "/static/%2e%2e/log.sqlite",
            "/static/..%2flog.sqlite",
        ):
            assert service.get(path).status_code == 404
        (page / "index.html").unlink()
        assert "the page is not installed" in service.get("/").json()["error"]


def test_every_answer_forbids_what_is_not_needed(service: httpx.Client) -> None:
    for path in ("/healthz", "/v1/models", "/nothing", "/v1/inspections?limit=0"):
        headers = service.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert "server" not in headers


def test_only_the_token_opens(
    settings: ServiceSettings, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(replace(settings, token=TOKEN)) as service:
        for given in (None, "", "Bearer", f"Bearer {TOKEN[:-1]}", f"Bearer {TOKEN}x", TOKEN,
                      f"Basic {TOKEN}", "Bearer t\xf6ken"):  # fmt: skip
            headers = {} if given is None else {"Authorization": given.encode("latin-1")}
            answer = service.get("/v1/models", headers=headers)
            assert answer.status_code == 401 and "needs its token" in answer.json()["error"]
            assert answer.headers["www-authenticate"] == "Bearer"
        refused = service.post("/v1/score", files=files(normal(1)))
        assert refused.status_code == 401
        for path in ("/healthz", "/readyz"):
            assert service.get(path).status_code == 200
        for path in ("/metrics", "/openapi.json", "/v1/inspections.csv"):
            assert service.get(path).status_code == 401
        right = {"Authorization": f"Bearer {TOKEN}"}
        assert service.get("/v1/models", headers=right).status_code == 200
        assert service.post("/v1/score", headers=right, files=files(normal(1))).status_code == 200
    said = caplog.text + "".join(capfd.readouterr())
    assert TOKEN not in said and TOKEN not in repr(replace(settings, token=TOKEN))


def test_a_good_replacement_is_taken_over(service: httpx.Client, model: Path) -> None:
    digest = another(model)

    def served() -> str:
        return str(service.get("/v1/models").json()["models"][0]["sha256"])

    until(lambda: served() == digest)
    (result,) = service.post("/v1/score", files=files(normal(1))).json()["results"]
    assert result["model_sha256"] == digest


@pytest.mark.parametrize("damage", ["cut", "foreign", "gone"])
def test_a_damaged_replacement_changes_nothing_and_is_said(
    service: httpx.Client, model: Path, exported: Path, damage: str
) -> None:
    before = service.get("/v1/models").json()["models"][0]
    if damage == "gone":
        model.unlink()
    else:
        model.write_bytes(exported.read_bytes()[:1000] if damage == "cut" else b"PK\x03\x04" * 99)
    until(lambda: service.get("/v1/models").json()["models"][0]["state"] == "stale")
    now = service.get("/v1/models").json()["models"][0]
    assert now["sha256"] == before["sha256"]
    assert "the model before it is still serving" in now["words"]
    assert service.post("/v1/score", files=files(normal(1))).status_code == 200
    assert 'onlygood_model_stale{model="nut"} 1.0' in service.get("/metrics").text
    model.write_bytes(exported.read_bytes())
    until(lambda: service.get("/v1/models").json()["models"][0]["state"] == "ready")


def test_a_darkened_stream_is_told(service: httpx.Client) -> None:
    def drift() -> dict[str, str]:
        return dict(service.get("/v1/models").json()["models"][0]["drift"])

    for first in range(0, 200, 25):
        lit = [normal(10_000 + first + i) for i in range(25)]
        service.post("/v1/score", files=files(*lit))
    assert drift()["state"] == "as_calibrated"
    for first in range(0, 200, 25):
        dark = [normal(20_000 + first + i, light=0.8) for i in range(25)]
        service.post("/v1/score", files=files(*dark))
    assert drift()["state"] == "left"
    assert "the stream has left the calibration" in drift()["words"]
    assert 'onlygood_stream_left_calibration{model="nut"} 1.0' in service.get("/metrics").text


def test_what_the_stream_was_like_survives_a_restart(settings: ServiceSettings) -> None:
    with serving(settings) as service:
        for first in range(0, 75, 25):
            dark = [normal(first + i, light=0.8) for i in range(25)]
            service.post("/v1/score", files=files(*dark))
    with serving(settings) as service:
        assert service.get("/v1/models").json()["models"][0]["drift"]["state"] == "left"


def test_large_pictures_get_maps_of_bounded_size(settings: ServiceSettings) -> None:
    file = io.BytesIO()
    Image.new("L", (4000, 2000), 100).save(file, "PNG")
    with serving(settings) as service:
        drawn = pixels(service.post("/v1/map", files=files(file.getvalue(), field="file")).content)
    assert drawn.width * drawn.height <= 4_000_000
    assert drawn.width / drawn.height == pytest.approx(2, rel=1e-2)
