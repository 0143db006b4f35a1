"""From a detector to one ONNX file."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import ConfigError, ModelFileError
from onlygood.core.resolving import to_json
from onlygood.data.source import ImageSource
from onlygood.decision.calibration import Calibration
from onlygood.deploy.export.quantise import quantised
from onlygood.deploy.export.translate import translated
from onlygood.deploy.runtime import file
from onlygood.detector import Detector

if TYPE_CHECKING:
    import onnx

COMPACT_FROM = 4096
"""Numbers from which a constant is worth keeping in fewer bits."""


def export(detector: Detector, path: Path, *, int8: ImageSource | None = None) -> str:
    """Write a detector as ONNX, atomically; gives the digest of the file.

    The graph takes `pictures`, uint8 `(B, H, W, 3)` RGB of any size, and gives `score`, `p_value`,
    `parts` and, where the method localises, `map` of the part of the picture that is looked at, its
    longer side that of the view: 0 = median of normal pixels, 1 = pixel threshold.

    Args:
        detector: What is to be exported.
        path: The file to write.
        int8: Normal pictures that took no part in training, for convolutions in 8 bits: one half
            tells the range of every tensor, and with the other half the thresholds are set anew,
            since scores change. None: float32.

    Raises:
        ConfigError: the extra `onnx` is not installed, the method does what no file can, or it
            sees pictures larger than a file may have them.
        DataError: too few pictures for 8 bits, or some that cannot be read.
        CalibrationError: too many of them were learnt from.
        ModelFileError: the file would be too large, or cannot be written.
    """
    network = detector.scorer.network
    searches = "takes gradient steps for each picture that it scores" if network.searches else ""
    if inexpressible := searches or network.unexportable:
        raise ConfigError(
            f'method "{detector.method}" {inexpressible}, which no exported file can; score with '
            "the model file, or export another method"
        )
    if detector.view.size not in file.SIDES:
        raise ConfigError(
            f"the model sees pictures of size {detector.view.size}, and an exported file at most "
            f"{file.SIDES.stop - 1}; score with the model file, or fit with a smaller size"
        )
    calibration, provenance = detector.calibration, detector.provenance
    if int8 is None:
        graph, model = translated(detector, calibration)
    else:
        graph, model, calibration, anew = quantised(detector, int8)
        provenance = {**provenance, **anew}
    facts = _facts(detector, graph.terms, calibration) | {
        "precision": "float32" if int8 is None else "int8",
        "provenance": provenance,
    }
    _compact(model.graph)
    entry = model.metadata_props.add()
    entry.key, entry.value = "onlygood", json.dumps(facts, allow_nan=False)
    if model.ByteSize() > file.LARGEST:
        raise ModelFileError(
            f"{path}: the model has {model.ByteSize() / 2**30:.1f} GiB and an ONNX file at most 2; "
            "fit with fewer pictures, a smaller `limit` or a smaller `size`"
        )
    return file.write(path, model.SerializeToString(deterministic=True))


def _compact(graph: "onnx.GraphProto") -> None:
    """Keep large constants in the fewest bits that give back the same numbers.

    Lower triangles without their zeros, and in 16 bits what needs no more: what methods learned
    with `triangular` and `compact`. ONNX Runtime restores them once, when it loads the file.
    """
    from onnx import TensorProto, helper, numpy_helper

    for constant in list(graph.initializer):
        if constant.data_type != TensorProto.FLOAT or math.prod(constant.dims) < COMPACT_FROM:
            continue
        name, values = constant.name, numpy_helper.to_array(constant)
        restoring: list[onnx.NodeProto] = []
        if _is_triangular(values):
            values, places = _packed(values)
            names = [f"{name}_packed", f"{name}_places"]
            graph.initializer.append(numpy_helper.from_array(places, names[1]))
            restoring.append(helper.make_node("Gather", names, [name], axis=1))
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half, values):
            values = half
            after = restoring[0].input[0] if restoring else name
            widened = helper.make_node("Cast", [f"{name}_16"], [after], to=TensorProto.FLOAT)
            restoring.insert(0, widened)
        if restoring:
            constant.CopyFrom(numpy_helper.from_array(values, restoring[0].input[0]))
        for node in reversed(restoring):
            graph.node.insert(0, node)


def _packed(triangles: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Lower triangles as rows with one zero at the end, and where in a row each entry stands."""
    rows, columns = np.tril_indices(triangles.shape[-1])
    packed = np.pad(triangles[:, rows, columns], ((0, 0), (0, 1)))
    places = np.full(triangles.shape[1:], len(rows), np.int32)
    places[rows, columns] = np.arange(len(rows))
    return packed, places


def _is_triangular(values: NDArray[np.float32]) -> bool:
    """Whether it is many lower triangles."""
    if values.ndim != 3 or values.shape[1] != values.shape[2]:
        return False
    return not values[:, *np.triu_indices(values.shape[1], 1)].any()


def _facts(detector: Detector, terms: list[str], calibration: Calibration) -> dict[str, Any]:
    arrays = {name: values.tolist() for name, values in calibration.arrays().items()}
    return {
        "format": file.FORMAT,
        "method": detector.method,
        "terms": terms,
        "calibration": {"settings": calibration.settings(), "arrays": arrays},
        "group_by": detector.group_by,
        "config": to_json(detector.config),
        "view": to_json(detector.view),
    }
