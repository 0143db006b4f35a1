import math

import pytest
import torch
from torch import Tensor

from onlygood.core.method import InputShape
from onlygood.core.resolving import resolve
from onlygood.core.settings import View
from onlygood.data.tiling import Tiled, tile_starts
from onlygood.losses.adversarial import GAMES, Game
from onlygood.methods import cbigan as module
from onlygood.methods.cbigan import CBiGAN, CBiGANConfig
from tests.methods.nets import batch, cbigan, descend, equal, gradients, images

# Eq. 13: what encoder and generator minimise --------------------------------------------------


def parts(method: CBiGAN) -> tuple[Tensor, Tensor]:
    """Eq. 5 and Eq. 10 to 12, straight from the networks."""
    b = batch()
    z = b.normals(method.config.latent)
    x, z_x, x_z = b.normal, method.encoder(b.normal), method.generator(z)
    adversarial = method.critic(x, z_x).value.mean() - method.critic(x_z, z).value.mean()
    there_and_back = (x - method.generator(z_x)).abs().sum((1, 2, 3)).mean()
    back_and_there = (z - method.encoder(x_z)).abs().sum(1).mean()
    return adversarial, there_and_back + back_and_there


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_alpha_mixes_the_two_losses(alpha: float) -> None:
    method = cbigan(alpha=alpha)
    adversarial, consistency = parts(method)
    expected = (1 - alpha) * adversarial + alpha * consistency
    torch.testing.assert_close(method.generator_loss(batch()).total, expected)


def test_without_consistency_only_the_critic_moves_encoder_and_generator() -> None:
    method = cbigan(alpha=0.0)
    trained = (method.encoder, method.generator)
    adversarial, consistency = parts(method)
    got = gradients(method.generator_loss(batch()).total, trained)
    assert equal(got, gradients(adversarial, trained))
    assert not equal(got, gradients(adversarial + 1e-3 * consistency, trained))


def test_with_consistency_alone_the_critic_has_no_say() -> None:
    method = cbigan(alpha=1.0)
    trained = (method.encoder, method.generator)
    consistency = gradients(parts(method)[1], trained)
    assert equal(gradients(method.generator_loss(batch()).total, trained), consistency)
    assert gradients(method.generator_loss(batch()).total, [method.critic]) == tuple(
        None for _ in method.critic.parameters()
    )


# The game -------------------------------------------------------------------------------------


def critic_and_generator_losses(method: CBiGAN) -> tuple[float, float]:
    critic = method.critic_loss(batch()).terms["adversarial"]
    generator = method.generator_loss(batch()).terms
    return critic.item(), (generator["encoder"] + generator["generator"]).item()


def moves(method: CBiGAN) -> tuple[float, float]:
    """Change of the critic's loss by a step of E and G, and of theirs by a step of the critic."""
    critic, generator = critic_and_generator_losses(method)
    network_state = {k: v.clone() for k, v in method.state_dict().items()}
    descend(method.generator_loss(batch()).total, (method.encoder, method.generator), 1e-2)
    after_theirs, _ = critic_and_generator_losses(method)
    method.load_state_dict(network_state)
    descend(method.critic_loss(batch()).total, (method.critic,), 1e-2)
    _, after_its = critic_and_generator_losses(method)
    return after_theirs - critic, after_its - generator


@pytest.mark.parametrize("game", GAMES)
def test_each_side_moves_against_the_other(game: str) -> None:
    of_critic, of_generator = moves(cbigan(game=game, alpha=0.0, penalty_weight=0.0))
    assert of_critic > 0
    assert of_generator > 0


def test_mixed_label_conventions_make_the_players_cooperate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = GAMES["wasserstein"]
    monkeypatch.setitem(GAMES, "wasserstein", Game(honest.critic, honest.generator, honest.encoder))
    of_critic, of_generator = moves(cbigan(alpha=0.0, penalty_weight=0.0))
    assert of_critic < 0
    assert of_generator < 0


def test_encoder_and_generator_are_on_one_side() -> None:
    method = cbigan(alpha=0.0)
    terms = method.generator_loss(batch()).terms
    watched = method.critic_loss(batch()).terms
    torch.testing.assert_close(terms["encoder"], watched["real"])
    torch.testing.assert_close(terms["generator"], -watched["fake"])


@torch.no_grad()
@pytest.mark.parametrize("n", [2, 6])
def test_a_collapsed_generator_has_no_diversity(n: int) -> None:
    method = cbigan()
    assert method.generator_loss(batch(6)).terms["diversity"] > 0.001
    for parameter in method.generator.parameters():
        parameter.zero_()
    assert method.generator_loss(batch(n)).terms["diversity"] == 0


# The gradient penalty -------------------------------------------------------------------------


@pytest.mark.parametrize("crossed", [False, True])
def test_the_penalty_lies_between_real_and_fake_pairs(
    monkeypatch: pytest.MonkeyPatch, crossed: bool
) -> None:
    method = cbigan(crossed_penalty=crossed)
    seen: list[tuple[Tensor, ...]] = []

    def look(critic: object, *points: Tensor) -> Tensor:
        seen.append(points)
        return torch.zeros(6)

    monkeypatch.setattr(module, "two_sided", look)
    p = method(batch())
    real_code, fake_code = (p.z, p.z_x) if crossed else (p.z_x, p.z)
    for epsilon in (torch.ones(6), torch.zeros(6)):
        method.gradient_penalty(p, epsilon)
    real, fake = seen
    assert torch.equal(real[0], p.x)
    assert torch.equal(real[1], real_code)
    assert torch.equal(fake[0], p.x_z)
    assert torch.equal(fake[1], fake_code)


