"""How a part lies in a picture, against a reference, and back again. Needs no torch.

A part that a gripper or a belt brings never lies twice alike. Where statistics are of each position
that costs accuracy, unless pictures are turned and shifted until all lie as the reference does.
Needs the extra `align`.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from onlygood.core.errors import ConfigError, DataError, in_a_line
from onlygood.core.settings import View
from onlygood.data.decode import Pixels, as_text, of_text
from onlygood.data.mask import mask_of

AUTO = "auto"
"""In place of a reference: the most usual of the first pictures to learn from."""
SIDES = (48, 96, 192)
"""Longer sides in pixels at which a picture is compared with the reference, one after the other."""
STARTS = range(-30, 31, 10)
"""Degrees from which the search begins at the coarsest size."""
LARGEST_ANGLE = 45.0
"""Degrees; a part that seems to be turned by more is another one, or was not found."""
LARGEST_SHIFT = 1 / 3
"""Share of the longer side, likewise."""
LIKE = 1.03
"""Ratio of width to height, at most, by which picture and reference may differ."""
STEPS, LEAST_GAIN = 60, 1e-5
"""Of the search at one size: steps at most, and gain of correlation under which it ends."""
LEAST_LIKENESS = 0.2
"""Correlation below which the part was not found: noise on a plain surface reaches a tenth."""
FAR, TELLING = 0.02, 1e-3
"""Along an edge or stripes nothing tells how far to shift, and what is shifted out is not seen: a
shift by the first, as a share of the longer side, must gain the second of correlation."""
LEFT = 1 / 3
"""Share of what sets pictures apart that is left where alignment pays: at most 0.18 of parts that
lie anyhow, 0.57 or more of clothes, solar cells and surfaces (of the half to choose on)."""
LEAST_ANGLE, LEAST_SHIFT = 0.5, 0.005
"""Degrees and share of the longer side, of which one at least differs where alignment pays."""
BLUR = 5
"""Pixels that are averaged before two pictures are compared, so that there is a slope to climb."""

Grey = UInt8[np.ndarray, "h w"]
Counts = Bool[np.ndarray, "h w"]
Smooth = Float32[np.ndarray, "h w"]
Values = Float32[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W C"]


class Pose(NamedTuple):
    """How a part lies: as in the reference, turned about the picture's centre, then shifted."""

    angle: float
    """Degrees, clockwise."""
    right: float
    """Shift as a share of the picture's longer side."""
    down: float
    """Likewise."""

    def matrix(self, size: tuple[int, int]) -> Float32[np.ndarray, "2 3"]:
        """From pixels of a picture of `size` (height, width) that lies as the reference, to here.

        Pixels are counted from the centre of the first one, x before y.
        """
        height, width = size
        cos, sin = math.cos(math.radians(self.angle)), math.sin(math.radians(self.angle))
        x, y = (width - 1) / 2, (height - 1) / 2
        longer = max(size)
        turn = np.array([[cos, -sin], [sin, cos]])
        shift = (x, y) - turn @ (x, y) + np.array([self.right, self.down]) * longer
        return np.column_stack([turn, shift]).astype(np.float32)


UNMOVED = Pose(0.0, 0.0, 0.0)


def reference_text(picture: Pixels) -> str:
    """A reference as `View.align` keeps it: grey, as small as it is compared, PNG, base64."""
    return as_text(Image.fromarray(_grey(picture, SIDES[-1])))


def most_usual(pictures: Iterable[Pixels], ignore: str = "") -> str:
    """The `reference_text` of the picture nearest to the mean of all, small and grey.

    Pictures are gone through once, and none is kept as it is: they may be large.

    Args:
        pictures: As decoded.
        ignore: Of `mask_text`: what never counts does not tell which is the nearest.

    Raises:
        ConfigError: OpenCV is missing, or the mask is none.
        DataError: there are no pictures.
    """
    square = (SIDES[0], SIDES[0])
    found = [(reference_text(p), _grey(p, SIDES[0], square)) for p in pictures]
    if not found:
        raise DataError("alignment needs a picture as its reference, got none that can be read")
    small = np.stack([grey for _, grey in found]).astype(np.float32)
    differences = np.square(small - small.mean(0))
    if ignore:
        differences[:, ~_counting(ignore, square)] = 0
    return found[int(differences.mean((1, 2)).argmin())][0]


