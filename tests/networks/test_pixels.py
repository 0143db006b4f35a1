import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor

from onlygood.core.errors import DataError
from onlygood.core.method import InputShape
from onlygood.networks.pixels import Preparation, Projection, normalised, pixels


def images(n: int, side: int = 6) -> Tensor:
    return torch.rand(n, 2, side, side, generator=torch.Generator().manual_seed(0))


def preparation(contrast: bool = False, variance: float = 1.0) -> Preparation:
    return Preparation(InputShape(2, 6, 6), contrast=contrast, variance=variance)


def test_without_wishes_pixels_stay_as_they_are() -> None:
    x, prepare = images(5), preparation()
    assert torch.equal(prepare.measure(prepare.raw(x)), pixels(x))
    assert torch.equal(prepare(x), x.reshape(5, 72))


def test_contrast_is_that_of_the_whole_image() -> None:
    x = torch.tensor([[0.0, 0.2], [0.4, 0.6]]).expand(1, 1, 2, 2)
    # Mean 0.3, mean absolute deviation 0.2.
    torch.testing.assert_close(normalised(x), torch.tensor([[-1.5, -0.5, 0.5, 1.5]]))
    torch.testing.assert_close(normalised(x / 2 + 0.1), normalised(x))
    assert torch.equal(normalised(torch.full((1, 1, 2, 2), 0.5)), torch.zeros(1, 4))


def test_training_images_span_zero_to_one() -> None:
    x, prepare = images(5), preparation(contrast=True)
    prepare.measure(prepare.raw(x[:4]))
    done = prepare(x[:4])
    assert (done.min(), done.max()) == (0, 1)
    raw = normalised(x)
    low, high = raw[:4].min(), raw[:4].max()
    torch.testing.assert_close(prepare(x), (raw - low) / (high - low))


def test_constant_images_become_0_exactly_whatever_their_grey() -> None:
    # The mean of 3,072 equal numbers is not always that number.
    x = (torch.arange(256) / 255).view(256, 1, 1, 1).expand(256, 3, 32, 32)
    assert not normalised(x).any()


def test_constant_images_are_not_stretched() -> None:
    prepare, x = preparation(contrast=True), torch.full((3, 2, 6, 6), 0.3)
    prepare.measure(prepare.raw(x))
    assert torch.equal(prepare(x), torch.zeros(3, 72))


@pytest.mark.parametrize("n", [30, 300])
def test_projection_is_scikit_learns(n: int) -> None:
    rows = pixels(images(n)) @ torch.randn(72, 72, generator=torch.Generator().manual_seed(1))
    projection = Projection(72, 0.9)
    projection.measure(rows)
    reference = PCA(0.9, svd_solver="full").fit(rows.double().numpy())
    expected = reference.transform(rows.double().numpy())
    found = projection(rows).numpy()
    assert found.shape == expected.shape
    assert found.shape[1] < min(n, 72)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=2e-3)


def test_axes_are_found_after_contrast_and_range() -> None:
    x, prepare = images(40), preparation(contrast=True, variance=0.8)
    learned = prepare.measure(prepare.raw(x))
    torch.testing.assert_close(prepare(x), learned)
    plain = preparation(contrast=True)
    plain.measure(plain.raw(x))
    projection = Projection(72, 0.8)
    projection.measure(plain(x))
    torch.testing.assert_close(learned, projection(plain(x)))


def test_images_that_are_all_alike_have_no_axes() -> None:
    with pytest.raises(DataError, match=r"are alike.*variance=1"):
        preparation(variance=0.9).measure(torch.full((5, 72), 0.5))


def test_what_was_measured_is_saved() -> None:
    x, prepare = images(20), preparation(contrast=True, variance=0.7)
    prepare.measure(prepare.raw(x))
    again = preparation(contrast=True, variance=0.7)
    again.load_state_dict(prepare.state_dict())
    assert torch.equal(again(x), prepare(x))
