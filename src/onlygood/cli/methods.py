"""`onlygood methods`."""

import inspect
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onlygood.cli.voice import Json, Voice, table

if TYPE_CHECKING:
    from onlygood.core.method import Method


def methods(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]")] = None, json: Json = False
) -> None:
    """List the methods; with NAME its paper, presets and settings."""
    from onlygood.registry import introduce, listed, method_named

    voice = Voice(json=json)
    if name is None:
        found: list[dict[str, Any]] = [
            {
                "name": one.name,
                "summary": one.error or _page(one.method).partition("\n")[0],
                "localizes": one.method is not None and one.method.localizes,
                "presets": list(one.method.presets if one.method else ()),
            }
            for one in listed()
        ]
        rows = [
            (m["name"], m["summary"], "yes" if m["localizes"] else "no", ", ".join(m["presets"]))
            for m in found
        ]
        voice.show(table("method", "what it is", "maps", "presets", rows=rows))
        voice.answer({"methods": found})
        return
    known = introduce(name)
    _one(voice, known, method_named(known), name)


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
                title: [field._asdict() for field in fields] for title, fields in described.items()
            },
        }
    )


def _page(cls: "type[Method] | None") -> str:
    """The docstring of the method's file: what it is, its paper, departures."""
    return inspect.cleandoc((cls and sys.modules[cls.__module__].__doc__) or "")
