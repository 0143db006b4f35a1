"""What holds for every test."""

import os

# Before torch is imported: on tensors this small, threads cost more than they give.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from onlygood.cli import main
from tests.command_line import Ran, Run


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process."""

    def run(*words: object) -> Ran:
        return Ran(main([str(word) for word in words]), *capfd.readouterr())

    return run
