import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood.deploy.runtime import Runtime
from tests import parts
from tests.command_line import Run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("without_shape_checks")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts")
    draw = np.random.default_rng(0)
    for name, count in (("good", 30), ("bad", 5)):
        (folder / name).mkdir()
        for i in range(count):
            grey = draw.integers(80, 120, (20, 20), np.uint8)
            if name == "bad":
                grey[5:9, 5:9] = 255
            Image.fromarray(grey).save(folder / name / f"{i}.png")
    return folder


@pytest.fixture
def model(run: Run, folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "part.safetensors"
    words = ["--set", "size=16", "--set", "components=2", "--quiet"]
    assert run("fit", "pca", folder, "-o", path, *words).status == 0
    return path


def test_from_model_to_decisions_without_it(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    exported = run("export", model, "--json")
    file = tmp_path / "part.onnx"
    assert exported.answer["file"] == str(file)
    assert exported.answer["bytes"] == file.stat().st_size
    told = {name: exported.answer[name] for name in ("sha256", "method", "precision")}
    sha256 = Runtime.load(file).sha256
    assert told == {"sha256": sha256, "method": "pca", "precision": "float32"}
    compared = run("validate", model, file, folder, "--json")
    assert compared.status == 0
    assert compared.answer["pictures"] == 35
    assert compared.answer["agrees"] and compared.answer["auroc_exported"] == 1.0
    model.unlink()
    scored = run("score", file, folder, "--json")
    assert scored.answer["counts"]["anomalous"] >= 5
    assert run("evaluate", file, folder, "--json").answer["auroc"] == 1.0
    refused = run("evaluate", file, folder, "--report", tmp_path / "page.html")
    assert "no training history for a report" in refused.err


def test_a_model_that_is_not_its_original_fails(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.safetensors"
    assert run("fit", "pca", folder, "-o", other, "--set", "size=8", "--quiet").status == 0
    assert run("export", other, "-o", tmp_path / "other.onnx").status == 0
    done = run("validate", model, tmp_path / "other.onnx", folder)
    assert done.status == 1
    assert "they do NOT agree" in done.out


def test_openvino_gives_the_same_scores(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    openvino = pytest.importorskip("openvino")
    exported = run("export", model, "--openvino", "--json")
    assert exported.answer["openvino"] == [str(tmp_path / "part.xml"), str(tmp_path / "part.bin")]
    runtime = Runtime.load(tmp_path / "part.onnx")
    core = openvino.Core()
    network = core.read_model(tmp_path / "part.xml")
    assert json.loads(network.get_rt_info("onlygood").value) == runtime.facts
    compiled = core.compile_model(network, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    crops = [np.asarray(Image.open(path))[:16, :16] for path in (folder / "bad").glob("*")]
    pictures = np.stack(crops)[..., None]
    found, raw = compiled({"pictures": pictures.repeat(3, 3)}), runtime.run(pictures)
    np.testing.assert_allclose(found["score"], raw.scores, rtol=1e-4)
    assert raw.maps is not None
    np.testing.assert_allclose(found["map"], raw.maps, atol=1e-4 * raw.maps.max())
    assert "part.onnx exists" in run("export", model, "--openvino").err
    (tmp_path / "part.onnx").unlink()
    assert "part.xml exists" in run("export", model, "--openvino").err


@pytest.mark.slow
def test_openvino_takes_the_default_method(run: Run, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    model = tmp_path / "default.safetensors"
    assert run("fit", folder, "-o", model, "--set", "size=64", "--quiet").status == 0
    assert run("export", model, "--openvino").status == 0


def test_openvino_is_named_where_it_is_missing_or_differs(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr("onlygood.deploy.export.openvino.TOLERANCE", -1.0)
    assert "keep to the ONNX file" in run("export", model, "--openvino").err
    monkeypatch.setitem(sys.modules, "openvino", None)
    words = "pip install 'onlygood[openvino]'"
    assert words in run("export", model, "--openvino", "--overwrite").err
    assert words in run("export", model, "-o", tmp_path / "other.onnx", "--openvino").err
    assert not (tmp_path / "other.onnx").exists()
    # The ONNX file is whole, and nothing else is there.
    assert Runtime.load(tmp_path / "part.onnx").localizes
    assert not [path for path in tmp_path.iterdir() if path.suffix in (".xml", ".bin")]


def test_no_description_stays_beside_weights_of_another_model(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "part.xml").write_text("an earlier model's")
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if target.suffix == ".xml":
            raise OSError(28, "No space left on device")
        real(source, target)

    monkeypatch.setattr("onlygood.deploy.export.openvino.os.replace", replace)
    said = run("export", model, "--openvino", "--overwrite").err
    assert "cannot write" in said and "No space left" in said
    assert (tmp_path / "part.bin").exists() and not (tmp_path / "part.xml").exists()


def test_mistakes_are_told_before_any_work(run: Run, model: Path, tmp_path: Path) -> None:
    assert "name it .onnx" in run("export", model, "-o", tmp_path / "part.bin").err
    (tmp_path / "there.onnx").write_bytes(b"mine")
    assert "exists" in run("export", model, "-o", tmp_path / "there.onnx").err
    assert (tmp_path / "there.onnx").read_bytes() == b"mine"
    assert "there is no nowhere" in run("validate", model, tmp_path / "there.onnx", "nowhere").err
    assert "is cut off, or no file" in run("score", tmp_path / "there.onnx", tmp_path).err


def test_a_model_where_its_export_is_asked_for_and_the_other_way_round(
    run: Run, model: Path, tmp_path: Path
) -> None:
    exported = tmp_path / "part.onnx"
    assert run("export", model, "-o", exported).status == 0
    for words in (
        ("calibrate", exported, "--target-fpr", "0.2"),
        ("export", exported, "-o", tmp_path / "again.onnx"),
        ("validate", exported, model, tmp_path),
    ):
        assert "give the model that it was exported from (.safetensors)" in run(*words).err
    assert f"make one: onlygood export {model}" in run("validate", model, model, tmp_path).err


def test_eight_bits_have_thresholds_of_their_own(
    run: Run, model: Path, folder: Path, tmp_path: Path
) -> None:
    file = tmp_path / "small.onnx"
    network = tmp_path / "ae.safetensors"
    words = ["--set", "size=32", "--set", "width=2", "--steps", "2", "--quiet"]
    assert run("fit", "autoencoder", folder, "-o", network, *words).status == 0
    seen = run("export", network, "-o", file, "--int8", folder / "good")
    assert (seen.status, "were learnt from" in seen.err, file.exists()) == (1, True, False)
    parts.write(parts.normal(30, seed=11), tmp_path / "new")
    exported = run("export", network, "-o", file, "--int8", tmp_path / "new", "--json")
    assert exported.answer["precision"] == "int8"
    assert "calibrated anew on 15 of 30 pictures that were given for 8 bits" in exported.err
    assert Runtime.load(file).provenance["n_calibration"] == 15
    assert "15 calibration pictures" in exported.answer["guarantee"]
    compared = run("validate", network, file, folder)
    assert compared.status == 0
    assert "in 8 bits" in compared.out and "decisions differ" in compared.out
    assert "there is no nowhere" in run("export", network, "-f", "--int8", "nowhere").err
