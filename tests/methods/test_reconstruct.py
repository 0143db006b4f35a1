"""What a method shows as its reconstruction is what its score compares a picture with."""

import pytest
import torch
from torch import Tensor

from onlygood.losses.distances import l1_map, l1_mean, l1_sum, l2_mean, l2_sum
from onlygood.methods import METHODS
from onlygood.networks.backbones import IMAGENET
from tests.contract.cases import fresh, images, scored, trained

RECONSTRUCTING = {
    "ae_ssim",
    "vae",
    "vae_grad",
    "lsa",
    "gpnd",
    "itae",
    *("ama", "autoencoder", "cbigan", "cebigan", "piad", "pca"),
    *("alad", "anogan", "egbad", "f_anogan", "ganomaly", "skip_ganomaly"),
    *("ocgan", "adgan", "avid", "cavga"),
}
IN_UNITS = sum(std**-2 for std in IMAGENET[1]) / 3


@pytest.mark.parametrize(
    ("name", "settings", "term", "distance"),
    [
        ("autoencoder", {}, "pixels", l2_sum),
        ("ae_ssim", {"distance": "l2"}, "mean", l2_mean),
        ("cbigan", {"output": "sigmoid"}, "pixels", l1_sum),
        # From -1 to 1 differences are twice as large.
        ("cbigan", {"output": "tanh"}, "pixels", lambda x, y: 2 * l1_sum(x, y)),
        ("cebigan", {}, "pixels", lambda x, y: 2 * l1_sum(x, y)),
        ("ganomaly", {}, "pixels", lambda x, y: 2 * l1_mean(x, y)),
        ("f_anogan", {}, "pixels", lambda x, y: 4 * l2_mean(x, y)),
        ("egbad", {}, "pixels", lambda x, y: 2 * l1_sum(x, y)),
        ("anogan", {}, "pixels", lambda x, y: 2 * l1_sum(x, y)),
        ("skip_ganomaly", {}, "pixels", lambda x, y: 4 * l2_mean(x, y)),
        ("alad", {}, "l1", lambda x, y: 2 * l1_sum(x, y)),
        ("ocgan", {}, "pixels", lambda x, y: 4 * l2_mean(x, y)),
        ("adgan", {}, "lowest", lambda x, y: 4 * l2_sum(x, y)),
        ("avid", {}, "pixels", lambda x, y: 2 * l1_mean(x, y)),
        ("cavga", {}, "pixels", lambda x, y: 2 * l1_mean(x, y)),
        # In units of ImageNet's standard deviations, of which grey pictures have three.
        ("piad", {"distance": "mse"}, "distance", lambda x, y: IN_UNITS * l2_mean(x, y)),
        ("vae", {}, "pixels", l2_sum),
        ("vae_grad", {}, "mean", l1_mean),
        ("lsa", {}, "pixels", l2_sum),
    ],
)
def test_networks(name: str, settings: dict[str, object], term: str, distance) -> None:
    x, method = images(), fresh(name, **settings).eval()
    with torch.no_grad():
        torch.testing.assert_close(
            method.score(x).terms[term], distance(x, method.reconstruct(x)), rtol=1e-4, atol=1e-4
        )


def test_ama_compares_by_its_critic_and_shows_pixels() -> None:
    x, method = images(), fresh("ama").eval()
    with torch.no_grad():
        x_hat, heat = method.reconstruct(x), method.score(x).map
    assert isinstance(x_hat, Tensor) and isinstance(heat, Tensor)
    torch.testing.assert_close(heat, 2 * l1_map(x, x_hat))


def test_pca_gives_back_what_its_subspace_holds() -> None:
    x, method = images(), trained("pca")
    x_hat = method.reconstruct(x)
    assert isinstance(x_hat, Tensor)
    torch.testing.assert_close(scored("pca", x).terms["residual"], l2_sum(x, x_hat))
    again = method.reconstruct(x_hat)
    torch.testing.assert_close(again, x_hat)


@pytest.mark.parametrize("name", sorted(METHODS.keys() - RECONSTRUCTING))
def test_what_looks_at_features_gives_nothing_back(name: str) -> None:
    assert fresh(name).reconstruct(images()) is None
