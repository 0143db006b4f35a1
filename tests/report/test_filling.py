"""What a detector knows arrives on the page."""

import copy
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood import Detector, ImageSource
from onlygood.detector.raw_scores import MOST_UNUSUAL
from onlygood.evaluation.evaluate import Evaluation, evaluate
from onlygood.report.filling import evaluation_report, fit_report, settings_told
from onlygood.report.page import (
    LEAST_ANOMALOUS,
    MISTAKES,
    MOST_ANOMALOUS,
    THUMBNAIL,
    render,
    write_report,
)
from onlygood.result import Result
from onlygood.training.health import WITHOUT_STEPS
from tests import parts


@pytest.fixture(scope="module")
def detector() -> Detector:
    return parts.fit()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    parts.write(parts.normal(60, seed=5), tmp_path / "good")
    parts.write(parts.scratched(30), tmp_path / "scratched")
    return tmp_path


@pytest.fixture
def evaluation(detector: Detector, folder: Path) -> Evaluation:
    return evaluate(detector, folder)


def test_a_fresh_detector_tells_its_promise(detector: Detector) -> None:
    content = fit_report(detector)
    calibration = detector.calibration
    assert content.title == "pca: learnt from normal pictures"
    assert content.method_summary.startswith("Projection on principal components")
    assert content.decision.threshold == calibration.threshold
    assert content.decision.guarantee == calibration.guarantee
    assert content.decision.n_calibration == 45
    assert content.decision.note is None
    assert list(content.calibration_scores) == calibration.scores.tolist()
    assert content.verdict == WITHOUT_STEPS
    assert (content.items, content.evaluation, content.curves) == ((), None, {})
    assert sorted(content.calibration_parts["residual"]) == sorted(calibration.scores)


def test_a_method_needs_no_words(detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(detector.scorer.network), "__doc__", None)
    assert fit_report(detector).method_summary == ""


def test_the_most_unusual_calibration_pictures_are_told(detector: Detector) -> None:
    unusual = fit_report(detector).unusual
    highest = sorted(detector.calibration.scores, reverse=True)[:MOST_UNUSUAL]
    assert [item.score for item in unusual] == highest
    for item in unusual:
        assert item.picture is not None and item.reconstruction is not None
        assert item.picture.size == item.reconstruction.size == (20, 24)
        assert np.shape(item.map) == (24, 20)
        assert item.p_value is None
        # The subspace holds nearly all of a normal part.
        difference = np.abs(np.asarray(item.picture, int) - np.asarray(item.reconstruction, int))
        assert difference.mean() < 20


