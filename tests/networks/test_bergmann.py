import pytest
import torch
from torch import nn

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.bergmann import Decoder, Encoder, Posterior

FORM = {
    # Kernel, stride, channels behind it; the paper's table.
    128: [(4, 2, 32), (4, 2, 32), (3, 1, 32), (4, 2, 64), (3, 1, 64), (4, 2, 128), (3, 1, 64)],
    # As in MVTec AD: one more halving.
    256: [*[(4, 2, 32)] * 3, (3, 1, 32), (4, 2, 64), (3, 1, 64), (4, 2, 128), (3, 1, 64)],
    32: [(3, 1, 32), (4, 2, 64), (3, 1, 64), (4, 2, 128), (3, 1, 64)],
}


def forms(network: Encoder | Decoder) -> list[tuple[int, int, int]]:
    layers = [m for m in network.layers if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    return [(m.kernel_size[0], m.stride[0], m.out_channels) for m in layers]


@pytest.mark.parametrize("side", FORM)
def test_layers_are_the_papers(side: int) -> None:
    shape = InputShape(3, side, side)
    encoder, decoder = Encoder(shape, 100), Decoder(shape, 100)
    inwards, back = forms(encoder), forms(decoder)
    assert inwards == [*FORM[side], (3, 1, 32), (8, 1, 100)]
    kernels = [(kernel, stride) for kernel, stride, _ in inwards]
    assert [(kernel, stride) for kernel, stride, _ in back] == kernels[::-1]
    channels = [3, *(c for *_, c in inwards)]
    assert [c for *_, c in back] == channels[-2::-1]
    x = torch.rand(1, *shape)
    assert decoder(encoder(x)).shape == x.shape


def test_codes_are_drawn_around_their_mean() -> None:
    posterior = Posterior(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]]).log())
    assert posterior.at(torch.tensor([[3.0, 3.0]])).tolist() == [[1.0, 8.0]]


def test_other_sides_are_refused() -> None:
    with pytest.raises(ShapeError, match="bergmann networks need square images"):
        Encoder(InputShape(1, 48, 48), 4)
