from dataclasses import replace

import pytest
import torch
from torch import Tensor

from onlygood.core.stage import Progress
from onlygood.methods.ocgan import OCGAN
from tests.contract.cases import batch, fresh, images


def ocgan(**config: object) -> OCGAN:
    method = fresh("ocgan", **config).eval()
    assert isinstance(method, OCGAN)
    return method


def raised(logits: Tensor) -> Tensor:
    return -logits.sigmoid().log().mean()


def lowered(logits: Tensor) -> Tensor:
    return -(1 - logits.sigmoid()).log().mean()


def test_losses_are_those_of_the_paper() -> None:
    method, b = ocgan(mining_steps=0, w_latent=3.0, w_mse=14.0, noise=0.5), batch()
    x = 2 * b.normal - 1
    z = method.encoder(x + 0.5 * b.normals(1, 32, 32)).tanh()
    u = 2 * b.uniforms(4) - 1
    x_hat, x_u = method.decoder(z), method.decoder(u)
    latent = raised(method.latent_critic(u).value) + lowered(method.latent_critic(z).value)
    visual = raised(method.visual_critic(x).value) + lowered(method.visual_critic(x_u).value)
    classifier = raised(method.classifier(x_hat).value) + lowered(method.classifier(x_u).value)
    expected = (latent + visual + classifier) / 2
    torch.testing.assert_close(method.critics_loss(batch()).total, expected)
    fooled = 3 * raised(method.latent_critic(z).value) + raised(method.visual_critic(x_u).value)
    expected = fooled + 14 * (x - x_hat).square().mean() / 2
    torch.testing.assert_close(method.autoencoder_loss(batch()).total, expected)


def test_negatives_are_mined_where_the_classifier_says_no() -> None:
    method = ocgan(mining_steps=3, mining_lr=50.0)
    u = torch.linspace(-1, 1, 8).view(2, 4)
    expected = u.clone()
    for _ in range(3):
        expected.requires_grad_()
        value = -(1 - method.classifier(method.decoder(expected)).value.sigmoid()).log().sum()
        (slope,) = torch.autograd.grad(value, expected)
        expected = (expected - 50 * slope).detach().clamp(-1, 1)
    assert not torch.equal(expected, u)
    torch.testing.assert_close(method.train().informative(u), expected)
    assert method.decoder.training


@pytest.mark.parametrize(("epoch", "moves"), [(1, False), (2, True)])
def test_mining_begins_when_it_should(epoch: int, moves: bool) -> None:
    method = ocgan(mining_start=2, mining_lr=1e6)
    b = replace(batch(), progress=Progress(epoch=epoch))
    assert torch.equal(method(b, mined=True).u, method(batch()).u) != moves


@torch.no_grad()
def test_the_score_is_of_the_image_without_noise() -> None:
    method, x = ocgan(), 2 * images() - 1
    x_hat = method.decoder(method.encoder(x).tanh())
    scores = method.score(images())
    torch.testing.assert_close(scores.total, (x - x_hat).square().mean((1, 2, 3)))
    logits = method.visual_critic(x_hat).value
    torch.testing.assert_close(scores.terms["visual"], -logits.sigmoid().log())


@pytest.mark.parametrize(("scale", "shift"), [(0.5, 0.0), (0.5, 0.5)])
def test_codes_that_are_too_narrow_or_aside_are_told_in_training(
    scale: float, shift: float
) -> None:
    # Normalised by batches they would all look alike.
    critic = ocgan().latent_critic.train()
    generator = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(critic.parameters(), lr=3e-3)

    def drawn() -> Tensor:
        return 2 * torch.rand(64, 4, generator=generator) - 1

    for _ in range(150):
        loss = raised(critic(drawn()).value) + lowered(critic(scale * drawn() + shift).value)
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert loss < 1.1  # 1.39 is guessing.
