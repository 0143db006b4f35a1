"""Defects made on pictures of what is normal, each with its mask.

Every kind takes a `Place` and gives an opacity and a layer, which `spoil` lays on the picture.
Where the opacity is under `FAINT` nothing is laid, and what is laid without a change to be noticed,
but for a rim, is not in the mask: blurred plain paper is plain paper.
All is drawn from one generator; nothing else is random.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.random import Generator
from PIL import Image, ImageFilter
from PIL.Image import Resampling

Scene = Float[np.ndarray, "H W C"]
"""A picture of values 0 to 255 that is not rounded yet."""
Opacity = Float[np.ndarray, "H W"]

FAINT = 0.1
"""Opacity below which a defect is not there."""
NOTICED = 2.0
"""Change of a value, of 255, from which on a pixel counts as changed."""
GREY = np.array([0.299, 0.587, 0.114])
"""Share of each channel in the brightness, ITU-R BT.601."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a defect is made, and how easily it is to be seen."""

    clean: Scene
    other: Callable[[], Scene]
    """Draws what is pasted: as large, of another place or another thing."""
    ease: float
    """0 = hardly to be seen, 1 = plain."""
    draw: Generator
    on: Bool[np.ndarray, "H W"]
    """Where the middle of a defect may lie."""

    @property
    def side(self) -> int:
        """The shorter side, in pixels."""
        return min(self.clean.shape[:2])

    def between(self, hard: float, easy: float) -> float:
        """A value that is `hard` at ease 0 and `easy` at ease 1."""
        return hard + (easy - hard) * self.ease

    def sign(self) -> float:
        """-1 or 1."""
        return float(self.draw.choice([-1, 1]))


class Spoilt(NamedTuple):
    """A picture with a defect."""

    pixels: Scene
    mask: Bool[np.ndarray, "H W"]
    """True = anomalous."""


Kind = Callable[[Place], tuple[Opacity, Scene]]


def spoil(kind: str, place: Place) -> Spoilt:
    """Make a defect of a kind, one of `DEFECTS`."""
    opacity, layer = DEFECTS[kind](place)
    laid = opacity >= FAINT
    pixels = place.clean + np.where(laid, opacity, 0)[:, :, None] * (layer - place.clean)
    changed = np.abs(pixels - place.clean).max(2) >= NOTICED
    return Spoilt(pixels, laid & _grown(changed))


# Kinds -------------------------------------------------------------------------------------------


def paste(place: Place) -> tuple[Opacity, Scene]:
    """A piece of something else; the harder, the closer in colour and contrast."""
    other, here = place.other(), place.clean
    likeness = place.between(0.9, 0.2)
    spread = other.std((0, 1)) + 1
    alike = (other - other.mean((0, 1))) / spread * here.std((0, 1)) + here.mean((0, 1))
    return _blob(place, 0.07, 0.2, edge=1.0), other + likeness * (alike - other)


def turned(place: Place) -> tuple[Opacity, Scene]:
    """A round piece turned by 15 to 50 degrees."""
    radius = _size(place, 0.09, 0.22)
    y, x = _middle(place, int(radius) + 2)
    angle = place.sign() * place.between(15.0, 50.0)
    layer = _by_pillow(
        place.clean,
        lambda channel: channel.rotate(angle, Resampling.BICUBIC, center=(x + 0.5, y + 0.5)),
    )
    return np.clip(radius - _distance(place, y, x), 0, 1), layer


def scratch(place: Place) -> tuple[Opacity, Scene]:
    """A long, thin, slightly bent line, brighter or darker."""
    points = _walk(place, _size(place, 0.3, 0.8), steps=6, bend=0.12)
    layer = place.clean + place.sign() * (place.between(18.0, 60.0) + 0.6 * _spread(place))
    return _line(place, points, place.draw.uniform(0.6, 1.4)), layer


def crack(place: Place) -> tuple[Opacity, Scene]:
    """A jagged line with branches; dark, but bright on what is dark itself."""
    points = _walk(place, _size(place, 0.25, 0.7), steps=14, bend=0.6)
    width = place.draw.uniform(0.5, 1.1)
    opacity = _line(place, points, width)
    for start in place.draw.choice(len(points) - 4, 2, replace=False):
        branch = _walk(place, _size(place, 0.1, 0.25), steps=7, bend=0.6, start=points[start])
        opacity = np.maximum(opacity, _line(place, branch, 0.8 * width))
    return opacity, _apart(place, place.between(0.35, 0.8))


def stain(place: Place) -> tuple[Opacity, Scene]:
    """A spot with a soft edge, warmer or colder; darker, but brighter on what is dark itself."""
    tint = 1 + place.sign() * place.between(0.03, 0.12) * np.array([1.0, 0.1, -1.0])
    layer = _apart(place, place.between(0.12, 0.45)) * tint[: place.clean.shape[2]]
    return _blob(place, 0.06, 0.22, edge=6.0), layer


