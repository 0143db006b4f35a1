"""Networks of torchvision and timm, by the names that these packages give them."""

import importlib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from onlygood.core.errors import ConfigError
from onlygood.networks.backbones.architectures import NAMES
from onlygood.networks.backbones.files import check_file, damaged, fill, read
from onlygood.networks.backbones.frozen import Backbone, Layer, picked


def _from_torchvision(name: str, model: str, layers: Sequence[str], path: Path) -> Backbone:
    models = imported("torchvision.models", name)
    extraction = imported("torchvision.models.feature_extraction", name)
    try:
        whole = models.get_model(model, weights=None).eval()
        taken = extraction.create_feature_extractor(whole, list(layers))
    except ValueError as error:
        raise ConfigError(
            f"torchvision refuses {name} with layers {', '.join(layers)} ({error}); see "
            "torchvision.models.list_models and feature_extraction.get_graph_node_names"
        ) from error
    fill(taken, read(name, path), str, f"{path} holds no weights of {name}")
    side = 224
    with torch.no_grad():
        maps = taken(torch.zeros(1, 3, side, side))
    found = [
        (key, Layer(i, part.shape[1], side // part.shape[2]))
        for i, (key, part) in enumerate(maps.items())
    ]
    found.sort(key=lambda pair: pair[1].stride)
    return Backbone(name, _Values(taken, [key for key, _ in found]), dict(found))


def _from_timm(name: str, model: str, layers: Sequence[str], path: Path) -> Backbone:
    timm = imported("timm", name)
    try:
        blank = timm.create_model(model, features_only=True)
    except RuntimeError as error:
        raise ConfigError(f"timm refuses {name} ({error}); see timm.list_models") from error
    chosen = picked(name, layers, _timm_layers(blank.feature_info.info))
    check_file(name, path)
    weighted = {"pretrained": True, "pretrained_cfg_overlay": {"file": str(path)}}
    try:
        # Cut networks take any file and leave the rest at random; a whole one refuses others.
        whole = timm.create_model(model, **weighted)
        # Transformers are made for one size, unless they are asked to take others.
        takes = inspect.signature(type(whole)).parameters
        any_size = {key: True for key in ("dynamic_img_size", "dynamic_img_pad") if key in takes}
        taps = [layer.row for layer in chosen.values()]
        network = timm.create_model(
            model, features_only=True, out_indices=taps, **weighted, **any_size
        )
    except Exception as error:  # what it raises of damaged and foreign files is of all kinds
        raise damaged(name, path, error) from error
    if str(network.output_fmt.value) == "NHWC":
        network = _ChannelsFirst(network)
    config = timm.get_pretrained_cfg(model)
    # How timm calls layers that pad as TensorFlow does.
    same = any("Same" in type(module).__name__ for module in network.modules())
    return Backbone(name, network, chosen, (config.mean, config.std), pads_before=same)


def _timm_layers(outputs: Iterable[Mapping[str, Any]]) -> dict[str, Layer]:
    """Layers by their names in timm (`layer2`, `blocks.5`), and the last one of each stride."""
    layers: dict[str, Layer] = {}
    for row, output in enumerate(outputs):
        layer = Layer(row, output["num_chs"], output["reduction"])
        layers[output["module"]] = layer
        last = f"stride{layer.stride}"
        # Back to the end, as layers are finest first, and of one stride the earlier ones.
        layers.pop(last, None)
        layers[last] = layer
    return layers


LIBRARIES = {"torchvision": _from_torchvision, "timm": _from_timm}


class _Values(nn.Module):
    """Some of what a network gives by name."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, x: Tensor) -> list[Tensor]:
        values = self.network(x)
        return [values[name] for name in self.names]


class _ChannelsFirst(nn.Module):
    """Maps `(B, h, w, c)`, as some transformers give them, as `(B, c, h, w)`."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return [values.permute(0, 3, 1, 2) for values in self.network(x)]


def imported(module: str, name: str) -> Any:
    """A module of a package that a backbone's name asks for.

    Raises:
        ConfigError: it cannot be imported.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise ConfigError(
            f'backbone "{name}" needs {package}, which cannot be imported ({error}); run '
            f"`pip install {package}`, or take {NAMES[0]}"
        ) from error