def pose(picture: Pixels, reference: str, ignore: str = "") -> Pose:
    """How the part in a picture lies, by the correlation of grey values.

    Evangelidis and Psarakis 2008, Parametric Image Alignment Using Enhanced Correlation Coefficient
    Maximization, PAMI 30(10): brightness and contrast do not matter. Where no turn and shift within
    the limits is better than none, or all are as unlike as noise is, it is `UNMOVED`. It is not
    shifted far along an edge or stripes, where that gains nothing.

    Args:
        picture: As decoded.
        reference: Of `reference_text`.
        ignore: Of `mask_text`, of the reference: what never counts does not tell how a part lies.

    Raises:
        ConfigError: OpenCV is missing, or a text is none of these.
        DataError: the picture has another shape than the reference.
    """
    whole = reference_of(reference)
    height, width = picture.shape[:2]
    ratio = width / height * whole.shape[0] / whole.shape[1]
    # A side of the reference is a whole number of pixels, which is much where it is short.
    most = LIKE * (1 + 0.5 / min(whole.shape))
    if not 1 / most <= ratio <= most:
        raise DataError(
            f"is {width} x {height}, and cannot be aligned to a reference of the shape "
            f"{whole.shape[1]} x {whole.shape[0]}; leave it out, or fit with another reference"
        )
    found, likeness = UNMOVED, 0.0
    for side in SIDES:
        target = _blurred(whole[..., None], side)
        seen = _blurred(picture, side, target.shape)
        counts = _counting(ignore, target.shape) if ignore else None
        first = side == SIDES[0]
        starts = [Pose(float(angle), 0.0, 0.0) for angle in STARTS] if first else [found]
        tried = [UNMOVED, *starts, *(_improved(target, seen, start, counts) for start in starts)]
        likenesses = {
            one: _likeness(target, seen, one, counts) for one in filter(_within_limits, tried)
        }
        found = max(likenesses, key=likenesses.__getitem__)
        likeness = likenesses[found]
        if side == SIDES[-1]:  # At coarser ones a small mark that tells may not be seen.
            found = _held(target, seen, found, counts)
    return found if likeness >= LEAST_LIKENESS else UNMOVED


def misalignment(pictures: Iterable[Pixels], ignore: str = "") -> tuple[float, float] | None:
    """How differently one and the same thing lies in pictures, where they had better be aligned.

    That is where a turn and a shift take away most of what sets the pictures apart. They are gone
    through once, and none is kept as it is.

    Args:
        pictures: As decoded.
        ignore: Of `mask_text`.

    Returns:
        Degrees, and the shift as a share of the longer side, both without sign, medians against the
        most usual picture; None where alignment would do little, where there are fewer than three
        pictures that differ, or pictures of several shapes, and where OpenCV is missing.

    Raises:
        ConfigError: the mask is none.
    """
    if find_spec("cv2") is None:
        return None
    small = [_grey(picture, SIDES[-1])[:, :, None] for picture in pictures]
    if not small:
        return None
    # As an iterator, into which no check of types looks: there may be several shapes.
    reference = most_usual(iter(small), ignore)
    whole = reference_of(reference)
    target = _blurred(whole[:, :, None], SIDES[-1])
    counts = _counting(ignore, target.shape) if ignore else None
    found = []
    for picture in small:
        if np.array_equal(picture[:, :, 0], whole):
            continue
        try:
            at = pose(picture, reference, ignore)
        except DataError:  # Of another shape.
            return None
        seen = _blurred(picture, SIDES[-1], target.shape)
        before, after = (1 - _likeness(target, seen, one, counts) for one in (UNMOVED, at))
        left = after / before if before > 0 else 1.0
        found.append((left, abs(at.angle), math.hypot(at.right, at.down)))
    if len(found) < 2:
        return None
    left, angle, shift = np.median(found, axis=0).tolist()
    apart = angle >= LEAST_ANGLE or shift >= LEAST_SHIFT
    return (angle, shift) if apart and left <= LEFT else None


def check_alignment(view: View) -> None:
    """Refuse a view whose pictures could not be aligned here.

    Raises:
        ConfigError: OpenCV is missing, or `align` is no reference.
    """
    if view.align:
        reference_of(view.align)
        _opencv()


def pose_in(picture: Pixels, view: View) -> Pose | None:
    """How the part lies; None where a view aligns nothing. Raises as `pose`."""
    return pose(picture, view.align, view.ignore) if view.align else None


def aligned(picture: Pixels, at: Pose) -> Pixels:
    """The picture, turned and shifted to lie as the reference; its edges are repeated outwards.

    Raises:
        DataError: OpenCV cannot do it; older ones take no side of 32,767 pixels or more.
    """
    return _warped(picture, at, inverse=True, border="BORDER_REPLICATE")


def moved(values: Values, at: Pose) -> Values:
    """What was made of an aligned picture, laid over the picture as it was: `aligned` undone.

    0 where the aligned picture has nothing.
    """
    return _warped(values, at, inverse=False, border="BORDER_CONSTANT")


@lru_cache(maxsize=8)
def reference_of(text: str) -> Grey:
    """The reference in a setting; not to be changed, as all who ask share it.

    Raises:
        ConfigError: the text is none of `reference_text`.
    """
    try:
        pixels = of_text(text)
    except DataError as error:
        raise ConfigError(
            f"align={text[:40]} is no reference ({error}); give align=auto, or a picture as "
            "`--align FILE`"
        ) from error
    grey = pixels[:, :, 0]
    grey.setflags(write=False)
    return grey