def blur(place: Place) -> tuple[Opacity, Scene]:
    """A piece without its detail."""
    blurring = ImageFilter.GaussianBlur(place.between(1.5, 5.0))
    return _blob(place, 0.1, 0.25, edge=4.0), _by_pillow(
        place.clean, lambda channel: channel.filter(blurring)
    )


def hole(place: Place) -> tuple[Opacity, Scene]:
    """A small hole with a bright rim on one side; dark, but bright in what is dark itself."""
    radius = _size(place, 0.02, 0.07)
    y, x = _middle(place, int(radius) + 2)
    shadow = np.clip(radius - _distance(place, y, x), 0, 1)
    rim = np.clip(radius - _distance(place, y + 2, x + 2), 0, 1) * (1 - shadow)
    inside = _apart(place, place.between(0.5, 0.9))
    layer = inside + rim[:, :, None] * (place.clean * 1.3 + 10 - inside)
    return np.maximum(shadow, 0.7 * rim), layer


def colour(place: Place) -> tuple[Opacity, Scene]:
    """A spot of another colour, equally bright; of grey pictures, another brightness."""
    if place.clean.shape[2] == 1:
        shift = np.array([place.sign()])
    else:
        chroma = place.draw.normal(size=3)
        chroma = chroma - GREY @ chroma
        shift = chroma / np.linalg.norm(chroma)
    return _blob(place, 0.07, 0.22, edge=3.0), place.clean + place.between(10.0, 55.0) * shift


def line(place: Place) -> tuple[Opacity, Scene]:
    """A strip in which what lies along it is missing, as if drawn from one side to the other.

    Of some strips the one is taken in which the most is missing: a joint or a thread, where there
    are any.
    """
    opacity, layer = _most_changed(place, _strip)
    return place.between(0.6, 1.0) * opacity, layer


def missing(place: Place) -> tuple[Opacity, Scene]:
    """A piece that is gone, with the usual colour of what lies around in its place.

    Here and below, of some places the one is taken in which the most changes.
    """
    largest = place.between(0.06, 0.16)

    def gone(place: Place) -> tuple[Opacity, Scene]:
        opacity = _blob(place, 0.04, largest, edge=2.0)
        around = _grown(opacity > 0) & (opacity == 0)
        return opacity, np.broadcast_to(np.median(place.clean[around], 0), place.clean.shape)

    return _most_changed(place, gone)


def smear(place: Place) -> tuple[Opacity, Scene]:
    """A piece that is drawn out in one direction, as by a finger over wet ink."""
    reach, way = round(place.between(4.0, 16.0)), _direction(place)
    moved = [_moved(place.clean, np.rint(step * way).astype(int)) for step in range(reach + 1)]
    drawn_out = np.mean(moved, 0)
    return _most_changed(place, lambda place: (_blob(place, 0.08, 0.2, edge=3.0), drawn_out))


def displaced(place: Place) -> tuple[Opacity, Scene]:
    """A piece that sits a little beside its place."""
    far = place.between(0.015, 0.06) * place.side
    beside = _moved(place.clean, np.rint(far * _direction(place)).astype(int))
    return _most_changed(place, lambda place: (_blob(place, 0.08, 0.18, edge=1.0), beside))


def blob(place: Place) -> tuple[Opacity, Scene]:
    """A small drop of something opaque; dark, but bright on what is dark itself."""
    return _blob(place, 0.02, 0.06, edge=1.5), _apart(place, place.between(0.4, 0.85))


DEFECTS: dict[str, Kind] = {
    kind.__name__: kind
    for kind in (
        *(paste, turned, scratch, crack, stain, blur, hole, colour, line),
        *(missing, smear, displaced, blob),
    )
}
"""Kinds of defects by the name of their folder."""


# Shapes ------------------------------------------------------------------------------------------


def _size(place: Place, small: float, large: float) -> float:
    """A length in pixels, between shares of the picture's side; small ones as often as large."""
    return float(place.side * np.exp(place.draw.uniform(np.log(small), np.log(large))))


def _middle(place: Place, margin: int) -> tuple[int, int]:
    """Where a defect may lie that needs a margin to the border of the picture."""
    inner = np.zeros_like(place.on)
    inner[margin:-margin, margin:-margin] = place.on[margin:-margin, margin:-margin]
    ys, xs = np.nonzero(inner)
    chosen = int(place.draw.integers(len(ys)))
    return int(ys[chosen]), int(xs[chosen])


def _distance(place: Place, y: int, x: int) -> Opacity:
    """Of each pixel from a point."""
    rows, columns = np.indices(place.on.shape)
    return np.hypot(rows - y, columns - x)


def _spread(place: Place) -> float:
    """Standard deviation of the brightness."""
    return float(place.clean.mean(2).std())


