"""`onlygood serve`."""

from pathlib import Path
from typing import Annotated

import typer

from onlygood.core.errors import ConfigError


def serve(
    models: Annotated[
        list[Path], typer.Argument(metavar="MODEL.onnx...", help="Files of `onlygood export`.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 8000,
    log: Annotated[
        Path, typer.Option(metavar="FILE", help="The inspection log; made when it is not there.")
    ] = Path("inspections.sqlite"),
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Holds the token that requests must bring."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="What others call this machine; may come repeatedly."),
    ] = None,
    pin: Annotated[
        list[str] | None,
        typer.Option(metavar="SHA256", help="Serve no model but these; may come repeatedly."),
    ] = None,
    max_megabytes: Annotated[int, typer.Option(min=1, help="Of one request.")] = 64,
    max_megapixels: Annotated[int, typer.Option(min=1, help="Of one picture.")] = 50,
    max_files: Annotated[int, typer.Option(min=1, help="Pictures of one request.")] = 32,
    max_seconds: Annotated[float, typer.Option(min=1, help="For a request to arrive.")] = 30,
    queue: Annotated[
        int, typer.Option(min=1, help="Pictures in hand for each model; more are refused (429).")
    ] = 256,
    batch: Annotated[int, typer.Option(min=1, help="Pictures that are scored together.")] = 16,
    threads: Annotated[int, typer.Option(min=0, help="Of a network; 0: all cores.")] = 0,
    keep_days: Annotated[float, typer.Option(min=1, help="In the inspection log.")] = 365,
    keep_megabytes: Annotated[int, typer.Option(min=16, help="Of the inspection log.")] = 2048,
    recent_megabytes: Annotated[
        int, typer.Option(min=1, help="Memory for recent pictures and their maps.")
    ] = 128,
) -> None:
    """Serve exported models by HTTP, with a page at http://127.0.0.1:8000.

    On an address that others reach it needs --token-file and --allow-host.
    """
    from onlygood.deploy.service.settings import MIB, ServiceSettings

    settings = ServiceSettings(
        models=tuple(models),
        log=log,
        host=host,
        token="" if token_file is None else _token(token_file),
        allowed_hosts=tuple(allow_host or ()),
        pins=tuple(pin or ()),
        max_bytes=max_megabytes * MIB,
        max_pending_bytes=max(256, 4 * max_megabytes) * MIB,
        max_pixels=max_megapixels * 1_000_000,
        max_files=max_files,
        upload_seconds=max_seconds,
        queue=queue,
        batch=batch,
        threads=threads,
        keep_days=keep_days,
        keep_bytes=keep_megabytes * MIB,
        recent_bytes=recent_megabytes * MIB,
    )

    from onlygood.deploy.service.listening import listen
    from onlygood.deploy.service.server import create_app

    listen(create_app(settings), host, port)


def _token(path: Path) -> str:
    from onlygood.core.files import read_regular

    try:
        token = read_regular(path, 65536).decode("ascii").strip()
    except OSError as error:
        raise ConfigError(f"cannot read the token in {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} holds no token: it is not ASCII text") from error
    if not token:
        raise ConfigError(f"{path} is empty; write the token into it")
    return token
