"""`onlygood fetch`."""

from typing import Annotated

import typer

from onlygood.cli.voice import Json, Quiet, Voice


def fetch(
    name: Annotated[
        str, typer.Argument(metavar="BACKBONE", help="For example vgg19, or timm:resnet18.")
    ],
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Download the weights of a frozen backbone, and check them; nothing else downloads."""
    from onlygood.networks.backbones import fetch as download

    voice = Voice(json=json, quiet=quiet)
    path = download(name)
    voice.show(f"{name}: {path}")
    voice.answer({"backbone": name, "file": path})
