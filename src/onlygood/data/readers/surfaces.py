"""Real surfaces with made defects: textures of a game's package, cut into many pictures.

Each texture is parted by a vertical line: what trains is cut out of the left part, what is tested
out of the right one. Textures that repeat themselves from one part to the other are left out.
"""

import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.random import Generator
from PIL import Image

from onlygood.core.errors import ConfigError, DataError, alternatives
from onlygood.data.readers.defects import Scene
from onlygood.data.readers.made import Shot, made
from onlygood.data.readers.sets import KnownSplit
from onlygood.data.source import Picture, printable

ARCHIVE = "0textures.pk3"
"""The file of the package `ufoai-textures` that is read."""
INSTALLED = Path("usr/share/games/ufoai/base")
"""Where it lies, from the root of the system or of the unpacked package."""
SIDE = 160
"""Of each picture, in pixels."""
KINDS = ("paste", "turned", "scratch", "crack", "stain", "blur", "hole", "colour", "line")
"""Of defects; what has no pattern is not turned."""
LEAST = 512
"""Height and width that a texture has at least."""


class Surface(NamedTuple):
    """A texture that pictures are cut out of."""

    kind: str
    """Of material."""
    file: str
    """In the folder `textures` of the archive."""
    pattern: bool = False
    """Has a direction or repeats itself, so that a piece that is turned or moved can be seen."""
    reduced: int = 1
    """By which whole number the texture is made smaller first."""


TO_CHOOSE: dict[str, Surface] = {
    "asphalt": Surface("asphalt", "tex_ctp1/asphalt_b_1.jpg"),
    "bricks": Surface("bricks", "tex_buildings/wall_brick01.png", pattern=True),
    "granite-setts": Surface("cobbles", "tex_mattn/floor009.jpg", pattern=True),
    "concrete": Surface("concrete", "tex_trak/trak4_concrete5a.png"),
    "basketweave": Surface("fabric", "tex_furniture/textil003.png", pattern=True),
    "lawn": Surface("grass", "tex_ctp1/hedge01.jpg"),
    "pebbles": Surface("gravel", "tex_mattn/floor028.png"),
    "mesh": Surface("grid", "tex_ctp1/metal_g_1.jpg", pattern=True),
    "lava": Surface("relief", "tex_ctp1/volcano_b_1.jpg"),
    "stained-steel": Surface("metal", "tex_material/metall015.png"),
    "rough-plaster": Surface("plaster", "tex_mattn/concrete003.jpg"),
    "cracked-rock": Surface("rock", "tex_mattn/rock004.png"),
    "rust": Surface("rust", "tex_material/metall023.png"),
    "cracked-soil": Surface("soil", "tex_ctp1/dirt_b_1.jpg"),
    "blue-tiles": Surface("tiles", "tex_ctp1/tiles_b_2.jpg", pattern=True),
    "wood-grain": Surface("wood", "tex_ctp1/wood_b_1.jpg", pattern=True),
}
"""The half to choose settings on, by name; no table shows it."""

TO_REPORT: dict[str, Surface] = {
    "road": Surface("asphalt", "tex_streets/street001.png"),
    "pale-bricks": Surface("bricks", "tex_mattn/wall070.jpg", pattern=True),
    "yellow-cobbles": Surface("cobbles", "tex_buildings/floor_se01.png"),
    "washed-concrete": Surface("concrete", "tex_ctp1/concrete_g_8.jpg", reduced=2),
    "linen": Surface("fabric", "tex_ctp1/concrete_g_1.jpg", pattern=True),
    "meadow": Surface("grass", "tex_ctp1/grass_g_7.jpg", reduced=2),
    "ballast": Surface("gravel", "tex_nature/railway.png"),
    "perforated-plate": Surface("grid", "tex_buildings/metal02.png", pattern=True),
    "hammered": Surface("relief", "tex_ctp1/metal_g_3.jpg"),
    "tread-plate": Surface("metal", "tex_material/metall007.png", pattern=True),
    "pink-plaster": Surface("plaster", "tex_ctp1/concrete_g_7.jpg"),
    "red-rock": Surface("rock", "tex_nature/desert002.png", reduced=2),
    "flaking-paint": Surface("rust", "tex_mattn/rust2.jpg"),
    "soil": Surface("soil", "tex_nature/dirt003.png"),
    "cream-tiles": Surface("tiles", "tex_buildings/floor008.png", pattern=True),
    "parquet": Surface("wood", "tex_buildings/floor039.png", pattern=True),
}
"""The half that tables report, by name; nothing is chosen by it."""

