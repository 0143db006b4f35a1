"""Turns what a user asks for into settings: defaults, then a preset, then their own values.

The fields of a method's config, of `View` and of `Training` form one flat namespace, so that
`alpha=3e-3`, `size=256` and `minutes=5` are all said in the same way, on the command line, in a
TOML file and from Python. No torch here: the command line reads this before it is needed.
"""

import ast
import inspect
import json
import math
import textwrap
import tomllib
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, asdict, fields
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from onlygood.core.errors import ConfigError, alternatives
from onlygood.core.files import require_file
from onlygood.core.settings import Budget, Preset, Training, View

C = TypeVar("C")

BUDGETS = tuple(f.name for f in fields(Budget))
"""Fields of `Training` that end a run; a user who names one means it instead of the preset's."""

RESERVED = ("method", "preset")
"""Keys of a settings file that are no field."""


class Resolved(NamedTuple):
    """Complete settings of a run."""

    config: Any
    view: View
    training: Training


class FileSettings(NamedTuple):
    """What a TOML file says; `None` where it is silent."""

    method: str | None
    preset: str | None
    overrides: dict[str, object]


class Field(NamedTuple):
    """A setting as a reader needs it."""

    name: str
    type: str
    default: object
    doc: str


def resolve(
    method: str,
    config_class: type[Any],
    presets: Mapping[str, Preset],
    *,
    preset: str = "default",
    overrides: Mapping[str, object] | None = None,
) -> Resolved:
    """Settings of a run: dataclass default, then preset, then override, the last one wins.

    Values may be typed or, as on the command line, strings. A budget among the overrides replaces
    all budgets of the preset.

    Raises:
        ConfigError: the preset or a field is unknown, a value has the wrong type.
    """
    overrides = {} if overrides is None else overrides
    if not isinstance(overrides, Mapping):
        raise ConfigError(
            f'settings are values by their names, {{"size": 64}} for example, got {overrides!r}'
        )
    preset = str(preset)  # What is no text is no preset, and may not even be looked up.
    if preset not in presets:
        raise ConfigError(
            f'method "{method}" has no preset "{preset}"{alternatives(preset, presets)}'
        )
    owner = _owners(method, config_class)
    for name in overrides:
        if name not in owner:
            raise ConfigError(_unknown_field(str(name), method, config_class))

    bundle = presets[preset]
    chosen: dict[type[Any], dict[str, object]] = {
        config_class: dict(bundle.config),
        View: dict(bundle.view),
        Training: dict(bundle.training),
    }
    if any(name in overrides for name in BUDGETS):
        for name in BUDGETS:
            chosen[Training].pop(name, None)
    for name, value in overrides.items():
        chosen[owner[name]][name] = value
    return Resolved(*(_build(cls, values) for cls, values in chosen.items()))


def parse_assignment(text: str) -> tuple[str, str]:
    """Split `alpha=3e-3` at its first `=`.

    Raises:
        ConfigError: there is no `=`, or nothing before it.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f'a setting is written field=value, got "{text}"; for example alpha=3e-3')
    return name.strip(), value.strip()


def load_toml(path: Path) -> FileSettings:
    """Read a settings file: `method`, `preset`, and any field, all at the top level.

    Names and types are checked by `resolve`, which knows the method.

    Raises:
        ConfigError: the file is missing, no TOML, or has tables.
    """
    try:
        require_file(path)
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not a TOML file: {error}") from error
    for key, value in content.items():
        if isinstance(value, dict):
            raise ConfigError(
                f"{path} has a table [{key}]; settings stand at the top level, "
                "one `field = value` in a line"
            )
    named = {key: content.pop(key, None) for key in RESERVED}
    for key, value in named.items():
        if value is not None and not isinstance(value, str):
            raise ConfigError(f"{path}: {key} is a name in quotation marks, got {value!r}")
    return FileSettings(named["method"], named["preset"], content)


def describe(config_class: type[Any]) -> list[Field]:
    """The fields of a dataclass with the one-line docstring that follows each in the source."""
    written: dict[str, tuple[str, str]] = {}
    for cls in reversed(config_class.__mro__[:-1]):
        for name, (annotation, doc) in _written(cls).items():
            # A field that is named anew for another default means what it meant.
            written[name] = annotation, doc or written.get(name, ("", ""))[1]
    return [
        Field(f.name, written[f.name][0], _default(f), written[f.name][1])
        for f in fields(config_class)
    ]


def _written(cls: type[Any]) -> dict[str, tuple[str, str]]:
    """Annotations and docstrings of the fields in the source of one class, by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    written: dict[str, tuple[str, str]] = {}
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            doc = ""
            if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
                doc = inspect.cleandoc(str(following.value.value))
            written[statement.target.id] = (ast.unparse(statement.annotation), doc)
    return written


