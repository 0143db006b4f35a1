import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

from onlygood.core.method import InputShape
from onlygood.core.resolving import Resolved, resolve
from onlygood.core.stage import Batch, Progress
from onlygood.core.terms import Loss
from onlygood.losses.distances import l1_sum, spread
from onlygood.methods import ama as module
from onlygood.methods.ama import AMA, AMAConfig, Pass
from tests.methods.nets import SHAPE, descend, equal, gradients, images


def ama(shape: InputShape = SHAPE, **config: Any) -> AMA:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AMA(AMAConfig(**{"width": 2, "latent": 4, **config}), shape)


def batch(n: int = 6, *, known: bool = False, epoch: int = 0) -> Batch:
    """Each call gives the same images and draws the same noise."""
    return Batch(
        normal=images(n),
        generator=torch.Generator().manual_seed(2),
        anomalous=images(n).flip(0) if known else None,
        progress=Progress(epoch=epoch),
    )


def networks(method: AMA) -> tuple[nn.Module, nn.Module]:
    return method.encoder, method.generator


def state(module: nn.Module) -> Mapping[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, 1e-4, 1e-4)


# Eq. 1 to 4: what is minimised ----------------------------------------------------------------


def settled(**config: Any) -> AMA:
    """In eval mode no pass changes what the next one gives, so that losses can be made by hand."""
    return ama(**config).eval()


def values(method: AMA, p: Pass) -> tuple[Tensor, Tensor]:
    """D(x, x) and D(x, x_hat), straight from the critic."""
    real = method.critic(torch.cat([p.x, p.x], 1)).value
    return real, method.critic(torch.cat([p.x, p.x_hat], 1)).value


def test_both_sides_see_labels() -> None:
    method = settled(negative_weight=3.0, negatives=0.34)
    p = method(batch(known=True))
    label = torch.tensor([1.0, 1, 1, 1, -3, -3])
    assert torch.equal(p.label, label)
    real, fake = values(method, p)
    critic = method.critic_loss(batch(known=True)).terms
    generator = method.generator_loss(batch(known=True)).terms
    torch.testing.assert_close(critic["adversarial"], (label * (fake - real)).mean().detach())
    torch.testing.assert_close(generator["adversarial"], (-label * fake).mean().detach())


def test_totals_are_sums_of_weighted_terms() -> None:
    method = ama(interpolation=0.3, penalty_weight=7.0, norm_weight=0.4)
    critic, generator = method.critic_loss(batch()), method.generator_loss(batch())
    c, g = critic.terms, generator.terms
    expected = c["adversarial"] + 7 * c["penalty"] + 0.3 * c["interpolation"]
    torch.testing.assert_close(critic.total.detach(), expected)
    expected = g["adversarial"] + 0.4 * g["code_norm"] + 0.3 * g["interpolation"]
    torch.testing.assert_close(generator.total.detach(), expected)


@pytest.mark.parametrize("loss", ["critic_loss", "generator_loss"])
def test_without_weight_negatives_leave_the_plain_critic_over_normals(loss: str) -> None:
    config = {"interpolation": 0.0, "norm_weight": 0.0, "penalty_weight": 0.0}
    weightless = settled(negative_weight=0.0, negatives=0.5, **config)
    plain = settled(negatives=0.0, **config)
    three = Batch(normal=images(6)[:3], generator=torch.Generator())
    over_normals: Loss = getattr(plain, loss)(three)
    over_batch: Loss = getattr(weightless, loss)(batch(known=True))
    torch.testing.assert_close(over_batch.total, over_normals.total * 3 / 6)
    own = networks(plain) if loss == "generator_loss" else (plain.critic,)
    same = networks(weightless) if loss == "generator_loss" else (weightless.critic,)
    halved = [None if g is None else g / 2 for g in gradients(over_normals.total, own)]
    assert any(g is not None for g in halved)
    assert equal(gradients(over_batch.total, same), halved)


