from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from onlygood.losses.distances import (
    l1_map,
    l1_mean,
    l1_sum,
    l2_map,
    l2_mean,
    l2_sum,
    relative_spread,
    spread,
)

# Two images of 2 x 2 pixels; differences are 1, -2, 0, 3 and 0, 0, 0, 0.5.
X = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 1.0], [1.0, 1.0]]]])
Y = torch.tensor([[[[0.0, 4.0], [3.0, 1.0]]], [[[1.0, 1.0], [1.0, 0.5]]]])


@pytest.mark.parametrize(
    ("distance", "expected"),
    [
        (l1_sum, [6.0, 0.5]),
        (l1_mean, [1.5, 0.125]),
        (l2_sum, [14.0, 0.25]),
        (l2_mean, [3.5, 0.0625]),
        (l1_map, [[[1.0, 2.0], [0.0, 3.0]], [[0.0, 0.0], [0.0, 0.5]]]),
        (l2_map, [[[1.0, 4.0], [0.0, 9.0]], [[0.0, 0.0], [0.0, 0.25]]]),
    ],
)
def test_two_by_two(distance: Callable[[Tensor, Tensor], Tensor], expected: list):
    assert torch.equal(distance(X, Y), torch.tensor(expected))
    assert torch.equal(distance(Y, X), torch.tensor(expected))
    assert not distance(X, X).any()


@pytest.mark.parametrize(("per_pixel", "per_image"), [(l1_map, l1_sum), (l2_map, l2_sum)])
def test_a_map_sums_to_its_distance(
    per_pixel: Callable[[Tensor, Tensor], Tensor], per_image: Callable[[Tensor, Tensor], Tensor]
):
    a, b = torch.rand(2, 3, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    assert per_pixel(a, b).shape == (3, 5, 4)
    torch.testing.assert_close(per_pixel(a, b).sum((1, 2)), per_image(a, b))


@pytest.mark.parametrize("distance", [l1_sum, l1_mean, l2_sum, l2_mean])
def test_codes_and_feature_maps_alike(distance: Callable[[Tensor, Tensor], Tensor]):
    a, b = torch.rand(2, 3, 8, generator=torch.Generator().manual_seed(0))
    flat = distance(a, b)
    assert flat.shape == (3,)
    torch.testing.assert_close(distance(a.view(3, 2, 2, 2), b.view(3, 2, 2, 2)), flat)


def test_spread_is_the_distance_from_the_mean_of_the_batch():
    # The mean is 1, 2; squares of differences are 1, 9 and 1, 9.
    codes = torch.tensor([[0.0, 5.0], [2.0, -1.0]], requires_grad=True)
    assert spread(codes).tolist() == pytest.approx([5**0.5, 5**0.5])
    assert not spread(codes).requires_grad
    assert spread(X).tolist() == pytest.approx([((0 + 0.25 + 1 + 2.25) / 4) ** 0.5] * 2)
    assert not spread(codes[:1].expand(3, 2)).any()
    # One image is not a collapse.
    assert spread(codes[:1]).isnan().tolist() == [True]


def test_spread_is_not_rounded_to_bf16():
    # Between 1 and 2 there is no number of bf16 that is nearer to 1 than 1/128.
    nearly = torch.tensor([[1.0], [1.0078125]], dtype=torch.bfloat16)
    assert spread(nearly).tolist() == pytest.approx([0.00390625] * 2)


def test_relative_spread_is_in_units_of_what_it_should_be_like():
    codes = torch.tensor([[0.0], [2.0], [4.0]])  # 2, 0 and 2 from the mean.
    reference = torch.tensor([[0.0], [3.0], [3.0]])  # 2, 1 and 1.
    assert relative_spread(codes, reference).tolist() == pytest.approx([1.5, 0.0, 1.5])
    fine = relative_spread(codes / 1024, reference / 1024)
    assert fine.tolist() == pytest.approx([1.5, 0.0, 1.5])
    # Their own size is the root of (0 + 4 + 16) / 3.
    unit = (20 / 3) ** 0.5
    assert relative_spread(codes).tolist() == pytest.approx([2 / unit, 0.0, 2 / unit])
    assert not relative_spread(torch.zeros(3, 2)).any()
