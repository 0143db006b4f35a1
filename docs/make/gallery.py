"""The pictures of the documentation: docs/images/heatmap.png, docs/gallery.md and docs/gallery.

    python docs/make/gallery.py [METHOD ...]

draws every method (or those that are named, or `heatmap`), and writes the page. What is drawn is
fixed here by name, before any method has seen it. Takes minutes of a core.
"""

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onlygood import METHODS, Detector, ImageSource, Results
from onlygood.core.method import Method
from onlygood.data.readers.catalogue import DATASETS
from onlygood.data.readers.sets import KnownSplit
from onlygood.report.heatmap import strip

DOCS = Path(__file__).parents[1]
FOLDER = DOCS / "gallery"
PICTURES = FOLDER / "pictures.webp"
HEATMAP = "heatmap"
"""The picture of the README, as a name beside those of methods."""
STEPS, BATCH, SEED = 150, 16, 0
DATA = "parts-button"
SHOWN = ("good-000", "scratch-6", "stain-6", "missing-6", "displaced-6")
"""Defects are numbered from hardly visible, 0, to plain, 7."""
CELLS = ("cell0529", "cell0039", "cell0005", "cell0012")
SIDE, GAP = 128, 8
"""Pixels of a picture, and between two."""
FRAME, ALARM = 3, (214, 40, 40)
"""Thickness and colour of the frame around a picture that is called anomalous."""

PAGE = """# Gallery

Every method on the same pictures. Made by `python docs/make/gallery.py`; do not edit.

![A button: sound, scratched, stained, with a missing and a displaced piece](gallery/{pictures})

*Sound; scratch, stain, missing piece, displaced piece.*

| | |
| --- | --- |
| pictures | `onlygood data {data} FOLDER`: drawn, with [made defects](data.md#parts) |
| learnt from | {train} sound ones in many poses, some kept aside to calibrate |
| shown | {shown}: chosen beforehand |
| settings | preset `small`, or `default` where there is none; seed {seed} |
| steps | {steps} of {batch} pictures, of methods that take steps |

**These networks have hardly learnt**: papers take a hundred times as many steps or more. The
pictures show what each method says of a picture, not how good it is; that is on
[the results page](results.md).

Where a method gives pictures back, they are the first row. Below are heat maps, on one scale for
all pictures: colour starts halfway to the pixel threshold, from which on a region is outlined. A
red frame says that the picture is called anomalous; methods without a heat map say no more.

"""


def main(names: Sequence[str]) -> None:
    """Draw what is named, or everything, and write the page.

    Raises:
        SystemExit: there is no such method.
    """
    if unknown := sorted({*names} - {HEATMAP, *METHODS}):
        known = ", ".join([HEATMAP, *METHODS])
        raise SystemExit(f"there is no {', '.join(unknown)}; what can be drawn is {known}")
    FOLDER.mkdir(exist_ok=True)
    split = DATASETS[DATA].read(None)
    train, shown = _decoded(split.train), _decoded(_named(split, SHOWN))
    for name in names or [HEATMAP, *METHODS]:
        began = time.process_time()
        if name == HEATMAP:
            _cells().save(DOCS / "images" / "heatmap.png", optimize=True)
        else:
            _sheet(name, train, shown).save(FOLDER / f"{name}.webp", quality=80, method=6)
        print(f"{name}: {time.process_time() - began:.0f} s of a core", flush=True)
    _row(picture.load() for picture in shown).save(PICTURES, quality=80, method=6)
    (DOCS / "gallery.md").write_text(page(len(train)), "utf-8")


def page(train: int) -> str:
    """The page, of every method that there is."""
    head = PAGE.format(
        pictures=PICTURES.name,
        data=DATA,
        train=train,
        shown=", ".join(f"`{name}`" for name in SHOWN),
        seed=SEED,
        steps=STEPS,
        batch=BATCH,
    )
    return head + "\n".join(_section(name) for name in METHODS)


def rows(name: str) -> list[str]:
    """What is seen of a method, row by row."""
    cls = METHODS[name]
    last = "heat maps" if cls.localizes else "decisions"
    return ["as given back", last] if cls.reconstruct is not Method.reconstruct else [last]


def _section(name: str) -> str:
    summary = (METHODS[name].__doc__ or "").strip().splitlines()[0]
    return (
        f"## {name}\n\n{summary} [More](methods/{name}.md).\n\n"
        f"![{name}: {', '.join(rows(name))}](gallery/{name}.webp)\n"
    )


def _sheet(name: str, train: ImageSource, shown: ImageSource) -> Image.Image:
    """What a method gives back, and where it finds something."""
    presets = METHODS[name].presets
    preset = "small" if "small" in presets else "default"
    settings = {"steps": STEPS, "batch_size": BATCH} if presets[preset].training else {}
    detector = Detector.fit(name, train, preset=preset, seed=SEED, settings=settings)
    drawn = [_overlays(detector.score(shown, keep=True))]
    given = [one for one in detector.reconstruct(shown) if one is not None]
    if given:
        drawn.insert(0, _row(given))
    return _stacked(drawn)


def _cells() -> Image.Image:
    """Defective solar cells and where `reflect` finds them."""
    split = DATASETS["elpv-mono"].read(None)
    results = Detector.fit("reflect", split.train, seed=SEED).score(_named(split, CELLS), keep=True)
    pictures = (result.picture for result in results if result.picture is not None)
    return _stacked(
        [_row(pictures, 200), strip(*(_fit(r.overlay(), 200) for r in results), gap=GAP)]
    )


def _named(split: KnownSplit, names: Sequence[str]) -> ImageSource:
    source = split.test.source
    positions = {Path(name).stem: position for position, name in enumerate(source.names)}
    return source.subset([positions[name] for name in names])


def _decoded(source: ImageSource) -> ImageSource:
    """Drawn once, and not for each method."""
    return ImageSource.of([picture.load() for picture in source])


def _overlays(results: Results) -> Image.Image:
    """Heat maps over their pictures, framed where these are called anomalous."""
    tiles = []
    for result in results:
        tile = _fit(result.overlay())
        if result.decision == "anomalous":
            tile = ImageOps.expand(ImageOps.crop(tile, FRAME), FRAME, ALARM)
        tiles.append(tile)
    return strip(*tiles, gap=GAP)


def _row(pictures: Iterable[NDArray[np.uint8]], side: int = SIDE) -> Image.Image:
    return strip(*(_fit(Image.fromarray(np.squeeze(one)), side) for one in pictures), gap=GAP)


def _fit(picture: Image.Image, side: int = SIDE) -> Image.Image:
    return picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)


def _stacked(drawn: Sequence[Image.Image]) -> Image.Image:
    """Rows one below the other, on white."""
    height = sum(row.height + GAP for row in drawn) - GAP
    sheet = Image.new("RGB", (drawn[0].width, height), "white")
    top = 0
    for row in drawn:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    return sheet


if __name__ == "__main__":
    main(sys.argv[1:])
