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


def test_attention_keeps_its_digits_under_autocast() -> None:
    # 1 - A is 0.0018, which bfloat16 would take for 0, and a gradient with it.
    features = torch.full((1, 8, 2, 2), 6.3 / 8, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        left = 1 - attention(features, torch.ones(8))
    assert left.dtype == torch.float32
    torch.testing.assert_close(left, torch.full((1, 2, 2), 0.0018328), rtol=1e-3, atol=0)
