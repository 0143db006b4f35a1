import math

import pytest
import torch
from torch import nn

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.core.stage import Batch, Progress
from onlygood.methods.deep_svdd import DeepSVDD, DeepSVDDConfig
from tests.methods.nets import SHAPE, batch, images

SMALL = {"widths": (2, 3), "latent": 16}


def deep_svdd(shape: InputShape = SHAPE, **config) -> DeepSVDD:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return DeepSVDD(DeepSVDDConfig(**{**SMALL, **config}), shape)


def weights(network: nn.Module | None) -> int:
    assert network is not None
    return sum(p.numel() for p in network.parameters())


def test_networks_are_the_papers() -> None:
    mnist = deep_svdd(InputShape(1, 28, 28), **DeepSVDD.presets["mnist"].config)
    assert weights(mnist.encoder) == 25 * (8 + 8 * 4) + 196 * 32
    assert weights(mnist.decoder) == 25 * (2 * 4 + 4 * 8 + 8)
    cifar = DeepSVDD(DeepSVDDConfig(), InputShape(3, 32, 32))
    assert weights(cifar.encoder) == 25 * (3 * 32 + 32 * 64 + 64 * 128) + 2048 * 128
    assert weights(cifar.decoder) == 25 * (8 * 128 + 128 * 64 + 64 * 32 + 32 * 3)
    for method, x in ((mnist, torch.rand(2, 1, 28, 28)), (cifar, torch.rand(2, 3, 32, 32))):
        assert method.decoder is not None
        assert method.decoder(method.encoder(x)).shape == x.shape
        # Neither a bias nor a learnt shift, which could give every image the centre.
        assert all(p.ndim > 1 for p in method.parameters())


def test_the_centre_is_the_mean_code_away_from_zero() -> None:
    method, x = deep_svdd(contrast=False).eval(), images()
    with torch.no_grad():
        method.encoder.code.weight[0] = 0.0
        method.settle(x.split(4))
        mean = method.encoder(x).mean(0)
    assert method.centre[0] == torch.tensor(0.1)
    near = mean.abs() < 0.1
    assert near[1:].any() and not near.all()
    torch.testing.assert_close(method.centre[~near], mean[~near])
    torch.testing.assert_close(method.centre[1:].sign(), mean[1:].sign())
    assert (method.centre.abs() >= 0.1).all()


def test_one_class_is_the_mean_squared_distance() -> None:
    method, x = deep_svdd(contrast=False), images()
    method.centre.fill_(0.3)
    expected = (method.encoder(x) - 0.3).square().sum(1)
    loss = method.sphere_loss(batch())
    torch.testing.assert_close(loss.total, expected.mean())
    torch.testing.assert_close(method.score(x).total, expected)


def test_a_soft_boundary_leaves_its_share_outside() -> None:
    method = deep_svdd(contrast=False, objective="soft_boundary", nu=0.4, warmup_epochs=1)
    d = method.distance(images())
    early = Batch(normal=images(), generator=torch.Generator())
    # Radius 0 as long as it is early.
    torch.testing.assert_close(method.sphere_loss(early).total, d.mean() / 0.4)
    assert method.radius == 0
    late = Batch(normal=images(), generator=torch.Generator(), progress=Progress(epoch=1))
    method.sphere_loss(late)
    # Of six distances, the fourth by size is at the share 0.6.
    torch.testing.assert_close(method.radius, d.sort().values[3].sqrt().detach())
    squared = method.radius.square()
    expected = squared + (d - squared).clamp_min(0).mean() / 0.4
    torch.testing.assert_close(method.sphere_loss(late).total, expected)
    torch.testing.assert_close(method.score(images()).total, d - squared)


def test_training_images_span_the_range_whatever_their_contrast() -> None:
    method, x = deep_svdd(), images()
    method.measure(x.split(4))
    rescaled = method.rescaled(x)
    assert (rescaled.min(), rescaled.max()) == (0, 1)
    torch.testing.assert_close(method.rescaled(0.5 * x + 0.2), rescaled)
    method.measure([torch.full((2, 1, 32, 32), 0.5)])
    assert torch.isfinite(method.rescaled(x)).all()


def test_stages_share_the_budget_as_the_paper_has_it() -> None:
    _, pretraining, sphere = DeepSVDD(DeepSVDDConfig(), InputShape(3, 32, 32)).stages()
    assert 500 * pretraining.share == 350
    assert math.isclose(500 * sphere.share, 150)
    rates = [stage.updates[0].optimizers[0].schedule for stage in (pretraining, sphere)]
    assert rates[0].at(step=0, spent=249 / 350) == 1 != rates[0].at(step=0, spent=250 / 350)
    assert rates[1].at(step=0, spent=49 / 150) == 1 != rates[1].at(step=0, spent=50 / 150)
    assert [stage.name for stage in deep_svdd(pretraining=0.0).stages()] == ["contrast", "sphere"]


def test_images_that_its_blocks_are_not_for_are_refused() -> None:
    with pytest.raises(ShapeError, match="a multiple of 4, at least 8; got 30 x 30"):
        deep_svdd(InputShape(1, 30, 30))
    with pytest.raises(ShapeError, match="2 blocks are for images of 4 to 32 px, got 64"):
        deep_svdd(InputShape(1, 64, 64))


@pytest.mark.parametrize(("side", "blocks"), [(8, 4), (64, 2), (128, 3), (256, 3), (260, 4)])
def test_the_widths_that_a_refusal_names_are_taken(side: int, blocks: int) -> None:
    with pytest.raises(ShapeError) as error:
        deep_svdd(InputShape(1, side, side), widths=(2,) * blocks)
    named = str(error.value).rpartition("widths=")[2].split(",")
    deep_svdd(InputShape(1, side, side), widths=(2,) * len(named))
