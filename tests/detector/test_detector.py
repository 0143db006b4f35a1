"""From pictures to decisions in one object; on pictures that need no training."""

import copy
import dataclasses
import io
import json
import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from onlygood import Detector, ImageSource, Result
from onlygood.core.errors import (
    CalibrationError,
    ConfigError,
    DataError,
    ModelFileError,
    OnlygoodError,
)
from onlygood.core.settings import View
from onlygood.data.items import Deferred
from onlygood.data.source import Picture
from onlygood.detector import model_file
from onlygood.detector.raw_scores import MOST_UNUSUAL
from onlygood.methods import METHODS
from onlygood.training.health import WITHOUT_STEPS
from tests import parts
from tests.conftest import unchecked


@pytest.fixture(scope="module")
def detector() -> Detector:
    """120 pictures: 69 to learn from, 6 to watch, 45 to calibrate. Tests leave it as it is."""
    return parts.fit()


def numbers(detector: Detector, *names: str) -> list[Any]:
    return [detector.provenance[name] for name in names]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))]
)
def test_copies_are_as_files_are(copied: Callable[[Detector], Detector]) -> None:
    # A stream lies in a temporary file, and torch pickles no weights with a spectral norm.
    settings = {"size": 32, "width": 2, "steps": 1}
    fitted = Detector.fit("ama", iter(parts.normal(20)), settings=settings, device="cpu")
    again = copied(fitted)
    scores = [[r.score for r in d.score(parts.normal(5))] for d in (fitted, again)]
    assert scores[0] == scores[1]
    assert (again.device, again.provenance) == (fitted.device, fitted.provenance)
    assert again.calibrated_on.pictures is None


AMBIENT: list[Callable[[], AbstractContextManager[object]]] = [
    torch.no_grad,
    torch.inference_mode,
    lambda: torch.autocast("cpu", torch.bfloat16),
]


@pytest.mark.parametrize("turned_on", AMBIENT, ids=["no_grad", "inference_mode", "autocast"])
@pytest.mark.parametrize(
    ("method", "settings"),
    [("gpnd", {"width": 2}), ("vae_grad", {"width": 2, "search_steps": 2})],
)
def test_what_the_caller_has_turned_on_changes_nothing(
    turned_on: Callable[[], AbstractContextManager[object]],
    method: str,
    settings: dict[str, object],
    tmp_path: Path,
) -> None:
    file = tmp_path / "model.safetensors"

    def fit() -> Detector:
        more = {"size": 32, "steps": 1, "batch_size": 8, **settings}
        return Detector.fit(method, parts.normal(10), settings=more, device="cpu")

    def scores(detector: Detector) -> list[float]:
        return [result.score for result in detector.score(parts.normal(2))]

    fitted = fit()
    fitted.save(file)
    with turned_on():
        assert scores(fitted) == scores(again := fit())
        loaded = Detector.load(file)
    assert scores(fitted) == scores(again) == scores(loaded)


def test_a_process_that_computes_in_other_numbers_is_told(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    parts.fit(parts.normal(5)).save(file)
    torch.set_default_dtype(torch.float64)
    try:
        for made in (lambda: parts.fit(parts.normal(5)), lambda: Detector.load(file)):
            with pytest.raises(ConfigError, match=r"^torch's default is torch.float64 here"):
                made()
    finally:
        torch.set_default_dtype(torch.float32)


# Fitting -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pictures", "train", "calibration"),
    [
        (3, 2, 1),  # half at most, although 45 are needed
        (40, 20, 20),
        (99, 54, 45),  # as many as the promise needs
        (300, 240, 60),  # a fifth
    ],
)
def test_pictures_are_split(pictures: int, train: int, calibration: int) -> None:
    fitted = parts.fit(parts.normal(pictures))
    counts = numbers(fitted, "n_train", "n_validation", "n_calibration")
    assert counts == [train, 0, calibration]
    assert fitted.calibration.n == calibration


@pytest.mark.parametrize(
    ("pictures", "train", "validation", "calibration"),
    [(99, 54, 0, 45), (100, 50, 5, 45), (1300, 976, 64, 260)],
)
def test_from_100_pictures_on_some_watch_training_that_goes_by_steps(
    pictures: int, train: int, validation: int, calibration: int
) -> None:
    settings = {"size": 32, "width": 2, "steps": 1}
    fitted = Detector.fit("autoencoder", list(parts.normal(pictures)), settings=settings)
    counts = numbers(fitted, "n_train", "n_validation", "n_calibration")
    assert counts == [train, validation, calibration]


def test_known_anomalous_pictures_are_refused_by_a_method_that_cannot_use_them() -> None:
    with pytest.raises(ConfigError, match='"pca" learns from normal pictures alone; leave'):
        parts.fit(parts.normal(20), anomalous=parts.scratched(2))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"method": METHODS["pca"]}, "method is told by its name, .* got <class .*PCA'>; names"),
        ({"device": "gpu"}, r'device="gpu" cannot be used here \(Expected one of cpu'),
        ({"device": "cuda:99"}, r'device="cuda:99" cannot be used here \(.*\); take "cpu"'),
        ({"settings": {1: 2}}, 'no setting "1" for method "pca"; known: pca: components'),
        ({"settings": ["size"]}, r"settings are values by their names, .* got \['size'\]"),
        ({"settings": 5}, "settings are values by their names, .* got 5"),
        ({"preset": None}, 'method "pca" has no preset "None"; known: default'),
        ({"preset": ["small"]}, r"has no preset \"\['small'\]\"; known: default"),
        ({"seed": None}, r"seed must be a whole number in 0\.\.\d+, got None"),
        ({"seed": "0"}, r"seed must be a whole number in 0\.\.\d+, got '0'"),
        ({"seed": -1}, r"seed must be a whole number in 0\.\.\d+, got -1"),
        ({"target_fpr": None}, "target_fpr must be a number, such as 0.05, got None"),
        ({"confidence": "much"}, "confidence must be a number, such as 0.05, got 'much'"),
        ({"run_dir": 5}, "run_dir must be a path, as text or a Path, got 5"),
        ({"reporter": print}, "reporter must have the methods of .*Reporter, or be None, got <"),
        ({"leave_out": None}, "leave_out takes a list of names or paths, got None"),
        ({"leave_out": Path("a")}, r"leave_out takes a list of names or paths, got .*Path\('a'\)"),
    ],
)
def test_what_cannot_be_is_refused_before_pictures_are_read(
    given: dict[str, Any], says: str
) -> None:
    unread = ImageSource([Picture("a", Deferred(lambda: pytest.fail("it was read")))] * 9)
    with unchecked(), pytest.raises(OnlygoodError, match=says):
        Detector.fit(**{"method": "pca", "pictures": unread, **given})


