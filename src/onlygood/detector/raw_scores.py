"""From pictures to raw scores: a trained network behind the view it was trained with."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from onlygood.core.digest import short_digest
from onlygood.core.errors import DataError, OnlygoodError, ShapeError
from onlygood.core.exact import exactly
from onlygood.core.machine import keep_freed_memory
from onlygood.core.method import Method
from onlygood.core.settings import View
from onlygood.data.loading import Loaded, iterate, threads
from onlygood.data.preprocess import to_bytes, to_images
from onlygood.data.resize import content, counted, counting
from onlygood.data.source import ImageSource, Picture
from onlygood.data.store import Unreadable
from onlygood.data.tiling import Tiled
from onlygood.training.precision import unaffected

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
    digests: list[int]
    """The short one of each, as it is seen."""
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
        keep_freed_memory()
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

    def score(self, batch: list[Loaded], *, maps: bool) -> RawScores:
        """Score the readable pictures of a batch.

        Raises:
            OnlygoodError: the method gave a score that is not finite.
            ShapeError: what it gave is not one number per image, or it localizes without a map.
        """
        readable = [(item.name, to_bytes(item.pixels)) for item in batch if item.pixels is not None]
        if not readable:
            return RawScores(np.zeros(0), {}, None)
        names, pictures = zip(*readable, strict=True)
        with unaffected(self.device), torch.no_grad(), exactly(self.device):
            scores = self._tiled.score(to_images(torch.stack(pictures).to(self.device)))
        if scores.map is None and self.network.localizes:
            raise ShapeError(
                "the score has no map, and the method says localizes = True; give score() a map, "
                "as Scores.weighted(map, name=...) does, or say localizes = False"
            )
        totals = scores.total.double().cpu().numpy()
        if not np.isfinite(totals).all():
            raise OnlygoodError(
                f"{names[int(np.argmin(np.isfinite(totals)))]}: the score is not finite; the "
                "model is damaged or its training diverged; fit anew, at a lower learning rate if "
                "it was a fit that ended so"
            )
        parts = {name: values.double().cpu().numpy() for name, values in scores.terms.items()}
        heat = None
        if maps and scores.map is not None:
            # Without the padding, of which smoothing must not know either.
            inside = content(self.view).slices
            heat = _smoothed(scores.map.float().cpu().numpy()[:, *inside], self.view)
        return RawScores(totals, parts, heat)

    def reconstruct(self, batch: list[Loaded]) -> UInt8[np.ndarray, "n h w C"] | None:
        """The readable pictures of a batch as they are given back, without padding.

        None where none are.
        """
        readable = [to_bytes(item.pixels) for item in batch if item.pixels is not None]
        if not readable:
            return None
        with unaffected(self.device), torch.no_grad(), exactly(self.device):
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
        return self.looked(source, range(len(source))).survey(source)

    def looked(self, source: ImageSource, places: range) -> "Looked":
        """The same of the pictures at some places, for whoever surveys in parts."""
        found = Looked()
        place = iter(places)
        for batch in self.load(source.subset(places)):
            # Maps of all pictures would be more than the pictures.
            found.add(self.score(batch, maps=True), batch, place, self.view)
        return found


@final
class Looked:
    """What was seen of some pictures of a source; a `Statistics`."""

    def __init__(self) -> None:
        self._names: list[str] = []
        """Of the columns of `_rows`: of each part of the score."""
        self._mapped = False
        """Whether two columns more are there, of the maps."""
        self._rows: list[NDArray[np.float64]] = []
        self._readable: list[int] = []
        self._digests: list[int] = []
        self._unreadable: list[tuple[int, str]] = []

    def add(
        self, raw: RawScores, batch: Sequence[Loaded], places: Iterator[int], view: View
    ) -> None:
        """Take in a batch, whose pictures are at the next places of their source."""
        for item, place in zip(batch, places, strict=False):
            if item.pixels is not None:
                self._readable.append(place)
                self._digests.append(short_digest(item.pixels))
            else:
                self._unreadable.append((place, item.error or ""))
        if not len(raw.totals):
            return
        self._names = list(raw.parts)
        columns = [raw.totals, *raw.parts.values()]
        self._mapped = raw.maps is not None
        if raw.maps is not None:
            values = counted(raw.maps, view)
            columns += [values.max(1), np.median(values, 1)]
        self._rows.append(np.stack(columns, 1).astype(np.float64))

    def merge(self, other: "Looked") -> None:
        """Take in what was seen of pictures that come later."""
        if other._rows:
            self._names, self._mapped = other._names, other._mapped
        self._rows += other._rows
        self._readable += other._readable
        self._digests += other._digests
        self._unreadable += other._unreadable

    def tensors(self) -> dict[str, torch.Tensor]:
        """See `Statistics`."""
        rows = np.concatenate(self._rows) if self._rows else np.zeros((0, 0))
        words = {
            "names": self._names,
            "mapped": self._mapped,
            "readable": self._readable,
            "digests": self._digests,
            "unreadable": self._unreadable,
        }
        text = np.frombuffer(json.dumps(words).encode(), np.uint8)
        return {"rows": torch.from_numpy(rows), "words": torch.from_numpy(text.copy())}

    @classmethod
    def of(cls, tensors: Mapping[str, torch.Tensor]) -> "Looked":
        """See `Statistics`."""
        found = cls()
        words = json.loads(tensors["words"].numpy().tobytes())
        found._names, found._mapped = words["names"], words["mapped"]
        found._readable, found._digests = words["readable"], words["digests"]
        found._unreadable = [(place, reason) for place, reason in words["unreadable"]]
        if len(tensors["rows"]):
            found._rows.append(tensors["rows"].numpy())
        return found

    def survey(self, source: ImageSource) -> Survey:
        """What it says of the source, when all its pictures were seen.

        Raises:
            DataError: none of them can be read.
        """
        if not self._rows:
            raise DataError(
                f"none of the {len(source)} calibration pictures can be read; the first: "
                f"{self._unreadable[0][1]}"
            )
        columns = np.concatenate(self._rows).T.copy()
        totals, parts = columns[0], columns[1 : 1 + len(self._names)]
        return Survey(
            source.subset(self._readable),
            self._digests,
            totals,
            dict(zip(self._names, parts, strict=True)),
            columns[-2] if self._mapped else None,
            # Of values in 32 bits: the mean of two of them is.
            float(np.median(columns[-1].astype(np.float32))) if self._mapped else None,
            [Unreadable(source[place].name, reason) for place, reason in self._unreadable],
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


def _smoothed(maps: Float32[np.ndarray, "B h w"], view: View) -> NDArray[np.float32]:
    """Maps of `View.shape`, smoothed by what counts alone; 0 where nothing near does."""
    sigma = view.smooth * view.size
    counts = counting(view)
    if not sigma:
        return maps
    if counts is None:
        return np.asarray(gaussian_filter(maps, (0, sigma, sigma)))
    own = counts[content(view).slices].astype(np.float32)
    whole = gaussian_filter(maps * own, (0, sigma, sigma))
    shares = gaussian_filter(own, sigma)
    return np.asarray(np.divide(whole, shares, out=np.zeros_like(whole), where=shares > 0))
