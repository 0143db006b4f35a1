"""Textures of another package than that of `surfaces`, by which nothing was ever chosen.

They are named here by their looks, before any figure was taken; every third is made grey. Pictures
and defects are made as those of surfaces are. The folder holds `textures.pk3` of Debian's package
`nexuiz-textures` (GPL-2), or is one that the package was unpacked to.
"""

import zipfile
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from onlygood.data.readers.surfaces import Surface, parted
from onlygood.evaluation.protocols import Task

ARCHIVE = "textures.pk3"
INSTALLED = Path("usr/share/games/nexuiz/data")

TEXTURES: dict[str, Surface] = {
    "dirt": Surface("soil", "terrain_data/dirt01.tga"),
    "gravel": Surface("gravel", "terrain_data/gravel01.tga"),
    "leaves": Surface("leaves", "terrain_data/leafs01.tga"),
    "mud": Surface("soil", "terrain_data/mudground02.tga"),
    "lichen": Surface("rock", "terrain_data/rock02.tga"),
    "boulder": Surface("rock", "terrain_data/rock06.tga"),
    "sand": Surface("sand", "terrain_data/sand.tga", pattern=True),
    "snow": Surface("snow", "terrain_data/snow01.tga"),
    "slabs": Surface("rock", "terraintex/rock02b.tga"),
    "blocks": Surface("bricks", "stormkeep/largebrick1a.tga", pattern=True),
    "cliff": Surface("rock", "stormkeep/rock.tga"),
    "planks": Surface("wood", "savdm6ish/wood1_1.jpg", pattern=True),
    "red-bricks": Surface("bricks", "desertfactory_stone/bricks01.tga", pattern=True),
    "red-metal": Surface("metal", "desertfactory_metal/metal02.tga"),
    "grating": Surface("grid", "evil9/9gratefloor01b.jpg", pattern=True),
    "ribs": Surface("grid", "eX/eX_floor_simplines.tga", pattern=True),
    "studs": Surface("grid", "eX/eX_rndfloor_01.tga", pattern=True),
    "brown-bricks": Surface("bricks", "trak4/brick2a.tga", pattern=True),
    "chipped-paint": Surface("paint", "trak4/painted2.tga"),
    "plaster": Surface("plaster", "trak4/plaster1.tga"),
    "rust": Surface("metal", "trak4/rust2.tga"),
    "tiles": Surface("tiles", "trak4/tile1.tga", pattern=True),
    "floorboards": Surface("wood", "trak4/wood1c.tga", pattern=True),
    "flagstones": Surface("stones", "savdm6ish/afloor1_3.jpg", pattern=True),
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