def test_the_two_sided_penalty_takes_image_and_code_together() -> None:
    method = cbigan()
    p = method(batch())
    x, z = p.x.detach().requires_grad_(), p.z_x.detach().requires_grad_()
    slopes = torch.autograd.grad(method.critic(x, z).value.sum(), (x, z))
    length = (slopes[0].square().sum((1, 2, 3)) + slopes[1].square().sum(1)).sqrt()
    torch.testing.assert_close(method.gradient_penalty(p, torch.ones(6)), (length - 1).square())


def test_the_zero_centred_penalty_looks_at_fake_images_alone() -> None:
    method = cbigan(penalty="zero_centred_fake")
    p = method(batch())
    x = p.x_z.detach().requires_grad_()
    (slope,) = torch.autograd.grad(method.critic(x, p.z).value.sum(), x)
    torch.testing.assert_close(
        method.gradient_penalty(p, torch.rand(6)), slope.square().sum((1, 2, 3))
    )


def test_the_critic_pays_for_its_slope() -> None:
    loss = cbigan(penalty_weight=7.0).critic_loss(batch())
    expected = loss.terms["adversarial"] + 7 * loss.terms["penalty"]
    torch.testing.assert_close(loss.total.detach(), expected)


# The score ------------------------------------------------------------------------------------


def score_by_hand(method: CBiGAN, x: Tensor) -> tuple[Tensor, Tensor]:
    z = method.encoder(x)
    x_hat = method.generator(z)
    pixels = (x - x_hat).abs().sum((1, 2, 3))
    features = (method.critic(x, z).features - method.critic(x_hat, z).features).abs().sum(1)
    return pixels, features


@torch.no_grad()
def test_the_score_compares_with_the_reconstruction() -> None:
    method = cbigan(score_features=0.25)
    pixels, features = score_by_hand(method, images())
    scores = method.score(images())
    torch.testing.assert_close(scores.terms, {"pixels": pixels, "features": features})
    torch.testing.assert_close(scores.total, 0.75 * pixels + 0.25 * features)
    assert scores.map is not None
    torch.testing.assert_close(scores.map.sum((1, 2)), pixels)


@torch.no_grad()
def test_a_texture_is_as_bad_as_its_worst_tile() -> None:
    method = cbigan(InputShape(1, 64, 64))
    view = View(size=512, tile=64, channels=1)
    assert [len(starts) for starts in tile_starts(view)] == [8, 8]
    picture = images(1, side=512)
    tiles = picture.unfold(2, 64, 64).unfold(3, 64, 64).reshape(64, 1, 64, 64)
    worst = method.score(tiles).total.max()
    torch.testing.assert_close(Tiled(method, view).score(picture).total, worst[None])

    order = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    mixed = tiles[order].view(8, 8, 64, 64).transpose(1, 2).reshape(1, 1, 512, 512)
    assert not torch.equal(mixed, picture)
    torch.testing.assert_close(Tiled(method, view).score(mixed).total, worst[None])


# Presets --------------------------------------------------------------------------------------


def preset(name: str, side: int = 32, channels: int = 1) -> CBiGAN:
    config, _, _ = resolve("cbigan", CBiGANConfig, CBiGAN.presets, preset=name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CBiGAN(config, InputShape(channels, side, side))


@torch.no_grad()
def test_the_tf2_preset_works_between_minus_one_and_one() -> None:
    method = preset("tf2")
    p = method(batch())
    torch.testing.assert_close(p.x, 2 * batch().normal - 1)
    assert p.x_z.min() < 0
    assert p.x_z.abs().max() <= 1
    pixels, features = score_by_hand(method, 2 * images() - 1)
    torch.testing.assert_close(method.score(images()).total, 0.9 * pixels + 0.1 * features)


def test_the_tf2_preset_trains_the_critic_five_times() -> None:
    critic, generator = preset("tf2").stages()[0].updates
    assert (critic.repeat, generator.repeat) == (5, 1)
    assert (critic.batch, generator.batch) == ("fresh", "fresh")
    assert critic.optimizer.betas == (0.0, 0.9)
    assert generator.optimizer.betas == (0.0, 0.1)


def test_the_bigan_preset_has_no_consistency() -> None:
    assert preset("bigan").config == CBiGANConfig(alpha=0.0)


def test_the_notebook_preset_is_hinge_and_one_sided() -> None:
    config = preset("notebook").config
    assert (config.game, config.penalty, config.penalty_weight) == (
        "hinge",
        "zero_centred_fake",
        2.5,
    )
    # Three published presets state alpha in three units; this one is 1e-4 for sums over 32 images.
    assert config.alpha == pytest.approx(1e-4 * 32)


@pytest.mark.parametrize(
    ("name", "side", "generator", "encoder", "critic"),
    [
        ("notebook", 128, 2_080_947, 2_424_736, 3_098_209),
        ("notebook-texture", 64, 2_080_947, 1_638_304, 2_311_777),
        ("tf2", 128, 83_142, 87_892, 666_437),
        ("tf2-texture", 64, 83_142, 60_244, 638_789),
    ],
)
def test_the_networks_have_their_published_sizes(
    name: str, side: int, generator: int, encoder: int, critic: int
) -> None:
    method = preset(name, side, channels=3)
    networks = (method.generator, method.encoder, method.critic)
    counts = [sum(math.prod(p.shape) for p in network.parameters()) for network in networks]
    assert counts == [generator, encoder, critic]


def test_averaging_is_asked_for() -> None:
    assert cbigan().stages()[0].ema is None
    method = cbigan(ema_decay=0.999)
    ema = method.stages()[0].ema
    assert ema is not None
    assert (ema.modules, ema.decay, ema.every) == (
        (method.encoder, method.generator),
        0.999,
        10,
    )
