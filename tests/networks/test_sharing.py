"""Features that are computed once."""

import torch
from torch import Tensor

from onlygood.networks.backbones import backbone
from onlygood.networks.sharing import SharedFeatures, sharing

LITE, LAYERS = "efficientnet-lite0", ("stride4", "stride8")


class Counted:
    """A network of one layer that tells what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        self.asked.append(len(x))
        return (2 * x,)


def test_an_image_is_computed_once_in_whatever_batch():
    x, network, shared = torch.rand(6, 3, 4, 4), Counted(), SharedFeatures()
    for rows in ([0, 1, 2], [2, 3], [1, 3, 0], [4, 4]):
        (maps,) = shared.maps("w", ("a",), x[rows], network)
        assert torch.equal(maps, 2 * x[rows])
    assert network.asked == [3, 1, 2]
    for other in (("v", ("a",), x), ("w", ("b",), x), ("w", ("a",), x[:, :, :2])):
        shared.maps(*other, network)
    assert network.asked[3:] == [6, 6, 6]


def test_the_longest_unused_leave():
    x, network = torch.rand(4, 1, 2, 2), Counted()
    shared = SharedFeatures(room=3 * x[0].nbytes)
    for i in (0, 1, 2, 0, 3, 0, 1):
        shared.maps("w", ("a",), x[i : i + 1], network)
        assert shared.taken == sum(maps.nbytes for maps in shared.kept.values()) <= shared.room
    assert len(network.asked) == 5  # 0, 1, 2, 3, which takes the place of 1, and 1 again
    # A batch that is larger than the room is answered, too.
    assert torch.equal(shared.maps("w", ("a",), x, network)[0], 2 * x)


def test_backbones_of_the_same_weights_share():
    x = torch.rand(3, 3, 32, 32)
    expected = backbone(LITE, LAYERS)(x)
    shared = SharedFeatures()
    with sharing(shared), torch.no_grad():
        for _ in range(2):
            found = backbone(LITE, LAYERS)(x)
            torch.testing.assert_close(found, expected)
            assert len(shared.kept) == 6
    backbone(LITE, LAYERS)(torch.rand(3, 3, 32, 32))
    assert len(shared.kept) == 6


def test_gradients_reach_the_images_all_the_same():
    x, shared = torch.rand(1, 3, 32, 32, requires_grad=True), SharedFeatures()
    with sharing(shared):
        backbone(LITE, LAYERS)(x)[1].sum().backward()
    assert x.grad is not None
    assert not shared.kept
