"""Outlier detection as scikit-learn knows it."""

import math
import pickle
import pickletools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import OneClassSVM
from sklearn.utils.estimator_checks import check_estimator

from onlygood import Detector
from onlygood.core.errors import ConfigError, DataError, ShapeError
from onlygood.data import resize
from onlygood.sklearn import NormalFolds, OneClassDetector, load_folder
from tests import parts

GUIDE = Path(__file__).parents[1] / "docs" / "guides" / "python.md"

TOO_SMALL = "its pictures have 1 to 10 pixels in a row; a side has 4 at least"
EXPECTED_FAILED_CHECKS = dict.fromkeys(
    """
    check_fit_score_takes_y check_estimators_overwrite_params check_dont_overwrite_parameters
    check_estimators_fit_returns_self check_readonly_memmap_input check_n_features_in_after_fitting
    check_positive_only_tag_during_fit check_estimators_dtypes check_dtype_object
    check_pipeline_consistency check_estimators_nan_inf check_estimators_pickle
    check_f_contiguous_array_estimator check_outliers_fit_predict check_outliers_train
    check_classifier_data_not_an_array check_methods_sample_order_invariance
    check_methods_subset_invariance check_fit2d_1feature check_dict_unchanged check_fit_idempotent
    check_fit_check_is_fitted check_n_features_in check_fit2d_predict1d
    """.split(),
    TOO_SMALL,
)
"""Of `check_estimator`."""


def checked(expected: Mapping[str, str]) -> dict[str, str]:
    """How each check comes out, on rows of numbers taken as pictures one pixel high."""
    settings = {"size": 8, "components": 4}
    rows = OneClassDetector(
        "pca", settings=settings, image_shape=(1, -1), value_range=(-100.0, 100.0)
    )
    results = check_estimator(
        rows, expected_failed_checks=dict(expected), on_fail=None, on_skip=None
    )
    for result in results:
        assert result["status"] != "failed", result
    return {str(result["check_name"]): str(result["status"]) for result in results}


@pytest.fixture
def data() -> tuple[np.ndarray, np.ndarray]:
    """60 normal pictures and 12 with a scratch, with labels of 1 and -1."""
    pictures = np.concatenate([parts.normal(60), parts.scratched(12)])
    return pictures, np.repeat([1, -1], [60, 12])


def fitted(X: Any, **options: Any) -> OneClassDetector:
    return OneClassDetector("pca", settings=parts.TINY, **options).fit(X)


without_checks = pytest.mark.usefixtures("without_shape_checks")
"""scikit-learn hands over what no annotation allows, to see what is said of it."""


# Conventions ---------------------------------------------------------------------------------


@without_checks
def test_check_estimator() -> None:
    results = checked(EXPECTED_FAILED_CHECKS)
    assert {name for name, status in results.items() if status == "xfail"} == set(
        EXPECTED_FAILED_CHECKS
    )
    rows = [
        f"| `{name}` | {EXPECTED_FAILED_CHECKS.get(name, '')} |"
        for name, status in results.items()
        if status != "skipped"
    ]
    assert "\n".join(["| check | fails because |", "| -- | -- |", *rows]) in GUIDE.read_text(
        "utf-8"
    )


@without_checks
def test_nothing_but_the_size_of_its_pictures_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resize, "SMALLEST_SIDE", 1)
    assert set(checked({}).values()) <= {"passed", "skipped"}


@pytest.mark.parametrize("said", [False, True])
def test_every_parameter_arrives(monkeypatch: pytest.MonkeyPatch, said: bool) -> None:
    usual = {"preset": "default", "settings": None, "target_fpr": 0.05, "confidence": 0.9}
    usual |= {"device": None}
    mine = {"preset": "texture", "settings": parts.TINY, "target_fpr": 0.1, "confidence": 0.8}
    mine |= {"device": "cpu"}
    asked = []
    made = parts.fit(parts.normal(6))

    def fit(method: str, pictures: Any, **options: Any) -> Detector:
        asked.append((method, len(pictures), options))
        return made

    monkeypatch.setattr(Detector, "fit", fit)
    if said:
        OneClassDetector("pca", random_state=7, **mine).fit(parts.normal(6))
        assert asked == [("pca", 6, {**mine, "seed": 7})]
    else:
        OneClassDetector().fit(parts.normal(6))
        assert asked == [("reflect", 6, {**usual, "seed": 0})]


