"""Parts that lie only roughly in place: print, photographed things, and solar cells.

Print and photographs are of one thing each, shifted, turned and scaled a little from picture to
picture, under another light and with noise; their defects are made, with masks. Cells are those of
ELPV, posed the same way, with their real defects and no masks.
"""

from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from PIL.Image import Resampling

from onlygood.core.errors import ConfigError, DataError, alternatives
from onlygood.data.readers.industrial import elpv, elpv_doubtful
from onlygood.data.readers.made import Shot, drawn, lit, made
from onlygood.data.readers.sets import KnownSplit, known_split
from onlygood.data.source import ImageSource, Picture

SIDE = 192
"""Of each picture, in pixels."""
DEGREES, SHIFT, SCALE = 3.0, 0.03, 0.03
"""How far a pose is from straight, up and down: shift as a share of the side."""
NOISE = 2.0
"""Standard deviation of a camera's noise, of 255."""
KINDS = ("missing", "smear", "scratch", "stain", "blob", "blur", "colour", "displaced")
"""Of made defects."""

_CANVAS = 800
"""Side of a drawing, in pixels; a picture shows its middle."""


class Thing(NamedTuple):
    """What is posed before the camera."""

    image: Image.Image
    """RGB or grey."""
    on: Image.Image
    """Grey, of the same size; not 0 where the middle of a defect may lie."""
    middle: tuple[float, float]
    """Of the usual picture, x and y in pixels of the image."""
    side: int
    """Of the usual picture, in pixels of the image."""


# Poses -------------------------------------------------------------------------------------------

Affine = tuple[float, float, float, float, float, float]


def _pose(thing: Thing, draw: Generator) -> Affine:
    """From pixels of the picture, before it is made smaller, to those of the image."""
    angle = np.deg2rad(draw.uniform(-DEGREES, DEGREES))
    scale = 1 + draw.uniform(-SCALE, SCALE)
    x, y = np.array(thing.middle) + draw.uniform(-SHIFT, SHIFT, 2) * thing.side
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    half = thing.side / 2
    return (cos, -sin, x - half * (cos - sin), sin, cos, y - half * (sin + cos))


def _posed(image: Image.Image, side: int, pose: Affine) -> Image.Image:
    seen = image.transform((side, side), Image.Transform.AFFINE, pose, Resampling.BICUBIC)
    return seen.resize((SIDE, SIDE), Resampling.BOX if side > 2 * SIDE else Resampling.BICUBIC)


def _shot(thing: Thing, draw: Generator) -> Shot:
    pose = _pose(thing, draw)
    scene = np.atleast_3d(np.asarray(_posed(thing.image, thing.side, pose), float))
    # What lies behind, or how it is lit, is never quite the same.
    shades = Image.fromarray(draw.normal(0, 4, (5, 5)).astype(np.float32))
    shade = np.asarray(shades.resize((SIDE, SIDE), Resampling.BICUBIC), float)
    on = np.asarray(_posed(thing.on, thing.side, pose)) > 0
    return Shot(scene + shade[:, :, None], on)


# Things ------------------------------------------------------------------------------------------

