"""`onlygood data`."""

from pathlib import Path
from typing import Annotated

import typer

from onlygood.cli.voice import Json, Quiet, Voice


def data(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="For example elpv-mono or fashion-mnist-0.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new or empty folder.")],
    source: Annotated[
        Path | None, typer.Option(help="Where the data set is, when it is not in its usual place.")
    ] = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Write a known data set's split as a folder: train/good, test/good, test/KIND."""
    from onlygood.data.readers import write_dataset

    voice = Voice(json=json, quiet=quiet)
    written = write_dataset(name, folder, source=source)
    voice.say(written.description)
    voice.show(
        f"{folder}: {written.train} in train/good, {written.test_normal} normal and "
        f"{written.test_anomalous} anomalous in test"
    )
    voice.answer(written._asdict())
