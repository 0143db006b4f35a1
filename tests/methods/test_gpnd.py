import math

import numpy as np
import pytest
import torch
from scipy.stats import gennorm
from torch.autograd.functional import jacobian
from torch.nn import functional as F

from onlygood.core.errors import ConfigError
from onlygood.methods.gpnd import BINS, GPND, GPNDConfig, likeliest
from tests.methods.nets import SHAPE, batch, images


def gpnd(**config) -> GPND:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = GPND(GPNDConfig(**{"width": 2, "critic_width": 4, "latent": 4, **config}), SHAPE)
    for layer in (method.encoder.code, method.generator.dense, method.generator.image):
        layer.weight.data *= 10  # So that codes and images differ.
    return method.eval()


def test_the_autoencoder_is_trained_by_cross_entropy_and_the_critic_of_codes() -> None:
    method, x = gpnd(reconstruction=3.0), images()
    z = method.encoder(x)
    error = F.binary_cross_entropy(method.generated(z), x)
    game = -F.logsigmoid(method.latent_critic(z).value).mean()
    loss = method.autoencoder_loss(batch())
    torch.testing.assert_close(loss.total, 3 * error + game)
    # The verdict asks for an error that falls to 0; the entropy of grey pixels is left of theirs.
    torch.testing.assert_close(loss.terms["reconstruction"], F.mse_loss(method.generated(z), x))


def test_both_critics_tell_what_is_drawn_from_what_is_made_of_images() -> None:
    method, x = gpnd(), images()
    noise = batch().normals(4)
    drawn = method.generated(noise)
    for loss, real, fake in (
        (method.critic_loss, method.critic(x), method.critic(drawn)),
        (
            method.latent_critic_loss,
            method.latent_critic(noise),
            method.latent_critic(method.encoder(x)),
        ),
    ):
        expected = -F.logsigmoid(real.value) - F.logsigmoid(-fake.value)
        torch.testing.assert_close(loss(batch()).total, expected.mean())
    game = -F.logsigmoid(method.critic(drawn).value).mean()
    torch.testing.assert_close(method.generator_loss(batch()).total, game)


@pytest.mark.parametrize("tangent", ["generator", "code", "none"])
def test_codes_count_for_how_far_they_are_stretched(tangent: str) -> None:
    method, x = gpnd(tangent=tangent), images(2)
    z = method.encoder(x).detach()
    with torch.no_grad():
        stretch = method.stretch(x, z)
    for image, code, value in zip(x, z, stretch, strict=True):
        if tangent == "generator":
            j = jacobian(lambda z: method.generated(z[None]).flatten(), code)
        elif tangent == "code":
            j = jacobian(lambda x: method.encoder(x.view(1, *SHAPE))[0], image.flatten())
        else:
            j = torch.eye(4)
        expected = torch.linalg.svdvals(j.double()).log().sum().float()
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-4)


def test_rates_are_quartered_five_times() -> None:
    (adversarial, _) = gpnd(drop_epochs=30).stages()
    schedule = adversarial.updates[0].optimizers[0].schedule
    rates = [schedule.at(step=0, epoch=epoch) for epoch in (29, 30, 89, 600)]
    assert rates == [1, 1 / 4, 1 / 16, 1 / 4**5]


@torch.no_grad()
def test_the_score_is_minus_the_log_of_the_likelihood() -> None:
    method, x, seen = gpnd(power=0.5), images(), images(40)
    method.measure(seen.split(16))
    z = method.encoder(x).numpy()
    r = (x - method.reconstruct(x)).square().sum((1, 2, 3)).sqrt()
    trained = (seen - method.reconstruct(seen)).square().sum((1, 2, 3)).sqrt()
    scores = method.score(x)

    shapes = [likeliest(entries) for entries in method.encoder(seen).double().numpy().T]
    code = [gennorm.logpdf(z[:, i], *shape) for i, shape in enumerate(shapes)]
    torch.testing.assert_close(
        scores.terms["code"], -torch.tensor(np.sum(code, 0)).float(), rtol=1e-3, atol=1e-3
    )

    # The surface of a sphere of radius r in N dimensions is 2 pi^(N/2) r^(N-1) / Gamma(N/2).
    n = (32 * 32 - 4) / 2
    density, edges = np.histogram(trained.numpy(), bins=BINS, density=True)
    for distance, told in zip(r, scores.terms["distance"], strict=True):
        p = density[min(int(np.searchsorted(edges, float(distance), "right")) - 1, BINS - 1)]
        surface = math.log(2) + n / 2 * math.log(math.pi) + (n - 1) * math.log(distance)
        expected = surface - math.lgamma(n / 2) - math.log(p)
        assert math.isclose(told, expected, rel_tol=1e-4)
    torch.testing.assert_close(scores.total, torch.stack(list(scores.terms.values())).sum(0))

    # Farther than any training image, the density is the smallest that there is.
    far = method.unlikely_distance(trained.max()[None] * torch.tensor([1.5, 3.0]))
    assert math.isclose(far[1] - far[0], (n - 1) * math.log(2), rel_tol=1e-3)
    assert far[0] > 700
    # Nearer than any, it falls with the distance.
    near = method.unlikely_distance(trained.min()[None] * torch.tensor([0.5, 0.25]))
    assert density[0] > 0
    assert math.isclose(near[0] - near[1], (n - 2) * math.log(2), rel_tol=1e-3)


def test_few_codes_leave_neither_a_spike_nor_a_wall() -> None:
    draw = np.random.default_rng(0)
    spiked, level = draw.laplace(size=30) ** 3, draw.uniform(-1, 1, size=30)
    for codes, expected in ((spiked, 1.0), (level, 10.0)):
        free = gennorm.fit(codes)[0]
        assert not 1 <= free <= 10
        exponent, centre, scale = likeliest(codes)
        assert math.isclose(exponent, expected, rel_tol=1e-4)
        best = gennorm.logpdf(codes, exponent, centre, scale).sum()
        for e in (1.0, 2.0, 5.0, 10.0):
            other = gennorm.fit(codes, f0=e)
            assert gennorm.logpdf(codes, *other).sum() <= best + 1e-3


def test_of_equal_codes_rounding_does_not_decide() -> None:
    for code, narrowest in ((0.3, 1e-5), (-20.0, 2e-4)):
        _, centre, scale = likeliest(np.full(30, code))
        assert math.isclose(centre, code) and math.isclose(scale, narrowest)


def test_codes_that_say_their_exponent_are_fitted_freely() -> None:
    codes = np.random.default_rng(0).normal(size=2000)
    assert likeliest(codes) == gennorm.fit(codes)
    assert math.isclose(likeliest(codes)[0], 2, rel_tol=0.1)


def test_far_beyond_codes_that_hardly_differ_is_unlikely_and_not_infinite() -> None:
    method = gpnd()
    narrow = torch.tensor([10.0, 0.0, 1e-6])
    method.shapes.copy_(narrow[:, None].expand_as(method.shapes))
    (beyond,) = method.unlikely_code(torch.ones(1, 4))
    assert 1e29 < beyond < math.inf


def test_a_code_as_large_as_a_picture_is_refused() -> None:
    with pytest.raises(ConfigError, match="latent=1024 leaves nothing beside the code of 1024"):
        gpnd(latent=1024)
