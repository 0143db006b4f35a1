import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from onlygood.core.errors import ShapeError
from onlygood.core.method import InputShape
from onlygood.methods.lsa import LSA, Estimator, LSAConfig
from tests.methods.nets import SHAPE, batch, images

SMALL = {"stem": 2, "widths": (2, 4), "hidden": 8, "latent": 4, "bins": 10, "estimator": 3}


def lsa(shape: InputShape = SHAPE, **config) -> LSA:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LSA(LSAConfig(**{**SMALL, **config}), shape)


@torch.no_grad()
def log_likelihood(method: LSA, z: Tensor) -> Tensor:
    """Entry by entry, the bin that it is in."""
    logits = method.estimator(z)
    rows = [
        sum(F.log_softmax(row[:, i], 0)[int(entry * 10)] for i, entry in enumerate(code))
        for code, row in zip(z, logits, strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("preset", "shape", "side"), [("mnist", (1, 28, 28), 7), ("cifar10", (3, 32, 32), 4)]
)
def test_networks_are_the_papers(preset: str, shape: tuple[int, int, int], side: int) -> None:
    method = LSA(LSAConfig(**LSA.presets[preset].config), InputShape(*shape))
    x = torch.rand(2, *shape)
    assert method.encoder.blocks(x).shape[2:] == (side, side)
    assert method.reconstruct(x).shape == x.shape
    # Four masked layers of 32 units for each of 64 entries, and the one of their 100 bins.
    sizes = [(64, 2048), (2048, 2048), (2048, 2048), (2048, 2048), (2048, 6400)]
    assert [w.T.shape for w in method.estimator.parameters() if w.ndim == 2] == sizes


def test_an_entry_is_told_by_those_before_it_alone() -> None:
    estimator, z = Estimator(5, 3, 7), torch.rand(5)
    reach = torch.autograd.functional.jacobian(lambda z: estimator(z[None])[0].sum(0), z)
    assert (reach.triu() == 0).all()
    assert (reach.tril(-1) != 0).sum() == 10


def test_the_loss_is_error_and_likelihood() -> None:
    method, x = lsa(likelihood=0.5).eval(), images()
    z = method.encoder(x)
    error = (x - method.decoder(z)).square().sum((1, 2, 3))
    expected = (error - 0.5 * log_likelihood(method, z)).mean()
    torch.testing.assert_close(method.loss(batch()).total, expected)
    # Whatever is likely, the last bin ends at 1.
    assert method.surprise(torch.ones(1, 4)).isfinite().all()


@torch.no_grad()
def test_the_score_is_in_units_of_what_held_out_images_span() -> None:
    method, x = lsa().eval(), images()
    seen = images(3) * torch.tensor([0.0, 0.5, 1.0]).view(3, 1, 1, 1)
    # Else entries of all images are in the same bins.
    code, logits = method.encoder.code, torch.logit(method.encoder(seen))
    scale = 1.5 / logits.std(0)
    code.weight *= scale[:, None]
    code.bias.sub_(logits.mean(0)).mul_(scale)

    def parts(x: Tensor) -> Tensor:
        z = method.encoder(x)
        error = (x - method.decoder(z)).square().sum((1, 2, 3))
        return torch.stack([-log_likelihood(method, z), error], 1)

    # In the same batches: rounding that is not the same can put an entry into another bin.
    known = torch.cat([parts(batch) for batch in seen.split(2)])
    method.measure(seen.split(2))
    span = known.amax(0) - known.amin(0)
    assert (span > 0.01).all()
    scores = method.score(x)
    torch.testing.assert_close(scores.total, (parts(x) / span).sum(1))
    torch.testing.assert_close(torch.stack(list(scores.terms.values()), 1), parts(x))
    method.measure([x[:1]])
    assert torch.equal(method.span, torch.ones(2))


def test_images_that_its_blocks_cannot_halve_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"halved 2 times .* got 30 x 30; set size=16"):
        lsa(InputShape(1, 30, 30))


@torch.no_grad()
def test_an_estimator_that_is_not_trained_does_not_count() -> None:
    method, x = lsa(likelihood=0.0).eval(), images()
    method.measure([x])
    scores = method.score(x)
    torch.testing.assert_close(scores.total, scores.terms["pixels"] / method.span[1])