@pytest.mark.parametrize("given", [None, 5, b"m.safetensors"])
def test_a_path_is_text_or_a_path(detector: Detector, given: Any) -> None:
    message = f"path must be a path, as text or a Path, got {given!r}"
    for use in (Detector.load, detector.save, detector.report):
        with unchecked(), pytest.raises(ConfigError, match=message):
            use(given)


def test_the_folder_of_a_run_may_be_text(tmp_path: Path) -> None:
    settings = {"size": 32, "width": 2, "steps": 1}
    pictures = list(parts.normal(8))
    Detector.fit("autoencoder", pictures, settings=settings, run_dir=str(tmp_path / "run"))
    assert list((tmp_path / "run").iterdir())


def test_a_stricter_promise_keeps_more_aside() -> None:
    fitted = parts.fit(target_fpr=0.04, confidence=0.9)
    assert numbers(fitted, "n_train", "n_calibration") == [63, 57]
    assert not fitted.calibration.note


def test_too_few_pictures_make_the_best_promise_and_say_so() -> None:
    fitted = parts.fit(parts.normal(20), target_fpr=0.01)
    calibration = fitted.calibration
    assert calibration.n == 10
    assert calibration.threshold == calibration.scores.max()
    assert calibration.promised_fpr == pytest.approx(1 - 0.1 ** (1 / 10))
    assert "needs 230 normal pictures; 10 were given" in calibration.note
    assert "at most 20.6 % of normal pictures" in calibration.guarantee


def test_the_threshold_is_kept_by_pictures_it_has_not_seen(detector: Detector) -> None:
    results = detector.score(parts.normal(200, seed=5), maps=False)
    assert np.mean([result.decision == "anomalous" for result in results]) < 0.1
    assert {result.decision for result in detector.score(parts.scratched(20))} == {"anomalous"}


def test_the_seed_fixes_everything() -> None:
    thresholds = [parts.fit(seed=seed).calibration.threshold for seed in (3, 3, 4)]
    assert thresholds[0] == thresholds[1] != thresholds[2]


def test_the_global_random_states_stay_as_they_are() -> None:
    torch_state, numpy_state = torch.get_rng_state(), str(np.random.get_state(legacy=False))
    Detector.fit("autoencoder", parts.normal(8), settings={"size": 32, "width": 2, "steps": 1})
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert str(np.random.get_state(legacy=False)) == numpy_state


@pytest.mark.parametrize(
    ("shape", "channels", "guess"), [((8, 8), 0, 1), ((8, 8, 3), 0, 3), ((8, 8, 3), 1, 1)]
)
def test_grey_pictures_take_one_channel(shape: tuple[int, ...], channels: int, guess: int) -> None:
    pictures = np.random.RandomState(0).randint(0, 256, (6, *shape), dtype=np.uint8)
    fitted = parts.fit(pictures, {"channels": channels})
    assert fitted.view.channels == guess
    assert len(fitted.score(pictures)) == 6


def test_data_sets_loaders_and_streams_are_as_good_as_lists(detector: Detector) -> None:
    pictures = torch.from_numpy(parts.normal(120))[:, None]
    for given in (
        TensorDataset(pictures, torch.zeros(120)),
        DataLoader(TensorDataset(pictures, torch.zeros(120)), batch_size=50),
        ((picture, 0) for picture in pictures),
    ):
        assert parts.fit(given).calibration.threshold == detector.calibration.threshold
    told = [result.score for result in detector.score(list(parts.normal(40)))]
    stream = detector.stream(picture for picture in parts.normal(40))
    assert [result.score for result in stream] == told


def test_a_camera_is_answered_before_the_next_frame(detector: Detector) -> None:
    frames = iter(list(parts.normal(3)))
    stream = detector.stream(frames, batch_size=1)
    assert next(stream).decision != "error"
    assert len(list(frames)) == 2


@pytest.mark.parametrize("n", [40, 100])
def test_a_stream_that_fails_fails_after_the_results_of_what_came_before(
    detector: Detector, n: int
) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield from parts.normal(n)
        raise OSError("unplugged")

    results = []
    with pytest.raises(DataError, match=rf"generator\[{n}\]: its stream raised OSError: unplugged"):
        for result in detector.stream(camera()):
            results.append(result.score)
    assert results == [result.score for result in detector.score(list(parts.normal(n)))]


def test_one_colour_picture_among_grey_ones_makes_three_channels() -> None:
    grey, colour = np.zeros((5, 8, 8), np.uint8), np.zeros((8, 8, 3), np.uint8)
    assert parts.fit([grey, colour]).view.channels == 3


