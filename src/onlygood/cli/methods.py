"""`onlygood methods`."""

import inspect
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlygood.cli.voice import Json, Voice, table

if TYPE_CHECKING:
    from onlygood.core.method import Method
    from onlygood.core.resolving import Field


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None, json: Json = False
) -> None:
    """List the methods; with NAME its paper, presets and settings."""
    from onlygood.registry import introduce, listed, method_named

    voice = Voice(json=json)
    if name is None:
        rows = [
            (
                one.name,
                one.error or _page(one.method).partition("\n")[0],
                "yes" if one.method and one.method.localizes else "no",
                ", ".join(one.method.presets if one.method else ()),
            )
            for one in listed()
        ]
        voice.show(table("method", "what it is", "maps", "presets", rows=rows))
        voice.answer(
            {
                "methods": [
                    {
                        "name": key,
                        "summary": summary,
                        "localizes": maps == "yes",
                        "presets": presets.split(", ") if presets else [],
                    }
                    for key, summary, maps, presets in rows
                ]
            }
        )
        return
    _one(voice, introduce(name), method_named(introduce(name)), name)


def _one(voice: Voice, name: str, cls: "type[Method]", given: str) -> None:
    from onlygood.core.resolving import describe
    from onlygood.core.settings import Training, View

    groups = {name: cls.config_class, "pictures": View, "training": Training}
    described = {title: describe(group) for title, group in groups.items()}
    voice.show(
        _page(cls),
        "",
        table(
            "preset",
            "what it is",
            "its settings",
            rows=[
                (
                    key,
                    preset.summary,
                    ", ".join(
                        f"{field}={value}"
                        for bundle in (preset.config, preset.view, preset.training)
                        for field, value in bundle.items()
                    ),
                )
                for key, preset in cls.presets.items()
            ],
        ),
        *(
            table(
                "setting",
                "without a preset",
                "meaning",
                title=title,
                rows=[(field.name, str(field.default), field.doc) for field in fields],
            )
            for title, fields in described.items()
        ),
        "fit takes the preset default, unless --preset names another; what it says replaces these",
        f"for example: onlygood fit {given} FOLDER -o MODEL --set batch_size=16",
    )
    voice.answer(
        {
            "name": name,
            "page": _page(cls),
            "localizes": cls.localizes,
            "presets": {
                key: {
                    "summary": preset.summary,
                    "config": dict(preset.config),
                    "view": dict(preset.view),
                    "training": dict(preset.training),
                }
                for key, preset in cls.presets.items()
            },
            "settings": {
                title: [_entry(field) for field in fields] for title, fields in described.items()
            },
        }
    )


def _page(cls: "type[Method] | None") -> str:
    """The docstring of the method's file: what it is, its paper, departures."""
    return inspect.cleandoc((cls and sys.modules[cls.__module__].__doc__) or "")


def _entry(field: "Field") -> dict[str, Any]:
    return field._asdict()
