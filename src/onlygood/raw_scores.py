"""From pictures to raw scores: a trained network behind the view it was trained with."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import UInt8
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from onlygood.core.errors import DataError, OnlygoodError
from onlygood.core.method import Method
from onlygood.core.settings import View
from onlygood.data.loading import Loaded, iterate, threads
from onlygood.data.preprocess import to_bytes, to_images
from onlygood.data.resize import content, counted
from onlygood.data.source import ImageSource, Picture
from onlygood.data.store import Unreadable
from onlygood.data.tiling import Tiled

BATCH = 32
"""Pictures that are scored at a time."""
MOST_UNUSUAL = 12
"""Calibration pictures whose names a model file keeps: enough to look at, and few to give away."""


class RawScores(NamedTuple):
    """What a method says of the readable pictures of a batch, in their order."""

    totals: NDArray[np.float64]
    parts: dict[str, NDArray[np.float64]]
    maps: NDArray[np.float32] | None
    """`(B, *View.shape)`, smoothed; None where not wanted or not to be had."""


class Survey(NamedTuple):
    """What calibration needs to know of normal pictures."""

    pictures: ImageSource
    """The readable ones."""
    totals: NDArray[np.float64]
    parts: dict[str, NDArray[np.float64]]
    pixel_maxima: NDArray[np.float64] | None
    """Largest value of each map, where pixels count."""
    pixel_median: float | None
    """Median over pictures of the median of their maps, where pixels count."""
    unreadable: list[Unreadable]


class Unusual(NamedTuple):
    """A calibration picture with one of the highest scores."""

    name: str
    score: float


class CalibratedOn(NamedTuple):
    """What the calibration came from, for reports; decisions do not depend on it."""

    parts: dict[str, NDArray[np.float64]]
    """Of each part of the score, that of every calibration picture; none in older model files."""
    pictures: ImageSource | None = None
    """Highest score first; None in a detector that was loaded."""
    unusual: tuple[Unusual, ...] = ()
    """The first `MOST_UNUSUAL` of them; none in older model files, and never in exported ones."""

    @classmethod
    def of(cls, survey: Survey) -> "CalibratedOn":
        """Of the pictures that a calibration has just been made from."""
        order = np.argsort(-survey.totals, kind="stable")
        pictures = survey.pictures.subset(order)
        scores = survey.totals[order][:MOST_UNUSUAL].tolist()
        unusual = tuple(map(Unusual, pictures.names[:MOST_UNUSUAL], scores))
        return cls(survey.parts, pictures, unusual)


@final
class RawScorer:
    """Scores pictures without judging them.

    Always in float32, whatever the precision of training: half the speed of bf16, but scores that
    do not depend on the processor's matrix units.
    """

    def __init__(self, network: Method, view: View, device: torch.device) -> None:
        self.view: View = view
        self.device: torch.device = device
        self.network: Method = network.to(device).eval()
        # As in training: in another format sums are taken in another order, and the scores of a
        # loaded detector would differ from those of the fresh one in their last digits.
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._tiled: Tiled = Tiled(network, view)

    def load(
        self, source: Iterable[Picture], batch_size: int = BATCH, *, keep: bool = False
    ) -> Iterator[list[Loaded]]:
        """Pictures in the form that `score` takes, decoded on all cores; see `iterate`."""
        return iterate(source, self.view, batch_size, threads(), keep=keep)

    @torch.no_grad()
    def score(self, batch: list[Loaded], *, maps: bool) -> RawScores:
        """Score the readable pictures of a batch.

        Raises:
            OnlygoodError: the method gave a score that is not finite.
        """
        readable = [(item.name, to_bytes(item.pixels)) for item in batch if item.pixels is not None]
        if not readable:
            return RawScores(np.zeros(0), {}, None)
        names, pictures = zip(*readable, strict=True)
        scores = self._tiled.score(to_images(torch.stack(pictures).to(self.device)))
        totals = scores.total.double().cpu().numpy()
        if not np.isfinite(totals).all():
            raise OnlygoodError(
                f"{names[int(np.argmin(np.isfinite(totals)))]}: the score is not finite; the "
                "model is damaged or its training diverged, fit anew"
            )
        parts = {name: values.double().cpu().numpy() for name, values in scores.terms.items()}
        heat = None
        if maps and scores.map is not None:
            # Without the padding, of which smoothing must not know either.
            heat = scores.map.float().cpu().numpy()[:, *content(self.view).slices]
            sigma = self.view.smooth * self.view.size
            heat = gaussian_filter(heat, (0, sigma, sigma)) if sigma else heat
        return RawScores(totals, parts, heat)

    @torch.no_grad()
    def reconstruct(self, batch: list[Loaded]) -> UInt8[np.ndarray, "n h w C"] | None:
        """The readable pictures of a batch as they are given back, without padding.

        None where none are.
        """
        readable = [to_bytes(item.pixels) for item in batch if item.pixels is not None]
        if not readable:
            return None
        x_hat = self._tiled.reconstruct(to_images(torch.stack(readable).to(self.device)))
        if x_hat is None:
            return None
        pixels = (255 * x_hat.float().clamp(0, 1)).round().to(torch.uint8)
        inside = pixels[:, :, *content(self.view).slices]
        return inside.permute(0, 2, 3, 1).contiguous().cpu().numpy()

    def survey(self, source: ImageSource) -> Survey:
        """Score pictures and sum their maps up; of each picture some numbers are held.

        Raises:
            DataError: none of them can be read.
        """
        readable: list[int] = []
        unreadable: list[Unreadable] = []
        scores, maxima, medians = [], [], []
        seen = 0
        for batch in self.load(source):
            raw = self.score(batch, maps=True)
            # Maps of all pictures would be more than the pictures.
            scores.append(raw._replace(maps=None))
            if raw.maps is not None:
                values = counted(raw.maps, self.view)
                maxima.append(values.max(1).astype(np.float64))
                medians.append(np.median(values, 1))
            readable += [seen + i for i, item in enumerate(batch) if item.error is None]
            seen += len(batch)
            unreadable += [Unreadable(i.name, i.error) for i in batch if i.error is not None]
        if not readable:
            raise DataError(
                f"none of the {len(source)} calibration pictures can be read; the first: "
                f"{unreadable[0].reason}"
            )
        return Survey(
            source.subset(readable),
            *joined(scores),
            np.concatenate(maxima) if maxima else None,
            float(np.median(np.concatenate(medians))) if medians else None,
            unreadable,
        )


def joined(
    scores: Sequence[RawScores],
) -> tuple[NDArray[np.float64], dict[str, NDArray[np.float64]]]:
    """Totals and parts of several batches, in which there is a readable picture."""
    found = [raw for raw in scores if len(raw.totals)]
    return (
        np.concatenate([raw.totals for raw in found]),
        {name: np.concatenate([raw.parts[name] for raw in found]) for name in found[0].parts},
    )
