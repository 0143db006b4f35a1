"""Convolutions in 8 bits, by ONNX Runtime, and thresholds for what they score."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onlygood.core.digest import short_digest
from onlygood.core.errors import DataError
from onlygood.core.text import many
from onlygood.data.loading import Loaded, iterate, threads
from onlygood.data.resize import counted
from onlygood.data.source import ImageSource
from onlygood.data.split import group_names, split
from onlygood.decision.calibration import Calibration
from onlygood.deploy.export.graph import Graph
from onlygood.deploy.export.translate import quiet, translated
from onlygood.deploy.runtime import file
from onlygood.detector import Detector
from onlygood.detector.calibrating import seen

if TYPE_CHECKING:
    import onnx

OPERATORS = ("Conv", "ConvTranspose", "Gemm")
"""What 8 bits make faster; distances, resizing and smoothing stay as they are."""
BATCH = 8
LEAST = 4
"""Pictures: two for the ranges and two for the thresholds."""


class Quantised(NamedTuple):
    """A graph in 8 bits, and what it was calibrated with."""

    graph: Graph
    model: "onnx.ModelProto"
    calibration: Calibration
    provenance: dict[str, Any]
    """What there is to say of the calibration, by the names of `Detector.provenance`."""


def quantised(detector: Detector, pictures: ImageSource) -> Quantised:
    """The graph, its ONNX form with convolutions in 8 bits, and a calibration of its scores.

    Half of the pictures, drawn at random and parts of a group together, set the thresholds, with
    the promise that the detector has, or the best that so many support; the rest tells the ranges.

    Raises:
        DataError: fewer than four pictures, or than two parts, or one that cannot be read.
        CalibrationError: a third or more of them were learnt from.
    """
    if len(pictures) < LEAST:
        raise DataError(
            f"8 bits need {LEAST} normal pictures or more, got {len(pictures)}; give some that "
            "took no part in training"
        )
    # Not by their order: names may alternate between cameras or sides of a part.
    drawn = split(
        pictures.names,
        calibration=len(pictures) // 2,
        validation=0,
        seed=0,
        group_by=detector.group_by,
    )
    ranges, rest = (pictures.subset(part) for part in (drawn.train, drawn.calibration))
    # Before the long work.
    words = f"{len(rest)} of {many(len(pictures), 'picture')} that were given for 8 bits"
    known = seen(pictures, _digests(detector, pictures), detector.learnt_from)
    provenance = {
        "n_calibration": len(rest),
        "calibration_pictures": f"{words}; {known}" if known else words,
    }
    # Maps as they are, so that their scale can be found.
    plain = Calibration(scores=np.zeros(1), pixel_maxima=np.ones(1), pixel_median=0.0)
    calibration = _calibrated(detector, _quantised(detector, plain, ranges)[1], rest)
    graph, model = _quantised(detector, calibration, ranges)
    return Quantised(graph, model, calibration, provenance)


def _quantised(
    detector: Detector, calibration: Calibration, ranges: ImageSource
) -> "tuple[Graph, onnx.ModelProto]":
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    graph, model = translated(detector, calibration)
    with TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "model.onnx"
        quantize_static(
            model,
            target,
            _Reader(_batches(detector, ranges)),
            op_types_to_quantize=list(OPERATORS),
            nodes_to_exclude=[node.name for node in model.graph.node if _is_distance(node)],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        quantised = onnx.load(target)
    del quantised.metadata_props[:]
    return graph, quantised


def _is_distance(node: "onnx.NodeProto") -> bool:
    """Whether it is the product in `squared_distances`, which ONNX has as a dense layer."""
    return node.op_type == "Gemm" and any(a.name == "alpha" and a.f == -2 for a in node.attribute)


def _calibrated(detector: Detector, model: "onnx.ModelProto", pictures: ImageSource) -> Calibration:
    """Thresholds for a model's own scores, by normal pictures."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    localises = "map" in [output.name for output in session.get_outputs()]
    scores: list[NDArray[Any]] = []
    maps: list[NDArray[Any]] = []
    for batch in _batches(detector, pictures):
        score, *heat = session.run(["score", *(["map"] if localises else [])], batch)
        scores.append(score.astype(np.float64))
        maps += [counted(each, detector.view) for each in heat]
    before = detector.calibration
    group_by = detector.group_by
    return Calibration.fit(
        np.concatenate(scores),
        pixel_maxima=np.concatenate([values.max(1) for values in maps]) if maps else None,
        pixel_median=float(np.median(np.concatenate([np.median(values, 1) for values in maps])))
        if maps
        else None,
        groups=group_names(pictures.names, group_by) if group_by else None,
        target_fpr=before.target_fpr,
        confidence=before.confidence,
        strict_fpr=before.strict_fpr,
        infeasible="best",
    )


def _digests(detector: Detector, pictures: ImageSource) -> list[int]:
    """Of pictures as the detector sees them, which are not those that its file takes."""
    return [
        short_digest(_pixels(item)) for batch in detector.scorer.load(pictures) for item in batch
    ]


def _pixels(item: Loaded) -> NDArray[np.uint8]:
    if item.pixels is None:
        raise DataError(item.error)
    return item.pixels


def _batches(detector: Detector, pictures: ImageSource) -> Iterator[dict[str, NDArray[np.uint8]]]:
    for batch in iterate(pictures, file.given(detector.view), BATCH, threads()):
        stack = np.stack([_pixels(item) for item in batch])
        # As `Runtime` gives them: grey is grey before it is made smaller.
        yield {"pictures": np.ascontiguousarray(np.broadcast_to(stack, (*stack.shape[:3], 3)))}


class _Reader:
    """Batches in the form that ONNX Runtime asks for them."""

    def __init__(self, batches: Iterator[dict[str, NDArray[np.uint8]]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        return next(self.batches, None)
