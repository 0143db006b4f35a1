"""Covariances to what makes features uncorrelated, each with variance 1."""

import torch
from jaxtyping import Float
from torch import Tensor

from onlygood.core.errors import ConfigError

PART = 64
"""Covariances that are inverted at a time."""

Matrices = Float[Tensor, "G c c"]


def whitening(covariances: Matrices, regularisation: float) -> Matrices:
    """`W` with `W^T W = (covariance + regularisation 1)^-1`, triangular, in float32.

    Computed in float64, a part of them at a time.

    Raises:
        ConfigError: the regularisation is lost in rounding, and a covariance has no inverse.
    """
    one = torch.eye(covariances.shape[-1], dtype=torch.float64, device=covariances.device)
    whole = []
    for part in covariances.split(PART):
        try:
            factor = torch.linalg.cholesky(part.double() + regularisation * one)
        except torch.linalg.LinAlgError as error:
            raise ConfigError(
                f"regularisation={regularisation:g} is lost in the rounding of the covariances, "
                "of which one cannot be inverted; take a larger one, such as 0.01"
            ) from error
        whole.append(torch.linalg.solve_triangular(factor, one, upper=False).float())
    return torch.cat(whole)