def test_the_norm_of_codes_is_that_of_normal_images() -> None:
    method = settled(negatives=0.34)
    p = method(batch(known=True))
    expected = p.z[:4].norm(dim=1).mean().detach()
    torch.testing.assert_close(
        method.generator_loss(batch(known=True)).terms["code_norm"], expected
    )
    assert "code_norm" not in method.critic_loss(batch()).terms


def test_what_is_watched_is_of_normal_images() -> None:
    method = settled(negatives=0.34)
    critic = method.critic_loss(batch(known=True)).terms
    generator = method.generator_loss(batch(known=True)).terms
    with torch.no_grad():
        p = method(batch(known=True))
        real, fake = values(method, p)
        f, f_hat = (method.judged(p.x, y).features for y in (p.x, p.x_hat))
    torch.testing.assert_close(critic["real"], real[:4].mean())
    torch.testing.assert_close(critic["fake"], fake[:4].mean())
    torch.testing.assert_close(critic["r"], l1_sum(f, f_hat)[:4].mean())
    torch.testing.assert_close(generator["reconstruction"], (p.x - p.x_hat)[:4].abs().mean())
    x, x_hat, z = p.x[:4], p.x_hat[:4], p.z[:4]
    relative = spread(x_hat).mean() / spread(x).mean()
    torch.testing.assert_close(generator["reconstruction_spread"], relative)
    own = spread(z).mean() / z.square().mean().sqrt()
    torch.testing.assert_close(generator["code_spread"], own)


# The game -------------------------------------------------------------------------------------


def losses(method: AMA, b: Batch) -> tuple[float, float]:
    return (
        method.critic_loss(b).terms["adversarial"].item(),
        method.generator_loss(b).terms["adversarial"].item(),
    )


@pytest.mark.parametrize("known", [False, True])
def test_each_side_moves_against_the_other(known: bool) -> None:
    # With known ones all but one image count as negatives: the game is turned round for them.
    method = settled(
        interpolation=0.0, norm_weight=0.0, penalty_weight=0.0, negatives=0.9, negative_weight=2.0
    )

    def b() -> Batch:
        return batch(known=known)

    critic, generator = losses(method, b())
    before = state(method)
    descend(method.generator_loss(b()).total, networks(method), 1e-2)
    after_theirs, theirs = losses(method, b())
    assert theirs < generator
    assert after_theirs > critic
    method.load_state_dict(before)
    descend(method.critic_loss(b()).total, (method.critic,), 1e-2)
    assert losses(method, b())[0] < critic


def test_a_mirrored_critic_sees_the_image_beside_the_reconstruction() -> None:
    method = settled()
    x, y, other = images(2), images(2).flip(0), images(2).flip(2)
    assert not close(method.judged(x, y).value, method.judged(other, y).value)


def test_a_plain_critic_does_not() -> None:
    method = settled(mirrored=False)
    x, y, other = images(2), images(2).flip(0), images(2).flip(2)
    assert torch.equal(method.judged(x, y).value, method.judged(other, y).value)
    p = method(batch())
    real, fake = method.critic(p.x).value, method.critic(p.x_hat).value
    expected = (fake - real).mean().detach()
    torch.testing.assert_close(method.critic_loss(batch()).terms["adversarial"], expected)


# The gradient penalty -------------------------------------------------------------------------


def test_the_penalty_is_of_the_second_image_alone() -> None:
    method = settled()
    p = method(batch())
    t = p.x_hat.detach().requires_grad_()
    (slope,) = torch.autograd.grad(method.judged(p.x, t).value.sum(), t)
    expected = (slope.square().sum((1, 2, 3)).sqrt() - 1).square()
    torch.testing.assert_close(method.gradient_penalty(p, torch.zeros(6)), expected)


