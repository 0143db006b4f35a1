import pytest
import torch
from torch import Tensor

from onlygood.losses.adversarial import GAMES, Game

REAL, FAKE = torch.tensor([0.5, -2.0]), torch.tensor([-0.25, 3.0])


def softplus(x: Tensor) -> Tensor:
    return (1 + x.exp()).log()


@pytest.mark.parametrize(
    ("name", "critic", "encoder", "generator"),
    [
        ("wasserstein", FAKE - REAL, REAL, -FAKE),
        ("hinge", torch.tensor([0.5 + 0.75, 3.0 + 4.0]), REAL, -FAKE),
        ("non_saturating", softplus(-REAL) + softplus(FAKE), softplus(REAL), softplus(-FAKE)),
    ],
)
def test_values(name: str, critic: Tensor, encoder: Tensor, generator: Tensor):
    game = GAMES[name]
    torch.testing.assert_close(game.critic(REAL, FAKE), critic)
    torch.testing.assert_close(game.encoder(REAL), encoder)
    torch.testing.assert_close(game.generator(FAKE), generator)


def test_the_hinge_lets_go_of_what_is_judged_well():
    game = GAMES["hinge"]
    assert game.critic(torch.tensor([1.5]), torch.tensor([-1.5])) == 0


def test_the_logistic_game_is_cross_entropy_on_logits():
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    game = GAMES["non_saturating"]
    expected = bce(REAL, torch.ones(2), reduction="none") + bce(
        FAKE, torch.zeros(2), reduction="none"
    )
    torch.testing.assert_close(game.critic(REAL, FAKE), expected)


def is_a_contest(game: Game) -> bool:
    """Whether a step of either side is a loss to the other, on values that nobody has won yet."""
    real = torch.tensor([0.3, -0.2], requires_grad=True)
    fake = torch.tensor([0.1, -0.4], requires_grad=True)

    def critics() -> Tensor:
        return game.critic(real, fake).mean()

    def others() -> Tensor:
        return (game.encoder(real) + game.generator(fake)).mean()

    def hurts(mover, victim) -> bool:
        gradients = torch.autograd.grad(mover(), (real, fake))
        before = victim()
        with torch.no_grad():
            for values, gradient in zip((real, fake), gradients, strict=True):
                values -= 0.1 * gradient
        harm = victim() - before
        with torch.no_grad():
            for values, gradient in zip((real, fake), gradients, strict=True):
                values += 0.1 * gradient
        return bool(harm > 0)

    return hurts(others, critics) and hurts(critics, others)


@pytest.mark.parametrize("name", GAMES)
def test_a_game_is_a_contest(name: str):
    assert is_a_contest(GAMES[name])


def relabelled(game: Game) -> Game:
    """The same game in the other convention: the critic lowers real and raises fake values."""
    return Game(
        lambda real, fake: game.critic(fake, real),
        game.generator,
        game.encoder,
    )


@pytest.mark.parametrize("name", GAMES)
def test_the_other_convention_is_a_contest_too(name: str):
    assert is_a_contest(relabelled(GAMES[name]))


@pytest.mark.parametrize("name", GAMES)
def test_mixed_conventions_are_found_out(name: str):
    game, other = GAMES[name], relabelled(GAMES[name])
    assert not is_a_contest(Game(game.critic, other.encoder, other.generator))
    assert not is_a_contest(Game(other.critic, game.encoder, game.generator))


@pytest.mark.parametrize("name", GAMES)
def test_each_player_sees_its_own_side(name: str):
    # Also one at a time: signs that cancel in a sum must not hide.
    game = GAMES[name]
    real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
    encoder = torch.autograd.grad(game.encoder(real).sum(), real)[0]
    generator = torch.autograd.grad(game.generator(fake).sum(), fake)[0]
    by_real, by_fake = torch.autograd.grad(game.critic(real, fake).sum(), (real, fake))
    assert (encoder > 0).all() and (generator < 0).all()
    assert (by_real < 0).all() and (by_fake > 0).all()
