"""From a detector to one ONNX file."""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from onlygood import settings
from onlygood.core.errors import ConfigError, ModelFileError
from onlygood.deploy import file
from onlygood.deploy.graph import Graph
from onlygood.detector import Detector

if TYPE_CHECKING:
    import onnx

OPSET = 20
"""Of ONNX; ONNX Runtime reads it from 1.17 on."""
LARGEST = 2**31 - 1
"""Bytes that one ONNX file can have."""


def export(detector: Detector, path: Path) -> str:
    """Write a detector as ONNX, atomically; gives the digest of the file.

    The graph takes `pictures`, uint8 `(B, H, W, 3)` RGB of any size, and gives `score`, `p_value`,
    `parts` and, where the method localises, `map` of the side that the method sees: 0 = median of
    normal pixels, 1 = pixel threshold.

    Raises:
        ConfigError: the extra `onnx` is not installed.
        ModelFileError: the file would be too large, or cannot be written.
    """
    graph = Graph(detector).eval()
    model = _translated(graph, detector.device)
    entry = model.metadata_props.add()
    entry.key, entry.value = "onlygood", json.dumps(_facts(detector, graph.terms), allow_nan=False)
    if model.ByteSize() > LARGEST:
        raise ModelFileError(
            f"{path}: the model has {model.ByteSize() / 2**30:.1f} GiB and an ONNX file at most 2; "
            "fit with fewer pictures, a smaller `limit` or a smaller `size`"
        )
    return file.write(path, model.SerializeToString(deterministic=True))


def _translated(graph: Graph, device: torch.device) -> "onnx.ModelProto":
    graph.cpu()
    # Not of the size itself: what is measured must be a number of its own in every axis.
    side = graph.view.size
    example = torch.zeros(2, side + 8, side + 9, 3, dtype=torch.uint8)
    outputs = ["score", "p_value", "parts", *(["map"] if graph.scale else [])]
    dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height", min=4)}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                graph,
                (example,),
                input_names=["pictures"],
                output_names=outputs,
                dynamic_shapes=({**dimensions, 2: torch.export.Dim("width", min=4)},),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
    except ImportError as error:
        raise ConfigError(
            f"export needs {error.name}, which is not installed; run `pip install 'onlygood[onnx]'`"
        ) from error
    finally:
        graph.to(device)
    assert program is not None
    model = program.model_proto
    # Names, sizes and traces of the machine that exported have no business on another one.
    for node in _nodes(model.graph):
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        del value.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]
    model.graph.doc_string = model.doc_string = ""
    return model


def _nodes(graph: "onnx.GraphProto") -> "Iterator[onnx.NodeProto]":
    """Of the graph and of the branches in it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            yield from _nodes(attribute.g)


def _facts(detector: Detector, terms: list[str]) -> dict[str, Any]:
    calibration = detector.calibration
    arrays = {name: values.tolist() for name, values in calibration.arrays().items()}
    return {
        "format": file.FORMAT,
        "method": detector.method,
        "size": detector.view.size,
        "channels": detector.view.channels,
        "terms": terms,
        "calibration": {"settings": calibration.settings(), "arrays": arrays},
        "group_by": detector.group_by,
        "config": settings.to_json(detector.config),
        "view": settings.to_json(detector.view),
        "provenance": detector.provenance,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter says of packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
