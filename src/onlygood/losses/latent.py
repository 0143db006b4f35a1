"""What codes should be like, per image."""

from onlygood.core.shapes import Latents, PerImage


def kl_standard_normal(mean: Latents, log_variance: Latents) -> PerImage:
    """`KL(N(mean, variance) || N(0, 1))` of each image, summed over the code, in nats.

    Source: Kingma and Welling 2014, arXiv:1312.6114, Appendix B.
    """
    return (mean.square() + log_variance.exp() - log_variance - 1).sum(1) / 2
