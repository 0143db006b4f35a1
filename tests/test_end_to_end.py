"""The way through the product that its users go, on made-up parts, with the real command line."""

import csv
import gzip
import json
import subprocess
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from onlygood import Detector
from onlygood.cli import main
from onlygood.methods import METHODS
from tests import parts
from tests.command_line import Run

PCA = [f"--set={name}={value}" for name, value in parts.TINY.items()]
CBIGAN = ["--set=size=32", "--set=width=2", "--set=latent=4", "--set=batch_size=4", "--steps=3"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MVTec layout: 60 pictures to learn from, 12 normal and 6 scratched ones with masks."""
    root = tmp_path_factory.mktemp("nuts")
    parts.write(parts.normal(60), root / "train" / "good")
    parts.write(parts.normal(12, seed=5), root / "test" / "good")
    mask = np.zeros((24, 20), np.uint8)
    mask[10:13, 4:15] = 255
    for path in parts.write(parts.scratched(6), root / "test" / "scratch"):
        truth = root / "ground_truth" / "scratch" / f"{path.stem}_mask.png"
        truth.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(truth)
    return root


@pytest.fixture(scope="module")
def fitted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of `pca` and `cbigan`, made by the command line."""
    folder = tmp_path_factory.mktemp("models")
    for method, settings in (("pca", PCA), ("cbigan", CBIGAN)):
        words = ["fit", method, str(data), "-o", str(folder / f"{method}.safetensors"), "-q"]
        assert main([*words, "--seed", "3", *settings]) == 0
    return folder


def model(folder: Path, method: str = "pca") -> Path:
    return folder / f"{method}.safetensors"


# fit -----------------------------------------------------------------------------------------


def test_a_fit_leaves_a_model_and_a_report(fitted: Path) -> None:
    assert sorted(path.name for path in fitted.iterdir()) == [
        "cbigan.html",
        "cbigan.safetensors",
        "pca.html",
        "pca.safetensors",
    ]
    for method in ("pca", "cbigan"):
        detector = Detector.load(model(fitted, method))
        assert (detector.method, detector.provenance["seed"]) == (method, 3)
        assert detector.provenance["n_train"] + detector.provenance["n_calibration"] == 60
    assert detector.provenance["steps"] == 3
    assert detector.config.width == 2


@pytest.mark.parametrize(("method", "settings"), [("pca", PCA), ("cbigan", CBIGAN)])
def test_fit_in_json(
    run: Run, data: Path, tmp_path: Path, method: str, settings: Sequence[str]
) -> None:
    done = run("fit", method, data, "-o", tmp_path / "m", "--seed", 4, "--json", *settings)
    assert done.status == 0, done.err
    answer = done.answer
    assert set(answer) == {
        "model",
        "method",
        "preset",
        "seed",
        "report",
        "threshold",
        "target_fpr",
        "confidence",
        "promised_fpr",
        "n_calibration",
        "guarantee",
        "note",
        "most_unusual",
        "verdict",
        "provenance",
    }
    assert (answer["method"], answer["preset"], answer["seed"]) == (method, "default", 4)
    assert "taken as an MVTec layout, 60 pictures from train/good" in done.err
    assert answer["threshold"] == Detector.load(tmp_path / "m").calibration.threshold


def test_words_are_not_folded(
    run: Run, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    done = run("fit", "pca", data, "-o", tmp_path / "m", *PCA)
    assert f"{data}: taken as an MVTec layout, 60 pictures from train/good" in done.err
    assert done.out.startswith(f"{tmp_path / 'm'}: at most")
    assert f"\nreport: {tmp_path / 'm.html'}\n" in done.out


def test_the_default_is_reflect(run: Run, data: Path, tmp_path: Path) -> None:
    done = run("fit", data, "-o", tmp_path / "m.safetensors", "--no-report")
    assert done.status == 0, done.err
    assert done.out.startswith(f"{tmp_path / 'm.safetensors'}: at most 7.39 % of normal pictures")
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]
    detector = Detector.load(tmp_path / "m.safetensors")
    # These pictures are tiny, and `size=0` sees to it.
    assert (detector.method, detector.view.size) == ("reflect", 48)


def test_settings_come_from_a_file_too(run: Run, data: Path, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text('method = "pca"\nsize = 16\ncomponents = 7\nsmooth = 0\n')
    words = ["--config", tmp_path / "run.toml", "--set", "components=3", "--no-report"]
    assert run("fit", data, "-o", tmp_path / "m", *words).status == 0
    detector = Detector.load(tmp_path / "m")
    assert (detector.method, detector.config.components) == ("pca", 3)
    assert (detector.view.size, detector.view.smooth) == (16, 0)


def test_the_same_seed_gives_the_same_model(run: Run, data: Path, tmp_path: Path) -> None:
    thresholds = [
        run("fit", "cbigan", data, "-o", tmp_path / f"m{n}", "--seed", seed, "--json", *CBIGAN)
        for n, seed in enumerate((1, 1, 2))
    ]
    first, second, third = (done.answer["threshold"] for done in thresholds)
    assert first == second != third


class Links(HTMLParser):
    """Everything that a page would load or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script":
            self.found.append(tag)
        self.found += [
            value or ""
            for name, value in attrs
            if name in ("src", "href") and not (value or "").startswith(("data:", "#"))
        ]


@pytest.mark.parametrize("method", ["pca", "cbigan"])
def test_the_report_works_offline(fitted: Path, method: str) -> None:
    html = (fitted / f"{method}.html").read_text(encoding="utf-8")
    links = Links()
    links.feed(html)
    assert not links.found
    assert "normal pictures are called anomalous" in html
    assert ("consistency_x" in html) == (method == "cbigan")


# score ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pca", "cbigan"])
def test_score_in_json(run: Run, fitted: Path, data: Path, method: str) -> None:
    done = run("score", model(fitted, method), data / "test", "--json")
    assert done.status == 0, done.err
    results = done.answer["results"]
    assert len(results) == 18
    for row in results:
        assert set(row) == {
            *("path", "score", "threshold", "times_threshold"),
            *("p_value", "decision", "error", "parts"),
        }
        assert row["decision"] in ("normal", "anomalous")
        assert 0 < row["p_value"] <= 1
    assert results[0]["path"] == str(data / "test" / "good" / "000.png")
    # From Python it is the same.
    told = Detector.load(model(fitted, method)).score(data / "test", maps=False)
    assert [row["score"] for row in results] == [result.score for result in told]


def test_score_finds_the_scratches(run: Run, fitted: Path, data: Path) -> None:
    done = run("score", model(fitted), data / "test")
    lines = [line for line in done.out.splitlines() if ".png" in line]
    assert all("scratch" in line and "anomalous" in line for line in lines[:6])
    assert "18 pictures: " in done.out
    assert "with 90 % confidence" in done.err


@pytest.mark.parametrize("suffix", ["csv", "json", "parquet"])
def test_scores_are_written(
    run: Run, fitted: Path, data: Path, tmp_path: Path, suffix: str
) -> None:
    path, maps = tmp_path / f"scores.{suffix}", tmp_path / "maps"
    scratches = data / "test" / "scratch"
    done = run("score", model(fitted), scratches, "-o", path, "--maps", maps, "--json")
    assert done.status == 0, done.err
    if suffix == "csv":
        with path.open(encoding="utf-8", newline="") as file:
            rows: list[dict[str, Any]] = list(csv.DictReader(file))
    elif suffix == "json":
        rows = json.loads(path.read_text(encoding="utf-8"))["results"]
    else:
        rows = parquet.read_table(path).to_pylist()
    for row, told in zip(rows, done.answer["results"], strict=True):
        assert float(row["score"]) == told["score"]
        assert float(row["p_value"]) == told["p_value"]
        assert (row["path"], row["decision"]) == (told["path"], told["decision"])
        part = row["parts"]["residual"] if suffix == "json" else row["part_residual"]
        assert float(part) == told["parts"]["residual"]
        assert row["map"] == told["map"]
        with Image.open(row["map"]) as image:
            assert image.size == (20, 24)
    assert len(list(maps.iterdir())) == 6


@pytest.mark.parametrize(
    ("pictures", "flag", "status"),
    [
        ("test/scratch", "--fail-on-anomaly", 2),
        ("test/scratch", "--quiet", 0),
        ("train/good/000.png", "--fail-on-anomaly", 0),
    ],
)
def test_the_exit_status_can_tell(
    run: Run, fitted: Path, data: Path, pictures: str, flag: str, status: int
) -> None:
    assert run("score", model(fitted), data / pictures, flag).status == status


# evaluate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pca", "cbigan"])
def test_evaluate_in_json(run: Run, fitted: Path, data: Path, method: str) -> None:
    done = run("evaluate", model(fitted, method), data, "--json")
    assert done.status == 0, done.err
    answer = done.answer
    assert set(answer) >= {
        "auroc",
        "average_precision",
        "max_balanced_accuracy",
        "false_positive_rate",
        "true_positive_rate",
        "threshold",
        "parts",
        "pixel_auroc",
        "aupro",
        "n_normal",
        "n_anomalous",
        "images_per_second",
    }
    assert (answer["n_normal"], answer["n_anomalous"]) == (12, 6)
    assert set(answer["parts"]) == {"pca": {"residual"}, "cbigan": {"pixels", "features"}}[method]
    assert 0 <= answer["pixel_auroc"] <= 1
    if method == "pca":
        assert answer["auroc"] == answer["true_positive_rate"] == 1
        assert answer["pixel_auroc"] > 0.9


def test_evaluate_shows_and_reports(run: Run, fitted: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "new" / "r.html"
    done = run("evaluate", model(fitted), data / "test", "--report", report)
    assert done.status == 0, done.err
    assert "pixel AUROC" in done.out
    assert "AUROC of part residual" in done.out
    html = report.read_text(encoding="utf-8")
    assert "scratch/000.png" in html
    assert html.count("data:image/") > 18


# calibrate -----------------------------------------------------------------------------------


def test_calibrate_with_what_is_in_the_model(
    run: Run, fitted: Path, data: Path, tmp_path: Path
) -> None:
    other = tmp_path / "m2"
    words = ["--target-fpr", 0.3, "--strict-fpr", 0.15, "--confidence", 0.8]
    done = run("calibrate", model(fitted), *words, "-o", other, "--json")
    assert done.status == 0, done.err
    answer = done.answer
    before, after = (Detector.load(path).calibration for path in (model(fitted), other))
    assert (answer["previous_threshold"], answer["threshold"]) == (
        before.threshold,
        after.threshold,
    )
    assert (after.target_fpr, after.strict_fpr, after.confidence) == (0.3, 0.15, 0.8)
    assert "called unsure or anomalous" in answer["guarantee"]
    results = run("score", other, data / "train", "--json").answer["results"]
    assert {row["decision"] for row in results} == {"normal", "unsure", "anomalous"}


def test_calibrate_on_a_folder_in_place(run: Run, fitted: Path, data: Path, tmp_path: Path) -> None:
    own = tmp_path / "m"
    own.write_bytes(model(fitted).read_bytes())
    # What is there to fit on beside a test has been seen.
    assert "promises nothing" in run("calibrate", own, data, "--target-fpr", 0.1).err
    parts.write(parts.normal(60, seed=6), tmp_path / "others")
    done = run("calibrate", own, tmp_path / "others", "--target-fpr", 0.1, "--json")
    assert done.status == 0, done.err
    assert (done.answer["model"], done.answer["n_calibration"]) == (str(own), 60)
    assert Detector.load(own).calibration.target_fpr == 0.1


# The other verbs -----------------------------------------------------------------------------


def test_methods(run: Run) -> None:
    assert [entry["name"] for entry in run("methods", "--json").answer["methods"]] == list(METHODS)
    assert "arXiv:2011.08102" in run("methods", "cbigan").out


def test_doctor(run: Run) -> None:
    done = run("doctor", "--json")
    assert done.status == 0
    assert {"python", "versions", "cores", "bf16", "extras", "datasets"} <= set(done.answer)
    assert "processor cores" in run("doctor").out


def idx(array: np.ndarray) -> bytes:
    """The format of MNIST."""
    shape = b"".join(side.to_bytes(4, "big") for side in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + shape + array.tobytes())


def test_from_a_known_data_set_to_its_figures(run: Run, tmp_path: Path) -> None:
    source, folder = tmp_path / "original", tmp_path / "fashion"
    source.mkdir()
    for part in ("train", "t10k"):
        pictures = np.concatenate([parts.normal(20), parts.scratched(20)])[:, :20, :20]
        (source / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(pictures))
        labels = np.repeat(np.array([0, 7], np.uint8), 20)
        (source / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
    done = run("data", "fashion-mnist-0", folder, "--source", source, "--json")
    assert done.status == 0, done.err
    counts = [done.answer[name] for name in ("train", "test_normal", "test_anomalous")]
    assert counts == [20, 20, 20]
    assert run("fit", "pca", folder, "-o", tmp_path / "m", *PCA).status == 0
    assert run("evaluate", tmp_path / "m", folder, "--json").answer["auroc"] > 0.9


@pytest.mark.slow
def test_as_a_program_of_its_own(fitted: Path, data: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "onlygood.cli", "score", model(fitted)]
    words = [data / "test" / "scratch", "--fail-on-anomaly", "--json"]
    done = subprocess.run([*map(str, command), *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 2
    assert len(json.loads(done.stdout)["results"]) == 6
    speed, promise = done.stderr.splitlines()
    assert speed.endswith("pictures a second")
    assert promise.startswith("at most")
