"""Labelled folders in, figures out; the detector is real, the pictures are made up."""

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from onlygood import Detector
from onlygood.core.errors import ConfigError, DataError
from onlygood.core.settings import View
from onlygood.decision.calibration import Calibration
from onlygood.evaluation.evaluate import evaluate
from onlygood.evaluation.metrics import OfKind, rate_interval
from onlygood.methods import METHODS
from onlygood.result import Result
from tests import parts
from tests.conftest import unchecked

NORMAL = list(parts.normal(120))
"""What it is fitted on: learnt from, and kept aside to calibrate."""


@pytest.fixture(scope="module")
def detector() -> Detector:
    return parts.fit()


def dark(n: int) -> np.ndarray:
    """A second kind of defect: a dull corner, harder to see."""
    pictures = parts.normal(n, seed=6)
    pictures[:, 16:, 14:] -= 30
    return pictures


def mask(path: Path, size: tuple[int, int] = (20, 24), row: int = 10) -> None:
    """Marks the scratch, which is in row 10."""
    marked = np.zeros(size[::-1], np.uint8)
    marked[row : row + 3, 4:15] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(marked).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """20 normal pictures, 6 with a scratch, 4 with a dark corner."""
    parts.write(parts.normal(20, seed=5), tmp_path / "good")
    parts.write(parts.scratched(6), tmp_path / "scratched")
    parts.write(dark(4), tmp_path / "dark")
    return tmp_path


def test_figures_are_those_of_the_scores(detector: Detector, folder: Path) -> None:
    evaluation = evaluate(detector, folder)
    labels, scores = evaluation.labels, [result.score for result in evaluation.results]
    assert (evaluation.n_normal, evaluation.n_anomalous, evaluation.n_unreadable) == (20, 10, 0)
    assert sum(labels) == 10
    assert evaluation.auroc == roc_auc_score(labels, scores)
    assert evaluation.parts == {"residual": evaluation.auroc}
    assert evaluation.auroc > 0.9
    assert evaluation.threshold == detector.calibration.threshold
    above = np.array(scores) > evaluation.threshold
    assert evaluation.false_positive_rate == above[~np.array(labels)].mean()
    assert evaluation.true_positive_rate == above[np.array(labels)].mean()
    assert evaluation.average_precision is not None
    assert evaluation.max_balanced_accuracy is not None
    assert evaluation.fpr_at_95_tpr is not None
    assert 0.5 < evaluation.max_balanced_accuracy <= 1
    assert evaluation.images_per_second > 0
    assert (evaluation.pixel_auroc, evaluation.aupro) == (None, None)
    kinds = evaluation.kinds
    assert {kind: told.n for kind, told in kinds.items()} == {"scratched": 6, "dark": 4}
    assert sum(told.found for told in kinds.values()) == above[np.array(labels)].sum()
    assert evaluation.to_json()["kinds"]["dark"] == kinds["dark"]._asdict()


def test_how_sure_the_share_of_found_defects_is(detector: Detector, folder: Path) -> None:
    evaluation = evaluate(detector, folder)
    kinds = {"cut": OfKind(9, 8, 1.0), "dent": OfKind(1, 0, 0.5)}
    interval = rate_interval(8, 10)
    told = replace(evaluation, kinds=kinds, true_positive_interval=interval)
    assert told.words == (
        "8 of 10 anomalous pictures are found (80 %); of others like them 44.4 to 97.5 % are, "
        "with 95 % confidence"
    )
    found = sum(of_kind.found for of_kind in evaluation.kinds.values())
    assert evaluation.true_positive_interval == rate_interval(found, 10)
    # Pictures of one part are not independent.
    assert replace(told, true_positive_interval=None).words.endswith("are found (80 %)")


def test_pictures_with_labels_are_as_good_as_folders(detector: Detector, folder: Path) -> None:
    pictures = [*parts.normal(20, seed=5), *parts.scratched(6), *dark(4)]
    labels = [0] * 20 + [2] * 6 + [1] * 4
    of_folder = evaluate(detector, folder)
    for found in (
        evaluate(detector, zip(pictures, labels, strict=True)),
        evaluate(detector, pictures, labels=[label > 0 for label in labels], normal=False),
    ):
        assert (found.auroc, found.n_normal) == (of_folder.auroc, of_folder.n_normal)
    assert evaluate(detector, pictures, labels=labels).kinds["2"] == of_folder.kinds["scratched"]