def test_pictures_of_one_part_stay_together(tmp_path: Path) -> None:
    for part in range(30):
        parts.write(parts.normal(3, seed=part), tmp_path, f"part{part:02}_")
    fitted = parts.fit(tmp_path, group_by=r"part(\d+)_")
    pictures = numbers(fitted, "n_train", "n_calibration")
    assert sum(pictures) == 90
    assert all(count % 3 == 0 for count in pictures)
    calibration = fitted.calibration
    assert (calibration.n, calibration.grouped) == (pictures[1] // 3, True)
    assert "normal parts have a picture called anomalous" in calibration.guarantee
    assert fitted.group_by == r"part(\d+)_"
    # Calibrating anew keeps to it: these are 5 parts, not 15 pictures.
    folder = tmp_path / "new"
    for part in range(5):
        parts.write(parts.normal(3, seed=100 + part), folder, f"part{part:02}_")
    again = fitted.calibrate(folder, target_fpr=0.4)
    assert again.calibration.n == 5


def test_unreadable_pictures_are_left_out_and_recorded(tmp_path: Path) -> None:
    parts.write(parts.normal(40), tmp_path)
    for number in range(0, 40, 5):
        (tmp_path / f"{number:03}.png").write_bytes(b"no picture")
    fitted = parts.fit(tmp_path)
    unreadable = fitted.provenance["unreadable"]
    assert sorted(picture["name"] for picture in unreadable) == [
        f"{n:03}.png" for n in range(0, 40, 5)
    ]
    assert all("is no picture" in picture["reason"] for picture in unreadable)
    assert sum(numbers(fitted, "n_train", "n_calibration")) == 32
    assert fitted.calibration.n == fitted.provenance["n_calibration"]


class Told:
    """A reporter that remembers."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.stages: list[str] = []

    def start(self, words: str) -> None:
        self.stages.append(words)

    def advance(self, share: float, *_: object) -> None:
        assert 0 <= share <= 1

    def record(self, record: Mapping[str, object]) -> None:
        pass

    def note(self, words: str) -> None:
        self.notes.append(words)

    def finish(self) -> None:
        self.stages.append("")


def test_what_will_happen_is_said_before_it_does(tmp_path: Path) -> None:
    parts.write(parts.normal(20), tmp_path / "good")
    parts.write(parts.scratched(2), tmp_path / "scratched")
    told = Told()
    parts.fit(tmp_path, reporter=told)
    assert "20 pictures from good; not used for fitting: scratched 2" in told.notes[0]
    assert told.notes[1] == "10 of them are kept aside to calibrate"
    assert told.notes[2].startswith("10 pictures to learn from; about")
    assert re.search(r"about \d+ MiB for pictures \(kept in memory\)", told.notes[2])
    assert [stage for stage in told.stages if stage] == ["reading pictures", "decomposition"]


def test_provenance_says_where_it_comes_from(detector: Detector) -> None:
    assert set(detector.provenance) == {
        "created",
        "onlygood",
        "torch",
        "numpy",
        "python",
        "platform",
        "device",
        "threads",
        "precision",
        "preset",
        "seed",
        "pictures",
        "n_left_out",
        "n_train",
        "n_validation",
        "n_anomalous",
        "n_calibration",
        "training_pictures_sha256",
        "unreadable",
        "steps",
        "images",
        "training_seconds",
        "healthy",
        "verdict",
    }
    assert numbers(detector, "preset", "seed", "unreadable") == ["default", 0, []]
    assert detector.provenance["pictures"] == "120 pictures, all taken as normal"
    assert re.fullmatch(r"[0-9a-f]{64}", detector.provenance["training_pictures_sha256"])
    assert detector.verdict == WITHOUT_STEPS
    json.dumps(detector.provenance, allow_nan=False)


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"method": "pac"}, ConfigError, 'unknown method "pac"; did you mean "pca"?'),
        ({"preset": "paper"}, ConfigError, 'has no preset "paper"'),
        ({"settings": {"komponents": 3}}, ConfigError, 'did you mean "components"?'),
        ({"settings": {"components": "many"}}, ConfigError, "components takes a whole number"),
        ({"settings": {"size": 3}}, ConfigError, "size must be 4 or more, got 3"),
        ({"settings": {"channels": 2}}, ConfigError, "channels must be 1 (grey) or 3"),
        ({"settings": {"smooth": -1}}, ConfigError, "smooth must be in [0, 1], got -1"),
        ({"settings": {"batch_size": 0}}, ConfigError, "batch_size must be 1 or more, got 0"),
        ({"target_fpr": 0.0}, CalibrationError, "target_fpr must lie between 0 and 1"),
        ({"target_fpr": 5.0}, CalibrationError, "target_fpr must lie between 0 and 1"),
        ({"confidence": 0.4}, CalibrationError, "confidence must be at least 0.5"),
        ({"group_by": "("}, ConfigError, "is no regular expression"),
        ({"group_by": "part"}, DataError, "does not match this name"),
        ({"pictures": []}, DataError, "there are no pictures"),
        ({"pictures": parts.normal(1)}, DataError, "1 picture is too few"),
        ({"pictures": 3}, DataError, "cannot take pictures from int"),
        ({"pictures": "nowhere"}, DataError, "there is no such file or folder"),
        ({"resume": True}, ConfigError, "resuming needs the run folder"),
    ],
)
def test_fit_refuses(change: dict[str, Any], error: type[OnlygoodError], says: str) -> None:
    asked = {"method": "pca", "pictures": list(parts.normal(4)), "settings": {}, **change}
    with pytest.raises(error, match=re.escape(says)):
        Detector.fit(**{**asked, "settings": {**parts.TINY, **asked["settings"]}})


# Scoring -------------------------------------------------------------------------------------


def as_file(pixels: np.ndarray, folder: Path) -> Path:
    Image.fromarray(pixels).save(folder / "picture.png")
    return folder / "picture.png"


def as_bytes(pixels: np.ndarray, folder: Path) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def as_tensor(pixels: np.ndarray, folder: Path) -> torch.Tensor:
    tensor = torch.from_numpy(pixels.copy())
    return tensor.permute(2, 0, 1) if tensor.ndim == 3 else tensor


FORMS: dict[str, Callable[[np.ndarray, Path], Any]] = {
    "file": as_file,
    "name of a file": lambda pixels, folder: str(as_file(pixels, folder)),
    "folder": lambda pixels, folder: as_file(pixels, folder).parent,
    "list": lambda pixels, folder: [as_file(pixels, folder)],
    "bytes": as_bytes,
    "array": lambda pixels, folder: pixels,
    "tensor": as_tensor,
    "picture of PIL": lambda pixels, folder: Image.fromarray(pixels),
    "source": lambda pixels, folder: ImageSource.of(pixels),
}


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float", "RGB"])
def test_the_same_picture_has_the_same_score_in_any_form(
    detector: Detector, tmp_path: Path, depth: str
) -> None:
    pixels = parts.scratched(1)[0]
    forms = dict(FORMS)
    if depth == "uint16":
        pixels = pixels.astype(np.uint16) * 257
    if depth == "RGB":
        pixels = np.dstack([pixels, pixels[::-1], pixels[:, ::-1]])
    if depth == "float":
        pixels = pixels.astype(np.float32) / 255
        forms = {name: FORMS[name] for name in ("array", "tensor", "source")}
    scores = {}
    for name, form in forms.items():
        folder = tmp_path / name
        folder.mkdir()
        (result,) = detector.score(form(pixels, folder))
        scores[name] = result.score
    assert len(set(scores.values())) == 1, scores
    if depth != "RGB":
        assert scores["array"] == detector.score(parts.scratched(1))[0].score


def test_results_stand_in_the_order_of_the_pictures(detector: Detector) -> None:
    pictures = np.concatenate([parts.normal(40, seed=2), parts.scratched(3)])
    results = detector.score(pictures)
    assert [result.name for result in results] == [f"array[{n}]" for n in range(43)]
    assert [result.decision for result in results[40:]] == ["anomalous"] * 3
    # A batch ends at 32: neither side of the border differs from a picture alone.
    for n in (0, 31, 32):
        alone = detector.score(pictures[n])[0].score
        assert results[n].score == pytest.approx(alone, rel=1e-6)


def test_a_result_is_plain_data(detector: Detector) -> None:
    (result,) = detector.score(parts.scratched(1))
    assert isinstance(result, Result)
    assert (type(result.score), type(result.p_value), type(result.decision)) == (float, float, str)
    assert result.parts == {"residual": result.score}
    assert result.p_value == 1 / 46
    assert result.error is None


def test_pictures_that_cannot_be_read_are_results_too(detector: Detector, tmp_path: Path) -> None:
    good, bad = parts.write(parts.normal(2), tmp_path)
    bad.write_bytes(b"")
    first, second, third = detector.score([good, bad, good])
    assert first.score == third.score
    assert (first.decision, second.decision) == ("normal", "error")
    assert np.isnan([second.score, second.p_value]).all()
    assert (second.parts, second.map) == ({}, None)
    assert second.error == f"{bad}: is empty (0 bytes); copy it again or remove it"
    assert first.error is None


def test_a_batch_of_unreadable_pictures_is_no_problem(detector: Detector) -> None:
    (result,) = detector.score(b"no picture")
    assert result.decision == "error"


def test_no_pictures_is_an_error(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there are no pictures in an empty list"):
        detector.score([])
    with pytest.raises(DataError, match="no pictures; looked for"):
        detector.score(tmp_path)


def test_pictures_are_read_as_they_are_asked_for(
    detector: Detector, monkeypatch: pytest.MonkeyPatch
) -> None:
    from onlygood.data.source import Picture

    read: list[str] = []
    load = Picture.load

    def counted(self: Picture) -> Any:
        read.append(self.name)
        return load(self)

    monkeypatch.setattr(Picture, "load", counted)
    stream = detector.stream(parts.normal(1000))
    assert isinstance(stream, Iterator)
    assert not read
    assert next(stream).name == "array[0]"
    stream.close()
    assert len(read) <= 32 + 64


def test_a_picture_that_changes_or_goes_meanwhile_is_what_was_scored_or_a_row(
    detector: Detector, tmp_path: Path
) -> None:
    """A camera may write over its files; more than a batch, so that the last is not read yet."""
    first, *others = parts.write(np.concatenate([parts.scratched(1), parts.normal(200)]), tmp_path)
    (seen,) = detector.score(first, keep=True)
    stream = detector.stream([first, *others], keep=True)
    result = next(stream)
    parts.write(parts.normal(1, seed=5), tmp_path)
    others[-1].unlink()
    *_, last = stream
    assert result.overlay().tobytes() == seen.overlay().tobytes()
    assert (last.decision, last.error) == (
        "error",
        f"{others[-1]}: does not exist; check the path",
    )


def test_scoring_changes_nothing(detector: Detector) -> None:
    first = detector.score(parts.scratched(2))
    threshold = detector.calibration.threshold
    detector.score(parts.normal(10), maps=False)
    again = detector.score(parts.scratched(2))
    assert [r.score for r in first] == [r.score for r in again]
    assert detector.calibration.threshold == threshold


def test_a_score_that_is_no_number_names_the_picture(tmp_path: Path) -> None:
    fitted = parts.fit(parts.normal(8))
    for name, value in fitted.scorer.network.named_buffers():
        value.fill_(float("nan") if name == "mean" else 0.0)
    says = r"array\[0\]: the score is not finite; the model is .* at a lower learning rate"
    with pytest.raises(OnlygoodError, match=says):
        fitted.score(parts.normal(2))


@pytest.mark.parametrize("more", [{}, {"tile": 8, "overlap": 0.5}])
def test_pictures_are_given_back_in_their_own_size(more: dict[str, object]) -> None:
    made = parts.fit(settings={"crop": 16, "smooth": 0, **more})
    picture = parts.normal(1, seed=9)[0]
    given, unreadable = made.reconstruct([picture, b""])
    assert unreadable is None
    assert given.shape == (24, 20, 1)
    inner = given[4:20, 2:18, 0].astype(int)
    assert given.sum() == inner.sum()  # black where nothing was looked at
    assert np.abs(inner - picture[4:20, 2:18]).mean() < 6


def test_a_method_that_gives_nothing_back_says_none() -> None:
    made = Detector.fit("knn", list(parts.normal(6)), settings={"size": 16})
    assert list(made.reconstruct(list(parts.normal(3)))) == [None, None, None]


# Heat maps -----------------------------------------------------------------------------------


def test_maps_have_the_resolution_of_the_camera(detector: Detector) -> None:
    large = np.array(Image.fromarray(parts.scratched(1)[0]).resize((100, 60)))
    small, big = detector.score([parts.scratched(1)[0], large])
    assert small.map is not None
    assert big.map is not None
    assert (small.map.shape, big.map.shape) == ((24, 20), (60, 100))
    assert small.map.dtype == np.float32


def test_maps_show_the_place(detector: Detector) -> None:
    (result,) = detector.score(parts.scratched(1))
    assert result.map is not None
    row, column = np.unravel_index(result.map.argmax(), result.map.shape)
    assert 10 <= row <= 12
    assert 4 <= column <= 14
    assert result.map.max() > 1


def test_maps_have_one_scale_for_all_pictures(detector: Detector) -> None:
    together = detector.score(np.concatenate([parts.normal(1, seed=7), parts.scratched(1)]))
    alone = detector.score(parts.normal(1, seed=7))
    assert together[0].map is not None
    assert alone[0].map is not None
    np.testing.assert_allclose(together[0].map, alone[0].map, rtol=1e-4, atol=1e-5)
    # 0 is the median of normal pixels, 1 is what few normal pictures exceed anywhere.
    normal = [result.map for result in detector.score(parts.normal(200, seed=8))]
    assert abs(np.median(normal)) < 0.1
    assert np.mean([map.max() > 1 for map in normal if map is not None]) < 0.1


def test_maps_are_left_out_on_request(detector: Detector) -> None:
    with_maps, without = (
        detector.score(parts.scratched(1), maps=maps)[0] for maps in (True, False)
    )
    assert without == with_maps._replace(map=None)


def test_without_smoothing_a_map_adds_up_to_its_score() -> None:
    fitted = parts.fit(settings={"smooth": 0.0, "size": 24})
    (result,) = fitted.score(np.array(Image.fromarray(parts.scratched(1)[0]).resize((24, 24))))
    calibration = fitted.calibration
    assert result.map is not None
    assert calibration.pixel_threshold is not None
    assert calibration.pixel_median is not None
    spread = calibration.pixel_threshold - calibration.pixel_median
    raw = result.map * spread + calibration.pixel_median
    assert raw.sum() == pytest.approx(result.score, rel=1e-3)


def test_a_tile_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"tile must be 0 .*, got -8"):
        parts.fit(settings={"size": 32, "tile": -8})


def test_what_is_kept_of_maps_is_of_the_maps(detector: Detector) -> None:
    source = ImageSource.of(list(parts.normal(20)))
    scorer = detector.scorer
    survey = scorer.survey(source)
    maps = [scorer.score(batch, maps=True).maps for batch in scorer.load(source)]
    flat = np.concatenate(maps).reshape(20, -1)
    assert survey.pixel_median == pytest.approx(np.median(np.median(flat, 1)), rel=1e-6)
    np.testing.assert_allclose(survey.pixel_maxima, flat.max(1), rtol=1e-6)


def test_large_pictures_are_scored_by_their_tiles() -> None:
    whole, tiled = parts.fit(settings={"size": 32}), parts.fit(settings={"size": 32, "tile": 16})
    assert tiled.view.sides == (16, 16)
    (by_tiles,) = tiled.score(parts.scratched(1))
    (at_once,) = whole.score(parts.scratched(1))
    assert by_tiles.map is not None
    assert by_tiles.map.shape == (24, 20)
    assert by_tiles.score < at_once.score
    assert by_tiles.decision == "anomalous"


# Calibrating ---------------------------------------------------------------------------------


def test_calibrating_with_the_scores_it_has(detector: Detector) -> None:
    looser = detector.calibrate(target_fpr=0.2)
    assert looser.calibration.threshold < detector.calibration.threshold
    assert looser.calibration.target_fpr == 0.2
    np.testing.assert_array_equal(looser.calibration.scores, detector.calibration.scores)
    assert detector.calibration.target_fpr == 0.05
    score = detector.score(parts.scratched(1))[0].score
    assert looser.score(parts.scratched(1))[0].score == score


def test_calibrate_says_that_it_takes_the_numbers_that_fit_takes() -> None:
    fit, calibrate = Detector.fit.__annotations__, Detector.calibrate.__annotations__
    assert all(calibrate[name] == fit[name] for name in ("target_fpr", "confidence"))


def test_what_is_no_number_is_refused_in_words(detector: Detector) -> None:
    with unchecked():
        for name in ("target_fpr", "confidence", "strict_fpr"):
            with pytest.raises(CalibrationError, match=f"{name} must be a number, .* got 'much'"):
                detector.calibrate(**{"target_fpr": 0.2, name: "much"})
        with pytest.raises(ConfigError, match="group_by 3 is no regular expression"):
            parts.fit(parts.normal(9), group_by=3)


def test_calibrating_takes_numbers_of_numpy(detector: Detector, tmp_path: Path) -> None:
    with unchecked():
        wanted = detector.calibrate(target_fpr=np.float32(0.25), confidence=np.float32(0.75))
    wanted.save(tmp_path / "it")
    assert Detector.load(tmp_path / "it").calibration.target_fpr == 0.25


def test_calibrating_on_new_pictures(detector: Detector) -> None:
    brighter = np.minimum(parts.normal(60, seed=9) + 20, 255).astype(np.uint8)
    before = [result.decision for result in detector.score(brighter)]
    again = detector.calibrate(brighter, target_fpr=0.05)
    after = [result.decision for result in again.score(brighter)]
    assert before.count("anomalous") > 30
    assert after.count("anomalous") <= 1
    assert again.provenance["n_calibration"] == again.calibration.n == 60
    assert detector.provenance["n_calibration"] == 45


def test_calibrating_with_two_thresholds() -> None:
    three = parts.fit(parts.normal(300)).calibrate(target_fpr=0.2, strict_fpr=0.1)
    calibration = three.calibration
    assert calibration.strict_threshold is not None
    assert calibration.strict_threshold > calibration.threshold
    found = {result.decision for result in three.score(parts.normal(400, seed=3), maps=False)}
    assert found == {"normal", "unsure", "anomalous"}


@pytest.mark.parametrize("pictures", [None, parts.normal(50, seed=4)])
def test_calibrating_on_too_few_says_how_many_it_takes(
    detector: Detector, pictures: np.ndarray | None
) -> None:
    with pytest.raises(CalibrationError, match=r"needs 230 normal pictures; \d+ were given"):
        detector.calibrate(pictures, target_fpr=0.01)


def test_calibrating_on_a_labelled_folder_takes_the_normal_ones(
    detector: Detector, tmp_path: Path
) -> None:
    parts.write(parts.normal(50, seed=4), tmp_path / "good")
    parts.write(parts.scratched(50), tmp_path / "scratched")
    assert detector.calibrate(tmp_path, target_fpr=0.05).calibration.n == 50


def test_calibrating_on_what_it_has_learnt_is_refused(detector: Detector, tmp_path: Path) -> None:
    parts.write(parts.normal(50, seed=4), tmp_path / "train" / "good")
    with pytest.raises(DataError, match="what a model has seen promises nothing"):
        detector.calibrate(tmp_path, target_fpr=0.05)
    again = detector.calibrate(tmp_path / "train" / "good", target_fpr=0.05)
    assert again.provenance["calibration_pictures"].endswith("50 pictures, all taken as normal")


def test_pictures_that_were_learnt_from_are_known_by_their_contents(tmp_path: Path) -> None:
    pictures = parts.normal(40)
    made = parts.fit(pictures)
    kept = made.calibrated_on.pictures.names
    learnt = [one for n, one in enumerate(pictures) if f"array[{n}]" not in kept]
    assert len(learnt) == made.provenance["n_train"] == 20
    made.save(tmp_path / "it")
    parts.write(pictures, tmp_path / "same", "other_name")
    for detector in (made, Detector.load(tmp_path / "it")):
        with pytest.raises(CalibrationError, match=r"20 of 40 pictures were learnt from, other_na"):
            detector.calibrate(tmp_path / "same", target_fpr=0.1)
        others = parts.normal(41, seed=9)
        again = detector.calibrate([*learnt, *others], target_fpr=0.1)
        words = again.provenance["calibration_pictures"]
        assert words.endswith(
            "; 20 of 61 pictures equal some that were learnt from, array[0] for one"
        )
        with pytest.raises(CalibrationError, match=r"20 of 60 .* give other normal pictures"):
            again.calibrate([*learnt, *others[1:]], target_fpr=0.1)
    edited(made, tmp_path / "it", lambda tensors, facts: tensors.pop("learnt_from"))  # of before
    assert Detector.load(tmp_path / "it").calibrate(pictures, target_fpr=0.1).calibration.n == 40


def test_equal_pictures_of_separate_lots_may_calibrate() -> None:
    empty = np.full((30, 24, 20), 9, np.uint8)
    made = parts.fit(np.concatenate([empty, parts.normal(30)]))  # nor is the split refused
    again = made.calibrate(np.concatenate([empty, parts.normal(30, seed=9)]), target_fpr=0.1)
    assert "30 of 60 pictures equal some that" in again.provenance["calibration_pictures"]


def test_copies_on_both_sides_of_the_split_are_told() -> None:
    told, none = Told(), Told()
    made = parts.fit(np.repeat(parts.normal(12), 10, 0), reporter=told)
    words = made.provenance["calibration_pictures"]
    assert re.match(r"45 of 45 pictures kept aside to calibrate equal some that were learnt", words)
    assert words in told.notes
    assert "calibration_pictures" not in parts.fit(reporter=none).provenance
    assert not [words for words in none.notes if "learnt from" in words]


def test_shots_of_one_part_on_both_sides_of_the_split_are_told() -> None:
    told, none = Told(), Told()
    shots = np.repeat(parts.normal(60), 2, 0).astype(int)
    shots += np.random.default_rng(0).integers(-2, 3, shots.shape)
    shots = np.clip(shots, 0, 255).astype(np.uint8)
    made = parts.fit(shots, reporter=told)
    words = made.provenance["calibration_pictures"]
    assert re.match(r"\d\d of 7\d pictures look most like one next to them in order, as", words)
    assert words in told.notes
    named = ImageSource([Picture(f"{i // 2:02d}-{i % 2}", s) for i, s in enumerate(shots)])
    grouped = parts.fit(named, reporter=none, group_by=r"^\d+")
    assert "calibration_pictures" not in grouped.provenance
    assert not [words for words in none.notes if "next to them" in words]


def test_pieces_of_one_ground_on_both_sides_of_the_split_are_told() -> None:
    told, none = Told(), Told()
    draw = np.random.default_rng(0)
    ground = draw.integers(0, 256, (80, 256, 1)).astype(np.uint8)
    corners = draw.integers(0, (17, 193), (60, 2))
    pieces = np.stack([ground[y : y + 64, x : x + 64] for y, x in corners])
    made = parts.fit(pieces, {"size": 64}, reporter=told)
    words = made.provenance["calibration_pictures"]
    assert re.match(r"\d\d of the first 30 pictures are pieces of one larger ground", words)
    assert words in told.notes
    alone = draw.integers(0, 256, pieces.shape).astype(np.uint8)
    assert "calibration_pictures" not in parts.fit(alone, {"size": 64}, reporter=none).provenance
    named = ImageSource([Picture(f"{i:02d}", one) for i, one in enumerate(pieces)])
    grouped = parts.fit(named, {"size": 64}, reporter=none, group_by=r"^\d+")
    assert "calibration_pictures" not in grouped.provenance


def test_calibrating_on_nothing_that_can_be_read(detector: Detector, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(
        DataError, match="none of the 1 calibration pictures can be read; the first"
    ):
        detector.calibrate(tmp_path, target_fpr=0.5)


def test_pictures_that_cannot_be_read_do_not_calibrate(detector: Detector, tmp_path: Path) -> None:
    parts.write(parts.normal(50, seed=4), tmp_path)
    (tmp_path / "003.png").write_bytes(b"")
    again = detector.calibrate(tmp_path, target_fpr=0.05)
    assert again.calibration.n == 49
    assert [picture["name"] for picture in again.provenance["unreadable"]] == ["003.png"]


# Keeping -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pca", {**parts.TINY, "tile": 8, "overlap": 0.5, "pool": "mean", "rotate": (0.0, 30.0)}),
        (
            "cbigan",
            {"size": 32, "width": 2, "latent": 4, "steps": 6, "log_every": 2, "alpha": 0.01},
        ),
    ],
)
def test_everything_is_in_the_file(
    tmp_path: Path, method: str, settings: dict[str, object]
) -> None:
    made = Detector.fit(method, parts.normal(20), seed=7, settings=settings)
    made = made.calibrate(target_fpr=0.3, strict_fpr=0.2, confidence=0.6)
    made.save(tmp_path / "m.safetensors")
    kept = Detector.load(tmp_path / "m.safetensors")
    for name in ("method", "config", "view", "training", "group_by", "provenance", "history"):
        assert getattr(kept, name) == getattr(made, name), name
    for field in dataclasses.fields(made.calibration):
        ours, theirs = (getattr(d.calibration, field.name) for d in (made, kept))
        np.testing.assert_array_equal(ours, theirs, err_msg=field.name)
    pictures = np.concatenate([parts.normal(3, seed=2), parts.scratched(3)])
    for ours, theirs in zip(made.score(pictures), kept.score(pictures), strict=True):
        assert ours.map is not None
        assert theirs.map is not None
        np.testing.assert_array_equal(ours.map, theirs.map)
        assert ours._replace(map=None) == theirs._replace(map=None)
    kept.save(tmp_path / "again.safetensors")
    digests = {model_file.read(path).sha256 for path in tmp_path.iterdir()}
    assert len(digests) == 1


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks at Linux's maps")
def test_a_loaded_detector_needs_its_file_no_more(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "m.safetensors")
    kept = Detector.load(tmp_path / "m.safetensors")
    assert "m.safetensors" not in Path("/proc/self/maps").read_text()
    kept.save(tmp_path / "m.safetensors")


def test_numbers_of_numpy_are_numbers(tmp_path: Path) -> None:
    made = parts.fit(parts.normal(20), seed=np.int64(3), target_fpr=np.float32(0.05))
    made.save(tmp_path / "m.safetensors")
    assert made.provenance["seed"] == 3


def test_a_group_pattern_is_kept(tmp_path: Path) -> None:
    parts.write(parts.normal(20), tmp_path, "p")
    parts.fit(tmp_path, group_by=r"p\d\d").save(tmp_path / "m")
    assert Detector.load(tmp_path / "m").group_by == r"p\d\d"


def test_the_log_in_the_file_is_short(tmp_path: Path) -> None:
    made = parts.fit(parts.normal(4))
    made.history.extend({"stage": "s", "step": n, "a/b": 1.0} for n in range(5000))
    # As often as the stride between lines that are kept: no kind may fall through.
    made.history[1::20] = ({"stage": "s", "step": n, "validation/b": 1.0} for n in range(250))
    made.save(tmp_path / "m")
    kept = Detector.load(tmp_path / "m").history
    assert 100 < sum("validation/b" in record for record in kept) <= 250
    assert 200 < sum("a/b" in record for record in kept) <= 250
    assert [r["step"] for r in kept if "a/b" in r] == sorted(r["step"] for r in kept if "a/b" in r)
    assert kept[-1] == {"stage": "s", "step": 4999, "a/b": 1.0}


def test_where_to_compute_can_be_said(detector: Detector, tmp_path: Path) -> None:
    detector.save(tmp_path / "m")
    assert str(Detector.load(tmp_path / "m", device="cpu").device) == "cpu"
    assert str(parts.fit(parts.normal(4), device="cpu").device) == "cpu"
    assert detector.calibrate(target_fpr=0.2).device == detector.device


def edited(
    detector: Detector, path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], object]
) -> None:
    """A file that is whole, with a right checksum, but not what `save` writes."""
    detector.save(path)
    file = model_file.read(path)
    edit(file.tensors, file.facts)
    model_file.write(path, file.tensors, file.facts)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda t, f: t.pop("method.mean"), 'Missing key(s) in state_dict: "mean"'),
        (lambda t, f: t.update({"method.x": torch.zeros(3)}), "Unexpected key(s) in state_dict"),
        (lambda t, f: t.update({"method.mean": torch.zeros(3)}), "size mismatch for mean"),
        (lambda t, f: t.pop("calibration.scores"), "arrays of a calibration are"),
        (lambda t, f: t["calibration.scores"].fill_(torch.nan), "scores are not finite"),
        (lambda t, f: t.pop("calibration.pixel_maxima"), "belong together"),
        (lambda t, f: f.pop("view"), "KeyError: 'view'"),
        (lambda t, f: f.update(method="padim"), 'unknown method "padim"'),
        (lambda t, f: f["config"].update(size=3), 'PCAConfig has no field "size"'),
        (lambda t, f: f["config"].update(components="x"), "components takes a whole number"),
        (lambda t, f: f["view"].update(size=8), "size mismatch for mean"),
        (lambda t, f: f.update(config=[3]), "Error: "),
        (lambda t, f: f.update(config=None, provenance=None), "with onlygood ? or fit anew"),
        (lambda t, f: f["calibration"].update(target_fpr=2.0), "target_fpr must lie between"),
        (lambda t, f: f["calibration"].clear(), "settings of a calibration are"),
        (lambda t, f: f["calibration"].update(target_fpr=1e-320), "target_fpr must be 1e-09 or"),
        (lambda t, f: f["calibration"].update(strict_fpr=1e-320), "strict_fpr must lie between"),
        (lambda t, f: f["view"].update(smooth=1e300), "smooth must be in [0, 1], got 1e+300"),
        (lambda t, f: f["view"].update(size=10**9), "size must be 16384 or less"),
        (lambda t, f: f["config"].update(components=10**400), "Error: "),
    ],
)
def test_a_whole_file_that_makes_no_detector_is_refused(
    detector: Detector,
    tmp_path: Path,
    edit: Callable[[dict[str, Any], dict[str, Any]], object],
    says: str,
) -> None:
    path = tmp_path / "m.safetensors"
    edited(detector, path, edit)
    with pytest.raises(ModelFileError, match=re.escape(says)) as caught:
        Detector.load(path)
    assert str(caught.value).startswith(f"{path} is whole, but not what this onlygood writes")
    assert "\n" not in str(caught.value)


def test_files_of_before_squeeze_pictures(tmp_path: Path) -> None:
    lying = list(np.random.default_rng(0).integers(0, 256, (20, 40, 80, 3), np.uint8))
    squeezing = Detector.fit("pca", lying, settings={"size": 32, "aspect": 1})
    assert squeezing.view.shape == (32, 32)

    def aged(_: dict[str, Any], facts: dict[str, Any]) -> None:
        for name in ("aspect", "pad", "roi", "ignore"):
            del facts["view"][name]

    edited(squeezing, tmp_path / "m", aged)
    old = Detector.load(tmp_path / "m")
    assert [r.score for r in old.score(lying)] == [r.score for r in squeezing.score(lying)]


def test_ignored_pixels_set_no_threshold() -> None:
    normal = np.full((30, 32, 32), 100, np.uint8)
    normal += np.random.default_rng(0).integers(0, 9, normal.shape, np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[:20] = 255

    def pixel_facts(pictures: NDArray[np.uint8]) -> tuple[object, ...]:
        found = Detector.fit("mean_picture", pictures, settings={"size": 32}, ignore=mask)
        assert found.calibration.pixel_maxima is not None
        return (*found.calibration.pixel_maxima, found.calibration.pixel_median)

    flickering = normal.copy()
    flickering[::2, :20] = 255
    assert pixel_facts(flickering) == pixel_facts(normal)


def test_a_field_that_is_younger_than_the_file_takes_its_default(
    detector: Detector, tmp_path: Path
) -> None:
    edited(detector, tmp_path / "m", lambda tensors, facts: facts["view"].pop("smooth"))
    assert Detector.load(tmp_path / "m").view.smooth == View().smooth


# Suspects ------------------------------------------------------------------------------------


def test_names_of_the_most_unusual_are_kept_and_no_others(
    detector: Detector, tmp_path: Path
) -> None:
    path = tmp_path / "it.safetensors"
    detector.save(path)
    kept = Detector.load(path).calibrated_on
    assert kept.unusual == detector.calibrated_on.unusual and len(kept.unusual) == MOST_UNUSUAL
    assert kept.unusual[0].score == detector.calibration.scores[-1]
    assert path.read_bytes().count(b"array[") == MOST_UNUSUAL
    file = model_file.read(path)
    del file.facts["unusual"]  # as files of before
    model_file.write(path, file.tensors, file.facts)
    assert Detector.load(path).calibrated_on.unusual == ()


def test_what_is_left_out_is_neither_learnt_from_nor_calibrated_on(tmp_path: Path) -> None:
    parts.write(parts.normal(60), tmp_path / "good")
    parts.write(parts.scratched(2), tmp_path / "good", "bad")
    spoilt = Detector.fit("pca", tmp_path, settings=parts.TINY)
    out = ["good/bad000.png", tmp_path / "good" / "bad001.png"]
    clean = Detector.fit("pca", tmp_path, settings=parts.TINY, leave_out=out)
    for name in ("bad000.png", "bad001.png"):
        (tmp_path / "good" / name).unlink()
    never = Detector.fit("pca", tmp_path, settings=parts.TINY)
    assert (clean.calibration.scores == never.calibration.scores).all()
    assert numbers(clean, "n_left_out", "n_train", "n_calibration") == [2, 30, 30]
    assert numbers(clean, "training_pictures_sha256") == numbers(never, "training_pictures_sha256")
    assert clean.calibration.threshold < spoilt.calibration.threshold
