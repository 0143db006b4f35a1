"""Everything between pictures and decisions as one network: what an exported file computes."""

from typing import final

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from onlygood.core.settings import View
from onlygood.data.tiling import Tiled
from onlygood.decision.calibration import Calibration
from onlygood.detector import Detector

LUMA = (19595, 38470, 7471)
"""Red, green and blue of ITU-R 601 in 65536ths, as Pillow has them."""

RESIZE_BITS = 22
"""Of the fixed-point weights that Pillow resizes 8 bit pictures with."""

Pictures = UInt8[Tensor, "B H W 3"]


@final
class Graph(nn.Module):
    """RGB pictures of any size, and of one size in a batch, to what is said of them.

    Equal to what `Detector` does, up to the rounding of float32.
    """

    calibration: Tensor
    smoothing: Tensor

    def __init__(self, detector: Detector, calibration: Calibration | None = None) -> None:
        """Wrap a detector's network.

        Args:
            detector: What is to be exported.
            calibration: In place of the detector's own.
        """
        super().__init__()
        view, calibration = detector.view, calibration or detector.calibration
        self.view = view
        self.network = detector.scorer.network
        self.tiled = Tiled(self.network, view, tiles_at_once=None)
        self.register_buffer("calibration", torch.from_numpy(calibration.scores.copy()))
        self.register_buffer("smoothing", smoothing(view))
        self.scale = _scale(calibration)
        blank = torch.zeros(1, view.channels, view.size, view.size, device=detector.device)
        with torch.no_grad():
            self.terms = list(self.tiled.score(blank).terms)

    def forward(self, pictures: Pictures) -> tuple[Tensor, ...]:
        """Score, p-value, parts `(B, terms)` and, where the method localises, the map."""
        x = squared(luma(pictures) if self.view.channels == 1 else pictures, self.view)
        scores = self.tiled.score(x.float() / 255)
        n = len(self.calibration)
        # As `Calibration.p_values`: all calibration scores at least as high, and the picture.
        at_least = (self.calibration >= scores.total.double()[:, None]).sum(1)
        p_value = (1 + at_least).float() / (n + 1)
        parts = torch.stack(list(scores.terms.values()), 1)
        if scores.map is None or self.scale is None:
            return scores.total, p_value, parts
        heat = self.smoothing @ scores.map @ self.smoothing.T
        median, threshold = self.scale
        if threshold > median:
            heat = (heat - median) / (threshold - median)
        else:
            heat = torch.where(heat > threshold, 2.0, 0.0)
        return scores.total, p_value, parts, heat


def luma(pictures: Pictures) -> UInt8[Tensor, "B H W 1"]:
    """Grey pictures of colour ones, rounded as Pillow does it; grey ones stay as they are."""
    weights = torch.tensor(LUMA, dtype=torch.int32)
    return ((pictures.int() * weights).sum(3, keepdim=True, dtype=torch.int32) + 2**15 >> 16).to(
        torch.uint8
    )


def squared(pictures: UInt8[Tensor, "B H W C"], view: View) -> Float64[Tensor, "B C size size"]:
    """Pictures squeezed to squares, by Pillow's arithmetic: see `onlygood.data.resize.squared`.

    Equal to the last bit, but for tall pictures: there newer Pillow takes the two passes in the
    other order, and some pixels are rounded to the other side. A batch that has the size already
    costs nothing: whoever can, shrinks with Pillow before, see `onlygood.deploy.file.given`. Of
    pictures too small to be that cut out, whose indices lead out of them, ONNX Runtime says so.
    """
    height, width = pictures.shape[1:3]
    size = view.size

    def fitting(x: Tensor) -> Tensor:
        # Not sliced by `:size`: the exporter must see that the sides are `size`.
        same = x.narrow(1, 0, size).narrow(2, 0, size).permute(0, 3, 1, 2)
        return same.double().clone(memory_format=torch.contiguous_format)

    def resized(x: Tensor) -> Tensor:
        if view.crop:
            rows, columns = (centre(side, view.crop) for side in (height, width))
            x = x.index_select(1, rows).index_select(2, columns)
        across, down = (triangles(view.crop or side, size) for side in (width, height))
        return _passed(down, _passed(across, x.permute(0, 3, 2, 1).double()).mT).contiguous()

    # What has the size already is cut out already, unless the square to be cut out is smaller.
    if 0 < view.crop <= size:
        return resized(pictures)
    return torch.cond((height == size) & (width == size), fitting, resized, (pictures,))


def centre(side: int, crop: int) -> Int64[Tensor, " crop"]:
    """Positions of the middle `crop` of `side` pixels, as in `onlygood.data.resize.window`."""
    return torch.arange(crop) + (side - crop + 1) // 2


def triangles(inputs: int, outputs: int) -> Float64[Tensor, "outputs inputs"]:
    """Weights of a resize from `inputs` to `outputs` pixels, in units of `2**-RESIZE_BITS`.

    A triangle around each output pixel, as wide as it takes to cover what it shrinks; cut off at
    the edges and normalised, rounded to fixed point.
    """
    places = torch.arange(inputs, dtype=torch.float64)
    # A tensor: what is a plain number for the exporter, it keeps in 32 bits.
    scale = torch.full((), inputs, dtype=torch.float64) / outputs
    support = scale.clamp_min(1.0)
    centres = (torch.arange(outputs, dtype=torch.float64) + 0.5) * scale
    first = (centres - support + 0.5).floor().clamp_min(0)[:, None]
    last = (centres + support + 0.5).floor().clamp_max(inputs)[:, None]
    heights = (1 - ((places - centres[:, None] + 0.5) / support).abs()).clamp_min(0)
    inside = torch.where((places >= first) & (places < last), heights, 0.0)
    return (inside / inside.sum(1, keepdim=True) * 2**RESIZE_BITS + 0.5).floor()


def _passed(weights: Tensor, x: Tensor) -> Tensor:
    """One pass of a resize, along the last axis but one; exact, as doubles hold all sums."""
    sums = weights @ x
    return ((sums + 2 ** (RESIZE_BITS - 1)) / 2**RESIZE_BITS).floor().clamp(0, 255)


def smoothing(view: View) -> Float[Tensor, "size size"]:
    """The Gaussian filter of maps along one axis, edges included, as a matrix."""
    sigma = view.smooth * view.size
    one = np.eye(view.size)
    return torch.from_numpy(gaussian_filter1d(one, sigma, axis=0) if sigma else one).float()


def _scale(calibration: Calibration) -> tuple[float, float] | None:
    """What becomes 0 and 1 in maps; None where there are none."""
    median, threshold = calibration.pixel_median, calibration.pixel_threshold
    return None if median is None or threshold is None else (median, threshold)
