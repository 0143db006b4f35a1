from collections.abc import Iterator

import jaxtyping
import pytest


@pytest.fixture(scope="package", autouse=True)
def untyped() -> Iterator[None]:
    """The checks of shapes change a list, which a branch of an exported graph must not do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