def _grey(picture: Pixels, side: int, shape: tuple[int, ...] = ()) -> Grey:
    """With a longer side of `side` pixels, or of the `shape` given."""
    image = Image.fromarray(picture if picture.shape[2] == 3 else picture[:, :, 0]).convert("L")
    scale = side / max(image.size)
    width, height = shape[::-1] or (max(1, round(length * scale)) for length in image.size)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def _blurred(picture: Pixels, side: int, shape: tuple[int, ...] = ()) -> Smooth:
    grey = _grey(picture, side, shape).astype(np.float32)
    return np.asarray(_opencv().GaussianBlur(grey, (BLUR, BLUR), 0), np.float32)


@lru_cache(maxsize=8 * len(SIDES))
def _counting(ignore: str, shape: tuple[int, int]) -> Counts:
    """Where a small reference shows nothing of what is ignored, blurred as it is; not to change."""
    counts = Image.fromarray(np.where(mask_of(ignore), np.uint8(0), np.uint8(255)))
    height, width = shape
    small = np.asarray(counts.resize((width, height), Image.Resampling.BOX))
    found = np.asarray(_opencv().erode(small, np.ones((BLUR, BLUR), np.uint8)) == 255)
    found.setflags(write=False)
    return found


def _improved(target: Smooth, seen: Smooth, start: Pose, counts: Counts | None) -> Pose:
    """Climb from `start` to the next best likeness; `start` where there is no way up."""
    cv2 = _opencv()
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, STEPS, LEAST_GAIN)
    warp, kind = start.matrix(target.shape), cv2.MOTION_EUCLIDEAN
    try:
        if counts is None:
            _, warp = cv2.findTransformECC(target, seen, warp, kind, criteria, None, 1)
        else:
            # A mask is of what is moved: here the reference is, and its way is gone back.
            warp = cv2.invertAffineTransform(warp).astype(np.float32)
            mask = counts.astype(np.uint8)
            _, warp = cv2.findTransformECC(seen, target, warp, kind, criteria, mask, 1)
            warp = cv2.invertAffineTransform(warp)
    except cv2.error:  # It went where the two have nothing in common.
        return start
    height, width = target.shape
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    shift = (warp[:, :2] @ centre + warp[:, 2] - centre) / max(target.shape)
    angle = math.degrees(math.atan2(warp[1, 0], warp[0, 0]))
    return Pose(angle, float(shift[0]), float(shift[1]))


def _likeness(target: Smooth, seen: Smooth, at: Pose, counts: Counts | None) -> float:
    """Correlation of grey values that count, where all of the picture lies as the reference."""
    there = _warped(seen, at, inverse=True, border="BORDER_REPLICATE")
    if counts is not None:
        target, there = target[counts], there[counts]
    if not target.size:
        return 0.0
    one, two = target - target.mean(), there - there.mean()
    size = float(np.linalg.norm(one) * np.linalg.norm(two))
    return float((one * two).sum()) / size if size else 0.0


def _held(target: Smooth, seen: Smooth, at: Pose, counts: Counts | None) -> Pose:
    """The pose, not shifted far in the direction that tells least, where that gains nothing."""
    cv2 = _opencv()
    slopes = np.stack([cv2.Sobel(target, cv2.CV_32F, 1, 0), cv2.Sobel(target, cv2.CV_32F, 0, 1)])
    slopes = slopes[:, counts] if counts is not None else slopes.reshape(2, -1)
    _, directions = np.linalg.eigh(slopes @ slopes.T)
    # Of the reference, and then as the part lies.
    least = at._replace(right=0.0, down=0.0).matrix((1, 1))[:, :2] @ directions[:, 0]
    far = float(least @ (at.right, at.down))
    if abs(far) < FAR:
        return at
    right, down = (at.right, at.down) - far * least
    held = at._replace(right=float(right), down=float(down))
    gain = _likeness(target, seen, at, counts) - _likeness(target, seen, held, counts)
    return at if gain >= TELLING else held


def _within_limits(at: Pose) -> bool:
    # Not so where it is not a number, either.
    return abs(at.angle) <= LARGEST_ANGLE and math.hypot(at.right, at.down) <= LARGEST_SHIFT


def _warped(values: Any, at: Pose, *, inverse: bool, border: str) -> Any:
    if at == UNMOVED:
        return values
    cv2 = _opencv()
    height, width = values.shape[:2]
    flags = cv2.INTER_LINEAR | (cv2.WARP_INVERSE_MAP if inverse else 0)
    matrix, mode = at.matrix((height, width)), getattr(cv2, border)
    try:
        found = cv2.warpAffine(values, matrix, (width, height), flags=flags, borderMode=mode)
    except cv2.error as error:  # Before version 5 a side may have 32,766 pixels.
        raise DataError(
            f"is {width} x {height}, and cannot be aligned by OpenCV {cv2.__version__} "
            f"({in_a_line(error)}); install opencv-python-headless 5, or scale it down"
        ) from error
    return found.reshape(values.shape)


def _opencv() -> Any:
    try:
        import cv2
    except ImportError as error:
        raise ConfigError(
            "alignment needs OpenCV; run `pip install 'onlygood[align]'`, or fit without align"
        ) from error
    return cv2
