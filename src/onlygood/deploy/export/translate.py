"""From the network of an exported file to ONNX, by torch's exporter."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from onlygood.core.errors import ConfigError
from onlygood.decision.calibration import Calibration
from onlygood.deploy.export.graph import Graph
from onlygood.detector import Detector

if TYPE_CHECKING:
    import onnx

OPSET = 20
"""Of ONNX; ONNX Runtime reads it from 1.17 on."""


def translated(detector: Detector, calibration: Calibration) -> "tuple[Graph, onnx.ModelProto]":
    """The graph as a module and as ONNX, without metadata.

    Raises:
        ConfigError: the extra `onnx` is not installed.
    """
    graph = Graph(detector, calibration).eval().cpu()
    # Not of the size itself: what is measured must be a number of its own in every axis.
    height, width = graph.view.canvas
    example = torch.zeros(2, height + 8, width + 9, 3, dtype=torch.uint8)
    outputs = ["score", "p_value", "parts", *(["map"] if graph.scale else [])]
    dimensions = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height", min=4)}
    try:
        with torch.no_grad(), quiet():
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
        detector.scorer.network.to(detector.device)
    assert program is not None
    return graph, _stripped(program.model_proto)


def _stripped(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Without traces of the machine that exported: they have no business on another one."""
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


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the exporter and the quantiser say of what is not needed here."""
    # Not the level of one logger: those of torch have levels of their own.
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
