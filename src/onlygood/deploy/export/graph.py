"""Everything between pictures and decisions as one network: what an exported file computes."""

from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, UInt8
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn
from torch.nn import functional as F

from onlygood.core.settings import View
from onlygood.data.resize import content, counting
from onlygood.data.tiling import Tiled
from onlygood.decision.calibration import Calibration
from onlygood.deploy.runtime.file import given
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
    down: Tensor
    across: Tensor

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
        for name, length in zip(("down", "across"), view.shape, strict=True):
            self.register_buffer(name, smoothing(length, view.smooth * view.size))
        self.scale = _scale(calibration)
        blank = torch.zeros(1, view.channels, *view.canvas, device=detector.device)
        with torch.no_grad():
            self.terms = list(self.tiled.score(blank).terms)

    def forward(self, pictures: Pictures) -> tuple[Tensor, ...]:
        """Score, p-value, parts `(B, terms)` and, where the method localises, the map."""
        x = viewed(luma(pictures) if self.view.channels == 1 else pictures, self.view)
        scores = self.tiled.score(x.float() / 255)
        n = len(self.calibration)
        # As `Calibration.p_values`: all calibration scores at least as high, and the picture.
        at_least = (self.calibration >= scores.total.double()[:, None]).sum(1)
        p_value = (1 + at_least).float() / (n + 1)
        parts = torch.stack(list(scores.terms.values()), 1)
        if scores.map is None or self.scale is None:
            return scores.total, p_value, parts
        inside = content(self.view).slices
        heat, counts = scores.map[:, *inside], counting(self.view)
        own = None if counts is None else torch.tensor(counts[inside], dtype=torch.float32)
        if own is None:
            heat = self.down @ heat @ self.across.T
        else:  # Smoothed by what counts alone.
            shares = (self.down @ own @ self.across.T).clamp_min(torch.finfo(torch.float32).tiny)
            heat = self.down @ (heat * own) @ self.across.T / shares
        median, threshold = self.scale
        if threshold > median:
            heat = (heat - median) / (threshold - median)
        else:
            heat = torch.where(heat > threshold, 2.0, 0.0)
        if own is not None:
            heat = torch.where(own > 0, heat, 0.0)
        return scores.total, p_value, parts, heat


def luma(pictures: Pictures) -> UInt8[Tensor, "B H W 1"]:
    """Grey pictures of colour ones, rounded as Pillow does it; grey ones stay as they are."""
    weights = torch.tensor(LUMA, dtype=torch.int32)
    return ((pictures.int() * weights).sum(3, keepdim=True, dtype=torch.int32) + 2**15 >> 16).to(
        torch.uint8
    )


def viewed(pictures: UInt8[Tensor, "B H W C"], view: View) -> Float64[Tensor, "B C h w"]:
    """Pictures on the canvas of a view, by Pillow's arithmetic: `onlygood.data.resize.viewed`.

    Equal to the last bit, but for tall pictures: there newer Pillow takes the two passes in the
    other order, and some pixels are rounded to the other side. A batch that has the form of
    `onlygood.deploy.runtime.file.given` already costs nothing. Of pictures too small for a `crop`,
    whose indices lead out of them, ONNX Runtime says so.
    """
    size = pictures.shape[1:3]
    prepared = given(view)

    def whole(x: Tensor) -> Tensor:
        places = [_place(x.shape[1 + axis], axis, view) for axis in (0, 1)]
        if view.crop:
            for axis, (first, _) in enumerate(places, 1):
                x = x.index_select(axis, torch.arange(view.crop) + first)
            places = [(0, view.crop)] * 2
        return _resized(x, places, view)

    def rest(x: Tensor) -> Tensor:
        height, width = prepared.canvas
        # Not sliced by `:height`: the exporter must see how many there are.
        same = x.narrow(1, 0, height).narrow(2, 0, width)
        if prepared == view:
            return same.permute(0, 3, 1, 2).double().clone(memory_format=torch.contiguous_format)
        return _resized(same, [(0, height), (0, width)], view)

    if 0 < view.crop <= view.size and view.roi == View.roi:
        x = whole(pictures)  # To cut the centre out changes nothing where it is cut out already.
    else:
        wanted = prepared.canvas
        is_prepared = (size[0] == wanted[0]) & (size[1] == wanted[1])
        x = torch.cond(is_prepared, rest, whole, (pictures,))
    counts = counting(view)
    return x if counts is None else blanked(x, torch.tensor(counts))


