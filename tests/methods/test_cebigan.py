import re
from typing import Any

import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError
from onlygood.core.method import InputShape
from onlygood.core.resolving import Resolved, resolve
from onlygood.core.settings import Training, View
from onlygood.core.stage import Batch
from onlygood.core.terms import Loss
from onlygood.data.source import ImageSource
from onlygood.data.store import PictureStore
from onlygood.losses.adversarial import GAMES, Game
from onlygood.methods.cebigan import CEBiGAN, CEBiGANConfig
from onlygood.networks.dcgan import (
    ConcatenatingDiscriminator,
    ProjectionDiscriminator,
)
from onlygood.networks.modes import recounting
from onlygood.training import Trainer
from tests.methods.nets import SHAPE, batch, descend, equal, gradients, images

KINDS = ("projection", "concatenate")


def fresh(**config: Any) -> CEBiGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CEBiGAN(CEBiGANConfig(**{"width": 2, "latent": 4, **config}), SHAPE)


def settled(**config: Any) -> CEBiGAN:
    """In eval mode, so that a second look at the same batch shows the same."""
    method = fresh(**config).eval()
    with torch.no_grad(), recounting(method):
        method.score(images())
    return method


def store(view: View) -> PictureStore:
    pictures = (255 * images()[:, 0]).to(torch.uint8).numpy()
    return PictureStore(ImageSource.of(pictures), view)


def fit(method: CEBiGAN, **training: Any) -> None:
    view = View(size=32, channels=1)
    Trainer(Training(**{"steps": 1, "batch_size": 6, **training})).fit(method, store(view))


# Algorithm 1: what encoder and generator minimise ---------------------------------------------


def parts(method: CEBiGAN) -> tuple[Tensor, Tensor]:
    """The adversarial and the consistency loss as printed, straight from the networks."""
    b = batch()
    x, z = 2 * b.normal - 1, b.normals(4)
    z_x, x_z = method.encoder(x), method.generator(z)
    # In Algorithm 1's labels, D is the probability that a pair came from the generator.
    real = 1 - method.discriminator(x, z_x).logit.sigmoid()
    fake = 1 - method.discriminator(x_z, z).logit.sigmoid()
    adversarial = -real.log().mean() - (1 - fake).log().mean()
    there_and_back = (x - method.generator(z_x)).abs().mean()
    back_and_there = (z - method.encoder(x_z)).abs().mean()
    return adversarial, there_and_back + back_and_there


@pytest.mark.parametrize("discriminator", KINDS)
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
def test_alpha_mixes_the_two_losses(discriminator: str, alpha: float) -> None:
    method = settled(discriminator=discriminator, alpha=alpha)
    adversarial, consistency = parts(method)
    expected = (1 - alpha) * adversarial + alpha * consistency
    torch.testing.assert_close(method.generator_loss(batch()).total, expected)


def test_the_discriminator_minimises_what_algorithm_1_prints() -> None:
    method = settled()
    b = batch()
    x, z = 2 * b.normal - 1, b.normals(4)
    real = 1 - method.discriminator(x, method.encoder(x)).logit.sigmoid()
    fake = 1 - method.discriminator(method.generator(z), z).logit.sigmoid()
    expected = -fake.log().mean() - (1 - real).log().mean()
    torch.testing.assert_close(method.discriminator_loss(batch()).total, expected)


def test_a_sum_counts_every_pixel_and_every_entry_of_the_code() -> None:
    mean = settled().generator_loss(batch()).terms
    total = settled(consistency_reduction="sum").generator_loss(batch()).terms
    torch.testing.assert_close(total["consistency_x"], 32 * 32 * mean["consistency_x"])
    torch.testing.assert_close(total["consistency_z"], 4 * mean["consistency_z"])


