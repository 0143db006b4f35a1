"""Where weights are looked for, and `fetch`, the one thing here that downloads."""

import shutil
from http.client import HTTPException
from pathlib import Path

import torch

from onlygood.core.errors import ConfigError, ModelFileError, OnlygoodError
from onlygood.core.files import replacing
from onlygood.networks.backbones.architectures import ARCHITECTURES, NAMES
from onlygood.networks.backbones.files import CHECKSUM, check_file
from onlygood.networks.backbones.packages import imported


def fetch(name: str, file: Path | None = None) -> Path:
    """Put the weights of a backbone where `backbone` looks for them; gives that place.

    The folder is that of torch.hub (`$TORCH_HOME`, else the user's cache), which torchvision uses
    as well: what is there already is not downloaded again.

    Args:
        name: The backbone.
        file: Its weights, copied from another machine; None: they are downloaded.

    Raises:
        ConfigError: an unknown name, or one whose weights are not to be downloaded.
        ModelFileError: there is no network or no such file, it cannot be written, or it has
            another checksum. Nothing is kept.
    """
    url = _url(name)
    path = _cached(url)
    if path.is_file():
        check_file(name, path)
        return path
    stated = CHECKSUM.search(path.name)
    if file is not None:
        check_file(name, file, stated)
        try:
            with replacing(path) as temporary:
                shutil.copyfile(file, temporary)
        except OSError as error:
            raise ModelFileError(f"cannot write {path}: {error.strerror}") from error
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Writes beside the file and renames it when the checksum holds.
        torch.hub.download_url_to_file(
            url, str(path), hash_prefix=stated[1] if stated else None, progress=False
        )
    except (OSError, HTTPException, RuntimeError) as error:
        raise ModelFileError(
            f"cannot fetch {url} ({error}); try again, or bring the file from another machine: "
            f"onlygood fetch {name} --from FILE"
        ) from error
    return path


def fetched(name: str) -> Path:
    """Where the weights of a backbone were fetched to.

    Raises:
        ConfigError: none are known to be had by this name.
        ModelFileError: they were not fetched yet.
    """
    url = _url(name)
    path = _cached(url)
    if not path.is_file():
        raise ModelFileError(
            f"the weights of {name} are not at {path}; run `onlygood fetch {name}`, or bring the "
            f"file of {url} from another machine and run it with --from FILE"
        )
    return path


def _url(name: str) -> str:
    library, _, model = name.partition(":")
    if name in ARCHITECTURES:
        if url := ARCHITECTURES[name].url:
            return url
        raise ConfigError(f"the weights of {name} come with a package; there is nothing to fetch")
    try:
        match library:
            case "torchvision":
                models = imported("torchvision.models", name)
                return str(models.get_model_weights(model).DEFAULT.url)
            case "timm":
                config = imported("timm", name).get_pretrained_cfg(model)
                if config is not None and config.url:
                    return str(config.url)
    except OnlygoodError:
        raise
    except (RuntimeError, ValueError) as error:
        raise ConfigError(f"{library} refuses {name} ({error}); check the name") from error
    raise ConfigError(
        f'no file of weights is known for "{name}"; give one as weights=, or take {NAMES[0]}'
    )


def _cached(url: str) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