def blanked(
    x: Float64[Tensor, "B C h w"], counts: Bool[Tensor, "h w"]
) -> Float64[Tensor, "B C h w"]:
    """Whole numbers, with their rounded mean over the pixels that count in place of the others."""
    total = torch.where(counts, x, 0.0).sum((2, 3), keepdim=True)
    return torch.where(counts, x, (total / counts.sum() + 0.5).floor())


Place = tuple[int | Tensor, int | Tensor]
"""First pixel and length of what is looked at along one axis."""


def _place(side: int, axis: int, view: View) -> Place:
    """Where a view looks along an axis of a picture, as `onlygood.data.resize.window` has it."""
    first: int | Tensor = 0
    length: int | Tensor = side
    if view.roi != View.roi:
        # Tensors: what is a plain number for the exporter, it keeps in 32 bits.
        whole = torch.full((), side, dtype=torch.float64)
        first, end = ((view.roi[i] * whole + 0.5).floor().long() for i in (1 - axis, 3 - axis))
        length = end - first
    if view.crop:
        first = first + (length - view.crop + 1) // 2
    return first, length


def _resized(
    x: UInt8[Tensor, "B H W C"], places: Sequence[Place], view: View
) -> Float64[Tensor, "B C h w"]:
    """What lies at these places, resized to `View.shape`; on the canvas, padded with zeros."""
    down, across = (
        triangles(inputs, *place, outputs)
        for inputs, place, outputs in zip(x.shape[1:3], places, view.shape, strict=True)
    )
    resized = _passed(down, _passed(across, x.permute(0, 3, 2, 1).double()).mT).contiguous()
    (height, width), inside = view.canvas, content(view)
    if inside == (0, 0, height, width):
        return resized
    after = width - inside.width - inside.left, height - inside.height - inside.top
    return F.pad(resized, (inside.left, after[0], inside.top, after[1]))


def triangles(
    inputs: int, first: int | Tensor, length: int | Tensor, outputs: int
) -> Float64[Tensor, "outputs inputs"]:
    """Weights of a resize of some pixels to `outputs` pixels, in units of `2**-RESIZE_BITS`.

    A triangle around each output pixel, as wide as it takes to cover what it shrinks; cut off at
    the edges and normalised, rounded to fixed point.

    Args:
        inputs: Pixels along the axis.
        first: The first one that counts.
        length: How many from there on do.
        outputs: Pixels of the result.
    """
    places = torch.arange(inputs, dtype=torch.float64) - first
    # A tensor: what is a plain number for the exporter, it keeps in 32 bits.
    whole = torch.full((), 1.0, dtype=torch.float64) * length
    scale = whole / outputs
    support = scale.clamp_min(1.0)
    centres = (torch.arange(outputs, dtype=torch.float64) + 0.5) * scale
    low = (centres - support + 0.5).floor().clamp_min(0)[:, None]
    high = torch.minimum((centres + support + 0.5).floor(), whole)[:, None]
    heights = (1 - ((places - centres[:, None] + 0.5) / support).abs()).clamp_min(0)
    inside = torch.where((places >= low) & (places < high), heights, 0.0)
    return (inside / inside.sum(1, keepdim=True) * 2**RESIZE_BITS + 0.5).floor()


def _passed(weights: Tensor, x: Tensor) -> Tensor:
    """One pass of a resize, along the last axis but one; exact, as doubles hold all sums."""
    sums = weights @ x
    return ((sums + 2 ** (RESIZE_BITS - 1)) / 2**RESIZE_BITS).floor().clamp(0, 255)


def smoothing(length: int, sigma: float) -> Float[Tensor, "length length"]:
    """The Gaussian filter of maps along one axis, edges included, as a matrix."""
    one = np.eye(length)
    return torch.from_numpy(gaussian_filter1d(one, sigma, axis=0) if sigma else one).float()


def _scale(calibration: Calibration) -> tuple[float, float] | None:
    """What becomes 0 and 1 in maps; None where there are none."""
    median, threshold = calibration.pixel_median, calibration.pixel_threshold
    return None if median is None or threshold is None else (median, threshold)
