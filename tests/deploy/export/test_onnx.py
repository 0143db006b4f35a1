"""One export of a small detector; that every method exports is in the family contract."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from onlygood import Detector, ImageSource
from onlygood.core.errors import ConfigError, DataError, ModelFileError
from onlygood.deploy.export import export, validate
from onlygood.deploy.export import onnx as exporting
from onlygood.deploy.export.onnx import _compact
from onlygood.deploy.export.validate import compare, size_of_map
from onlygood.deploy.runtime import Runtime, file
from onlygood.methods.reflect import whole_mean
from onlygood.result import Result

RNG = np.random.default_rng(0)


class Scene(NamedTuple):
    detector: Detector
    path: Path
    runtime: Runtime
    folder: Path
    """`good` and `other`, with a file that is no picture."""


def stripes(seed: int, defect: bool = False) -> Image.Image:
    draw = np.random.default_rng(seed)
    grey = 128 + 60 * np.sin(np.arange(40) / 3)[:, None] * np.ones(50)
    pixels = grey[..., None] + draw.normal(0, 6, (40, 50, 3))
    if defect:
        pixels[10:20, 10:20] = 255
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, without_shape_checks: None) -> Scene:
    folder = tmp_path_factory.mktemp("export")
    for name, count, defect in (("good", 24, False), ("other", 8, True)):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(count):
            stripes(100 * defect + i, defect).save(folder / "data" / name / f"{i:02}.png")
    (folder / "data" / "good" / "broken.png").write_bytes(b"no picture")
    normal = [np.asarray(stripes(1000 + i)) for i in range(40)]
    detector = Detector.fit("pca", normal, settings={"size": 16, "components": 3})
    path = folder / "it.onnx"
    export(detector, path)
    return Scene(detector, path, Runtime.load(path, threads=1), folder / "data")


def test_it_says_what_the_detector_says(scene: Scene) -> None:
    ours, theirs = scene.detector.score(scene.folder), scene.runtime.score(scene.folder)
    assert [r.name for r in ours] == [r.name for r in theirs]
    assert [r.decision for r in ours] == [r.decision for r in theirs]
    assert [r.error for r in ours] == [r.error for r in theirs]
    for a, b in zip(ours, theirs, strict=True):
        assert b.score == pytest.approx(a.score, rel=1e-5, nan_ok=True)
        assert b.p_value == pytest.approx(a.p_value, nan_ok=True)
        assert b.parts == pytest.approx(a.parts, rel=1e-5)
        assert (a.map is None) == (b.map is None) == (a.error is not None)
        if a.map is not None and b.map is not None:
            np.testing.assert_allclose(a.map, b.map, rtol=1e-4, atol=1e-4)


def test_a_method_that_searches_is_refused_at_once(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(scene.detector.scorer.network), "searches", True)
    with pytest.raises(ConfigError, match='method "pca" takes gradient steps for each picture'):
        export(scene.detector, tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


def test_what_no_file_may_have_is_refused_at_once(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "SIDES", range(4, 16))
    with pytest.raises(ConfigError, match="sees pictures of size 16, and an exported file at most"):
        export(scene.detector, tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


def test_the_comparison_says_so_in_words_and_numbers(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validate, "PART", 10)  # of 33
    agreement = compare(scene.detector, scene.runtime, scene.folder)
    assert agreement.agrees
    assert agreement.words == "they agree on 32 pictures"
    assert agreement.auroc == agreement.auroc_exported == 1.0
    assert 0 < agreement.latency_ms <= agreement.latency_p95_ms
    assert (
        f"at most {agreement.latency_p95_ms_exported:.1f} ms"
        in dict(agreement.rows())["one picture, exported"]
    )
    assert json.dumps(agreement.to_json())


def test_each_has_its_own_speed(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def taking(scorer: Any, pace: float) -> None:
        score, singles = scorer.score, iter([1000, *range(1, 30)])

        def slowly(self: Any, pictures: ImageSource) -> Any:
            nonlocal now
            assert len(pictures) > 1 or "broken" not in pictures.names[0]
            now += pace * (next(singles) if len(pictures) == 1 else 10 * len(pictures))
            return score(self, pictures)

        monkeypatch.setattr(scorer, "score", slowly)

    monkeypatch.setattr(validate, "time", SimpleNamespace(perf_counter=lambda: now))
    taking(Detector, 0.001)
    taking(Runtime, 0.002)
    found = compare(scene.detector, scene.runtime, scene.folder)
    rates = found.images_per_second, found.images_per_second_exported
    assert rates == pytest.approx((100.0, 50.0))
    # Of 1, 2, ... 29 units: the first one warms up.
    assert (found.latency_ms, found.latency_p95_ms) == pytest.approx((15.0, 27.6))
    exported = found.latency_ms_exported, found.latency_p95_ms_exported
    assert exported == pytest.approx((30.0, 55.2))
    rows = dict(found.rows())
    assert (rows["images/s, original"], rows["images/s, exported"]) == ("100.0", "50.0")


def saying(monkeypatch: pytest.MonkeyPatch, scorer: Any, say: Callable[[Result], Result]) -> None:
    """Let a scorer say something else of each picture that can be read."""
    score = scorer.score

    def said(self: Any, *pictures: Any) -> list[Result]:
        return [r if r.error else say(r) for r in score(self, *pictures)]

    monkeypatch.setattr(scorer, "score", said)


def test_scores_are_compared_with_the_threshold_where_that_is_larger(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    shift = 0.1 * scene.detector.calibration.threshold
    saying(monkeypatch, Runtime, lambda r: r._replace(score=r.score + shift))
    agreement = compare(scene.detector, scene.runtime, scene.folder)
    assert agreement.score_difference == pytest.approx(0.1, rel=1e-3)
    assert not agreement.agrees and not agreement.decisions_differ


def test_each_has_its_own_auroc(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, Runtime, lambda r: r._replace(score=-r.score))
    agreement = compare(scene.detector, scene.runtime, scene.folder)
    assert (agreement.auroc, agreement.auroc_exported) == (1.0, 0.0)
    assert dict(agreement.rows())["AUROC, exported"] == "0.0000"


@pytest.mark.parametrize(("factor", "agrees"), [(1.0, True), (1.00005, True), (1.001, False)])
def test_decisions_may_differ_on_the_threshold_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, factor: float, agrees: bool
) -> None:
    score = factor * scene.detector.calibration.threshold
    saying(monkeypatch, Detector, lambda r: r._replace(score=score, decision="normal"))
    saying(monkeypatch, Runtime, lambda r: r._replace(score=score, decision="anomalous"))
    agreement = compare(scene.detector, scene.runtime, scene.folder)
    assert agreement.agrees == agrees
    on_it, others = agreement.on_the_threshold, agreement.decisions_differ
    assert (len(on_it), len(others)) == ((32, 0) if agrees else (0, 32))
    assert dict(agreement.rows()).get("scores on the threshold itself") == (
        "32" if agrees else None
    )


def test_they_may_differ_on_either_threshold(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    three = scene.detector.calibrate(target_fpr=0.3, confidence=0.6, strict_fpr=0.2)
    score = three.calibration.strict_threshold
    assert score != three.calibration.threshold
    saying(monkeypatch, Detector, lambda r: r._replace(score=score, decision="unsure"))
    saying(monkeypatch, Runtime, lambda r: r._replace(score=score, decision="anomalous"))
    agreement = compare(three, scene.runtime, scene.folder)
    assert (len(agreement.on_the_threshold), agreement.decisions_differ) == (32, [])


def test_one_picture_without_a_label_is_compared_and_none_is_refused(
    scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"none of the 1 pictures in .* can be read"):
        compare(scene.detector, scene.runtime, tmp_path)
    stripes(1).save(tmp_path / "whole.png")
    agreement = compare(scene.detector, scene.runtime, tmp_path)
    assert (agreement.pictures, agreement.auroc, agreement.auroc_exported) == (1, None, None)
    assert agreement.agrees and agreement.latency_ms > 0


def test_another_model_is_told_apart(scene: Scene) -> None:
    normal = [np.asarray(stripes(2000 + i)) for i in range(40)]
    other = Detector.fit("pca", normal, settings={"size": 16, "components": 2})
    agreement = compare(other, scene.runtime, scene.folder)
    assert not agreement.agrees
    assert "they do NOT agree" in agreement.words


def test_maps_are_compared_as_the_method_gave_them(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    calibration, score = scene.detector.calibration, Runtime.score
    median, threshold = calibration.pixel_median, calibration.pixel_threshold
    assert median is not None
    assert threshold is not None
    span = threshold - median

    def shifted(self: Runtime, *pictures: Any) -> Any:
        found = score(self, *pictures)
        return [
            r if r.map is None else r._replace(map=r.map + 0.1 * threshold / span) for r in found
        ]

    monkeypatch.setattr(Runtime, "score", shifted)
    found = compare(scene.detector, scene.runtime, scene.folder).map_difference
    maxima = [r.map.max() for r in scene.detector.score(scene.folder) if r.map is not None]
    smallest = max(threshold, median + span * min(maxima))
    assert found == pytest.approx(0.1 * threshold / smallest, rel=1e-3)


@pytest.mark.parametrize(
    ("median", "threshold", "largest", "size"),
    [
        *(
            (3.0, 4.0, 0.5, 4.0),
            (3.0, 4.0, 2.0, 5.0),
            (-3.0, -2.5, 0.5, 5.0),
            (-1.0, 1.0, 0.5, 1.0),
        ),
        *((2.0, 2.0, 2.0, 2.0), (2.0, 2.0, 0.0, 1.0)),
    ],
)
def test_the_size_of_a_map(median: float, threshold: float, largest: float, size: float) -> None:
    assert size_of_map(largest, median, threshold) == size
    assert size_of_map(largest, None, None) == max(1.0, largest)


@pytest.mark.parametrize("place", [0, 1])
@pytest.mark.parametrize("missing", [False, True])
def test_maps_that_are_no_numbers_or_not_there_do_not_agree(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, place: int, missing: bool
) -> None:
    score = Runtime.score

    def spoiling(self: Runtime, *pictures: Any) -> Any:
        found = list(score(self, *pictures))
        at = min(place, len(found) - 1)
        like = found[at].map
        heat = None if missing or like is None else np.full_like(like, np.nan)
        found[at] = found[at]._replace(map=heat)
        return found

    monkeypatch.setattr(Runtime, "score", spoiling)
    assert not compare(scene.detector, scene.runtime, scene.folder).agrees


def test_any_onnx_runtime_can_use_it_with_pictures_of_any_size(scene: Scene) -> None:
    session = onnxruntime.InferenceSession(scene.path, providers=["CPUExecutionProvider"])
    pictures = np.stack([np.asarray(stripes(i)) for i in range(3)])
    score, p_value, heat = session.run(["score", "p_value", "map"], {"pictures": pictures})
    expected = scene.detector.score(list(pictures))
    assert score == pytest.approx([r.score for r in expected], rel=1e-5)
    assert p_value == pytest.approx([r.p_value for r in expected])
    assert heat.shape == (3, 16, 16)


def test_it_is_valid_and_knows_nothing_of_the_machine_that_made_it(scene: Scene) -> None:
    model = onnx.load(scene.path)
    onnx.checker.check_model(model, full_check=True)
    assert b"site-packages" not in scene.path.read_bytes()
    assert str(Path.cwd()).encode() not in scene.path.read_bytes()
    assert [entry.key for entry in model.metadata_props] == ["onlygood", "sha256"]


def test_large_constants_take_the_fewest_bits_that_give_them_back() -> None:
    draw = np.random.default_rng(0)
    lower = np.tril(np.ones((65, 65), bool))
    whole = draw.integers(1, 100, (2, 65, 65)).astype(np.float32)
    constants = {
        "small": whole[:1, :64, :64].reshape(-1)[:4095],
        "half": whole,
        "full": whole + np.float32(1e-5),
        "beyond": whole * 1000,
        "triangles": (whole + np.float32(1e-5)) * lower,
        "half_triangles": whole * lower,
        "band": whole * np.tril(np.ones((65, 65), bool), 1),
        "wide": whole[:, :64] * lower[:64],
    }
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", [name], [f"{name}_out"]) for name in constants],
        "graph",
        [],
        [onnx.helper.make_tensor_value_info(f"{n}_out", 1, v.shape) for n, v in constants.items()],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    _compact(graph)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    for found, expected in zip(session.run(None, {}), constants.values(), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, expected)
    full, half = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16
    kept = {each.name: (each.data_type, tuple(each.dims)) for each in graph.initializer}
    packed = 65 * 66 // 2 + 1
    assert {name: form for name, form in kept.items() if "places" not in name} == {
        "small": (full, (4095,)),
        "half_16": (half, (2, 65, 65)),
        "full": (full, (2, 65, 65)),
        "beyond": (full, (2, 65, 65)),
        "triangles_packed": (full, (2, packed)),
        "half_triangles_16": (half, (2, packed)),
        "band_16": (half, (2, 65, 65)),
        "wide_16": (half, (2, 64, 65)),
    }


def test_a_file_that_no_reader_could_take_is_not_written(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, model = SimpleNamespace(terms=["it"]), onnx.load(scene.path)
    monkeypatch.setattr(exporting, "translated", lambda *_: (graph, model))
    monkeypatch.setattr(file, "LARGEST", model.ByteSize())  # and the facts come on top
    with pytest.raises(ModelFileError, match="an ONNX file at most 2; fit with fewer pictures"):
        export(scene.detector, tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


def test_triangles_are_kept_without_their_zeros(tmp_path: Path) -> None:
    normal = [np.asarray(stripes(i)) for i in range(30)]
    # 2 x 2 positions with 152 features each.
    detector = Detector.fit("gaussian", normal, settings={"size": 16})
    path = tmp_path / "it.onnx"
    export(detector, path)
    shapes = [tuple(constant.dims) for constant in onnx.load(path).graph.initializer]
    assert (4, 152 * 153 // 2 + 1) in shapes
    assert (4, 152, 152) not in shapes
    picture = np.asarray(stripes(99, True))
    exported = Runtime.load(path, threads=1).score([picture])
    np.testing.assert_allclose(
        [result.score for result in exported],
        [result.score for result in detector.score([picture])],
        rtol=1e-4,
    )


@pytest.mark.parametrize("size", [12, 24])
def test_what_is_cut_out_is_cut_out_of_exported_models_too(
    size: int, tmp_path: Path, without_shape_checks: None
) -> None:
    normal = [np.asarray(stripes(i)) for i in range(40)]
    settings = {"size": size, "crop": 20, "components": 3, "tile": 12, "smooth": 0.0}
    detector = Detector.fit("pca", normal, settings=settings)
    detector.save(tmp_path / "it.safetensors")
    export(detector, tmp_path / "it.onnx")
    runtime = Runtime.load(tmp_path / "it.onnx", threads=1)
    inside, outside = (np.asarray(stripes(99)).copy() for _ in range(2))
    inside[15:22, 20:30] = 255
    outside[:8] = outside[:, :12] = 0  # What is cut out are rows 10 to 29, columns 15 to 34.
    pictures = [normal[0], inside, outside, normal[0][:19]]
    ours = Detector.load(tmp_path / "it.safetensors").score(pictures)
    theirs = runtime.score(pictures)
    for a, b in zip(ours[:3], theirs[:3], strict=True):
        assert b.score == pytest.approx(a.score, rel=1e-4)
        assert a.map is not None and b.map is not None and a.map.shape == (40, 50)
        np.testing.assert_allclose(a.map, b.map, rtol=1e-3, atol=1e-3)
        assert a.map[10:30, 15:35].all() and np.count_nonzero(a.map) == 400
    unmarked = Detector.load(tmp_path / "it.safetensors").score([np.asarray(stripes(99))])[0]
    assert ours[2].score == unmarked.score < ours[1].score
    for results in (ours, theirs):
        assert results[3].decision == "error"
        assert "is 50 x 19, too small for the 20 x 20 pixels" in str(results[3].error)
    session = onnxruntime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"pictures": np.stack([inside, outside])})
    assert scores == pytest.approx([r.score for r in ours[1:3]], rel=1e-4)
    # ONNX Runtime's own exception has no base to name.
    with pytest.raises(Exception, match="out of data bounds"):
        session.run(["score"], {"pictures": inside[None, :19]})


def test_the_promise_travels_along(scene: Scene) -> None:
    assert scene.runtime.calibration.guarantee == scene.detector.calibration.guarantee
    assert scene.runtime.provenance == scene.detector.provenance


def test_a_pinned_digest_refuses_other_files(scene: Scene) -> None:
    assert Runtime.load(scene.path, sha256=scene.runtime.sha256[:12])
    with pytest.raises(ModelFileError, match="is not the model that was asked for"):
        Runtime.load(scene.path, sha256="0123")


def test_a_whole_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    file.write(tmp_path / "it.onnx", b"something else")
    with pytest.raises(ModelFileError, match="cannot be run by this ONNX Runtime"):
        Runtime.load(tmp_path / "it.onnx")


def test_the_runtime_scores_without_torch(scene: Scene, tmp_path: Path) -> None:
    code = (
        "import sys\nsys.modules['torch'] = None\n"
        "from onlygood.cli import main\n"
        f"status = main(['score', {str(scene.path)!r}, {str(scene.folder)!r}, '--quiet',"
        f" '-o', {str(tmp_path / 'scores.json')!r}, '--maps', {str(tmp_path / 'maps')!r}])\n"
        "assert status == 1, status\n"  # one picture cannot be read
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    rows = json.loads((tmp_path / "scores.json").read_text())["results"]
    assert sum(row["decision"] == "anomalous" for row in rows) >= 8
    assert len(list((tmp_path / "maps").glob("*.png"))) == 32


def test_one_picture_again_and_again_is_normal_whoever_rounds(
    tmp_path: Path, without_shape_checks: None
) -> None:
    same = [np.asarray(stripes(1))] * 40
    detector = Detector.fit("kde", same, settings={"size": 16})
    export(detector, tmp_path / "it.onnx")
    runtime = Runtime.load(tmp_path / "it.onnx", threads=1)
    for scorer in (detector, runtime):
        for pictures in (same[:1], same):
            assert {result.decision for result in scorer.score(pictures)} == {"normal"}
        assert scorer.score([np.asarray(stripes(1, True))])[0].decision == "anomalous"


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_means_of_large_pictures_keep_their_digits(without_shape_checks: None) -> None:
    # ONNX Runtime adds up one number after the other: of a large picture with an error by which
    # every feature was moved.
    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return whole_mean(x)

    x = torch.from_numpy(RNG.uniform(0.9, 0.91, (1, 3, 448, 448)).astype(np.float32))
    program = torch.onnx.export(Mean().eval(), (x,), dynamo=True, verbose=False)
    assert program is not None
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert found.item() == pytest.approx(x.double().mean().item(), rel=1e-6)