Colour = tuple[int, int, int]


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    path = _inside("matplotlib") / "mpl-data" / "fonts" / "ttf" / f"{name}.ttf"
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _printed(paper: Colour, paint: Callable[[ImageDraw.ImageDraw], None]) -> Thing:
    """A drawing on a ground of one colour; defects lie where something is drawn."""
    image = Image.new("RGB", (_CANVAS, _CANVAS), paper)
    paint(ImageDraw.Draw(image))
    ink = np.abs(np.asarray(image, np.int16) - np.array(paper)).sum(2) > 60
    on = Image.fromarray(ink).convert("L").filter(ImageFilter.MaxFilter(21))
    return Thing(image, on, (_CANVAS / 2, _CANVAS / 2), _CANVAS * 3 // 4)


def _text(
    canvas: ImageDraw.ImageDraw, y: int, words: str, font: str, size: int, ink: Colour
) -> None:
    canvas.text((_CANVAS // 2, y), words, ink, _font(font, size), anchor="mm")


def _date_code() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        for y, words in ((270, "EXP 12-27"), (400, "LOT 4711"), (530, "QC 08/B")):
            _text(canvas, y, words, "DejaVuSansMono-Bold", 92, (30, 30, 45))

    return _printed((214, 208, 194), paint)


def _dial() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        middle, white = _CANVAS / 2, (232, 232, 226)
        canvas.ellipse((130, 130, 670, 670), outline=white, width=10)
        for mark in range(25):
            angle = np.deg2rad(135 + mark * 270 / 24)
            way = np.array([np.cos(angle), np.sin(angle)])
            inner = 205 if mark % 4 == 0 else 228
            ends = np.concatenate([middle + inner * way, middle + 252 * way])
            canvas.line(tuple(ends.tolist()), white, 9 if mark % 4 == 0 else 5)
            if mark % 4 == 0:
                place = tuple((middle + 165 * way).tolist())
                canvas.text(place, str(mark // 4), white, _font("DejaVuSans", 50), anchor="mm")
        canvas.line((330, 452, 520, 310), (214, 60, 40), 14)
        canvas.ellipse((374, 374, 426, 426), fill=(150, 150, 150))
        _text(canvas, 560, "bar", "DejaVuSans", 54, white)

    return _printed((34, 36, 40), paint)


def _keycap() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        canvas.rounded_rectangle((170, 170, 630, 630), 60, (70, 74, 82), (120, 124, 132), 12)
        _text(canvas, 390, "R", "DejaVuSans-Bold", 330, (225, 225, 220))

    return _printed((46, 48, 54), paint)


def _type_plate() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        ink = (52, 50, 48)
        canvas.rectangle((140, 200, 660, 600), outline=ink, width=8)
        canvas.line((140, 320, 660, 320), ink, 5)
        _text(canvas, 262, "MOTOR 3~", "DejaVuSerif-Bold", 76, ink)
        for y, words in ((380, "No. 20 48 116"), (460, "400 V   1.5 kW"), (540, "IP 55   50 Hz")):
            _text(canvas, y, words, "DejaVuSerif", 58, ink)

    return _printed((168, 170, 172), paint)


def _warning() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        black = (22, 20, 18)
        canvas.polygon(((400, 150), (190, 510), (610, 510)), (240, 196, 20))
        canvas.line(((400, 150), (190, 510), (610, 510), (400, 150)), black, 22, joint="curve")
        _text(canvas, 395, "!", "DejaVuSans-Bold", 250, black)
        _text(canvas, 610, "HOT SURFACE", "DejaVuSans-Bold", 68, black)

    return _printed((226, 224, 218), paint)


def _button() -> Thing:
    def paint(canvas: ImageDraw.ImageDraw) -> None:
        white = (236, 238, 240)
        canvas.ellipse((150, 150, 650, 650), (38, 84, 158), (150, 154, 160), 26)
        canvas.arc((270, 250, 530, 510), -50, 230, white, 34)
        canvas.line((400, 215, 400, 390), white, 34)
        _text(canvas, 572, "START", "DejaVuSans-Bold", 62, white)

    return _printed((176, 174, 168), paint)


def _photograph(file: str, middle: tuple[float, float], side: int, reach: float) -> Thing:
    """A part of a photograph that comes with scikit-learn.

    Defects lie up to `reach` from the middle, a share of the side.
    """
    path = _inside("sklearn") / "datasets" / "images" / file
    image = Image.fromarray(Picture(file, path).load())
    on = Image.new("L", image.size)
    (x, y), radius = middle, reach * side
    ImageDraw.Draw(on).ellipse((x - radius, y - radius, x + radius, y + radius), 255)
    return Thing(image, on, middle, side)


def find_packages() -> None:
    """Look for what carries fonts and photographs.

    Raises:
        DataError: one of them is not installed.
    """
    for package in ("matplotlib", "sklearn"):
        _inside(package)


def _inside(package: str) -> Path:
    """The folder of an installed package.

    Raises:
        DataError: it is not installed.
    """
    try:
        return Path(str(resources.files(package)))
    except ModuleNotFoundError as error:
        raise DataError(
            f"parts: fonts and photographs come with matplotlib and scikit-learn, and {package} "
            "is not installed; pip install 'onlygood[train]'"
        ) from error


# Splits ------------------------------------------------------------------------------------------


def _made(thing: Callable[[], Thing], name: str, _: Path | None) -> KnownSplit:
    shoot = partial(_shot, thing())
    return made(
        f"parts-{name}",
        f"parts, {name}",
        train=shoot,
        test=shoot,
        other=lambda draw, _: shoot(draw).scene,
        kinds=KINDS,
        noise=NOISE,
    )


def _cells(read: Callable[[Path | None], KnownSplit], name: str, folder: Path | None) -> KnownSplit:
    """Solar cells out of place: their middle, without the border that a pose would show."""

    def posed(picture: Picture) -> Picture:
        draw = drawn(f"parts-{name}", picture.name)
        image = Image.fromarray(picture.load()[:, :, 0])
        side = min(image.size)
        thing = Thing(image, image, (image.width / 2, image.height / 2), side * 7 // 8)
        return Picture(picture.name, lit(_shot(thing, draw).scene, draw))

    def part(pictures: ImageSource) -> ImageSource:
        return ImageSource([posed(picture) for picture in pictures])

    train, test = read(folder)
    kinds = np.array(test.kinds)
    (_, normal), *anomalous = (
        (kind, part(test.source.subset(np.flatnonzero(kinds == kind))))
        for kind in dict.fromkeys(test.kinds)
    )
    return known_split(f"parts, {name}", part(train), normal, anomalous)


Read = Callable[[str, Path | None], KnownSplit]

TO_CHOOSE: dict[str, Read] = {
    "date-code": partial(_made, _date_code),
    "dial": partial(_made, _dial),
    "keycap": partial(_made, _keycap),
    "blossom": partial(_made, partial(_photograph, "flower.jpg", (308.0, 222.0), 330, 0.4)),
    "cell-poly": partial(_cells, partial(elpv_doubtful, "poly")),
}
"""The half to choose settings on, by name; no table shows it."""

TO_REPORT: dict[str, Read] = {
    "type-plate": partial(_made, _type_plate),
    "warning": partial(_made, _warning),
    "button": partial(_made, _button),
    "pagoda": partial(_made, partial(_photograph, "china.jpg", (200.0, 212.0), 350, 0.32)),
    "cell-mono": partial(_cells, partial(elpv, "mono")),
}
"""The half that tables report, by name; nothing is chosen by it."""

PARTS = TO_CHOOSE | TO_REPORT


def part(name: str, folder: Path | None = None) -> KnownSplit:
    """A part that lies only roughly in place (192 x 192), with defects.

    Print and photographs (RGB): 100 pictures train; 40 normal ones and 8 of each kind of made
    defect, with masks, are the test. Solar cells (grey) have the split of ELPV; those to choose on
    are of `elpv_doubtful`. `folder` is that of ELPV, where it is not installed.

    Raises:
        ConfigError: there is no such part.
        DataError: a package that carries fonts, photographs or cells is not installed.

    Source: DejaVu fonts of matplotlib; photographs of scikit-learn (CC BY 2.0); ELPV.
    """
    if name not in PARTS:
        raise ConfigError(f'no part "{name}"{alternatives(name, PARTS)}')
    return PARTS[name](name, folder)
