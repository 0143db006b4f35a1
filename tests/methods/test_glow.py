import math

import pytest
import torch

from onlygood.methods.glow import Glow, GlowConfig
from tests.methods.nets import SHAPE, batch, images


def glow(**config) -> Glow:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Glow(GlowConfig(**{"levels": 2, "depth": 1, "width": 4, **config}), SHAPE)


def test_it_is_trained_by_bits_of_images_anywhere_in_their_levels() -> None:
    method, x = glow(), images()
    places = batch().uniforms(*x.shape[1:])
    expected = -method.flow.log_likelihood(x, places).mean() / (1024 * math.log(2))
    torch.testing.assert_close(method.loss(batch()).total, expected)
    assert not torch.equal(places, torch.full_like(x, 0.5))


@torch.no_grad()
@pytest.mark.parametrize("score_by", ["typicality", "likelihood"])
def test_what_is_likelier_than_usual_is_no_more_normal(score_by: str) -> None:
    method, seen = glow(score_by=score_by), images(40)
    (stage,) = method.stages()
    stage.before(iter(seen.split(16)))
    stage.after(seen.split(16))
    entropy = -method.flow.log_likelihood(seen, torch.full_like(seen, 0.5)).double().mean()
    torch.testing.assert_close(method.entropy, entropy.float())

    x = torch.cat([images(4), torch.full((1, *SHAPE), 0.5)])
    surprise = -method.flow.log_likelihood(x, torch.full_like(x, 0.5))
    scores = method.score(x)
    expected = {"typicality": (surprise - method.entropy).abs(), "likelihood": surprise}
    torch.testing.assert_close(scores.terms, expected)
    assert torch.equal(scores.total, scores.terms[score_by])
    # A grey picture is likelier than noise, and stands out all the same.
    assert surprise[-1] < surprise[:-1].min()
    assert (scores.total.argmax() == 4) == (score_by == "typicality")
