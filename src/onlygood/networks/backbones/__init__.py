"""Frozen networks that were trained on ImageNet, as givers of feature maps.

A backbone is named: `efficientnet-lite0` (its weights come with a package that onlygood depends
on), `vgg19`, and `timm:NAME` or `torchvision:NAME` where those packages are installed. Nothing is
downloaded but by `fetch`, which puts a file where `backbone` looks for it.

Weights are no parameters: no optimiser, no gradient and no `state_dict` sees them. A state dict
holds their checksum alone, and refuses to be loaded into a backbone with other weights.
"""

from onlygood.networks.backbones.architectures import NAMES, trained_statistics
from onlygood.networks.backbones.fetching import fetch, fetched
from onlygood.networks.backbones.frozen import (
    IMAGENET,
    Backbone,
    FeatureMaps,
    Layer,
    Standardisation,
)
from onlygood.networks.backbones.named import backbone

__all__ = [
    "IMAGENET",
    "NAMES",
    "Backbone",
    "FeatureMaps",
    "Layer",
    "Standardisation",
    "backbone",
    "fetch",
    "fetched",
    "trained_statistics",
]
