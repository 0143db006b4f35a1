"""Pictures that set thresholds in 8 bits are drawn, whatever the order of their names."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray

from onlygood import Detector, ImageSource
from onlygood.core.errors import DataError
from onlygood.deploy.export import quantise
from tests import parts


@pytest.mark.parametrize(
    ("names", "group_by"),
    [(["{:02}_a", "{:02}_b"], None), (["{:02}_front", "{:02}_back"], r"(\d\d)_")],
)
def test_thresholds_are_of_all_kinds_and_of_whole_parts(
    names: list[str], group_by: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [form.format(number) for number in range(20) for form in names]
    pictures = ImageSource.of(list(parts.normal(40)), names=told)
    others = ImageSource.of(list(parts.normal(40, seed=7)), names=told)
    detector = parts.fit(pictures, group_by=group_by)
    seen: dict[str, set[str]] = {}

    def quantised(detector: object, calibration: object, ranges: ImageSource) -> tuple[None, None]:
        seen["ranges"] = set(ranges.names)
        return None, None

    def calibrated(detector: object, model: object, rest: ImageSource) -> None:
        seen["thresholds"] = set(rest.names)

    monkeypatch.setattr(quantise, "_quantised", quantised)
    monkeypatch.setattr(quantise, "_calibrated", calibrated)
    quantise.quantised(detector, others)
    assert seen["ranges"] | seen["thresholds"] == set(told)
    assert len(seen["ranges"]) == 20
    assert len({name.partition("_")[2] for name in seen["thresholds"]}) == 2
    if group_by:
        assert not {n[:2] for n in seen["ranges"]} & {n[:2] for n in seen["thresholds"]}


@pytest.mark.usefixtures("without_shape_checks")
def test_distances_keep_their_digits() -> None:
    detector = Detector.fit("knn", parts.normal(60), settings={"size": 16})
    _, model, *_ = quantise.quantised(detector, ImageSource.of(list(parts.normal(20, 3))))
    [distance] = [node for node in model.graph.node if quantise._is_distance(node)]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert "DequantizeLinear" not in {makers.get(name) for name in distance.input}


def test_thresholds_are_of_what_the_model_itself_says(monkeypatch: pytest.MonkeyPatch) -> None:
    detector = parts.fit().calibrate(target_fpr=0.3, confidence=0.6, strict_fpr=0.2)
    heat = np.random.default_rng(0).random((10, *detector.view.shape), np.float32)

    class Session:
        def __init__(self, *_: object, **__: object) -> None:
            self.left = list(heat)

        def get_outputs(self) -> list[SimpleNamespace]:
            return [SimpleNamespace(name=name) for name in ("score", "map")]

        def run(self, wanted: list[str], given: dict[str, NDArray[np.uint8]]) -> list[Any]:
            said = np.stack([self.left.pop(0) for _ in given["pictures"]])
            return [said.mean((1, 2)), said]

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    pictures = ImageSource.of(list(parts.normal(10)))
    found = quantise._calibrated(detector, onnx.ModelProto(), pictures)
    assert found.pixel_maxima is not None
    np.testing.assert_allclose(found.scores, np.sort(heat.mean((1, 2))))
    np.testing.assert_allclose(found.pixel_maxima, np.sort(heat.max((1, 2))))
    assert found.pixel_median == pytest.approx(np.median(np.median(heat, (1, 2))))
    assert (found.target_fpr, found.confidence, found.strict_fpr) == (0.3, 0.6, 0.2)


def test_few_pictures_and_unreadable_ones_are_refused(tmp_path: Path) -> None:
    detector = parts.fit()
    few = ImageSource.of(list(parts.normal(3)))
    with pytest.raises(DataError, match="8 bits need 4 normal pictures or more, got 3"):
        quantise.quantised(detector, few)
    parts.write(parts.normal(4), tmp_path)[0].write_bytes(b"")
    with pytest.raises(
        DataError, match=r"^000\.png: is empty \(0 bytes\); copy it again or remove it$"
    ):
        list(quantise._batches(detector, ImageSource.of(tmp_path)))
