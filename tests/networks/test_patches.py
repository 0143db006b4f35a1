import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.networks.backbones import backbone
from onlygood.networks.patches import PatchFeatures, Usual, enlarged, top_mean

LITE, LAYERS = "efficientnet-lite0", ("stride8", "stride16")


def images(n: int = 2, height: int = 48, width: int = 32) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0))


def test_layers_stand_side_by_side_on_the_finest_grid() -> None:
    x = images()
    fine, coarse = backbone(LITE, LAYERS)(x)
    net = PatchFeatures(LITE, LAYERS)
    features = net(x)
    assert features.shape == (2, 6, 4, 152)
    assert net.channels == 152
    assert torch.equal(features[..., :40], fine.permute(0, 2, 3, 1))
    # Even positions lie a quarter of a coarse step before the middle of the coarse ones.
    row = coarse[0, :, 0, 0]
    torch.testing.assert_close(features[0, 0, 0, 40:], row)
    between = 0.75 * row + 0.25 * coarse[0, :, 1, 0]
    torch.testing.assert_close(features[0, 1, 0, 40:], between)


def test_coarse_layers_lie_where_the_network_saw_them() -> None:
    """Of 152 pixels it sees 19 positions of 8, and 10 of 16: the first of these lies half before.

    All of them see what they see of the same picture with 8 pixels more.
    """
    layers = ("stride8", "stride16a")
    net, whole = PatchFeatures(LITE, layers), images(1, 160, 160)
    cut = whole[:, :, 8:, 8:]
    expected, found = net(whole)[:, 1:, 1:], net(cut)
    assert found.shape == expected.shape == (1, 19, 19, 120)
    # As far as an edge is not seen.
    torch.testing.assert_close(found[:, 10:, 10:], expected[:, 10:, 10:], rtol=1e-4, atol=1e-4)
    # Files of before hold no strides, and what was learnt of grids that were stretched.
    state = dict(net.state_dict())
    del state["strides"]
    net.load_state_dict(state)
    coarse = F.interpolate(net.backbone(cut)[1], (19, 19), mode="bilinear")
    assert torch.equal(net(cut)[..., 40:], coarse.permute(0, 2, 3, 1))
    again = PatchFeatures(LITE, layers)
    again.load_state_dict(net.state_dict())
    assert torch.equal(again(cut), net(cut))


def test_averages_are_over_the_positions_that_are_there() -> None:
    x = images()
    fine = backbone(LITE, ("stride8",))(x)[0]
    averaged = PatchFeatures(LITE, ("stride8",), averaged=True)(x).permute(0, 3, 1, 2)
    torch.testing.assert_close(averaged[:, :, 0, 0], fine[:, :, :2, :2].mean((2, 3)))
    torch.testing.assert_close(averaged[:, :, 2, 1], fine[:, :, 1:4, 0:3].mean((2, 3)))


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 9.0), (0.01, 9.0), (0.25, 8.0), (0.5, 7.0), (1.0, 4.25)]
)
def test_the_largest_count(share: float, expected: float) -> None:
    positions = torch.tensor([[0.0, 9, 1, 7], [2, 3, 5, 7]]).expand(2, 2, 4)
    assert top_mean(positions, share).tolist() == [expected, expected]


def test_maps_are_as_large_as_the_images() -> None:
    positions, x = torch.rand(2, 6, 4), images()
    found = enlarged(positions, *x.shape[2:])
    assert found.shape == (2, 48, 32)
    expected = F.interpolate(positions[:, None], (48, 32), mode="bilinear", align_corners=False)
    assert torch.equal(found, expected[:, 0])


def test_enlarged_maps() -> None:
    positions = torch.tensor([[[0.0, 4.0]]])
    # Centres of the two halves lie at pixels 0.5 and 2.5; beyond them edges are repeated.
    assert torch.equal(enlarged(positions, 1, 4), torch.tensor([[[0.0, 1.0, 3.0, 4.0]]]))
    assert enlarged(torch.zeros(2, 3, 5), 7, 64).shape == (2, 7, 64)
    same = torch.rand(2, 3, 5)
    torch.testing.assert_close(enlarged(same, 3, 5), same)
    torch.testing.assert_close(enlarged(same, 12, 20).mean((1, 2)), same.mean((1, 2)))


def test_enlarged_maps_of_sides_that_are_no_multiple_of_the_stride() -> None:
    positions = torch.tensor([[[0.0, 4.0]]])
    whole = torch.tensor([0.0, 1.0, 3.0, 4.0])
    # Two positions, two pixels apart, and three pixels: one of four lies outside.
    assert torch.equal(enlarged(positions, 1, 3, stride=2)[0, 0], whole[:3])
    # Each side by itself, and a fifth pixel, of which the network has dropped what it saw.
    both = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(0))
    large = enlarged(both, 4, 4)
    for before, pixels in ((False, [0, 1, 2]), (True, [1, 2, 3])):
        found = enlarged(both, 3, 5, stride=2, before=before)
        assert torch.equal(found, large[:, pixels][:, :, [0, 1, 2, 3, 3]])
        found = enlarged(both, 5, 3, stride=2, before=before)
        assert torch.equal(found, large[:, [0, 1, 2, 3, 3]][:, :, pixels])
    # Not the grid of this stride: stretched.
    assert torch.equal(enlarged(positions, 1, 8, stride=2), enlarged(positions, 1, 8))


def test_distances_are_told_in_what_is_usual_where_they_are() -> None:
    usual, distances = Usual(), torch.tensor([[[2.0, 6.0], [8.0, 1.0]]])
    assert torch.equal(usual(distances), distances)
    # Sums over three images; the mean of all positions, 2, is the fourth.
    usual.store(torch.tensor([[6.0, 10.0], [2.0, 6.0]]), 3)
    expected = torch.tensor([[[2.0 / 2, 6.0 / 3], [8.0 / 1, 1.0 / 2]]])
    torch.testing.assert_close(usual(distances), expected)
    usual.store(torch.zeros(2, 2), 3)
    assert torch.equal(usual(distances), distances)
