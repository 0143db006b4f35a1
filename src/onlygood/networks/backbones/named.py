"""Backbones by name."""

from collections.abc import Sequence
from pathlib import Path

import torch

from onlygood.core.errors import ConfigError, alternatives
from onlygood.networks.backbones.architectures import ARCHITECTURES, NAMES, Rows
from onlygood.networks.backbones.fetching import fetched
from onlygood.networks.backbones.files import fill, read
from onlygood.networks.backbones.frozen import Backbone, picked
from onlygood.networks.backbones.packages import LIBRARIES


def backbone(name: str, layers: Sequence[str], weights: str | Path | None = None) -> Backbone:
    """A frozen backbone by name, cut after the deepest of `layers`.

    Args:
        name: A key of `NAMES`, or `timm:NAME` or `torchvision:NAME` where those are installed.
        layers: Where to take features; given back finest first. `stride4` and the like of
            efficientnet-lite0 and of timm's networks (the last output of that stride), or timm's
            own names (`layer2`; blocks of a transformer, `blocks.5`); `r42` and the like of vgg19
            (second convolution of the fourth block, after its ReLU); node names of torchvision's.
        weights: A file of weights; by default the file that belongs to the name. A file whose
            name ends in a checksum (`-dcbb9e9d.pth`) must match it.

    Raises:
        ConfigError: an unknown name or layer, no layer, or a package that is not installed.
        ModelFileError: the file of weights is missing, damaged or of another network.
    """
    if not layers or isinstance(layers, str):
        raise ConfigError(f"{name} needs layers, one or more names in a tuple; got {layers!r}")
    path = None if weights is None else Path(weights)
    library, colon, model = name.partition(":")
    if colon and library in LIBRARIES:
        return LIBRARIES[library](name, model, layers, path or fetched(name))
    if name not in ARCHITECTURES:
        known = ", ".join([*NAMES, *(f"{library}:NAME" for library in LIBRARIES)])
        raise ConfigError(f'unknown backbone "{name}"{alternatives(name, NAMES, known)}')
    architecture = ARCHITECTURES[name]
    chosen = picked(name, layers, architecture.layers)
    taps = [layer.row for layer in chosen.values()]
    # On no device: random weights would take time and draw from the global random state.
    with torch.device("meta"):
        network = Rows(architecture.rows()[: taps[-1] + 1], taps)
    path = path or (architecture.installed() if architecture.installed else fetched(name))
    fill(network, read(name, path), architecture.key, f"{path} holds no weights of {name}")
    found = Backbone(
        name,
        network,
        chosen,
        architecture.normalisation,
        pads_before=architecture.pads_before,
    )
    network.fold()
    return found
