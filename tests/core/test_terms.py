import pytest
import torch
from torch import Tensor

from onlygood.core.errors import ConfigError
from onlygood.core.terms import Loss, Scores

A, B = torch.tensor([1.0, 3.0]), torch.tensor([10.0, 30.0])


def test_a_loss_is_the_weighted_sum_of_batch_means():
    loss = Loss.weighted(first=(2.0, A), second=(0.5, B))
    assert loss.total == 2 * 2 + 0.5 * 20
    assert loss.terms == {"first": 2, "second": 20}
    assert list(loss.terms) == ["first", "second"]


def test_a_term_of_weight_0_is_logged_but_has_no_gradient():
    used, unused = torch.ones(2, requires_grad=True), torch.ones(2, requires_grad=True)
    loss = Loss.weighted(used=(1.0, used), unused=(0.0, unused * 7))
    loss.total.backward()
    assert unused.grad is None
    assert used.grad is not None
    assert loss.terms["unused"] == 7


def test_weight_0_keeps_infinities_out():
    # 0 * inf would be NaN.
    assert Loss.weighted(used=(1.0, A), unused=(0.0, A / 0)).total == 2
    assert Scores.weighted(used=(2.0, A), unused=(0.0, A / 0)).total.tolist() == [2, 6]
    assert Scores.weighted(unused=(0.0, A), neither=(0.0, B)).total.tolist() == [0, 0]


@pytest.mark.parametrize("terms", [{}, {"only": (0.0, A)}, {"one": (0.0, A), "two": (0.0, B)}])
def test_a_loss_without_weight_is_refused(terms: dict[str, tuple[float, Tensor]]):
    with pytest.raises(ConfigError, match="all weights are 0, of"):
        Loss.weighted(**terms)


def test_a_term_of_the_whole_batch_is_a_single_number():
    loss = Loss.weighted(first=(2.0, A), spread=(3.0, A.std(correction=0)))
    assert loss.total == 2 * 2 + 3 * 1
    assert loss.terms == {"first": 2, "spread": 1}


def test_terms_are_detached():
    loss = Loss.weighted(only=(3.0, A.clone().requires_grad_())).watching(seen=B.requires_grad_())
    assert not any(term.requires_grad for term in loss.terms.values())
    assert loss.total.requires_grad


def test_watching_adds_to_the_log_alone():
    before = Loss.weighted(only=(1.0, A))
    after = before.watching(real=B)
    assert after.total is before.total
    assert after.terms == {"only": 2, "real": 20}
    assert list(before.terms) == ["only"]


def test_scores_are_weighted_per_image_and_keep_their_parts():
    scores = Scores.weighted(pixels=(0.9, A), features=(0.1, B))
    torch.testing.assert_close(scores.total, torch.tensor([1.9, 5.7]))
    assert scores.terms == {"pixels": A, "features": B}
    assert scores.map is None


def test_scores_carry_a_map():
    heat = torch.zeros(2, 4, 4)
    assert Scores.weighted(map=heat, only=(1.0, A)).map is heat
