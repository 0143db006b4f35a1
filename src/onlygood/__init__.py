"""Learns from good pictures only, and finds the anomalous ones and the places in them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onlygood.data.source import ImageSource
    from onlygood.detector import Detector
    from onlygood.evaluation.compare import compare
    from onlygood.evaluation.evaluate import evaluate
    from onlygood.methods import METHODS
    from onlygood.result import Result, Results

    __version__: str

__all__ = [
    "METHODS",
    "Detector",
    "ImageSource",
    "Result",
    "Results",
    "__version__",
    "compare",
    "evaluate",
]

# Imported at first use: torch alone takes more than a second.
_HOMES = {
    "Detector": "onlygood.detector",
    "ImageSource": "onlygood.data.source",
    "METHODS": "onlygood.methods",
    "Result": "onlygood.result",
    "Results": "onlygood.result",
    "compare": "onlygood.evaluation.compare",
    "evaluate": "onlygood.evaluation.evaluate",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        value: object = version("onlygood")
    elif name in _HOMES:
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
