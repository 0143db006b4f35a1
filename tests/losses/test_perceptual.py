import pytest
import torch
from torch import Tensor

from onlygood.losses.perceptual import relative_l1, relative_l1_map

# One image, two channels of 1 x 2 positions: mean|x| is 2.5, the differences are 1, 0, 2, 2.
X = torch.tensor([[[[1.0, -2.0]], [[3.0, 4.0]]]])
Y = torch.tensor([[[[0.0, -2.0]], [[5.0, 2.0]]]])


def maps(count: int = 3) -> tuple[Tensor, Tensor]:
    f_x, f_y = torch.randn(2, count, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    return f_x, f_y


def test_by_hand():
    assert torch.equal(relative_l1(X, Y), torch.tensor([0.5]))
    assert torch.equal(relative_l1_map(X, Y), torch.tensor([[[0.6, 0.4]]]))


def test_nothing_between_equal_images():
    f_x, _ = maps()
    assert not relative_l1(f_x, f_x).any()
    assert not relative_l1_map(f_x, f_x).any()


@pytest.mark.parametrize("factor", [1e-3, 7.0])
def test_contrast_has_no_influence(factor: float):
    f_x, f_y = maps()
    torch.testing.assert_close(relative_l1(factor * f_x, factor * f_y), relative_l1(f_x, f_y))
    torch.testing.assert_close(
        relative_l1_map(factor * f_x, factor * f_y), relative_l1_map(f_x, f_y)
    )


def test_is_not_symmetric():
    assert relative_l1(2 * X, X) == 0.5
    assert relative_l1(X, 2 * X) == 1


def test_the_mean_of_the_map_is_the_distance():
    f_x, f_y = maps()
    positions = relative_l1_map(f_x, f_y)
    assert positions.shape == (3, 5, 6)
    torch.testing.assert_close(positions.mean((1, 2)), relative_l1(f_x, f_y))


@pytest.mark.parametrize("distance", [relative_l1, relative_l1_map])
def test_images_do_not_mix(distance):
    f_x, f_y = maps()
    torch.testing.assert_close(distance(f_x, f_y)[1:2], distance(f_x[1:2], f_y[1:2]))


def test_no_gradient_through_the_denominator():
    x = X.clone().requires_grad_()
    relative_l1(x, Y).sum().backward()
    # Signs of the differences over 4 numbers and mean|x| = 2.5.
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.tensor([[[[0.1, 0.0]], [[-0.1, 0.1]]]]))


def test_features_that_are_all_zero_are_no_nan():
    zero = torch.zeros(1, 2, 3, 3)
    assert relative_l1(zero, zero) == 0
    assert relative_l1(zero, zero + 1).isfinite().all()
