"""A detector that needs no training, in the place of the real one."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from PIL import Image

from onlygood import tracking
from onlygood.core.errors import ModelFileError
from onlygood.decision.calibration import Calibration

assert tracking  # Imported before fakes take the place of what it needs.


class Result(NamedTuple):
    name: str
    score: float
    p_value: float
    decision: str
    parts: dict[str, float]
    map: np.ndarray | None
    error: str | None
    picture: np.ndarray | None = None


class Unusual(NamedTuple):
    name: str
    score: float


class FakeDetector:
    """Calls pictures by what their names say; remembers how it was made and asked."""

    asked: ClassVar[list[tuple[str, dict[str, Any]]]] = []
    method = "cbigan"
    localizes = True
    verdict = "training went well"
    provenance: ClassVar[dict[str, Any]] = {"seed": 3, "calibration_pictures": "two pictures"}
    failure: ClassVar[BaseException | None] = None
    calibrated_on = SimpleNamespace(unusual=(Unusual("b.png", 198.5),))

    strict_fpr: ClassVar[float | None] = None

    def __init__(self) -> None:
        self.calibration = Calibration.fit(np.arange(200.0), strict_fpr=self.strict_fpr)

    @classmethod
    def fit(cls, method: str, pictures: Path, **options: Any) -> "FakeDetector":
        cls.asked.append(("fit", {"method": method, "pictures": pictures, **options}))
        if cls.failure is not None:
            raise cls.failure
        return cls()

    @classmethod
    def load(cls, path: Path) -> "FakeDetector":
        if not Path(path).exists():
            raise ModelFileError(f"there is no model {path}")
        return cls()

    def save(self, path: Path) -> None:
        self.asked.append(("save", {"path": path}))
        Path(path).write_text("model")

    def calibrate(self, pictures: Path | None = None, **options: Any) -> "FakeDetector":
        self.asked.append(("calibrate", {"pictures": pictures, **options}))
        other = FakeDetector()
        other.calibration = self.calibration.with_target(**options)
        return other

    def stream(
        self, pictures: Sequence[Any], *, maps: bool = False, keep: bool = False
    ) -> Iterator[Result]:
        for picture in pictures:
            if "interrupt" in picture.name:
                raise KeyboardInterrupt
            if "broken" in picture.name:
                nan = float("nan")
                yield Result(picture.name, nan, nan, "error", {}, None, "is damaged")
                continue
            known = {"scratch": 500.0, "doubt": 195.5}
            score = next((known[word] for word in known if word in picture.name), 1.0)
            p_value = float(self.calibration.p_values(score))
            decision = str(self.calibration.decide(score))
            level = 1.5 if "stain" in picture.name else score / 250
            map = np.full((6, 8), level, np.float32) * (np.arange(8) < 4) if maps else None
            parts = {"pixels": score / 2}
            whole = picture.load() if keep else None
            yield Result(picture.name, score, p_value, decision, parts, map, None, whole)


class FakeEvaluation:
    results: ClassVar[list[Result]] = []

    def to_json(self) -> dict[str, Any]:
        return {
            "auroc": 0.9,
            "average_precision": 0.8,
            "max_balanced_accuracy": 0.85,
            "false_positive_rate": 0.04,
            "true_positive_rate": 0.7,
            "threshold": 194.0,
            "promise": {
                "promised": 0.02771,
                "broken": False,
                "words": "that agrees with the promise",
                "advice": "",
            },
            "parts": {"pixels": 0.9},
            "kinds": {
                "hole": {"n": 1, "found": 0, "auroc": 0.8},
                "cut": {"n": 1, "found": 1, "auroc": 1.0},
            },
            "pixel_auroc": None,
            "aupro": None,
            "n_normal": 3,
            "n_anomalous": 2,
            "images_per_second": 12.0,
            "words": "1 of 2 anomalous pictures is found",
        }


def _module(name: str, **content: object) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _write_report(content: object, path: Path) -> None:
    path.write_text(str(content))


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeDetector]:
    """Puts the fake where the verbs look for the real one."""
    monkeypatch.setattr(FakeDetector, "asked", [])
    monkeypatch.setattr(FakeDetector, "failure", None)
    for module in (
        _module("onlygood.detector", Detector=FakeDetector, Result=Result),
        _module(
            "onlygood.evaluation.evaluate",
            evaluate=lambda *_: FakeEvaluation(),
            labelled_pictures=lambda _: SimpleNamespace(
                description="how the folder was understood"
            ),
        ),
        _module("onlygood.report.page", write_report=_write_report),
        _module(
            "onlygood.report.filling",
            fit_report=lambda _: "fitted",
            evaluation_report=lambda *_: "evaluated",
        ),
    ):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return FakeDetector


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """A folder with two normal pictures."""
    folder = tmp_path / "good"
    folder.mkdir()
    picture(folder / "a.png")
    picture(folder / "b.png")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model file, as far as the fake is concerned."""
    path = tmp_path / "m.safetensors"
    path.write_text("model")
    return path


def picture(path: Path) -> Path:
    """Writes a grey picture of 8 x 6 pixels."""
    Image.new("L", (8, 6), 100).save(path)
    return path
