import torch
from torch.distributions import Normal, kl_divergence

from onlygood.losses.latent import kl_standard_normal


def test_the_divergence_is_that_of_torch() -> None:
    draw = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 3, 5, generator=draw)
    expected = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(kl_standard_normal(mean, log_variance), expected)
