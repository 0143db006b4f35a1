"""From an exported model to OpenVINO's format, for lines whose program runs that."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from onlygood.core.errors import ConfigError, ModelFileError, in_a_line
from onlygood.deploy.runtime import Runtime

TOLERANCE = 1e-4
"""Relative, between scores of both."""
BATCH = 3


def require_openvino() -> None:
    """Refuse to begin where the extra is not installed.

    Raises:
        ConfigError: it is not.
    """
    try:
        import openvino
        import openvino._offline_transformations  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"export needs {error.name}, which is not installed; run "
            "`pip install 'onlygood[openvino]'`"
        ) from error


def convert(path: Path, runtime: Runtime) -> tuple[Path, Path]:
    """Write an exported model as `NAME.xml` and `NAME.bin` beside it; gives both.

    Input and outputs are those of the ONNX file; what is in its metadata is the entry `onlygood`
    of the `rt_info`, as JSON. What was written scores noise as the ONNX file does, or is not kept.

    Args:
        path: The exported model.
        runtime: What was read from it.

    Raises:
        ConfigError: the extra `openvino` is not installed.
        ModelFileError: OpenVINO cannot run it or scores otherwise, or the files cannot be written.
    """
    require_openvino()
    import openvino
    from openvino._offline_transformations import apply_moc_transformations

    xml, weights = path.with_suffix(".xml"), path.with_suffix(".bin")
    try:
        with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
            written = Path(folder) / "model.xml"
            core = openvino.Core()
            # What `convert_model` does, less its report of that over the network. Without these
            # transformations OpenVINO 2026.4 has wrong scores in batches, and no error.
            model = core.read_model(path)
            apply_moc_transformations(model, cf=False)
            model.set_rt_info(json.dumps(runtime.facts, allow_nan=False), "onlygood")
            # Exact: thresholds hold for these weights.
            openvino.save_model(model, written, compress_to_fp16=False)
            # Its own choice may be bf16, which is not what was calibrated.
            exact = {"INFERENCE_PRECISION_HINT": "f32"}
            _compare(runtime, core.compile_model(core.read_model(written), "CPU", exact), path)
            # A description without weights cannot be loaded, one with others could be.
            xml.unlink(missing_ok=True)
            os.replace(written.with_suffix(".bin"), weights)
            os.replace(written, xml)
    except OSError as error:
        raise ModelFileError(f"cannot write {xml} and {weights} ({error})") from error
    except RuntimeError as error:  # of OpenVINO
        what = in_a_line(error)
        raise ModelFileError(f"{path} cannot be converted by this OpenVINO ({what})") from error
    return xml, weights


def _compare(runtime: Runtime, compiled: Any, path: Path) -> None:
    """Score noise of the size that the graph is best given with both, one by one and together."""
    shape = (BATCH, *runtime.given.canvas, 3)
    pictures = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    pictures = pictures if runtime.view.channels == 3 else pictures[..., :1].repeat(3, 3)
    expected = runtime.run(pictures).scores
    for batch in (slice(0, 1), slice(None)):
        found = np.asarray(compiled({"pictures": pictures[batch]})["score"])
        if not np.allclose(found, expected[batch], rtol=TOLERANCE, atol=0):
            raise ModelFileError(
                f"{path}: OpenVINO scores {found.tolist()} what ONNX Runtime scores "
                f"{expected[batch].tolist()}; keep to the ONNX file"
            )
