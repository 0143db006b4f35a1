"""Methods by name: those of the house, those of installed packages, and those of a user's file.

A package offers methods as entry points of the group `onlygood.methods`. A file is named by whoever
runs onlygood, `path/to/mine.py:Mine`, or in the environment variable `ONLYGOOD_METHODS` (several
with commas between); a model file never decides what code runs.
"""

import dataclasses
import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from onlygood.core.errors import ConfigError, alternatives, in_a_line
from onlygood.core.method import Method
from onlygood.methods import METHODS

GROUP = "onlygood.methods"
VARIABLE = "ONLYGOOD_METHODS"


class _OfFile(NamedTuple):
    """A method of a file."""

    method: type[Method]
    path: Path
    digest: str
    """SHA-256 of its text."""


_introduced: dict[str, _OfFile] = {}
"""By `FILE.py:CLASS`."""


class Listed(NamedTuple):
    """A method that can be named here, or why it cannot be used."""

    name: str
    method: type[Method] | None
    error: str = ""


def introduce(name: str) -> str:
    """Load the method of a file, `path/to/mine.py:Mine`; gives the name it has from now on.

    That name is without the folder: `mine.py:Mine`. Any other name is given back as it is.

    Raises:
        ConfigError: there is no such file or class, it cannot be imported, is no method, or a
            method of another file has this name.
    """
    place, _, cls = name.rpartition(":")
    if not place.endswith(".py"):
        return name
    path = Path(place)
    if not path.is_file():
        if name in _introduced:  # by its short name
            return name
        raise ConfigError(f"{name}: there is no file {path}; write path/to/file.py:Class")
    module = _module(path)
    if cls not in vars(module):
        raise ConfigError(f"{path} has no {cls}{alternatives(cls, _methods_in(module))}")
    short = f"{path.name}:{cls}"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    introduced = _OfFile(_checked(vars(module)[cls], name), path.resolve(), digest)
    # The one would score what the other has learnt: a model file knows the short name alone.
    if (other := _introduced.get(short, introduced).path) != introduced.path:
        raise ConfigError(
            f"{path}: {short} is the method of {other} here, and model files name no folder; "
            "rename one of the two files"
        )
    _introduced[short] = introduced
    return short


def method_named(name: str) -> type[Method]:
    """The class of a method; a package that offers it is imported, a file is not.

    Raises:
        ConfigError: there is none of this name, its package cannot be imported, or what it offers
            is no method.
    """
    if name in METHODS:
        return METHODS[name]
    if name not in _introduced:
        for named in filter(None, os.environ.get(VARIABLE, "").split(",")):
            if Path(named).name == name:
                introduce(named)
    if name in _introduced:
        return _introduced[name].method
    points = _entry_points()
    if name not in points:
        known = [*METHODS, *points]
        if name.endswith(".py") or (":" in name and name.partition(":")[0] not in known):
            raise ConfigError(
                f'unknown method "{name}"; a method of a file is named path/to/file.py:Class'
            )
        raise ConfigError(f'unknown method "{name}"{alternatives(name, known)}')
    return _loaded(points[name])


def listed() -> Iterator[Listed]:
    """All methods but those of files; one that cannot be used spoils no other."""
    yield from (Listed(name, method) for name, method in METHODS.items())
    for name, point in _entry_points().items():
        try:
            yield Listed(name, _loaded(point))
        except ConfigError as error:
            yield Listed(name, None, str(error))


def needs(name: str) -> dict[str, str]:
    """What a process must have beside onlygood to use a method, for its model files.

    Empty for methods of the house; else `package` and `version`, `file` and the `sha256` of its
    text, or the `module` that has put the method into `METHODS`.
    """
    if name in METHODS:
        module = METHODS[name].__module__
        return {} if module.startswith("onlygood.") else {"module": module}
    if name in _introduced:
        return {"file": name, "sha256": _introduced[name].digest}
    distribution = _entry_points()[name].dist
    if distribution is None:
        return {"package": "?", "version": "?"}
    return {"package": distribution.name, "version": distribution.version}


def missing(name: str, needed: Mapping[str, Any]) -> str:
    """What to do where a model file needs a method that is not here; `needed` is from `needs`."""
    if "package" in needed:
        package = f"{needed['package']} {needed.get('version', '')}".strip()
        return (
            f'it needs the method "{name}" of the package {package}, which is not installed '
            f"here: pip install {needed['package']}"
        )
    if "file" in needed:
        return (
            f"it needs the method {name} of a file, and a model never runs one by itself: set "
            f"{VARIABLE}=path/to/{name}, or call onlygood.registry.introduce"
            f'("path/to/{name}") first'
        )
    return (
        f'it needs the method "{name}", which the module {needed["module"]} has put into '
        "onlygood.METHODS; import that module first"
    )


def _entry_points() -> dict[str, EntryPoint]:
    """By name; those of the house cannot be replaced."""
    found = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    return {point.name: point for point in found if point.name not in METHODS}


def _loaded(point: EntryPoint) -> type[Method]:
    package = f" of the package {point.dist.name} {point.dist.version}" if point.dist else ""
    what = f'method "{point.name}"{package}'
    try:
        found = point.load()
    except Exception as error:  # the code of others may raise anything
        raise ConfigError(
            f"{what} cannot be imported ({type(error).__name__}: {in_a_line(error)}); mend or "
            "uninstall that package; other methods do without it"
        ) from error
    return _checked(found, what)


def _module(path: Path) -> ModuleType:
    """The module of a file, under a name of its own; run once as long as it stays the same."""
    identity = hashlib.sha256(os.fsencode(path.resolve()) + path.read_bytes()).hexdigest()
    name = f"onlygood_{path.stem}_{identity[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None  # it ends in .py
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and docstrings are looked for
    # What lies beside it is found, as by a script; last, so that it hides nothing else.
    if (folder := str(path.resolve().parent)) not in sys.path:
        sys.path.append(folder)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # as above
        del sys.modules[name]
        raise ConfigError(
            f"{path} cannot be imported ({type(error).__name__}: {in_a_line(error)}); mend it"
        ) from error
    return module


def _methods_in(module: ModuleType) -> list[str]:
    return [
        name
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Method) and value is not Method
    ]


def _checked(found: object, what: str) -> type[Method]:
    """Refuse what would fail later in words that help nobody."""
    if not isinstance(found, type) or not issubclass(found, Method):
        raise ConfigError(
            f"{what} is {found!r}; it must be a class whose base is onlygood.core.method.Method"
        )
    declared = ("config_class", "presets", "localizes")
    lacking = [name for name in declared if name not in dir(found)]
    lacking += [f"{name}()" for name in sorted(found.__abstractmethods__)]
    if lacking:
        raise ConfigError(f"{what} lacks {', '.join(lacking)}; see docs/guides/own-method.md")
    if "default" not in found.presets:
        raise ConfigError(f'{what} has no preset "default"; see docs/guides/own-method.md')
    config = found.config_class
    if not dataclasses.is_dataclass(config):
        raise ConfigError(f"{what}: {config.__name__} is no dataclass; put @dataclass above it")
    if bare := [
        field.name
        for field in dataclasses.fields(config)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]:
        raise ConfigError(
            f"{what}: every setting needs a default, and {config.__name__} has none for "
            f"{', '.join(bare)}"
        )
    return found