def test_without_consistency_only_the_discriminator_moves_encoder_and_generator() -> None:
    method = settled(alpha=0.0)
    trained = (method.encoder, method.generator)
    adversarial, consistency = parts(method)
    loss = method.generator_loss(batch())
    got = gradients(loss.total, trained)
    assert equal(got, gradients(adversarial, trained))
    assert not equal(got, gradients(adversarial + 1e-3 * consistency, trained))
    assert not {"consistency_x", "consistency_z"} & set(loss.terms)


def test_with_consistency_alone_the_discriminator_has_no_say() -> None:
    method = settled(alpha=1.0)
    trained = (method.encoder, method.generator)
    got = gradients(method.generator_loss(batch()).total, trained)
    assert equal(got, gradients(parts(method)[1], trained))
    reached = gradients(method.generator_loss(batch()).total, [method.discriminator])
    assert reached == tuple(None for _ in method.discriminator.parameters())


@pytest.mark.parametrize(("alpha", "passes"), [(0.0, 1), (0.9, 2)])
def test_a_plain_bigan_makes_no_passes_for_consistency(alpha: float, passes: int) -> None:
    # Each pass in train mode enters the statistics that scoring normalises by.
    method = fresh(alpha=alpha)
    method.generator_loss(batch())
    counts = {name: n for name, n in method.named_buffers() if name.endswith("batches_tracked")}
    assert {n.item() for name, n in counts.items() if name[0] in "eg"} == {passes}
    assert {n.item() for name, n in counts.items() if name[0] == "d"} == {2}


# The game -------------------------------------------------------------------------------------


def losses(method: CEBiGAN) -> tuple[float, float]:
    of_generator = method.generator_loss(batch()).terms
    of_discriminator = method.discriminator_loss(batch()).total.item()
    return of_discriminator, (of_generator["encoder"] + of_generator["generator"]).item()


def moves(method: CEBiGAN) -> tuple[float, float]:
    """Change of D's loss by a step of E and G, and of theirs by a step of D."""
    of_discriminator, of_generator = losses(method)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    descend(method.generator_loss(batch()).total, (method.encoder, method.generator), 1e-3)
    after_theirs, _ = losses(method)
    method.load_state_dict(before)
    descend(method.discriminator_loss(batch()).total, (method.discriminator,), 1e-3)
    _, after_its = losses(method)
    return after_theirs - of_discriminator, after_its - of_generator


EQ_6 = GAMES["non_saturating"]
ALGORITHM_1 = Game(lambda real, fake: EQ_6.critic(fake, real), EQ_6.generator, EQ_6.encoder)
"""The same game with labels swapped in all losses."""


@pytest.mark.parametrize("discriminator", KINDS)
@pytest.mark.parametrize("game", [EQ_6, ALGORITHM_1], ids=["eq6", "algorithm1"])
def test_each_side_moves_against_the_other_in_either_convention(
    monkeypatch: pytest.MonkeyPatch, game: Game, discriminator: str
) -> None:
    monkeypatch.setattr("onlygood.methods.cebigan.GAME", game)
    of_discriminator, of_generator = moves(settled(alpha=0.0, discriminator=discriminator))
    assert of_discriminator > 0
    assert of_generator > 0


@pytest.mark.parametrize("discriminator", KINDS)
@pytest.mark.parametrize(
    ("one", "other"), [(EQ_6, ALGORITHM_1), (ALGORITHM_1, EQ_6)], ids=["eq6", "algorithm1"]
)
def test_mixed_label_conventions_make_the_players_cooperate(
    monkeypatch: pytest.MonkeyPatch, one: Game, other: Game, discriminator: str
) -> None:
    mixed = Game(one.critic, other.encoder, other.generator)
    monkeypatch.setattr("onlygood.methods.cebigan.GAME", mixed)
    of_discriminator, of_generator = moves(settled(alpha=0.0, discriminator=discriminator))
    assert of_discriminator < 0
    assert of_generator < 0