def to_json(settings: Any) -> dict[str, Any]:
    """A dataclass of settings as JSON data; tuples become lists."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(settings), allow_nan=False))
    return data


def from_json(cls: type[C], data: Mapping[str, object]) -> C:
    """Rebuild a dataclass from `to_json`'s data.

    A field that is missing takes its default: the data may be older than the field.

    Raises:
        ConfigError: a field is unknown, or a value has the wrong type.
    """
    return _build(cls, data)


def view_from_json(data: Mapping[str, object]) -> View:
    """A view out of a model file; older ones, which name no aspect, squeezed pictures to squares.

    Raises:
        ConfigError: as `from_json`.
    """
    return from_json(View, {"aspect": 1.0, **data})


def _owners(method: str, config_class: type[Any]) -> dict[str, type[Any]]:
    owner: dict[str, type[Any]] = {}
    for cls in (config_class, View, Training):
        for f in fields(cls):
            if f.name in owner or f.name in RESERVED:
                other = "a key of settings files" if f.name in RESERVED else owner[f.name].__name__
                raise ConfigError(
                    f'{cls.__name__}.{f.name} of method "{method}" shares its name with {other}; '
                    "settings form one namespace, rename it"
                )
            owner[f.name] = cls
    return owner


def _unknown_field(name: str, method: str, config_class: type[Any]) -> str:
    groups = {method: config_class, "pictures": View, "training": Training}
    names = {title: [f.name for f in fields(cls)] for title, cls in groups.items()}
    known = [field for group in names.values() for field in group]
    listing = "; ".join(f"{title}: {', '.join(group)}" for title, group in names.items())
    return f'no setting "{name}" for method "{method}"{alternatives(name, known, listing)}'


def _build(cls: type[C], values: Mapping[str, object]) -> C:
    hints = get_type_hints(cls)
    for name in values:
        if name not in hints:
            raise ConfigError(f'{cls.__name__} has no field "{name}"{alternatives(name, hints)}')
    return cls(**{name: _convert(name, value, hints[name]) for name, value in values.items()})


def _convert(name: str, value: object, annotation: Any) -> object:
    """`value` as the annotation wants it; strings are parsed, other values are checked."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        if type(None) in arguments and (value is None or value == "none"):
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) != 1:
            raise ConfigError(f"setting {name} is declared as {annotation}, which is not supported")
        return _convert(name, value, inner[0])
    if origin is Literal:
        for choice in arguments:
            if (value == choice and type(value) is type(choice)) or value == str(choice):
                return choice
        choices = [str(choice) for choice in arguments]
        raise ConfigError(f"{name} cannot be {value!r}{alternatives(str(value), choices)}")
    if origin is tuple:
        return _convert_tuple(name, value, arguments)
    return _convert_scalar(name, value, annotation)


def _convert_tuple(name: str, value: object, arguments: tuple[Any, ...]) -> tuple[object, ...]:
    if isinstance(value, str):
        text = value.strip().removeprefix("(").removeprefix("[").removesuffix(")").removesuffix("]")
        items: list[object] = [item.strip() for item in text.split(",") if item.strip()]
    elif isinstance(value, list | tuple):
        items = list(value)
    else:
        items = []
    if arguments[-1] is Ellipsis:  # tuple[str, ...]: one or more
        if not items:
            raise ConfigError(f"{name} takes one value or more, with commas between, got {value!r}")
        arguments = arguments[:1] * len(items)
    if len(items) != len(arguments):
        raise ConfigError(
            f"{name} takes {len(arguments)} values, for example "
            f"{name}={','.join('0' for _ in arguments)}, got {value!r}"
        )
    return tuple(
        _convert(name, item, argument) for item, argument in zip(items, arguments, strict=True)
    )


_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def _convert_scalar(name: str, value: object, kind: Any) -> object:
    if kind not in _WANTED:
        raise ConfigError(f"setting {name} is declared as {kind}, which is not supported")
    if kind is str and isinstance(value, str):
        return value
    if kind is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _TRUE + _FALSE:
            return value.lower() in _TRUE
    # A bool is an int in Python, but nobody who writes true means 1; numpy's numbers are Real, too.
    if kind in (int, float) and not isinstance(value, bool) and isinstance(value, Real | str):
        if kind is int and isinstance(value, Integral | str):
            with suppress(ValueError):  # Exactly, where it is written as one.
                return int(value)
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            if kind is float:
                return number
            if number.is_integer():
                return int(number)
    raise ConfigError(f"{name} takes {_WANTED[kind]}, got {value!r}")


def _default(f: Any) -> object:
    if f.default is not MISSING:
        return f.default
    return None if f.default_factory is MISSING else f.default_factory()
