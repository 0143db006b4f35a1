"""What holds for every test."""

import os

# Before torch is imported: on tensors this small, threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from contextlib import contextmanager

import jaxtyping
import pytest

from onlygood.cli import main
from tests.command_line import Ran, Run


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process."""

    def run(*words: object) -> Ran:
        return Ran(main([str(word) for word in words]), *capfd.readouterr())

    return run


@contextmanager
def unchecked() -> Iterator[None]:
    """Without the checks of annotations, as users run it."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def without_shape_checks() -> Iterator[None]:
    """For whatever exports: the checks change a list, which a branch of a graph must not do."""
    with unchecked():
        yield