def test_the_encoder_is_moved_by_real_pairs_and_the_generator_by_fake_ones() -> None:
    method = settled(alpha=0.0)
    b = batch()
    p = method(b)
    real, fake = method.judged(p)
    assert all(g is None for g in gradients(real.sum(), [method.generator]))
    assert all(g is None for g in gradients(fake.sum(), [method.encoder]))
    terms, watched = method.generator_loss(b).terms, method.discriminator_loss(batch()).terms
    assert {"encoder", "generator"} <= set(terms)
    torch.testing.assert_close(watched["real"], real.detach().mean())
    torch.testing.assert_close(watched["fake"], fake.detach().mean())


@torch.no_grad()
def test_each_kind_of_pair_is_normalised_by_itself() -> None:
    method = fresh()
    p = method(batch())
    brighter = p._replace(x_z=p.x_z + 1)
    start = {k: v.clone() for k, v in method.state_dict().items()}
    real, _ = method.judged(p)
    method.load_state_dict(start)
    beside_others, _ = method.judged(brighter)
    assert torch.equal(real, beside_others)


def test_all_gradients_come_from_the_same_images_and_the_same_weights() -> None:
    method = fresh()
    seen: list[tuple[str, Tensor, list[Tensor]]] = []

    def watched(name: str, loss: Any) -> Any:
        def call(b: Batch) -> Loss:
            seen.append((name, b.normal, [p.detach().clone() for p in method.parameters()]))
            return loss(b)

        return call

    method.generator_loss = watched("generator", method.generator_loss)  # type: ignore[method-assign]
    method.discriminator_loss = watched("discriminator", method.discriminator_loss)  # type: ignore[method-assign]
    fit(method, steps=2)
    assert [name for name, *_ in seen] == 2 * ["generator", "discriminator"]
    for (_, x, weights), (_, same_x, same_weights) in (seen[:2], seen[2:]):
        assert torch.equal(x, same_x)
        assert all(map(torch.equal, weights, same_weights))
    assert not torch.equal(seen[0][1], seen[2][1])
    assert not any(map(torch.equal, seen[0][2], seen[2][2]))


@torch.no_grad()
def test_codes_and_pictures_are_watched() -> None:
    method = settled()
    terms = method.generator_loss(batch()).terms
    z = method.encoder(2 * images() - 1)
    torch.testing.assert_close(terms["code_norm"], z.square().sum(1).sqrt().mean())
    torch.testing.assert_close(terms["code_mean"], z.mean())
    torch.testing.assert_close(terms["code_std"], z.var(1, correction=0).sqrt().mean())
    assert terms["diversity"] > 0.001
    for parameter in method.generator.parameters():
        parameter.zero_()
    assert method.generator_loss(batch()).terms["diversity"] == 0


# Scoring --------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("layer", ["h", "phi"])
@pytest.mark.parametrize("discriminator", KINDS)
def test_the_score_compares_with_the_reconstruction(discriminator: str, layer: str) -> None:
    method = settled(discriminator=discriminator, feature_layer=layer, score_features=0.25)
    x = 2 * images() - 1
    z = method.encoder(x)
    x_hat = method.generator(z)
    pixels = (x - x_hat).abs().sum((1, 2, 3))
    f, f_hat = (getattr(method.discriminator(at, z), layer) for at in (x, x_hat))
    features = (f - f_hat).abs().flatten(1).sum(1)
    scores = method.score(images())
    torch.testing.assert_close(scores.terms, {"pixels": pixels, "features": features})
    torch.testing.assert_close(scores.total, 0.75 * pixels + 0.25 * features)
    assert scores.map is not None
    torch.testing.assert_close(scores.map.sum((1, 2)), pixels)
    assert features.min() > 0


def first_means(method: CEBiGAN) -> tuple[Tensor, Any]:
    """What the encoder's first normalisation subtracts, and what it would for given images."""
    (layer, norm, *_) = method.encoder.trunk.blocks[0]  # type: ignore[misc]
    return norm.running_mean.clone(), lambda x: layer(x).mean((0, 2, 3))


