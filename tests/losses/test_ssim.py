import numpy as np
import pytest
import torch

from onlygood.core.errors import ShapeError
from onlygood.losses.ssim import smoothed, ssim, ssim_map


def images(seed: int) -> torch.Tensor:
    return torch.rand(3, 3, 13, 16, generator=torch.Generator().manual_seed(seed))


def by_the_book(a: np.ndarray, b: np.ndarray, row: int, column: int) -> float:
    """Eq. 13 to 16 at one pixel, with the window cut off at the border."""
    bell = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    rows = [r for r in range(row - 5, row + 6) if 0 <= r < a.shape[0]]
    columns = [c for c in range(column - 5, column + 6) if 0 <= c < a.shape[1]]
    w = np.outer(bell[[r - row + 5 for r in rows]], bell[[c - column + 5 for c in columns]])
    w /= w.sum()
    a, b = a[np.ix_(rows, columns)], b[np.ix_(rows, columns)]
    mu_a, mu_b = (w * a).sum(), (w * b).sum()
    var_a, var_b = (w * (a - mu_a) ** 2).sum(), (w * (b - mu_b) ** 2).sum()
    covariance = (w * (a - mu_a) * (b - mu_b)).sum()
    numerator = (2 * mu_a * mu_b + 1e-4) * (2 * covariance + 9e-4)
    return float(numerator / ((mu_a**2 + mu_b**2 + 1e-4) * (var_a + var_b + 9e-4)))


@pytest.mark.parametrize(("row", "column"), [(6, 7), (0, 0), (12, 15), (2, 9)])
def test_a_pixel_is_that_of_its_window(row: int, column: int) -> None:
    a, b = images(0) / 20, images(1) / 10  # so dark that the constants count
    found = ssim_map(a, b)[1, row, column].item()
    channels = [by_the_book(a[1, c].numpy(), b[1, c].numpy(), row, column) for c in range(3)]
    assert found == pytest.approx(np.mean(channels), abs=1e-5)


def test_an_image_is_the_mean_of_whole_windows() -> None:
    a, b = images(0), images(1)
    torch.testing.assert_close(ssim(a, b), ssim_map(a, b)[:, 5:-5, 5:-5].mean((1, 2)))
    torch.testing.assert_close(ssim(a, a), torch.ones(3))
    a, b = a[:, :, 2:, 5:], b[:, :, 2:, 5:]  # just one window
    torch.testing.assert_close(ssim(a, b), ssim_map(a, b)[:, 5, 5])


def test_bf16_leaves_variances_their_digits() -> None:
    a = 0.9 + 0.01 * images(0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = ssim(a, a + 0.01)
    torch.testing.assert_close(rounded, ssim(a, a + 0.01))


def test_smoothing_keeps_what_is_constant_and_spreads_a_point() -> None:
    torch.testing.assert_close(smoothed(torch.ones(1, 13, 16)), torch.ones(1, 13, 16))
    point = torch.zeros(1, 13, 16)
    point[0, 6, 7] = 1.0
    spread = smoothed(point)
    assert spread.sum().item() == pytest.approx(1.0, abs=0.01)
    assert spread.argmax() == point.argmax()
    assert spread.max().item() == pytest.approx(1 / (2 * np.pi * 1.5**2), abs=0.001)


def test_an_image_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(ShapeError, match="images of 11 px at least, got 10 x 16"):
        ssim(images(0)[:, :, :10], images(1)[:, :, :10])
