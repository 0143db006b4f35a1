"""Pictures that set thresholds in 8 bits are drawn, whatever the order of their names."""

import pytest

from onlygood import Detector, ImageSource
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
    detector = parts.fit(pictures, group_by=group_by)
    seen: dict[str, set[str]] = {}

    def quantised(detector: object, calibration: object, ranges: ImageSource) -> tuple[None, None]:
        seen["ranges"] = set(ranges.names)
        return None, None

    def calibrated(detector: object, model: object, rest: ImageSource) -> None:
        seen["thresholds"] = set(rest.names)

    monkeypatch.setattr(quantise, "_quantised", quantised)
    monkeypatch.setattr(quantise, "_calibrated", calibrated)
    quantise.quantised(detector, pictures)
    assert seen["ranges"] | seen["thresholds"] == set(told)
    assert len(seen["ranges"]) == 20
    assert len({name.partition("_")[2] for name in seen["thresholds"]}) == 2
    if group_by:
        assert not {n[:2] for n in seen["ranges"]} & {n[:2] for n in seen["thresholds"]}


@pytest.mark.usefixtures("without_shape_checks")
def test_distances_keep_their_digits() -> None:
    detector = Detector.fit("knn", parts.normal(60), settings={"size": 16})
    _, model, _ = quantise.quantised(detector, ImageSource.of(list(parts.normal(20, 3))))
    [distance] = [node for node in model.graph.node if quantise._is_distance(node)]
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert "DequantizeLinear" not in {makers.get(name) for name in distance.input}
