import torch

from onlygood.losses.attention import attention


def test_it_is_grad_cam_of_a_linear_output() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 3, 4, 5, generator=draw, requires_grad=True)
    weights = torch.randn(3, 4, 5, generator=draw)
    (slope,) = torch.autograd.grad((features * weights).sum(), features)
    alpha = slope.mean((2, 3), keepdim=True)
    torch.testing.assert_close(attention(features, weights), (alpha * features).sum(1).sigmoid())


def test_weights_may_be_the_same_everywhere() -> None:
    features, weights = torch.rand(2, 3, 4, 5), torch.tensor([1.0, -2.0, 0.5])
    everywhere = weights[:, None, None].expand(3, 4, 5)
    torch.testing.assert_close(attention(features, weights), attention(features, everywhere))