def test_what_rounding_cannot_tell_from_the_threshold_is_on_it() -> None:
    made = fitted(parts.normal(20))
    off = made.offset_ * (1 + np.array([5e-7, -5e-7, 2e-6, -2e-6]))
    made.score_samples = lambda _: off  # type: ignore[method-assign]
    assert made.offset_ < 0
    assert (made.decision_function(None)[:2] == 0).all()
    assert made.predict(None).tolist() == [1, 1, -1, 1]


def test_signs_are_turned_once(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, _ = data
    made = fitted(X[:60])
    told = Detector.fit("pca", list(X[:60]), settings=parts.TINY).score(list(X))
    assert made.offset_ == -made.detector_.calibration.threshold
    np.testing.assert_array_equal(made.score_samples(X), [-result.score for result in told])
    np.testing.assert_array_equal(made.decision_function(X), made.score_samples(X) - made.offset_)
    decisions = [1 if result.decision == "normal" else -1 for result in told]
    assert made.predict(X).tolist() == decisions
    assert made.predict(X[60:]).tolist() == [-1] * 12
    assert clone(made).fit_predict(X[:60]).tolist() == decisions[:60]


def test_a_pickle_holds_the_model_file(tmp_path: Path) -> None:
    made = fitted(parts.normal(20))
    content = made.__getstate__()["detector_"]
    (tmp_path / "m.safetensors").write_bytes(content)
    X = parts.normal(5, seed=3)
    told = Detector.load(tmp_path / "m.safetensors").score(X)
    np.testing.assert_array_equal(made.score_samples(X), [-result.score for result in told])
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.decision_function(X), made.decision_function(X))
    words = {arg for _, arg, _ in pickletools.genops(pickle.dumps(made)) if isinstance(arg, str)}
    assert not any("torch" in word for word in words)
    assert pickle.loads(pickle.dumps(OneClassDetector("pca"))).method == "pca"


def test_a_pickle_goes_where_the_detector_was(monkeypatch: pytest.MonkeyPatch) -> None:
    content = pickle.dumps(fitted(parts.normal(6), device="cpu"))
    devices: list[Any] = []
    load = Detector.load

    def loaded(path: Path, *, device: str | None) -> Detector:
        devices.append(device)
        return load(path, device=device)

    monkeypatch.setattr(Detector, "load", loaded)
    pickle.loads(content)
    assert devices == ["cpu"]


def test_pictures_in_every_form_score_alike(tmp_path: Path) -> None:
    grey = parts.normal(20)
    paths = [str(path) for path in parts.write(grey, tmp_path)]
    scores = fitted(grey).score_samples(grey)
    flat = {"image_shape": (24, -1), "value_range": (0.0, 255.0)}
    for X, options in (
        (grey[..., None], {}),
        (paths, {}),
        (np.array(paths), {}),
        (tmp_path, {}),
        (grey.reshape(20, -1), flat),
        (grey.astype(float), {"value_range": (0.0, 255.0)}),
    ):
        np.testing.assert_array_equal(fitted(X, **options).score_samples(X), scores)
    # Of three no shape is doubtful: the first axis counts pictures.
    assert len(fitted(grey).predict(grey[:3])) == 3


def test_values_are_those_of_the_range_in_lists_too() -> None:
    grey = parts.normal(20) // 16  # 0 to 15
    made = fitted(grey, value_range=(0.0, 15.0))
    scores = made.score_samples(grey)
    several = np.empty(20, object)
    several[:] = list(grey)
    for X in (list(grey), tuple(grey), several):
        np.testing.assert_array_equal(made.score_samples(X), scores)
        np.testing.assert_array_equal(
            fitted(X, value_range=(0.0, 15.0)).score_samples(grey), scores
        )


def test_what_lies_beyond_the_range_is_cut_off() -> None:
    grey = parts.normal(20)
    made = fitted(grey, value_range=(100.0, 150.0))
    assert (grey < 100).any() and (grey > 150).any()
    np.testing.assert_array_equal(
        made.score_samples(grey), made.score_samples(np.clip(grey, 100, 150))
    )


