import math
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from onlygood.core.errors import ConfigError, ShapeError
from onlygood.core.gradients import Balance
from onlygood.core.method import InputShape
from onlygood.core.resolving import parse_assignment, resolve
from onlygood.core.stage import Batch
from onlygood.core.terms import Loss
from onlygood.losses.perceptual import relative_l1
from onlygood.methods import piad as module
from onlygood.methods.piad import PIAD, PIADConfig
from onlygood.networks.backbones import trained_statistics
from onlygood.training.balance import Balancer
from tests.methods.nets import batch, descend, equal, gradients, images

SMALL = {"width": 2, "critic_width": 2, "latent_critic_width": 4, "latent": 4}
LITE = {"backbone": "efficientnet-lite0", "layer": "stride8"}
KEEP = {"retain_graph": True}
STANDARDISED = ("rel_perc_l1", "perc_l1")


def piad(shape: InputShape | None = None, measured: bool = True, **config: Any) -> PIAD:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = PIAD(PIADConfig(**{**SMALL, **config}), shape or InputShape(1, 32, 32))
    if measured and method.config.distance in STANDARDISED:
        with torch.no_grad():
            method.measure([images(20)])
    return method.eval()


def preset(name: str, side: int = 32, channels: int = 1, **overrides: Any) -> PIAD:
    """The method of a preset with its networks at full size, but with the backbone at hand."""
    config, _, _ = resolve(
        "piad", PIADConfig, PIAD.presets, preset=name, overrides={**LITE, **overrides}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return PIAD(config, InputShape(channels, side, side))


def parts(method: PIAD) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 6 for G and for E, and Eq. 7, straight from the networks."""
    b = batch()
    x, z = 2 * b.normal - 1, b.normals(method.code)
    z_x = method.encoder(x)
    f = method.features(b.normal)
    f_hat = method.features((method.generator(z_x) + 1) / 2)
    return (
        -method.image_critic(method.generator(z)).mean(),
        -method.latent_critic(z_x).mean(),
        module.DISTANCES[method.config.distance].of_image(f, f_hat).mean(),
    )


# Both critics: Eq. 5 --------------------------------------------------------------------------


def inputs(method: PIAD, name: str) -> tuple[nn.Module, Tensor, Tensor]:
    """A critic with what it should raise and lower, as its loss draws them."""
    b = batch()
    x, z = 2 * b.normal - 1, b.normals(method.code)
    if name == "image_critic":
        return method.image_critic, x, method.generator(z)
    return method.latent_critic, z, method.encoder(x)


def critic_loss(method: PIAD, name: str) -> Loss:
    losses = {"image_critic": method.image_critic_loss, "latent_critic": method.latent_critic_loss}
    return losses[name](batch())


each_critic = pytest.mark.parametrize("name", ["image_critic", "latent_critic"])


@each_critic
def test_a_critic_raises_real_and_lowers_fake(name: str) -> None:
    method = piad()
    critic, real, fake = inputs(method, name)
    terms = critic_loss(method, name).terms
    torch.testing.assert_close(terms["real"], critic(real).mean().detach())
    torch.testing.assert_close(terms["fake"], critic(fake).mean().detach())
    torch.testing.assert_close(terms["adversarial"], terms["fake"] - terms["real"])


@each_critic
def test_a_critic_pays_for_its_slope_and_for_large_values(name: str) -> None:
    method = piad(penalty_weight=7.0, drift_weight=0.5)
    critic, real, fake = inputs(method, name)
    loss = critic_loss(method, name)
    drift = critic(real).square().mean() + critic(fake).square().mean()
    torch.testing.assert_close(loss.terms["drift"], drift.detach())
    expected = loss.terms["adversarial"] + 7 * loss.terms["penalty"] + 0.5 * loss.terms["drift"]
    torch.testing.assert_close(loss.total.detach(), expected)


@each_critic
def test_the_penalty_lies_between_real_and_fake(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    method = piad()
    seen: list[Tensor] = []

    def look(critic: object, point: Tensor) -> Tensor:
        seen.append(point.detach())
        return torch.zeros(6)

    monkeypatch.setattr(module, "two_sided", look)
    critic, real, fake = inputs(method, name)
    for epsilon in (torch.ones(6), torch.zeros(6)):
        method.critic_loss(critic, real, fake, epsilon)
    assert torch.equal(seen[0], real)
    assert torch.equal(seen[1], fake)


def test_images_of_a_kind_are_judged_among_themselves() -> None:
    method = piad()
    _, real, fake = inputs(method, "image_critic")
    together = method.image_critic(torch.cat([real, fake])).detach()
    terms = critic_loss(method, "image_critic").terms
    assert not torch.allclose(together[:6].mean(), terms["real"], rtol=1e-4)


@each_critic
def test_each_side_moves_against_the_other(name: str) -> None:
    method = piad(penalty_weight=0.0, drift_weight=0.0)
    theirs = {"image_critic": "generator", "latent_critic": "encoder"}[name]

    def losses() -> tuple[Tensor, Tensor]:
        critic = critic_loss(method, name).terms["adversarial"]
        return critic, method.generator_loss(batch()).terms[theirs]

    before = losses()
    state = {k: v.clone() for k, v in method.state_dict().items()}
    descend(method.generator_loss(batch()).total, (method.encoder, method.generator), 1e-2)
    assert losses()[0] > before[0]
    method.load_state_dict(state)
    descend(critic_loss(method, name).total, (getattr(method, name),), 1e-2)
    assert losses()[1] > before[1]


# Encoder and generator: Eq. 6 to 9 ------------------------------------------------------------


@pytest.mark.parametrize("distance", module.DISTANCES)
def test_the_reconstruction_is_apart_from_the_game(distance: str) -> None:
    method = piad(distance=distance)
    of_generator, of_encoder, reconstruction = parts(method)
    loss = method.generator_loss(batch())
    assert loss.balanced is not None
    torch.testing.assert_close(loss.total, of_generator + of_encoder)
    torch.testing.assert_close(loss.balanced, reconstruction)
    trained = (method.encoder, method.generator)
    assert equal(gradients(loss.balanced, trained), gradients(reconstruction, trained))


def test_encoder_and_generator_have_a_critic_each() -> None:
    method = piad()
    of_generator, of_encoder, _ = parts(method)
    total = method.generator_loss(batch()).total
    for network, part in ((method.generator, of_generator), (method.encoder, of_encoder)):
        assert equal(gradients(total, [network]), gradients(part, [network]))


def test_fixed_weights_are_those_of_equations_8_and_9() -> None:
    method = piad(weights="fixed", gamma_generator=100.0, gamma_encoder=10.0)
    trained = (method.generator, method.encoder)
    balance = method.stages()[-1].updates[-1].gradients
    assert isinstance(balance, Balance)
    assert balance.every == 0
    of_generator, of_encoder, reconstruction = parts(method)
    expected = [
        *gradients(of_generator + 100 * reconstruction, [method.generator]),
        *gradients(of_encoder + 10 * reconstruction, [method.encoder]),
    ]
    own = [p for network in trained for p in network.parameters()]
    balancer = Balancer(balance, own)
    balancer.backward(method.generator_loss(batch()), step=100, repetition=0)
    assert equal([p.grad for p in own], expected)


def test_the_settings_of_normalised_weights_reach_the_trainer() -> None:
    method = piad(
        gamma_every=3, gamma_window=4, gamma_smoothing=0.5, gamma_size="l2", gamma_reduce="mean"
    )
    balance = method.stages()[-1].updates[-1].gradients
    assert isinstance(balance, Balance)
    assert dict(balance.modules) == {"generator": method.generator, "encoder": method.encoder}
    assert not balance.initial
    assert (balance.every, balance.window, balance.smoothing) == (3, 4, 0.5)
    assert (balance.size, balance.reduce) == ("l2", "mean")


def test_generator_and_encoder_get_weights_of_their_own() -> None:
    method = piad()
    update = method.stages()[-1].updates[-1]
    assert isinstance(update.gradients, Balance)
    balancer = Balancer(update.gradients, [p for m in update.trains for p in m.parameters()])
    balancer.fill(method.generator_loss(batch()), measure=True)
    of_generator, of_encoder, reconstruction = parts(method)
    for network, part in (("generator", of_generator), ("encoder", of_encoder)):
        kernels = [p for p in getattr(method, network).parameters() if p.ndim == 4]
        sizes = [
            torch.stack([g.std(correction=0) for g in torch.autograd.grad(loss, kernels, **KEEP)])
            for loss in (part, reconstruction)
        ]
        expected = np.median(sizes[0] / sizes[1])
        assert balancer.weights[network] == pytest.approx(expected, rel=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("n", [2, 6])
def test_a_collapsed_generator_has_no_diversity(n: int) -> None:
    method = piad()
    assert method.generator_loss(batch(6)).terms["diversity"] > 0.001
    for parameter in method.generator.parameters():
        parameter.zero_()
    assert method.generator_loss(batch(n)).terms["diversity"] == 0


# Features and distances: Eq. 1 to 4 -----------------------------------------------------------


def features(method: PIAD, x: Tensor) -> Tensor:
    (maps,) = method.backbone(x)
    return maps


@torch.no_grad()
def test_features_are_standardised_by_the_training_images() -> None:
    method = piad(measured=False)
    (statistics, _) = method.stages()
    assert statistics.before is not None
    statistics.before([images(20)[:9], images(20)[9:]])
    f = method.features(images(20)).transpose(0, 1).flatten(1)
    torch.testing.assert_close(f.mean(1), torch.zeros(len(f)), atol=1e-4, rtol=0)
    torch.testing.assert_close(f.std(1, correction=0), torch.ones(len(f)), atol=1e-3, rtol=0)


@torch.no_grad()
def test_features_can_be_standardised_by_imagenet() -> None:
    method = piad(measured=False, statistics="imagenet")
    assert [stage.name for stage in method.stages()] == ["adversarial"]
    mean, std = (v[:, None, None] for v in trained_statistics(method.backbone))
    expected = (features(method, images()) - mean) / std
    torch.testing.assert_close(method.features(images()), expected)


@torch.no_grad()
def test_the_perceptual_distance_compares_features_as_they_are() -> None:
    method = piad(distance="perceptual")
    assert [stage.name for stage in method.stages()] == ["adversarial"]
    assert torch.equal(method.features(images()), features(method, images()))


@torch.no_grad()
def test_mse_compares_images_in_units_of_imagenet_and_needs_no_backbone() -> None:
    method = piad(distance="mse", backbone="vgg19", layer="r42")
    assert not [name for name, _ in method.named_buffers()]
    x, y = images(4), images(8)[4:]
    got = module.DISTANCES["mse"].of_image(method.features(x), method.features(y))
    std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
    torch.testing.assert_close(got, ((x - y) / std).square().mean((1, 2, 3)))
    assert method.prepare(x) is None


@torch.no_grad()
def test_prepared_features_are_what_the_loss_would_compute() -> None:
    method = piad()
    b = batch()
    prepared = method.prepare(b.normal)
    assert prepared is not None
    with_them = Batch(normal=b.normal, generator=batch().generator, prepared=prepared)
    expected = method.generator_loss(batch())
    torch.testing.assert_close(method.generator_loss(with_them).balanced, expected.balanced)
    others = Batch(normal=b.normal, generator=batch().generator, prepared=prepared.flip(0))
    assert not torch.allclose(method.generator_loss(others).balanced, expected.balanced)


@torch.no_grad()
def test_the_relative_distance_is_zero_for_equals_scale_free_and_not_symmetric() -> None:
    method = piad()
    f, g = method.features(images(4)), method.features(images(8)[4:])
    assert torch.equal(relative_l1(f, f), torch.zeros(4))
    torch.testing.assert_close(relative_l1(7 * f, 7 * g), relative_l1(f, g))
    assert not torch.allclose(relative_l1(f, g), relative_l1(g, f), rtol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("distance", module.DISTANCES)
def test_the_score_is_the_distance_from_the_reconstruction(distance: str) -> None:
    method, x = piad(distance=distance), images()
    f = method.features(x)
    f_hat = method.features((method.generator(method.encoder(2 * x - 1)) + 1) / 2)
    difference = f - f_hat
    l1, l2 = difference.abs().mean((1, 2, 3)), difference.square().mean((1, 2, 3))
    expected = {
        "rel_perc_l1": l1 / f.abs().mean((1, 2, 3)),
        "perc_l1": l1,
        "perceptual": l2,
        "mse": l2,
    }
    scores = method.score(x)
    torch.testing.assert_close(scores.total, expected[distance])
    assert list(scores.terms) == ["distance"]


@torch.no_grad()
@pytest.mark.parametrize("distance", module.DISTANCES)
def test_the_map_is_warm_where_the_image_cannot_be_given_back(distance: str) -> None:
    method = piad(InputShape(1, 64, 64), distance=distance, layer="stride4")
    # A generator that gives grey, so that only the patch differs.
    for parameter in method.generator.parameters():
        parameter.zero_()
    x = torch.full((1, 1, 64, 64), 0.5)
    x[:, :, 40:56, 8:24] = 1.0
    heat = method.score(x).map
    assert heat is not None
    assert heat.shape == (1, 64, 64)
    row, column = divmod(int(heat.argmax()), 64)
    assert 34 <= row < 62
    assert 2 <= column < 30
    assert heat[0, :16, 40:].max() < 0.1 * heat.max()


def test_reconstructions_are_not_cut_off() -> None:
    method = piad(distance="mse")
    for parameter in method.generator.parameters():
        parameter.data.zero_()
    method.generator.image.bias.data.fill_(5.0)
    loss = method.generator_loss(batch()).balanced
    assert loss is not None
    (slope,) = torch.autograd.grad(loss, method.generator.image.bias)
    assert slope > 0


# Settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "side", "channels", "counts"),
    [
        ("mnist", 32, 1, [90_433, 73_280, 72_769, 20_865]),
        ("coil-100", 32, 3, [90_499, 73_856, 73_345, 20_865]),
        ("cifar10", 32, 3, [2_897_539, 2_338_304, 571_137, 1_313_793]),
        ("lsun", 64, 3, [427_011, 373_152, 363_905, 5_249_025]),
        ("celeba", 64, 3, [435_075, 366_976, 363_905, 82_689]),
    ],
)
def test_the_networks_of_the_papers_tables(
    name: str, side: int, channels: int, counts: list[int]
) -> None:
    method = preset(name, side, channels)
    networks = (method.generator, method.encoder, method.image_critic, method.latent_critic)
    found = [sum(math.prod(p.shape) for p in network.parameters()) for network in networks]
    assert found == counts
    config, _, _ = resolve("piad", PIADConfig, PIAD.presets, preset=f"paper-{name}")
    assert replace(config, **LITE) == method.config


@pytest.mark.parametrize(
    ("name", "steps", "critic_steps"),
    [
        ("coil-100", 20_000, 2),
        ("mnist", 50_000, 2),
        ("cifar10", 100_000, 2),
        ("lsun", 200_000, 3),
        ("celeba", 200_000, 3),
    ],
)
def test_the_papers_schedules(name: str, steps: int, critic_steps: int) -> None:
    for key, seen in (
        (name, ("efficientnet-lite0", "stride8")),
        (f"paper-{name}", ("vgg19", "r42")),
    ):
        config, view, training = resolve("piad", PIADConfig, PIAD.presets, preset=key)
        assert (training.steps, training.batch_size) == (steps, 32)
        assert (config.backbone, config.layer) == seen
        assert view.size == (64 if name in ("lsun", "celeba") else 32)
        method = preset(key, view.size, **SMALL)
        images, codes, generator = method.stages()[-1].updates
        for critic in (images, codes):
            assert (critic.repeat, critic.batch) == (critic_steps, "fresh")
            assert (critic.optimizer.lr, critic.optimizer.betas) == (5e-4, (0.5, 0.99))
        assert (generator.optimizer.lr, generator.optimizer.betas) == (2e-4, (0.5, 0.99))
        assert (generator.repeat, generator.batch) == (1, "fresh")


def test_the_ablation_has_a_preset_for_each_row() -> None:
    rows = {
        "ablation-mse-fixed": ("mse", "fixed"),
        "ablation-mse": ("mse", "normalised"),
        "ablation-perceptual": ("perceptual", "normalised"),
        "ablation-perc-l1": ("perc_l1", "normalised"),
        "paper-cifar10": ("rel_perc_l1", "normalised"),
    }
    base, _, _ = resolve("piad", PIADConfig, PIAD.presets, preset="paper-cifar10")
    for name, (distance, weights) in rows.items():
        config, _, training = resolve("piad", PIADConfig, PIAD.presets, preset=name)
        assert (config.distance, config.weights, training.steps) == (distance, weights, 100_000)
        assert (config.gamma_generator, config.gamma_encoder) == (100.0, 10.0)
        same = ("width", "critic_width", "doublings", "latent", "latent_critic_width", "backbone")
        assert all(getattr(config, field) == getattr(base, field) for field in same)


def test_a_layer_too_coarse_for_the_images_is_refused() -> None:
    method = piad(layer="stride32", measured=False)
    with pytest.raises(ShapeError, match="of at least 32 pixels, got 16"):
        method.features(images(2, side=16))


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("width=0", "width must be 1 or more, got 0"),
        ("critic_width=0", "critic_width must be 1 or more, got 0"),
        ("latent_critic_width=0", "latent_critic_width must be 1 or more, got 0"),
        ("latent=0", "latent must be 1 or more, got 0"),
        ("latent_side=2", "latent_side cannot be '2'"),
        ("doublings=-1", "doublings must be 0 or more, got -1"),
        ("critic_steps=0", "critic_steps must be 1 or more, got 0"),
        ("penalty_weight=-1", "penalty_weight must be 0 or more, got -1.0"),
        ("drift_weight=-1", "drift_weight must be 0 or more, got -1.0"),
        ("weight_decay=-1", "weight_decay must be 0 or more, got -1.0"),
        ("gamma_every=0", "gamma_every must be 1 or more, got 0"),
        ("gamma_window=0", "gamma_window must be 1 or more, got 0"),
        ("gamma_smoothing=0", "gamma_smoothing must be in (0, 1], got 0.0"),
        ("gamma_generator=0", "gamma_generator must be more than 0, got 0.0"),
        ("gamma_encoder=-1", "gamma_encoder must be more than 0, got -1.0"),
        ("lr=0", "lr must be more than 0, got 0.0"),
        ("critic_lr=0", "critic_lr must be more than 0, got 0.0"),
        ("betas=0,1", "betas must be in [0, 1), got (0.0, 1.0)"),
    ],
)
def test_a_number_out_of_its_range_is_refused(assignment: str, says: str) -> None:
    overrides = dict([parse_assignment(assignment)])
    with pytest.raises(ConfigError, match=re.escape(says)):
        resolve("piad", PIADConfig, PIAD.presets, overrides=overrides)
