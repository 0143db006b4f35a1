"""What the verdict on a collapse is made of, in the logs of all methods that encode pictures."""

import pytest
from torch import Tensor

from onlygood.core.method import Method
from tests.contract import cases

ENCODING = (
    *("cbigan", "cebigan", "ama", "piad", "autoencoder", "ae_ssim", "deep_svdd", "lsa", "gpnd"),
    *("ganomaly", "f_anogan", "alad", "ocgan"),
)
PLAIN = {"alad": {"spectral": False}}
"""Weights of 0 have no largest singular value to be divided by."""


def watched(method: Method) -> dict[str, Tensor]:
    losses = [update.loss(cases.batch()) for s in method.stages() for update in s.updates]
    (terms,) = [loss.terms for loss in losses if "code_spread" in loss.terms]
    return terms


@pytest.mark.parametrize("name", ENCODING)
def test_one_code_for_all_pictures_is_seen(name: str) -> None:
    method = cases.fresh(name, **PLAIN.get(name, {}))
    before = watched(method.train())
    assert before["code_spread"] > 1e-3
    assert before["reconstruction_spread"] > 1e-5
    for parameter in method.encoder.parameters():
        parameter.data.fill_(float(parameter.ndim == 1))  # Biases alone are left.
    after = watched(method)
    assert after["code_spread"] < 1e-6
    assert after["reconstruction_spread"] < 1e-6


def test_without_consistency_cebigan_gives_no_picture_back() -> None:
    terms = watched(cases.fresh("cebigan", alpha=0.0).train())
    assert "code_spread" in terms
    assert "reconstruction_spread" not in terms


@pytest.mark.parametrize("name", ["vae", "vae_grad", "cavga"])
def test_means_that_noise_drowns_are_seen(name: str) -> None:
    method = cases.fresh(name)
    assert watched(method)["code_spread"] > 1e-3
    # Of noise something is given back whatever the codes are, so nothing is said of it.
    assert "reconstruction_spread" not in watched(method)
    for parameter in method.encoder.parameters():
        parameter.data.fill_(float(parameter.ndim == 1))
    assert watched(method)["code_spread"] < 1e-6