def test_the_page_says_of_pictures_what_was_said_before(
    detector: Detector, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Detector.stream

    def rounded_otherwise(self: Detector, source: ImageSource) -> Iterator[Result]:
        for result in stream(self, source):
            yield result._replace(score=1.001 * result.score, decision="unsure")

    monkeypatch.setattr(Detector, "stream", rounded_otherwise)
    unusual = fit_report(detector).unusual
    assert unusual[0].score == detector.calibration.threshold  # it is the highest score
    assert {item.decision for item in unusual} == {"normal"}
    for item, result in zip(
        evaluation_report(detector, evaluation).items, evaluation.results, strict=True
    ):
        assert (item.score, item.decision) == (result.score, result.decision)
        assert (item.p_value, item.parts) == (result.p_value, result.parts)


def test_methods_that_give_nothing_back_show_picture_and_map() -> None:
    made = Detector.fit("gaussian", list(parts.normal(12)), settings={"size": 16})
    unusual = fit_report(made).unusual
    assert unusual and all(item.reconstruction is None for item in unusual)
    assert all(item.map is not None for item in unusual)


def test_a_loaded_detector_knows_the_parts_but_no_pictures(
    detector: Detector, tmp_path: Path
) -> None:
    detector.save(tmp_path / "it.safetensors")
    content = fit_report(Detector.load(tmp_path / "it.safetensors"))
    fresh = fit_report(detector)
    assert [item.name for item in content.unusual] == [item.name for item in fresh.unusual]
    assert [item.score for item in content.unusual] == pytest.approx(
        [item.score for item in fresh.unusual], rel=1e-5
    )
    assert all(item.picture is None for item in content.unusual)
    assert "keeps their names, not the pictures" in render(content)
    assert content.calibration_parts == fit_report(detector).calibration_parts


def test_a_promise_that_could_not_be_kept_is_told() -> None:
    decision = fit_report(parts.fit(parts.normal(10))).decision
    assert decision.note is not None
    assert "needs 45 normal pictures" in decision.note
    assert decision.promised_fpr > decision.target_fpr


def test_what_is_known_of_the_calibration_pictures_stands_beside_the_promise() -> None:
    made = parts.fit(np.repeat(parts.normal(12), 10, 0))
    words = made.provenance["calibration_pictures"]
    page = render(fit_report(made))
    assert words.startswith("45 of 45 pictures kept aside to calibrate equal some")
    assert page.count(words) == 1
    assert page.index('id="decision"') < page.index(words) < page.index('id="scores"')


def test_parts_are_called_parts(tmp_path: Path) -> None:
    names = [f"part{n // 5:02}_{n % 5}" for n in range(100)]
    pictures = ImageSource.of(list(parts.normal(100)), names=names)
    made = parts.fit(pictures, group_by="part..")
    assert (made.calibration.n, made.provenance["n_calibration"]) == (10, 50)
    made.report(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    words = " ".join(re.sub("<[^>]+>", " ", page).split())
    for told in (
        "Calibration parts 10 Pictures of these parts 50",
        "Calibration (normal) 10 parts",
        "with the highest scores of all 50.",
        "a normal part has a picture with p ≤ 0.05 at most once in twenty",
        "The smallest p that 10 calibration parts allow is 0.091.",
    ):
        assert told in words


def test_two_thresholds_are_told(detector: Detector) -> None:
    made = detector.calibrate(target_fpr=0.3, strict_fpr=0.1, confidence=0.8)
    decision = fit_report(made).decision
    assert (decision.target_fpr, decision.confidence) == (0.3, 0.8)
    assert decision.strict_threshold is not None
    assert decision.strict_threshold > decision.threshold


def test_training_curves_are_told() -> None:
    settings = {"size": 32, "width": 2, "latent": 4, "steps": 4, "log_every": 2}
    made = Detector.fit("autoencoder", parts.normal(10), settings=settings)
    curves = fit_report(made).curves
    assert [step for step, _ in curves["autoencoder/reconstruction"]] == [1, 2, 4]
    assert "autoencoder/gradient_norm" in curves


def test_provenance_is_told_with_every_setting(detector: Detector) -> None:
    provenance = fit_report(detector).provenance
    assert provenance["n_train"] == 75
    assert provenance["seed"] == 0
    settings = str(provenance["settings"]).split(", ")
    assert {"components=4", "size=16", "batch_size=32"} <= set(settings)
    assert {"ignore=nothing", "align=none"} <= set(settings)
    assert "left out as unreadable" not in provenance
    aligning = copy.copy(detector)
    aligning.view = replace(detector.view, align="a picture as text")
    assert settings_told(aligning)["align"] == "to a reference"


def test_what_is_not_looked_at_is_told_and_dim() -> None:
    pictures = list(np.random.default_rng(0).integers(90, 100, (12, 20, 40), np.uint8))
    mask = np.zeros((20, 40), np.uint8)
    mask[:, :10] = 255
    settings = {"size": 32, "roi": (0.0, 0.0, 0.5, 1.0)}
    content = fit_report(Detector.fit("pca", pictures, settings=settings, ignore=mask))
    assert "ignore=25.0% of 40 x 20 pixels" in str(content.provenance["settings"])
    photo = np.asarray(content.unusual[0].picture)
    assert photo[:, 10:20].min() >= 90 > 33 >= max(photo[:, :10].max(), photo[:, 20:].max())


def test_unreadable_training_pictures_are_named(tmp_path: Path) -> None:
    for path in parts.write(parts.normal(20), tmp_path)[:7]:
        path.write_bytes(b"")
    told = str(fit_report(parts.fit(tmp_path)).provenance["left out as unreadable"])
    assert told.startswith("7: ")
    assert told.count(".png") == 5


def test_an_evaluation_tells_its_figures(detector: Detector, evaluation: Evaluation) -> None:
    content = evaluation_report(detector, evaluation)
    assert content.evaluation is not None
    assert content.evaluation.auroc == evaluation.auroc
    assert content.evaluation.parts == evaluation.parts
    assert content.evaluation.kinds == evaluation.kinds
    assert content.evaluation.n_anomalous == 30
    assert len(content.items) == 90
    assert [item.label for item in content.items] == evaluation.labels
    assert [item.name for item in content.items] == evaluation.source.names


def test_a_broken_promise_is_told(detector: Detector, evaluation: Evaluation) -> None:
    promise = evaluation.promise._replace(p_value=0.0, words="many", advice="look at the light")
    told = evaluation_report(detector, replace(evaluation, promise=promise)).evaluation
    assert told is not None
    assert (told.promise, told.promise_advice) == ("many", "look at the light")
    assert told.promise_broken and not evaluation.promise.broken


def test_only_pictures_that_are_shown_are_kept(detector: Detector, evaluation: Evaluation) -> None:
    content = evaluation_report(detector, evaluation)
    kept = [item for item in content.items if item.picture is not None]
    assert MOST_ANOMALOUS <= len(kept) <= MOST_ANOMALOUS + LEAST_ANOMALOUS + 2 * MISTAKES
    best = sorted(content.items, key=lambda item: -(item.score or 0))[:MOST_ANOMALOUS]
    assert all(item.picture is not None for item in best)
    for item in kept:
        assert item.map is not None
        assert item.picture is not None
        assert item.picture.size == (20, 24)
        assert np.shape(item.map) == (24, 20)
    for item, result in zip(content.items, evaluation.results, strict=True):
        assert item.score == pytest.approx(result.score, rel=1e-5)
        if item.picture is None:
            assert item.map is None


def test_large_pictures_are_kept_small(detector: Detector, tmp_path: Path) -> None:
    parts.write(parts.normal(3), tmp_path / "good")
    (tmp_path / "bad").mkdir()
    large = Image.fromarray(parts.scratched(1)[0]).resize((2000, 1000))
    large.save(tmp_path / "bad" / "large.png")
    content = evaluation_report(detector, evaluate(detector, tmp_path))
    item = content.items[-1]
    assert item.picture is not None
    assert item.picture.size == (THUMBNAIL, THUMBNAIL // 2)
    assert np.shape(item.map) == (THUMBNAIL // 2, THUMBNAIL)
    assert item.reconstruction is not None and item.reconstruction.size == item.picture.size
    # Shrinking keeps the worst pixel.
    (result,) = detector.score(tmp_path / "bad" / "large.png")
    assert result.map is not None
    assert np.max(item.map) == result.map.max()


def test_pictures_that_cannot_be_read_are_named(detector: Detector, folder: Path) -> None:
    (folder / "scratched" / "000.png").write_bytes(b"")
    content = evaluation_report(detector, evaluate(detector, folder))
    (item,) = [item for item in content.items if item.error is not None]
    assert item.name == "scratched/000.png"
    assert (item.score, item.decision, item.picture) == (None, None, None)


def test_a_picture_that_vanishes_before_the_report_is_an_error_there(
    detector: Detector, folder: Path, evaluation: Evaluation
) -> None:
    for path in folder.glob("scratched/*.png"):
        path.unlink()
    content = evaluation_report(detector, evaluation)
    gone = [item for item in content.items if item.error is not None]
    assert gone
    assert all("does not exist" in str(item.error) and item.label for item in gone)


def test_a_calibration_picture_that_vanishes_is_left_out(tmp_path: Path) -> None:
    made = parts.fit(parts.write(parts.normal(20), tmp_path))
    first, *others = fit_report(made).unusual
    (tmp_path / first.name).unlink()
    assert [item.name for item in fit_report(made).unusual] == [item.name for item in others]


def test_the_page_is_written(detector: Detector, evaluation: Evaluation, tmp_path: Path) -> None:
    write_report(evaluation_report(detector, evaluation), tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "evaluation on labelled pictures" in html
    assert "scratched/000.png" in html
    assert html.count("data:image/") >= 2 * MOST_ANOMALOUS