def test_pictures_that_were_learnt_from_test_no_promise(detector: Detector, folder: Path) -> None:
    # Others than those that were kept aside calibrate it: no score tells these.
    other = detector.calibrate(parts.normal(60, seed=9), target_fpr=0.05)
    learnt = [p for p, (_, digest) in zip(NORMAL, other.recognised(NORMAL), strict=True) if digest]
    assert len(learnt) == len(other.learnt_from)
    parts.write(np.stack(learnt[:2]), folder / "good", "learnt")
    assert evaluate(other, folder).promise.p_value is not None  # two, and copies of one, are few
    parts.write(np.stack([learnt[0]] * 20), folder / "good", "copy")
    assert evaluate(other, folder).promise.p_value is not None
    parts.write(np.stack(learnt[:9]), folder / "good", "learnt")
    other.save(folder / "m.safetensors")
    for one in (other, Detector.load(folder / "m.safetensors")):
        promise = evaluate(one, folder).promise
        assert promise.p_value is None and "; that is not tested: 9 of these" in promise.words


@pytest.mark.usefixtures("without_shape_checks")
def test_anomalous_pictures_that_were_learnt_from_test_nothing(tmp_path: Path) -> None:
    good, bad = parts.normal(4, seed=8), parts.scratched(4)
    parts.write(bad[:3], tmp_path / "test" / "bad")
    parts.write(good, tmp_path / "test" / "good")
    settings = {"size": 32, "width": 2, "steps": 1}
    known = Detector.fit("ama", NORMAL, settings=settings, anomalous=tmp_path, device="cpu")
    assert known.provenance["n_anomalous"] == 3
    found = evaluate(known, [*good, *bad], labels=[0] * 4 + [1] * 4)
    assert (found.n_anomalous, found.n_anomalous_learnt) == (4, 3)
    assert "the model was learnt from 3 of these pictures, which tests nothing" in found.words
    assert found.true_positive_interval in (rate_interval(0, 1), rate_interval(1, 1))
    found = evaluate(known, [*good, *bad[:3]], labels=[0] * 4 + [1] * 3)
    assert found.true_positive_interval is None
    assert found.words.endswith("which tests nothing")


def test_an_older_model_file_knows_no_picture_that_was_learnt_from(detector: Detector) -> None:
    older = copy.copy(detector)
    older.learnt_from = older.learnt_from[:0]
    assert [digest for _, digest in older.recognised(NORMAL)] == [None] * len(NORMAL)


def test_kinds_of_defects_weigh_the_same(detector: Detector, folder: Path) -> None:
    parts.write(parts.normal(20, seed=11), folder / "invisible")
    evaluation = evaluate(detector, folder)
    pooled, by_kind = evaluation.max_balanced_accuracy, evaluation.max_balanced_accuracy_by_kind
    assert pooled is not None
    assert by_kind is not None
    # 20 of 30 defects cannot be seen, but only one kind of three.
    assert by_kind > pooled


def test_results_and_labels_belong_to_the_source(detector: Detector, folder: Path) -> None:
    evaluation = evaluate(detector, folder)
    assert [result.name for result in evaluation.results] == evaluation.source.names
    for name, label in zip(evaluation.source.names, evaluation.labels, strict=True):
        assert label == (not name.startswith("good/"))
    assert all(result.map is None for result in evaluation.results)


def test_the_name_of_a_model_is_no_detector(folder: Path) -> None:
    for given in ("m.safetensors", None):
        with unchecked(), pytest.raises(ConfigError, match=f"got {given!r}; load a model file"):
            evaluate(given, folder)  # type: ignore[arg-type]


def test_figures_are_json(detector: Detector, folder: Path) -> None:
    figures = evaluate(detector, folder).to_json()
    assert not {"results", "labels", "source"} & set(figures)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    assert (
        "20 normal pictures from good, 10 anomalous (dark 4, scratched 6)" in figures["description"]
    )


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    parts.write(parts.normal(5), tmp_path / "train" / "good")
    parts.write(parts.normal(10, seed=5), tmp_path / "test" / "good")
    for path in parts.write(parts.scratched(4), tmp_path / "test" / "scratched"):
        mask(tmp_path / "ground_truth" / "scratched" / f"{path.stem}_mask.png")
    return tmp_path


def test_masks_judge_the_heat_maps(detector: Detector, mvtec: Path) -> None:
    evaluation = evaluate(detector, mvtec)
    assert (evaluation.n_normal, evaluation.n_anomalous) == (10, 4)
    assert evaluation.pixel_auroc is not None
    assert evaluation.aupro is not None
    assert evaluation.pixel_auroc > 0.9
    assert 0.5 < evaluation.aupro <= 1
    assert 0 < evaluation.aupro_at_5 < evaluation.aupro
    assert 0 < evaluation.pixel_average_precision < 1 and 0 < evaluation.pixel_f1_max < 1
    # Masks of the wrong place are found out.
    for path in (mvtec / "ground_truth" / "scratched").iterdir():
        mask(path, row=20)
    wrong = evaluate(detector, mvtec)
    assert wrong.auroc == evaluation.auroc
    assert wrong.pixel_auroc is not None
    assert wrong.aupro is not None
    assert wrong.pixel_auroc < evaluation.pixel_auroc - 0.05
    assert wrong.aupro < evaluation.aupro - 0.05


