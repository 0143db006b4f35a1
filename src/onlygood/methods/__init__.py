"""One file per method; the file reads like its paper."""

from onlygood.core.method import Method
from onlygood.methods.autoencoder import Autoencoder
from onlygood.methods.cbigan import CBiGAN
from onlygood.methods.pca import PCA

METHODS: dict[str, type[Method]] = {
    "cbigan": CBiGAN,
    "autoencoder": Autoencoder,
    "pca": PCA,
}
"""Every method by the name that users type."""
