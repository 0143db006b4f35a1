"""That every method can leave the laboratory. See also tests/deploy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onlygood import Detector
from onlygood.core.errors import ConfigError
from onlygood.deploy.export import export
from onlygood.deploy.export.validate import compare
from onlygood.deploy.runtime import Runtime
from onlygood.methods import METHODS
from tests.contract import cases
from tests.contract.cases import case_of

TILES = {"size": 64, "tile": 32, "overlap": 0.25}


def pictures(count: int) -> list[np.ndarray]:
    """In colour, of three shapes; most of them lie."""
    draw = np.random.default_rng(0)
    shapes = [(32, 32, 3), (50, 70, 3), (20, 90, 3)]
    return [draw.integers(0, 256, shapes[i % 3], np.uint8) for i in range(count)]


@pytest.mark.slow
@pytest.mark.usefixtures("without_shape_checks")
@pytest.mark.parametrize(
    ("name", "view"),
    [*((name, {"size": cases.SIDE}) for name in METHODS), ("autoencoder", TILES)],
    ids=[*METHODS, "tiles"],
)
def test_an_exported_file_says_the_same(name: str, view: dict[str, object], tmp_path: Path) -> None:
    tiny = {"steps": 3, **case_of(name).tiny, **view, "batch_size": 4}
    detector = Detector.fit(name, pictures(24), settings=tiny)
    if METHODS[name].searches or METHODS[name].unexportable:
        with pytest.raises(ConfigError, match="picture that it scores, which no exported file can"):
            export(detector, tmp_path / "it.onnx")
        return
    export(detector, tmp_path / "it.onnx")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i, picture in enumerate(pictures(33)[24:]):
        Image.fromarray(picture).save(folder / f"{i}.png")
    agreement = compare(detector, Runtime.load(tmp_path / "it.onnx", threads=1), folder)
    assert agreement.agrees, agreement
    assert agreement.score_difference <= 1e-4
    assert (agreement.map_difference or 0.0) <= 1e-4
    assert agreement.pictures == 9
    assert (agreement.map_difference is None) == (not METHODS[name].localizes)
