import numpy as np
import pytest
import torch
from scipy.ndimage import shift
from torch.nn import functional as F

from onlygood.core.method import InputShape
from onlygood.methods.geotrans import GeoTrans, GeoTransConfig, likeliest, transformations
from tests.methods.nets import SHAPE, batch, images


def geotrans(**config) -> GeoTrans:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GeoTrans(GeoTransConfig(**{"width": 2, "shifts": False, **config}), SHAPE)


def test_transformations_are_the_papers() -> None:
    picture = np.random.RandomState(0).rand(8, 8)
    places = transformations(8, flips=True, shifts=True)
    found = {tuple(row.tolist()) for row in places}
    assert len(places) == len(found) == 72
    assert places[0].tolist() == list(range(64))
    expected = [
        np.rot90(shift(mirrored, (down, right), order=0, mode="reflect"), quarters)
        for mirrored in (picture, picture[:, ::-1])
        for right in (0, -2, 2)
        for down in (0, -2, 2)
        for quarters in range(4)
    ]
    np.testing.assert_array_equal(picture.flatten()[places].reshape(-1, 8, 8), expected)


@pytest.mark.parametrize(("flips", "shifts", "count"), [(0, 0, 4), (1, 0, 8), (0, 1, 36)])
def test_what_is_left_out(flips: bool, shifts: bool, count: int) -> None:
    assert len(transformations(8, flips=bool(flips), shifts=bool(shifts))) == count


def test_the_network_is_a_wide_residual_one() -> None:
    network = GeoTrans(GeoTransConfig(), InputShape(3, 32, 32)).network
    # WRN-10-4: convolutions with bias, normalisation, and 72 classes.
    convolutions = {
        (16, 3, 3): 1,
        (64, 16, 3): 1,
        (64, 64, 3): 1,
        (64, 16, 1): 1,
        (128, 64, 3): 1,
        (128, 128, 3): 1,
        (128, 64, 1): 1,
        (256, 128, 3): 1,
        (256, 256, 3): 1,
        (256, 128, 1): 1,
    }
    weights = sum(a * b * k * k + a for a, b, k in convolutions)
    norms = 2 * (16 + 64 + 64 + 128 + 128 + 256 + 256)
    assert sum(p.numel() for p in network.parameters()) == weights + norms + 257 * 72


def test_images_are_classified_by_what_was_done_to_them() -> None:
    method = geotrans().eval()
    which = (batch().uniforms() * 8).long()
    assert len(which.unique()) > 1
    losses = []
    for image, number in zip(images(), which, strict=True):
        turned = image.flatten(1)[:, method.places[number]].view_as(image)
        losses.append(F.cross_entropy(method.network(2 * turned[None] - 1), number[None]))
    loss = method.loss(batch())
    torch.testing.assert_close(loss.total, torch.stack(losses).mean())
    # Of a network that says one thing of all images, those are right that it is true of.
    method.network.logits.weight.data.zero_()
    method.network.logits.bias.data = F.one_hot(which[0], 8).float()
    right = (which == which[0]).float().mean()
    torch.testing.assert_close(method.loss(batch()).terms["accuracy"], right)


def test_the_likeliest_dirichlet_distribution_is_found() -> None:
    alpha = torch.tensor([[0.3, 2.0, 7.0], [5.0, 0.1, 0.4]], dtype=torch.float64)
    # What means of a sample tend to; the fit has no other root.
    total = alpha.sum(1, keepdim=True)
    found = likeliest(alpha / total, torch.digamma(alpha) - torch.digamma(total))
    torch.testing.assert_close(found, alpha, rtol=1e-5, atol=1e-6)


def test_vectors_that_are_all_alike_have_a_likeliest_one_too() -> None:
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    found = likeliest(p, p.log())
    assert found.isfinite().all() and found.sum() > 1e5
    torch.testing.assert_close(found / found.sum(), p, rtol=1e-3, atol=0)


@torch.no_grad()
def test_the_score_is_the_mean_density_over_transformations() -> None:
    method, x, seen = geotrans(flips=False).eval(), images(), images(20)
    method.network.logits.weight *= 20
    method.measure(seen.split(8))
    scores = method.score(x)
    likelihood, right = torch.zeros(6), torch.zeros(6)
    for number in range(4):
        of_seen = torch.softmax(method.network(2 * torch.rot90(seen, number, (2, 3)) - 1), 1)
        alpha = likeliest(
            of_seen.double().mean(0, keepdim=True), of_seen.double().log().mean(0, keepdim=True)
        )[0]
        p = torch.softmax(method.network(2 * torch.rot90(x, number, (2, 3)) - 1), 1)
        distribution = torch.distributions.Dirichlet(alpha.float(), validate_args=False)
        constant = torch.lgamma(alpha.sum()) - torch.lgamma(alpha).sum()
        likelihood += (distribution.log_prob(p) - constant) / 4
        right += p[:, number] / 4
    torch.testing.assert_close(scores.total, -likelihood.float(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores.terms["probability"], 1 - right, rtol=1e-4, atol=1e-5)