def test_flattened_pictures_need_a_shape_that_they_can_have() -> None:
    flat = parts.normal(6).reshape(6, -1)
    with pytest.raises(ConfigError, match=r"X of shape \(6, 480\) holds flattened pictures; say"):
        fitted(flat)
    with pytest.raises(ShapeError, match=r"480 values cannot have image_shape=\(7, -1\)"):
        fitted(flat, image_shape=(7, -1))
    with pytest.raises(ShapeError, match="480 values cannot have image_shape='24'"):
        fitted(flat, image_shape="24")
    # Of the first three all pictures would be black.
    for wrong in ((1.0, 1.0), (0.0, math.inf), (-math.inf, 0.0), 3, (0, 1, 2), "ab"):
        with pytest.raises(ConfigError, match="value_range must be two numbers that rise"):
            fitted(parts.normal(6), value_range=wrong)


@pytest.mark.parametrize("shape", [(3,), (3, 24, 20, 7), (3, 2, 24, 20), (3, 5, 24, 20, 3)])
def test_a_row_is_one_picture(shape: tuple[int, ...]) -> None:
    """Of the last three shapes the rows would be taken for several pictures each."""
    X = np.zeros(shape, np.uint8)
    words = re.escape(f"(n, h, w) or (n, h, w, c) with c in 1..4, got shape {shape}; put")
    with pytest.raises(ShapeError, match=words):
        fitted(X)
    with pytest.raises(ShapeError, match=re.escape(f"got shape {(2, 2, 12, 20)}")):
        fitted(np.zeros((2, 480)), image_shape=(2, 12, 20))


def test_a_picture_that_cannot_be_read_has_no_score(tmp_path: Path) -> None:
    paths = parts.write(parts.normal(6), tmp_path)
    made = fitted(paths)
    paths[2].write_bytes(b"")
    with pytest.raises(DataError, match=r"002\.png: is empty"):
        made.predict(paths)


# Choosing and measuring ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pca", [{"size": 16, "components": n} for n in (1, 8)]),
        ("reflect", [{"size": 32, "latent": n} for n in (2, 8)]),
    ],
)
def test_a_grid_is_searched(
    data: tuple[np.ndarray, np.ndarray], method: str, settings: list[dict[str, int]]
) -> None:
    search = GridSearchCV(
        OneClassDetector(method),
        {"settings": settings},
        scoring="roc_auc",
        cv=NormalFolds(2),
        refit=False,
    ).fit(*data)
    scores = search.cv_results_["mean_test_score"]
    assert search.best_params_ == {"settings": settings[int(np.argmax(scores))]}
    assert scores.max() > 0.95


def test_labelled_folders_are_cross_validated(
    data: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    parts.write(data[0][:60], tmp_path / "good")
    parts.write(data[0][60:], tmp_path / "scratched")
    X, y = load_folder(tmp_path)
    assert y.tolist() == data[1].tolist()
    estimator = OneClassDetector("pca", settings=parts.TINY)
    scores = cross_val_score(estimator, X, y, cv=NormalFolds(3), scoring="roc_auc")
    assert scores.shape == (3,)
    assert scores.min() > 0.95


def test_folds_train_on_normal_pictures_alone() -> None:
    y = np.repeat([1, -1], [8, 4])
    folds = list(NormalFolds(4).split(None, y))
    assert len(folds) == NormalFolds(4).get_n_splits() == 4
    for train, test in folds:
        assert (y[train] == 1).all()
        assert sorted(y[test]) == [-1, 1, 1]
        assert not set(train) & set(test)
    assert sorted(i for _, test in folds for i in test) == list(range(12))
    in_order = [test.tolist() for _, test in NormalFolds(2, random_state=None).split(None, y)]
    assert in_order == [[0, 1, 2, 3, 8, 9], [4, 5, 6, 7, 10, 11]]
    assert NormalFolds().get_n_splits() == 5
    assert cross_val_score(
        OneClassSVM(), y[:, None], y, cv=NormalFolds(2), scoring="roc_auc"
    ).shape == (2,)
    with pytest.raises(DataError, match=r"y must be 1 \(normal\) or -1 \(anomalous\), got \[0"):
        next(NormalFolds().split(None, np.arange(10)))


def test_a_pipeline_ends_in_it(data: tuple[np.ndarray, np.ndarray]) -> None:
    X, _ = data
    cut = make_pipeline(
        FunctionTransformer(lambda pictures: pictures[:, 4:20]),
        OneClassDetector("pca", settings=parts.TINY),
    ).fit(X[:60])
    np.testing.assert_array_equal(
        cut.decision_function(X), fitted(X[:60, 4:20]).decision_function(X[:, 4:20])
    )


def test_the_guide_names_every_parameter() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", GUIDE.read_text("utf-8"), re.M))
    assert set(OneClassDetector().get_params()) <= named