SURFACES = TO_CHOOSE | TO_REPORT


def surface(name: str, folder: Path | None = None) -> KnownSplit:
    """A surface of real material (160 x 160, RGB) with made defects and their masks.

    100 pictures train; 40 normal ones and 8 of each kind of defect are the test. `folder` holds
    `0textures.pk3`, or is one that Debian's package `ufoai-textures` was unpacked to; None: where
    that package installs it.

    Raises:
        ConfigError: there is no such surface.
        DataError: the archive is not there, or is not the original one.

    Source: UFO: Alien Invasion 2.5; mostly GPL-2 and GPL-2+, `docs/data.md` says more.
    """
    if name not in SURFACES:
        raise ConfigError(f'no surface "{name}"{alternatives(name, SURFACES)}')
    archive = find_archive(folder)
    chosen = SURFACES[name]
    # Pieces of the other half must not be seen in this one.
    half = TO_CHOOSE if name in TO_CHOOSE else TO_REPORT
    others = [one for one in half.values() if one.kind != chosen.kind]

    def other(draw: Generator) -> Scene:
        return _texture(archive, others[draw.integers(len(others))])

    return parted(
        f"surfaces-{name}",
        f"surfaces, {name} ({chosen.kind})",
        _texture(archive, chosen),
        other=other,
        pattern=chosen.pattern,
    )


def parted(
    name: str, title: str, texture: Scene, *, other: Callable[[Generator], Scene], pattern: bool
) -> KnownSplit:
    """Pictures cut out of a texture: what trains of its left part, what is tested of its right one.

    Args:
        name: seeds the drawing.
        title: of the data set, in words.
        texture: 512 x 512 at least.
        other: draws a texture whose pieces are pasted on this one.
        pattern: see `Surface`.
    """
    border = texture.shape[1] * 9 // 16
    left, right = texture[:, :border], texture[:, border:]

    def shot(part: Scene, draw: Generator) -> Shot:
        return Shot(_cut(part, draw), np.ones((SIDE, SIDE), bool))

    def pasted(draw: Generator, number: int) -> Scene:
        return _cut(right if pattern and number % 2 else other(draw), draw)

    return made(
        name,
        title,
        train=lambda draw: shot(left, draw),
        test=lambda draw: shot(right, draw),
        other=pasted,
        kinds=[kind for kind in KINDS if pattern or kind != "turned"],
    )


def find_archive(folder: Path | None) -> Path:
    """The file that holds the textures.

    Raises:
        DataError: it is neither in the folder, nor installed where that is None.
    """
    places = [Path("/") / INSTALLED] if folder is None else [folder, folder / INSTALLED]
    for place in places:
        if (place / ARCHIVE).is_file():
            return place / ARCHIVE
    raise DataError(
        f"surfaces: there is no {ARCHIVE} in {' or '.join(map(printable, places))}; install "
        "Debian's package ufoai-textures, or give the folder that it was unpacked to (dpkg -x)"
    )


def _texture(archive: Path, one: Surface) -> Scene:
    try:
        with zipfile.ZipFile(archive) as file:
            data = file.read(f"textures/{one.file}")
    except (OSError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(
            f"{printable(archive)}: {one.file} cannot be read from it ({error}); install Debian's "
            "package ufoai-textures again"
        ) from error
    pixels = Picture(one.file, data).load()
    image = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))
    image = image.reduce(one.reduced)
    if min(image.size) < LEAST:
        raise DataError(
            f"{printable(archive)}: {one.file} is {image.width} x {image.height}, expected "
            f"{LEAST} x {LEAST} or more; it is not the original one"
        )
    return np.asarray(image, float)


def _cut(part: Scene, draw: Generator) -> Float[np.ndarray, "side side C"]:
    top, left = (int(draw.integers(length - SIDE + 1)) for length in part.shape[:2])
    return part[top : top + SIDE, left : left + SIDE]
