"""Pictures of a part that always lies alike, for methods on frozen features."""

import numpy as np
import torch
from torch import Tensor

from onlygood.core.method import InputShape, Method
from onlygood.core.stage import Shared

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


def assert_parts_make_the_whole(whole: Method, parted: Method, train: Tensor) -> None:
    """What two fresh methods learn in one pass, and in parts that go through a file's tensors."""
    sizes = [24, 8, len(train) - 32]
    with torch.no_grad():
        for stage, own in zip(whole.stages(), parted.stages(), strict=True):
            assert stage.before is not None and isinstance(own.before, Shared)
            stage.before(iter(train.split(8)))
            gather = own.before.gather
            parts = [
                gather(iter(part.split(8)), sum(sizes[:i]))
                for i, part in enumerate(train.split(sizes))
            ]
            found, *others = (
                type(part).of({k: v.clone() for k, v in part.tensors().items()}) for part in parts
            )
            for other in others:
                found.merge(other)
            own.before.settle(found)
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(parted.state_dict()[name], tensor, rtol=1e-6, atol=1e-6)
    x = images(3, seed=1)
    torch.testing.assert_close(parted.score(x).total, whole.score(x).total, rtol=1e-6, atol=0)
