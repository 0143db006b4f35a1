"""`onlygood fetch`."""

from pathlib import Path
from typing import Annotated

import typer

from onlygood.cli.voice import Json, Quiet, Voice


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="BACKBONE", help="For example vgg19, or timm:resnet18.")
    ],
    file: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Copied from another machine; no download."),
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Get the weights of a frozen backbone, and check them; nothing else downloads."""
    from onlygood.networks.backbones import fetch as download

    voice = Voice(json=json, quiet=quiet)
    path = download(name, file)
    voice.show(f"{name}: {path}")
    voice.answer({"backbone": name, "file": path})
