"""Next to its edges a picture looks strange to a network: to all methods of frozen features."""

import pytest
import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method
from onlygood.methods.gaussian import Gaussian, GaussianConfig
from onlygood.methods.patch_knn import PatchKNN, PatchKNNConfig
from onlygood.methods.reflect import Reflect, ReflectConfig
from onlygood.networks.patches import Usual

SIDE = 96
SHAPE = InputShape(1, SIDE, SIDE)
RING = 16
"""Pixels next to an edge; positions of the grid are 8 apart."""


def texture(n: int, seed: int) -> Tensor:
    """Spots that lie anyhow, without a defect."""
    draw = torch.Generator().manual_seed(seed)
    fine = torch.rand(n, 1, SIDE // 4, SIDE // 4, generator=draw)
    return torch.nn.functional.interpolate(fine, (SIDE, SIDE), mode="bilinear")


def at_the_edge(method: Method) -> float:
    """Mean of maps of pictures without defects next to the edge, in units of that further in."""
    with torch.no_grad():
        maps = method.score(texture(16, seed=1)).map
    assert maps is not None
    mean = maps.mean(0)
    edge = torch.ones(SIDE, SIDE, dtype=torch.bool)
    edge[RING:-RING, RING:-RING] = False
    return float(mean[edge].mean() / mean[~edge].mean())


@pytest.mark.parametrize(
    ("method", "without"),
    [
        (Reflect(ReflectConfig(positions="all"), SHAPE), 1.15),
        (Reflect(ReflectConfig(positions="each"), SHAPE), 1.0),
        (Gaussian(GaussianConfig(positions="all"), SHAPE), 1.1),
        (PatchKNN(PatchKNNConfig(), SHAPE), 1.1),
    ],
    ids=["reflect, all", "reflect, each", "gaussian, all", "patch_knn"],
)
def test_a_map_does_not_know_where_the_edge_is(
    method: Reflect | Gaussian | PatchKNN, without: float
) -> None:
    for stage in method.stages():
        assert stage.before is not None
        with torch.no_grad():
            stage.before(texture(48, seed=0).split(8))
    assert abs(at_the_edge(method) - 1) < 0.05
    unusual = [part for part in method.modules() if isinstance(part, Usual)]
    for usual in unusual:
        usual.distances.store(torch.zeros(0))
    assert at_the_edge(method) > without


@pytest.mark.parametrize(
    "method",
    [
        Reflect(ReflectConfig(layers=("stride8",), positions="all", light="kept"), SHAPE),
        Gaussian(GaussianConfig(layers=("stride8",), positions="all"), SHAPE),
        PatchKNN(PatchKNNConfig(layers=("stride8",)), SHAPE),
    ],
    ids=["reflect", "gaussian", "patch_knn"],
)
def test_maps_of_odd_sides_lie_where_those_of_even_sides_do(
    method: Reflect | Gaussian | PatchKNN,
) -> None:
    """Of 153 pixels the network sees 20 positions of 8: seven pixels lie before the first one."""
    for stage in method.stages():
        assert stage.before is not None
        with torch.no_grad():
            stage.before(texture(16, seed=0).split(8))
    for usual in (part for part in method.modules() if isinstance(part, Usual)):
        usual.distances.store(torch.zeros(0))
    whole = torch.nn.functional.interpolate(texture(1, seed=1), (160, 160), mode="bilinear")
    with torch.no_grad():
        expected, found = (method.score(x).map for x in (whole, whole[:, :, 7:, 7:]))
    assert expected is not None and found is not None
    # As far as an edge is not seen.
    torch.testing.assert_close(found[:, 60:, 60:], expected[:, 67:, 67:], rtol=1e-3, atol=1e-3)
