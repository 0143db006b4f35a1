"""Pictures of a part that always lies alike, for methods on frozen features."""

import numpy as np
import torch
from torch import Tensor

from onlygood.core.method import InputShape

SHAPE = InputShape(1, 48, 32)


def images(n: int, seed: int = 0) -> Tensor:
    """The same smooth pattern every time, a little noisy."""
    draw = np.random.RandomState(seed)
    pattern = np.random.RandomState(99).rand(6, 4).repeat(8, 0).repeat(8, 1)
    pictures = 0.2 + 0.6 * pattern + 0.1 * draw.rand(n, 1, 48, 32)
    return torch.from_numpy(pictures).float()