@torch.no_grad()
def test_statistics_can_be_those_of_scoring_normal_images() -> None:
    method = fresh(statistics="normal")
    with torch.enable_grad():
        fit(method, steps=2)
    mean, mean_of = first_means(method)
    pictures = (255 * images()).to(torch.uint8).float() / 255
    torch.testing.assert_close(mean, mean_of(2 * pictures - 1))


@torch.no_grad()
def test_statistics_of_training_hold_generated_images_too() -> None:
    method = fresh()
    assert method.stages()[0].after is None
    for _ in range(100):
        method.generator_loss(batch())
    mean, mean_of = first_means(method)
    p = method(batch())
    # Each pass replaces a tenth; that of generated images comes last.
    torch.testing.assert_close(mean, (0.09 * mean_of(p.x) + 0.1 * mean_of(p.x_z)) / 0.19)


# Settings -------------------------------------------------------------------------------------


def preset(name: str) -> Resolved:
    return resolve("cebigan", CEBiGANConfig, CEBiGAN.presets, preset=name)


@pytest.mark.parametrize(
    ("name", "discriminator", "alpha"),
    [
        ("bigan-concatenate", "concatenate", 0.0),
        ("bigan-projection", "projection", 0.0),
        ("consistency-concatenate", "concatenate", 0.9),
        ("paper", "projection", 0.9),
    ],
)
def test_the_rows_of_table_1_differ_in_two_settings_alone(
    name: str, discriminator: str, alpha: float
) -> None:
    resolved = preset(name)
    assert resolved.config == CEBiGANConfig(discriminator=discriminator, alpha=alpha)
    assert resolved.view == View(size=128)
    assert resolved.training == Training(steps=20_000, batch_size=32)


@pytest.mark.parametrize(
    ("kind", "network"),
    [("projection", ProjectionDiscriminator), ("concatenate", ConcatenatingDiscriminator)],
)
def test_the_setting_names_the_discriminator(kind: str, network: type) -> None:
    assert type(fresh(discriminator=kind).discriminator) is network


def test_the_papers_optimiser() -> None:
    generator, discriminator = CEBiGAN(CEBiGANConfig(width=1), SHAPE).stages()[0].updates
    assert generator.optimizer == discriminator.optimizer
    assert (generator.optimizer.lr, generator.optimizer.betas) == (1e-4, (0.9, 0.999))


def test_one_digit_is_learnt_for_fifty_passes() -> None:
    resolved = preset("mnist")
    assert (resolved.view.size, resolved.config.latent) == (32, 200)
    assert (resolved.training.epochs, resolved.training.batch_size) == (50, 64)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("width", 0, "width must be 1 or more, got 0"),
        ("latent", -1, "latent must be 1 or more, got -1"),
        ("alpha", 1.01, "alpha must be in [0, 1], got 1.01"),
        ("score_features", -0.1, "score_features must be in [0, 1], got -0.1"),
        ("betas", (0.0, 1.0), "betas must be in [0, 1), got (0.0, 1.0)"),
        ("lr", 0.0, "lr must be more than 0, got 0.0"),
    ],
)
def test_a_number_out_of_its_range_is_refused(field: str, value: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        CEBiGANConfig(**{field: value})


@pytest.mark.parametrize("discriminator", KINDS)
def test_a_single_picture_is_a_batch(discriminator: str) -> None:
    # Normalisation over single values would have no spread to divide by.
    method = fresh(discriminator=discriminator, statistics="normal")
    fit(method, batch_size=1, steps=2)
    assert method.score(images()).total.isfinite().all()


def test_grey_and_colour() -> None:
    method = CEBiGAN(CEBiGANConfig(width=1, latent=2), InputShape(3, 64, 64)).eval()
    scores = method.score(torch.rand(2, 3, 64, 64))
    assert scores.map is not None
    assert scores.map.shape == (2, 64, 64)