def _apart(place: Place, share: float) -> Scene:
    """The picture, a share of the way to black, or to nearly white where it is dark."""
    goal = 0 if place.clean.mean() > 64 else 220
    return place.clean + share * (goal - place.clean)


def _by_pillow(scene: Scene, change: Callable[[Image.Image], Image.Image]) -> Scene:
    """What Pillow makes of each channel, in 8 bits."""
    rounded = np.clip(np.rint(scene), 0, 255).astype(np.uint8)
    channels = [change(Image.fromarray(channel)) for channel in np.moveaxis(rounded, 2, 0)]
    return np.stack([np.asarray(channel, float) for channel in channels], 2)


def _blob(place: Place, small: float, large: float, *, edge: float) -> Opacity:
    """An uneven round spot; its opacity falls from 1 to 0 over `edge` pixels."""
    radius = _size(place, small, large)
    y, x = _middle(place, place.side // 10)
    rows, columns = np.indices(place.on.shape)
    angle = np.arctan2(rows - y, columns - x)
    waves = np.arange(2, 6)
    heights = place.draw.normal(0, 0.3, len(waves)) / waves
    phases = place.draw.uniform(0, 2 * np.pi, len(waves))
    uneven = np.cos(waves * angle[:, :, None] + phases) @ heights
    return np.clip((radius * (1 + uneven) - _distance(place, y, x)) / edge, 0, 1)


def _walk(
    place: Place,
    length: float,
    *,
    steps: int,
    bend: float,
    start: Float[np.ndarray, "2"] | None = None,
) -> Float[np.ndarray, "n 2"]:
    """Corners of a path in one direction, which changes at each by about `bend` radians.

    From `start`, or with its middle where a defect may lie.
    """
    first = place.draw.uniform(0, 2 * np.pi)
    angles = first + np.cumsum(place.draw.normal(0, bend, steps)) * 0.5
    moves = length / steps * np.stack([np.sin(angles), np.cos(angles)], 1)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(moves, 0)])
    if start is not None:
        return start + points
    return points - points.mean(0) + _middle(place, place.side // 6)


def _line(place: Place, points: Float[np.ndarray, "n 2"], half_width: float) -> Opacity:
    """A path as a line with a smooth edge."""
    grid = np.moveaxis(np.indices(place.on.shape, float), 0, 2)
    nearest = np.full(place.on.shape, np.inf)
    for begin, end in pairwise(points):
        way = end - begin
        share = np.clip((grid - begin) @ way / (way @ way), 0, 1)
        nearest = np.minimum(
            nearest, np.linalg.norm(grid - begin - share[:, :, None] * way, axis=2)
        )
    return np.clip(half_width + 0.5 - nearest, 0, 1)


def _most_changed(place: Place, attempt: Kind) -> tuple[Opacity, Scene]:
    """Of some attempts the one that changes its pixels most."""

    def change(attempted: tuple[Opacity, Scene]) -> float:
        opacity, layer = attempted
        return float(np.abs(layer - place.clean).mean(2)[opacity > 0].mean())

    return max((attempt(place) for _ in range(12)), key=change)


def _grown(region: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, "H W"]:
    """With all that lies up to three pixels around."""
    image = Image.fromarray(region).convert("L").filter(ImageFilter.MaxFilter(7))
    return np.asarray(image) > 0


def _direction(place: Place) -> Float[np.ndarray, "2"]:
    """Any, of length 1."""
    angle = place.draw.uniform(0, 2 * np.pi)
    return np.array([np.sin(angle), np.cos(angle)])


def _moved(scene: Scene, by: Int[np.ndarray, "2"]) -> Scene:
    """The picture moved by whole pixels, down and right; its border is repeated."""
    rows, columns = (
        np.clip(np.arange(length) - step, 0, length - 1)
        for length, step in zip(scene.shape[:2], by, strict=True)
    )
    return scene[rows[:, None], columns]


def _strip(place: Place) -> tuple[Opacity, Scene]:
    """A strip along an axis, drawn across from one side to the other."""
    across, along = round(_size(place, 0.035, 0.09)), round(_size(place, 0.4, 1.0))
    upright = bool(place.draw.integers(2))
    scene = place.clean.swapaxes(0, 1) if upright else place.clean
    middle = _middle(place, across // 2 + 5)
    top = middle[upright] - across // 2
    left = int(place.draw.integers(0, max(1, scene.shape[1] - along)))
    weight = np.linspace(0, 1, across + 2)[1:-1, None, None]
    above, below = scene[top - 3 : top].mean(0), scene[top + across :][:3].mean(0)
    layer = scene.copy()
    layer[top : top + across] = (1 - weight) * above + weight * below
    opacity = np.zeros(scene.shape[:2])
    opacity[top : top + across, left : left + along] = 1
    return (opacity.T, layer.swapaxes(0, 1)) if upright else (opacity, layer)