def test_per_pixel_it_is_of_the_whole_input() -> None:
    method = settled(penalty="per_pixel")
    p = method(batch())
    pair = torch.cat([p.x, p.x_hat], 1).detach().requires_grad_()
    (slope,) = torch.autograd.grad(method.critic(pair).value.sum(), pair)
    expected = (slope.square().sum(1).sqrt() - 1).square().mean((1, 2))
    torch.testing.assert_close(method.gradient_penalty(p, torch.zeros(6)), expected)


def test_per_pixel_a_plain_critic_has_one_image() -> None:
    method = settled(penalty="per_pixel", mirrored=False)
    p = method(batch())
    x = p.x_hat.detach().requires_grad_()
    (slope,) = torch.autograd.grad(method.critic(x).value.sum(), x)
    expected = (slope.abs().squeeze(1) - 1).square().mean((1, 2))
    torch.testing.assert_close(method.gradient_penalty(p, torch.zeros(6)), expected)


@pytest.mark.parametrize(("u", "end"), [(1.0, "x"), (0.0, "x_hat")])
def test_the_penalty_lies_between_image_and_reconstruction(
    monkeypatch: pytest.MonkeyPatch, u: float, end: str
) -> None:
    method = ama(negatives=0.34)
    seen: list[Tensor] = []

    def look(critic: object, *points: Tensor) -> Tensor:
        seen.extend(points)
        return torch.zeros(6)

    monkeypatch.setattr(module, "two_sided", look)
    p = method(batch(known=True))
    method.gradient_penalty(p, torch.full((6,), u))
    (t,) = seen
    # Negatives are among them.
    assert torch.equal(t, getattr(p, end))


# Interpolation --------------------------------------------------------------------------------


def codes(monkeypatch: pytest.MonkeyPatch, method: AMA, p: Pass) -> tuple[Tensor, Tensor]:
    """Interpolated codes, and who contributed to them."""
    monkeypatch.setattr(method, "generator", nn.Identity())
    inter = method.interpolated(p, batch())
    return inter.x, inter.contributors


def weights(monkeypatch: pytest.MonkeyPatch, **config: Any) -> Tensor:
    """Weights of the contributors, found with codes that are unit vectors."""
    method = ama(latent=6, **config)
    p = method(batch())._replace(z=torch.eye(6))
    z, contributors = codes(monkeypatch, method, p)
    shares = torch.zeros(6, 3)
    for row in range(6):
        chosen = contributors[row]
        if len(chosen.unique()) == 3:
            shares[row] = z[row, chosen]
    return shares[shares.any(1)]


def test_three_normal_images_contribute(monkeypatch: pytest.MonkeyPatch) -> None:
    method = ama(negatives=0.34)
    _, contributors = codes(monkeypatch, method, method(batch(known=True)))
    assert contributors.shape == (4, 3)
    assert torch.equal(contributors[:, 0], torch.arange(4))
    for other in (1, 2):
        assert torch.equal(contributors[:, other].sort()[0], torch.arange(4))


