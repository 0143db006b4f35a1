import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.networks.convolutional import Encoder, Generator, Trunk, widths
from onlygood.networks.dcgan import ConcatenatingDiscriminator, ProjectionDiscriminator

DISCRIMINATORS = (ProjectionDiscriminator, ConcatenatingDiscriminator)
NETWORKS = (Encoder, Generator, *DISCRIMINATORS)
SHAPE = InputShape(3, 32, 32)


def square(size: int, channels: int = 3) -> InputShape:
    return InputShape(channels, size, size)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


def pairs(n: int = 3, latent: int = 4) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(n, 3, 32, 32, generator=draw), torch.randn(n, latent, generator=draw)


def convolutions(network: nn.Module) -> list[nn.Conv2d | nn.ConvTranspose2d]:
    return [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]


# Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (32, [64, 128, 256]),
        (64, [64, 128, 256, 512]),
        (128, [64, 128, 256, 512, 512]),
        (256, [64, 128, 256, 512, 512, 512]),
    ],
)
def test_widths(size: int, expected: list[int]):
    assert widths(square(size), 64) == expected
    assert widths(square(size), 1) == [w // 64 for w in expected]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("height", "width"), [(16, 16), (0, 0), (48, 48), (100, 100), (64, 32), (32, 64)]
)
def test_other_sizes_are_refused_in_words(network, height: int, width: int):
    with pytest.raises(ShapeError, match=f"got {height} x {width}; set size=64"):
        network(InputShape(3, height, width))


# Weights of kernel 4 from the layer lists, of normalisation two for each channel.
_DOWN = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512) + 2 * 1472
_UP = 16 * (512 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 3 + 2 * (512 + 1472 - 512)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (Encoder, _DOWN + 8192 * 128 + 128),
        (Generator, 128 * 8192 + _UP),
        (ProjectionDiscriminator, _DOWN + (512 + 1) * 128 + 128 + 1),
        (
            ConcatenatingDiscriminator,
            _DOWN + 9 * (512 + 128) * 512 + 2 * 512 + (512 + 1) * 128 + 128 + 1,
        ),
    ],
)
def test_parameter_counts_at_the_papers_size(network, expected: int):
    assert parameters(network(square(128))) == expected


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size: int, channels: int):
    shape = square(size, channels)
    x, z = torch.rand(2, channels, size, size), torch.randn(2, 5)
    with torch.no_grad():
        assert Encoder(shape, latent=5, width=2)(x).shape == (2, 5)
        assert Generator(shape, latent=5, width=2)(z).shape == x.shape
        for discriminator in DISCRIMINATORS:
            judgement = discriminator(shape, latent=5, width=2)(x, z)
            assert judgement.logit.shape == (2,)
            assert judgement.h.shape == (2, 5)
            assert judgement.phi.shape == (2, widths(shape, 2)[-1], 4, 4)


# Layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("network", NETWORKS)
def test_every_convolution_is_normalised_but_the_one_that_makes_the_image(network):
    kinds = nn.Conv2d | nn.ConvTranspose2d | nn.BatchNorm2d
    layers = [m for m in network(SHAPE, latent=4, width=2).modules() if isinstance(m, kinds)]
    for layer, behind in zip(layers, [*layers[1:], None], strict=True):
        if isinstance(layer, nn.ConvTranspose2d) and layer.out_channels == 3:
            assert behind is None
            assert layer.bias is not None
        elif not isinstance(layer, nn.BatchNorm2d):
            assert isinstance(behind, nn.BatchNorm2d)
            assert behind.num_features == layer.out_channels
            assert layer.bias is None


@pytest.mark.parametrize("network", NETWORKS)
def test_weights_are_drawn_as_in_dcgan(network):
    torch.manual_seed(0)
    made = network(square(32), latent=32, width=16)
    for name, p in made.named_parameters():
        if p.ndim > 1:
            # Within four standard errors of as many draws.
            assert abs(p.std() / 0.02 - 1) < 4 / math.sqrt(2 * p.numel()), name
            assert abs(p.mean() / 0.02) < 4 / math.sqrt(p.numel()), name
        else:
            normalises = name.endswith("weight")
            assert torch.equal(p, torch.full_like(p, float(normalises))), name


