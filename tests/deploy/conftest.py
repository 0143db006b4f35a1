"""One exported model for all tests of the service."""

from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from onlygood import Detector
from onlygood.deploy.export import export
from onlygood.deploy.service.settings import ServiceSettings
from tests.deploy.stream import normal, pixels


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of `tests.deploy.stream.normal` pictures; not to be changed."""
    jaxtyping.config.update("jaxtyping_disable", True)  # see `without_shape_checks`
    try:
        pictures = [np.asarray(pixels(normal(i))) for i in range(150)]
        detector = Detector.fit("pca", pictures, settings={"size": 16, "components": 3})
        path = tmp_path_factory.mktemp("exported") / "nut.onnx"
        export(detector, path)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
    return path


@pytest.fixture
def model(exported: Path, tmp_path: Path) -> Path:
    """A copy of its own."""
    path = tmp_path / "nut.onnx"
    path.write_bytes(exported.read_bytes())
    return path


@pytest.fixture
def settings(model: Path, tmp_path: Path) -> ServiceSettings:
    """Of a service that looks at its files all the time."""
    return ServiceSettings(
        models=(model,), log=tmp_path / "log.sqlite", threads=1, poll_seconds=0.02
    )
