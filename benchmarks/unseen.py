"""Textures of another package than that of `surfaces`, by which nothing was ever chosen.

They are named here by their looks, before any figure was taken; every third is made grey. Pictures
and defects are made as those of surfaces are. The folder holds `textures.pk3` of Debian's package
`nexuiz-textures` (GPL-2), or is one that the package was unpacked to.
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from onlygood.data.readers.surfaces import parted
from onlygood.evaluation.protocols import Task

ARCHIVE = "textures.pk3"
INSTALLED = Path("usr/share/games/nexuiz/data")


class Texture(NamedTuple):
    """One to cut pictures out of."""

    kind: str
    """Of material: what is pasted on it is of another one."""
    file: str
    """In the folder `textures` of the archive."""
    pattern: bool = False
    """Has a direction or repeats itself."""


TEXTURES: dict[str, Texture] = {
    "dirt": Texture("soil", "terrain_data/dirt01.tga"),
    "gravel": Texture("gravel", "terrain_data/gravel01.tga"),
    "leaves": Texture("leaves", "terrain_data/leafs01.tga"),
    "mud": Texture("soil", "terrain_data/mudground02.tga"),
    "lichen": Texture("rock", "terrain_data/rock02.tga"),
    "boulder": Texture("rock", "terrain_data/rock06.tga"),
    "sand": Texture("sand", "terrain_data/sand.tga", pattern=True),
    "snow": Texture("snow", "terrain_data/snow01.tga"),
    "slabs": Texture("rock", "terraintex/rock02b.tga"),
    "blocks": Texture("bricks", "stormkeep/largebrick1a.tga", pattern=True),
    "cliff": Texture("rock", "stormkeep/rock.tga"),
    "planks": Texture("wood", "savdm6ish/wood1_1.jpg", pattern=True),
    "red-bricks": Texture("bricks", "desertfactory_stone/bricks01.tga", pattern=True),
    "red-metal": Texture("metal", "desertfactory_metal/metal02.tga"),
    "grating": Texture("grid", "evil9/9gratefloor01b.jpg", pattern=True),
    "ribs": Texture("grid", "eX/eX_floor_simplines.tga", pattern=True),
    "studs": Texture("grid", "eX/eX_rndfloor_01.tga", pattern=True),
    "brown-bricks": Texture("bricks", "trak4/brick2a.tga", pattern=True),
    "chipped-paint": Texture("paint", "trak4/painted2.tga"),
    "plaster": Texture("plaster", "trak4/plaster1.tga"),
    "rust": Texture("metal", "trak4/rust2.tga"),
    "tiles": Texture("tiles", "trak4/tile1.tga", pattern=True),
    "floorboards": Texture("wood", "trak4/wood1c.tga", pattern=True),
    "flagstones": Texture("stones", "savdm6ish/afloor1_3.jpg", pattern=True),
}


def tasks(folder: Path) -> dict[str, Task]:
    """A task for each texture, by name."""
    places = [path for path in (folder, folder / INSTALLED) if (path / ARCHIVE).is_file()]
    if not places:
        raise SystemExit(
            f"there is no {ARCHIVE} in {folder}: give the folder that Debian's package "
            "nexuiz-textures was unpacked to (dpkg -x)"
        )
    with zipfile.ZipFile(places[0] / ARCHIVE) as archive:
        scenes = {
            name: _scene(archive, texture.file, grey=i % 3 == 2)
            for i, (name, texture) in enumerate(TEXTURES.items())
        }
    return {name: _task(name, scenes) for name in TEXTURES}


def _scene(archive: zipfile.ZipFile, file: str, *, grey: bool) -> NDArray[np.float64]:
    with archive.open(f"textures/{file}") as opened:
        image = Image.open(opened).convert("RGB")
    return np.asarray(image.convert("L").convert("RGB") if grey else image, float)


def _task(name: str, scenes: dict[str, NDArray[np.float64]]) -> Task:
    kind = TEXTURES[name].kind
    others = [scenes[other] for other in TEXTURES if TEXTURES[other].kind != kind]

    def other(draw: Generator) -> NDArray[np.float64]:
        return others[draw.integers(len(others))]

    pattern = TEXTURES[name].pattern
    return Task(*parted(f"unseen-{name}", name, scenes[name], other=other, pattern=pattern))
