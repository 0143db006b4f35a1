import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]
MAKE = ROOT / "docs" / "make"


def script(name: str) -> ModuleType:
    """A script of docs/make as a module."""
    spec = importlib.util.spec_from_file_location(name, MAKE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
