"""Pictures of a part that always lies alike, for methods on frozen features."""

import numpy as np
import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method

SHAPE = InputShape(1, 48, 32)


def images(n: int, seed: int = 0) -> Tensor:
    """The same smooth pattern every time, a little noisy."""
    draw = np.random.RandomState(seed)
    pattern = np.random.RandomState(99).rand(6, 4).repeat(8, 0).repeat(8, 1)
    pictures = 0.2 + 0.6 * pattern + 0.1 * draw.rand(n, 1, 48, 32)
    return torch.from_numpy(pictures).float()


def assert_a_defect_stands_out(method: Method, factor: float) -> None:
    """Its picture scores more by this factor, and the map is largest where it is."""
    normal, defective = images(2, seed=1), images(2, seed=1)
    defective[:, :, 30:36, 20:26] = 1.0
    scores = method.score(defective)
    assert (scores.total > factor * method.score(normal).total).all()
    assert scores.map is not None
    for peak in scores.map.flatten(1).argmax(1):
        assert 24 <= int(peak) // 32 < 42
        assert 14 <= int(peak) % 32 < 32