@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_convolutions_of_a_discriminator_have_a_largest_singular_value_of_one(discriminator):
    torch.manual_seed(0)
    network = discriminator(SHAPE, latent=4, width=2)
    x, z = pairs()
    for _ in range(20):
        network(x, z)
    network.eval()
    for layer in convolutions(network):
        largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
        torch.testing.assert_close(largest, torch.tensor(1.0), rtol=1e-2, atol=0)
    assert not parametrize.is_parametrized(network.hidden)
    assert not parametrize.is_parametrized(network.logit)


def test_other_networks_are_not_spectrally_normalised():
    made = (Encoder(SHAPE, 4, 2), Generator(SHAPE, 4, 2), Trunk(SHAPE, 2))
    assert not any(parametrize.is_parametrized(m) for network in made for m in network.modules())


def test_pictures_stay_in_range():
    torch.manual_seed(0)
    generator = Generator(square(32), latent=4, width=2).eval()
    with torch.no_grad():
        # Codes far out drive the last layer into both bounds.
        pictures = generator(1e8 * torch.randn(8, 4))
    assert -1 <= pictures.min() < -0.99
    assert 0.99 < pictures.max() <= 1


# Pairs ----------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_projected_logit_is_the_papers():
    torch.manual_seed(0)
    network = ProjectionDiscriminator(SHAPE, latent=4, width=2).eval()
    x, z = pairs()
    phi = network.trunk(x)
    h = phi.flatten(2).sum(2) @ network.hidden.weight.T + network.hidden.bias
    expected = (h @ network.logit.weight.T + network.logit.bias)[:, 0] + (h * z).sum(1)
    got = network(x, z)
    torch.testing.assert_close(got.logit, expected)
    torch.testing.assert_close(got.h, h)
    torch.testing.assert_close(got.phi, phi)


def test_the_projected_logit_is_linear_in_the_code_with_slope_h():
    torch.manual_seed(0)
    network = ProjectionDiscriminator(SHAPE, latent=4, width=2).eval()
    x, z = pairs()
    z.requires_grad_()
    judgement = network(x, z)
    (slope,) = torch.autograd.grad(judgement.logit.sum(), z)
    torch.testing.assert_close(slope, judgement.h.detach())
    at = [network(x, factor * z).logit for factor in (0.0, 1.0, -3.0)]
    torch.testing.assert_close(at[2] - at[0], -3 * (at[1] - at[0]))
    assert (at[1] - at[0]).abs().min() > 0


@torch.no_grad()
def test_the_concatenated_logit_sees_the_code_in_every_place():
    torch.manual_seed(0)
    network = ConcatenatingDiscriminator(SHAPE, latent=4, width=2).eval()
    x, z = pairs()
    phi = network.trunk(x)
    joint = network.joint(torch.cat([phi, z.view(3, 4, 1, 1).repeat(1, 1, 4, 4)], 1))
    h = network.hidden(joint.flatten(2).sum(2))
    expected = network.logit(torch.where(h > 0, h, 0.2 * h))[:, 0]
    got = network(x, z)
    torch.testing.assert_close(got.logit, expected)
    torch.testing.assert_close(got.h, h)
    torch.testing.assert_close(got.phi, phi)


@torch.no_grad()
@pytest.mark.parametrize("discriminator", DISCRIMINATORS)
def test_a_pair_is_judged_by_both_parts(discriminator):
    torch.manual_seed(0)
    network = discriminator(SHAPE, latent=4, width=2).eval()
    x, z = pairs()
    straight, crossed, other = network(x, z), network(x, z.flip(0)), network(x.flip(0), z)
    assert not torch.equal(straight.logit, crossed.logit)
    assert not torch.equal(straight.logit, other.logit)
    assert torch.equal(straight.phi, crossed.phi)
    # What makes the two kinds different: here the features are of the image alone, or joint.
    assert torch.equal(straight.h, crossed.h) == (discriminator is ProjectionDiscriminator)


def test_outputs_are_float32_under_bf16():
    x, z = pairs()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = [Encoder(SHAPE, 4, 2)(x), Generator(SHAPE, 4, 2)(z)]
        for discriminator in DISCRIMINATORS:
            outputs += discriminator(SHAPE, 4, 2)(x, z)
    for output in outputs:
        assert output.dtype == torch.float32
        assert output.isfinite().all()
