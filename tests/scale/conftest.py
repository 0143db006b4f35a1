"""A model, and a folder of pictures of which one is bad."""

from pathlib import Path

import pytest

from tests.deploy.conftest import exported, model
from tests.deploy.stream import normal

__all__ = ["exported", "model"]

PICTURES = 12
"""In the folder, with the bad one; every fourth is anomalous."""


@pytest.fixture(scope="session")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder; not to be changed."""
    folder = tmp_path_factory.mktemp("line")
    (folder / "deep").mkdir()
    for i in range(PICTURES - 1):
        place = folder / "deep" if i % 2 else folder
        (place / f"{i:02}.png").write_bytes(normal(1000 + i, defect=i % 4 == 0))
    (folder / "a\n 'ü'.png").write_bytes(b"no picture")
    return folder
