import torch

from onlygood.core.images import symmetric, unit


def test_pixels_between_two_ranges():
    x = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3)
    assert symmetric(x).flatten().tolist() == [-1.0, -0.5, 1.0]
    assert torch.equal(unit(symmetric(x)), x)
    assert unit(torch.full((1, 1, 1, 1), 3.0)).item() == 2.0  # Not cut off.