def test_normalised_weights_add_up_to_1(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = weights(monkeypatch)
    assert len(shares) >= 2
    assert (shares > 0).all()
    torch.testing.assert_close(shares.sum(1), torch.ones(len(shares)))
    # Ratios of the same numbers between 0 and 1/2.
    drawn = batch().uniforms(3) / 2
    expected = drawn / drawn.sum(1, keepdim=True)
    assert all((share - expected).abs().sum(1).min() < 1e-6 for share in shares)


def test_of_the_codes_weights_the_third_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = weights(monkeypatch, simplex="remainder")
    assert len(shares) >= 2
    assert (shares[:, :2] < 0.5).all()
    torch.testing.assert_close(shares[:, 2], 1 - shares[:, 0] - shares[:, 1])


def test_each_interpolation_is_paired_with_its_contributors() -> None:
    method = settled()
    p = method(batch())
    inter = method.interpolated(p, batch())
    got = method.judged_interpolations(p, inter)
    for row in range(6):
        pairs = [torch.cat([p.x[j], inter.x[row]])[None] for j in inter.contributors[row]]
        expected = torch.stack([method.critic(pair).value[0] for pair in pairs]).mean()
        torch.testing.assert_close(got[row], expected)


def test_interpolations_play_the_same_game() -> None:
    method = settled()
    b = batch()
    p = method(b)
    b.uniforms()  # Of the penalty.
    inter = method.interpolated(p, b)
    real, fake = values(method, p)[0], method.judged_interpolations(p, inter)
    expected = (fake - real[inter.contributors].mean(1)).mean().detach()
    torch.testing.assert_close(method.critic_loss(batch()).terms["interpolation"], expected)


@pytest.mark.parametrize("detached", [False, True])
def test_interpolations_reach_encoder_and_generator(detached: bool) -> None:
    with_it = settled(detach_interpolation=detached)
    without = settled(interpolation=0.0)
    got = gradients(with_it.generator_loss(batch()).total, networks(with_it))
    plain = gradients(without.generator_loss(batch()).total, networks(without))
    assert equal(got, plain) == detached
    n = len(list(with_it.encoder.parameters()))
    assert equal(got[:n], plain[:n]) == equal(got[n:], plain[n:]) == detached


def test_detached_interpolations_train_the_critic() -> None:
    with_it, without = settled(detach_interpolation=True), settled(interpolation=0.0)
    assert not equal(
        gradients(with_it.critic_loss(batch()).total, [with_it.critic]),
        gradients(without.critic_loss(batch()).total, [without.critic]),
    )


def test_without_interpolation_none_are_made() -> None:
    assert "interpolation" not in ama(interpolation=0.0).generator_loss(batch()).terms


# Negatives ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "expected"), [(256, 26), (32, 3), (8, 1), (2, 1), (1, 0)])
def test_negatives_take_their_share_of_the_batch(n: int, expected: int) -> None:
    method = ama()
    b = Batch(normal=torch.rand(n, 1, 32, 32), generator=torch.Generator(), progress=Progress())
    known = Batch(normal=b.normal, generator=b.generator, anomalous=b.normal)
    assert len(method.negatives(known)) == expected
    assert len(ama(negatives=0.0).negatives(known)) == 0


@pytest.mark.parametrize(("world", "n"), [(1, 32), (2, 16), (4, 8), (16, 2), (32, 1)])
def test_processes_together_have_the_negatives_of_one(world: int, n: int) -> None:
    x = torch.rand(n, 1, 32, 32)
    method = ama(atypical="none")
    batches = [
        Batch(normal=x, generator=torch.Generator(), anomalous=x, rank=rank, world=world)
        for rank in range(world)
    ]
    found = [len(method.negatives(b)) for b in batches]
    assert sum(found) == (3 if n > 1 else 0)
    assert max(found) < n or n == 1


def test_known_anomalous_images_are_the_negatives() -> None:
    method = ama(negatives=0.34, atypical="none")
    p = method(batch(known=True))
    assert p.normals == 4
    torch.testing.assert_close(p.x[:4], 2 * images()[:4] - 1)
    torch.testing.assert_close(p.x[4:], 2 * images().flip(0)[:2] - 1)


@pytest.mark.parametrize(("epoch", "normals"), [(0, 6), (9, 6), (10, 5), (11, 5)])
def test_synthetic_negatives_start_after_ten_passes(epoch: int, normals: int) -> None:
    assert ama()(batch(epoch=epoch)).normals == normals
    assert ama(atypical="none")(batch(epoch=epoch)).normals == 6


def test_synthetic_negatives_are_generated_from_atypical_codes() -> None:
    method = ama(atypical_start=0, negatives=0.34)
    b = batch()
    direction, u = b.normals(4), b.uniforms()
    got = method.negatives(batch())
    assert not got.requires_grad
    method.eval()
    z = method.encoder(2 * images() - 1)
    expected = method.generator(method.atypical(z, direction, u))[:2]
    torch.testing.assert_close(got, expected.detach(), rtol=1e-4, atol=1e-5)


def test_drawing_negatives_leaves_the_networks_as_they_are() -> None:
    method = ama(atypical_start=0).train()
    before = state(method)
    method.negatives(batch())
    assert all(torch.equal(value, before[key]) for key, value in method.state_dict().items())
    assert all(m.training for m in method.modules())


def test_negatives_do_not_change_the_noise_of_what_follows() -> None:
    drawn = []
    for method, b in [
        (ama(atypical="none"), batch()),
        (ama(atypical_start=0), batch()),
        (ama(), batch(known=True)),
    ]:
        method(b)
        drawn.append(b.uniforms())
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


# Atypical selection ---------------------------------------------------------------------------


def noise(n: int) -> tuple[Tensor, Tensor, Tensor]:
    """Codes, directions and radii."""
    draw = torch.Generator().manual_seed(0)
    return (
        3 + torch.randn(n, 4, generator=draw),
        torch.randn(n, 4, generator=draw),
        torch.rand(n, generator=draw),
    )


@pytest.mark.parametrize(("side", "low", "high"), [("inward", 0.75, 1.0), ("outward", 1.0, 1.25)])
@pytest.mark.parametrize("radius", ["sqrt_d", "empirical"])
def test_a_shell_has_its_radius_and_thickness(
    side: str, low: float, high: float, radius: str
) -> None:
    z, direction, u = noise(2000)
    method = ama(atypical=side, atypical_radius=radius, atypical_ratio=0.25)
    r = 2.0 if radius == "sqrt_d" else z.norm(dim=1).mean().item()
    norms = method.atypical(z, direction, u).norm(dim=1) / r
    assert low - 1e-5 < norms.min() < low + 0.01
    assert high - 0.01 < norms.max() < high + 1e-5
    # Uniform in radius, not in volume.
    assert abs(norms.mean() - (low + high) / 2) < 0.01


def test_directions_on_a_shell_are_random() -> None:
    z, direction, u = noise(2000)
    points = nn.functional.normalize(ama().atypical(z, direction, u))
    assert points.mean(0).norm() < 0.05


@pytest.mark.parametrize("side", ["inward", "outward"])
def test_scaled_codes_keep_their_direction(side: str) -> None:
    z, direction, u = noise(2000)
    u[0] = 0.0
    scaled = ama(atypical=side, atypical_form="scaling").atypical(z, direction, u)
    factor = scaled.norm(dim=1) / z.norm(dim=1)
    torch.testing.assert_close(scaled, factor[:, None] * z)
    if side == "inward":
        assert 0 < factor.min() < 0.01
        assert 0.49 < factor.max() < 0.5 + 1e-6
    else:
        assert 2 - 1e-5 < factor.min() < 2.01
        assert factor.max() > 100
    assert scaled.isfinite().all()


# The score ------------------------------------------------------------------------------------


@torch.no_grad()
def test_r_is_the_distance_of_features() -> None:
    method = settled(score="r")
    x = 2 * images() - 1
    x_hat = method.generator(method.encoder(x))
    f, f_hat = (method.critic(torch.cat([x, y], 1)).features for y in (x, x_hat))
    scores = method.score(images())
    torch.testing.assert_close(scores.terms["r"], (f - f_hat).abs().sum(1))
    assert torch.equal(scores.total, scores.terms["r"])
    assert scores.map is not None
    torch.testing.assert_close(scores.map.sum((1, 2)), (x - x_hat).abs().sum((1, 2, 3)))


@torch.no_grad()
def test_a_perfect_reconstruction_has_an_r_of_0(monkeypatch: pytest.MonkeyPatch) -> None:
    method = settled()
    assert method.score(images()).terms["r"].min() > 0
    monkeypatch.setattr(method, "encoder", nn.Identity())
    monkeypatch.setattr(method, "generator", nn.Identity())
    scores = method.score(images())
    assert not scores.terms["r"].any()
    assert scores.map is not None
    assert not scores.map.any()


@torch.no_grad()
def test_a_orders_as_the_density_of_eq_6_does() -> None:
    method = settled()
    r = method.score(images()).terms["r"]
    # In the midst of them: some images are given back too well.
    method.mu.copy_(r.median() + 0.3 * r.std())
    method.sigma.copy_(r.std())
    scores = method.score(images())
    torch.testing.assert_close(scores.total, scores.terms["a"])
    density = norm.pdf(r.double(), float(method.mu), float(method.sigma))
    assert torch.equal(scores.total.argsort(), torch.from_numpy(-density).argsort())
    assert not torch.equal(scores.total.argsort(), r.argsort())


@torch.no_grad()
def test_mu_and_sigma_are_of_r_over_the_training_images() -> None:
    method = settled()
    r = method.score(images(6)).terms["r"]
    method.measure(iter(images(6).split(4)))
    torch.testing.assert_close(method.mu, r.mean())
    torch.testing.assert_close(method.sigma, (r - r.mean()).square().mean().sqrt())
    assert {"mu", "sigma"} < set(method.state_dict())
    torch.testing.assert_close(method.score(images(6)).total.square().mean(), torch.tensor(1.0))


@torch.no_grad()
def test_statistics_can_be_those_of_scoring_normal_images() -> None:
    method = settled(statistics="normal")
    assert method.stages()[0].after == method.recount
    x = 2 * images(6) - 1
    method.recount([images(6)])
    convolution, norm = method.encoder.blocks[0][:2]
    torch.testing.assert_close(norm.running_mean, convolution(x).mean((0, 2, 3)))
    assert norm.momentum == 0.1
    assert not method.encoder.training


@torch.no_grad()
def test_images_that_are_all_alike_leave_scores_finite() -> None:
    method = settled()
    method.measure([images(1)])
    assert method.score(images()).total.isfinite().all()


# Stages and presets ---------------------------------------------------------------------------


def test_all_updates_of_a_step_see_the_same_images() -> None:
    method = ama()
    stage, score = method.stages()
    critic, generator = stage.updates
    assert (critic.repeat, generator.repeat) == (5, 1)
    assert (critic.batch, generator.batch) == ("shared", "shared")
    assert critic.trains == (method.critic,)
    assert generator.trains == networks(method)
    assert stage.order == "alternating"
    assert (stage.after, score.before) == (None, method.measure)


@pytest.mark.parametrize(("drops", "milestones"), [(30, (30, 60, 90)), (7, (7, 14, 21)), (0, ())])
def test_lr_falls_three_times(drops: int, milestones: tuple[int, ...]) -> None:
    adams = [adam for each in ama(lr_drops=drops).stages()[0].updates for adam in each.optimizers]
    assert {(adam.schedule.epochs, adam.schedule.factor) for adam in adams} == {(milestones, 0.1)}


def resolved(preset: str) -> Resolved:
    return resolve("ama", AMAConfig, AMA.presets, preset=preset)


def test_the_paper_preset_is_the_codes_table() -> None:
    config, view, training = resolved("paper")
    assert config == AMAConfig()
    assert (view.size, training.epochs, training.batch_size) == (32, 100, 256)
    method = AMA(config, InputShape(3, 32, 32))
    counts = [sum(math.prod(p.shape) for p in n.parameters()) for n in method.children()]
    assert counts == [1_183_616, 4_276_739, 1_057_664]


@pytest.mark.parametrize(
    ("preset", "change"),
    [
        ("without-mirror", {"mirrored": False}),
        ("without-interpolation", {"interpolation": 0.0}),
        ("without-atypical", {"atypical": "none"}),
        ("r-score", {"score": "r"}),
    ],
)
def test_each_row_of_the_ablation_differs_in_one_setting(
    preset: str, change: Mapping[str, Any]
) -> None:
    _, view, training = resolved("paper")
    assert resolved(preset) == Resolved(AMAConfig(**change), view, training)