def test_pictures_without_a_mask_do_not_count_as_normal_pixels(
    detector: Detector, mvtec: Path
) -> None:
    masked = evaluate(detector, mvtec)
    for path in parts.write(parts.scratched(20, seed=3), mvtec / "test" / "unmarked"):
        assert path.exists()
    more = evaluate(detector, mvtec)
    assert more.n_anomalous == 24
    assert more.pixel_auroc == pytest.approx(masked.pixel_auroc)


def test_a_method_without_maps_is_evaluated_without_pixels(
    mvtec: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = METHODS["pca"].score
    monkeypatch.setattr(METHODS["pca"], "score", lambda self, x: whole(self, x)._replace(map=None))
    monkeypatch.setattr(METHODS["pca"], "localizes", False)
    evaluation = evaluate(parts.fit(), mvtec)
    assert evaluation.auroc is not None
    assert (evaluation.pixel_auroc, evaluation.aupro) == (None, None)


def test_a_mask_of_another_size_is_refused_by_name(detector: Detector, mvtec: Path) -> None:
    mask(mvtec / "ground_truth" / "scratched" / "002_mask.png", size=(20, 25))
    with pytest.raises(DataError, match=r"002_mask.png: the mask is 20 x 25, its picture 20 x 24"):
        evaluate(detector, mvtec)


def test_unreadable_pictures_are_counted_and_left_out(detector: Detector, folder: Path) -> None:
    whole = evaluate(detector, folder)
    (folder / "good" / "zzz.png").write_bytes(b"no picture")
    (folder / "dark" / "zzz.png").write_bytes(b"no picture")
    evaluation = evaluate(detector, folder)
    assert (evaluation.n_normal, evaluation.n_anomalous, evaluation.n_unreadable) == (20, 10, 2)
    assert evaluation.auroc == whole.auroc
    errors = [result.name for result in evaluation.results if result.error is not None]
    assert errors == ["good/zzz.png", "dark/zzz.png"]


def test_masks_of_pictures_that_cannot_be_read_judge_nothing(
    detector: Detector, mvtec: Path
) -> None:
    for path in (mvtec / "test" / "scratched").iterdir():
        path.write_bytes(b"")
    parts.write(parts.scratched(4), mvtec / "test" / "unmarked")
    evaluation = evaluate(detector, mvtec)
    assert (evaluation.n_anomalous, evaluation.n_unreadable) == (4, 4)
    assert (evaluation.pixel_auroc, evaluation.aupro) == (None, None)


class Fixed:
    """Gives what it was made with, whatever the pictures."""

    def __init__(self, *results: Result) -> None:
        self.calibration = Calibration.fit(np.arange(200.0), strict_fpr=0.03)
        self.view = View()
        self.results = results
        self.with_maps: list[bool] = []

    def stream(self, pictures: Any, *, maps: bool = True) -> Iterator[Result]:
        self.with_maps.append(maps)
        yield from self.results


def test_unsure_pictures_are_false_alarms_and_all_pictures_count_for_the_speed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decisions = ("unsure", "normal", "anomalous", "error")
    results = [Result(d, float(i), 0.5, d, {"p": float(i)}) for i, d in enumerate(decisions)]
    results[3] = results[3]._replace(error="is damaged", score=math.nan, parts={})
    clock = SimpleNamespace(perf_counter=iter([10.0, 12.0]).__next__)
    monkeypatch.setattr("onlygood.evaluation.evaluate.time", clock)
    judge = Fixed(*results)
    evaluation = evaluate(judge, list(parts.normal(4)), labels=[0, 0, 1, 1])
    assert (evaluation.promise.found, evaluation.promise.n_normal) == (1, 2)
    assert evaluation.images_per_second == 4 / 2
    assert judge.with_maps == [False]  # there are no masks


@pytest.mark.parametrize(("kind", "others"), [("good", "anomalous"), ("scratched", "normal")])
def test_both_kinds_must_be_readable(
    detector: Detector, tmp_path: Path, kind: str, others: str
) -> None:
    for name in ("good", "scratched"):
        for path in parts.write(parts.normal(3), tmp_path / name):
            if name == kind:
                path.write_bytes(b"")
    with pytest.raises(DataError, match=f"only {others} pictures can be read; evaluation needs"):
        evaluate(detector, tmp_path)


def test_what_nobody_can_read_is_of_no_kind(detector: Detector) -> None:
    with pytest.raises(DataError, match="no picture can be read; evaluation needs"):
        evaluate(detector, [b"broken"] * 3, labels=[0, 0, 1])


def test_a_folder_of_normal_pictures_alone_is_refused(detector: Detector, tmp_path: Path) -> None:
    parts.write(parts.normal(3), tmp_path / "good")
    with pytest.raises(DataError, match="no anomalous pictures in its subfolders"):
        evaluate(detector, tmp_path)
