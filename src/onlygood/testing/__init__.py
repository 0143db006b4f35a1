"""The contract of all methods, as a plugin of pytest for methods from elsewhere.

    pytest -p onlygood.testing --onlygood-method mine

runs it on the method of an installed package, or on that of a file (`path/to/mine.py:Mine`). A
plugin that is named, not one that pytest finds by itself: that would import onlygood in every run
of pytest, also where it must not be imported yet.
"""

import os
from pathlib import Path

import pytest

CONTRACT = Path(__file__).with_name("contract.py")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The method, and how to make it small."""
    group = parser.getgroup("onlygood")
    group.addoption(
        "--onlygood-method", metavar="NAME", help="Run the contract on this method alone."
    )
    group.addoption(
        "--onlygood-set",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="A setting that makes its networks tiny; may be repeated.",
    )
    group.addoption(
        "--onlygood-learn",
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="A setting to learn the digit 0 with, from 120 pictures; may be repeated.",
    )
    group.addoption(
        "--onlygood-auroc",
        type=float,
        default=0.9,
        help="What it has to reach there against other digits; 0.9 by default.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have the contract collected, in place of the tests of the folder."""
    name = config.getoption("--onlygood-method")
    if name is None:
        return
    from onlygood import registry
    from onlygood.core.errors import OnlygoodError
    from onlygood.core.resolving import parse_assignment
    from onlygood.testing.cases import CASES, Case

    try:
        short = registry.introduce(name)
        registry.method_named(short)
        tiny, digits = (
            dict(map(parse_assignment, config.getoption(option)))
            for option in ("--onlygood-set", "--onlygood-learn")
        )
    except OnlygoodError as error:
        raise pytest.UsageError(str(error)) from error
    if "file" in registry.needs(short):
        os.environ[registry.VARIABLE] = str(Path(name).absolute())  # for the fresh process
    CASES[short] = Case(tiny=tiny, digits=digits, auroc=config.getoption("--onlygood-auroc"))
    config.addinivalue_line("markers", "slow: takes more than about two seconds")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        config.args[:] = [str(CONTRACT)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test of the contract on the method."""
    if Path(metafunc.module.__file__ or "") == CONTRACT:
        from onlygood.testing.cases import CASES

        metafunc.parametrize("name", list(CASES))
