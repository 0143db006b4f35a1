"""What guarded decoding costs honest pictures, against Pillow as it comes.

Guarded is what scoring does: headers are looked at first, JPEGs are decoded strictly, PNGs have
their checksums compared, and what is not light is decoded in another process. Pillow as it comes
opens, converts and resizes. Both go from a file to a square of 224 px on one thread, in alternating
rounds.

    python benchmarks/decoding.py --json results/decoding-cpu.json
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageFilter

from measure import Spread, in_words, machine, table, write_json
from onlygood.core.settings import View
from onlygood.data.loading import Decoders
from onlygood.data.source import ImageSource

VIEW = View(size=224, channels=3)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Pictures of one format and size."""

    suffix: str
    width: int
    height: int
    mode: str = "RGB"
    count: int
    """Of one round."""

    @property
    def name(self) -> str:
        """For people."""
        colour = "grey" if self.mode == "L" else "colour"
        return f"{self.suffix[1:].upper()}, {self.width} x {self.height}, {colour}"


KINDS = (
    Kind(suffix=".png", width=300, height=300, mode="L", count=60),
    Kind(suffix=".png", width=1920, height=1080, count=6),
    Kind(suffix=".png", width=4000, height=3000, count=1),
    Kind(suffix=".jpg", width=300, height=300, mode="L", count=60),
    Kind(suffix=".jpg", width=1920, height=1080, count=6),
    Kind(suffix=".jpg", width=4000, height=3000, count=2),
    Kind(suffix=".bmp", width=1920, height=1080, count=10),
    Kind(suffix=".tif", width=300, height=300, mode="L", count=60),
    Kind(suffix=".tif", width=2592, height=1944, count=4),
)
QUICK = (
    Kind(suffix=".jpg", width=64, height=48, count=2),
    Kind(suffix=".tif", width=64, height=48, count=2),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of pictures."""

    kind: str
    pillow_ms: Spread
    guarded_ms: Spread
    ratio: Spread
    """Time of guarded decoding to that of Pillow, round by round."""


def written(kind: Kind, folder: Path) -> list[str]:
    """Files that look like a part on a table: soft shapes and some noise."""
    random = np.random.default_rng(0)
    channels = 1 if kind.mode == "L" else 3
    paths = []
    for number in range(min(kind.count, 4)):
        coarse = random.integers(0, 256, (9, 12, channels), dtype=np.uint8)
        soft = Image.fromarray(coarse.squeeze(), kind.mode if channels == 3 else "L")
        soft = soft.resize((kind.width, kind.height)).filter(ImageFilter.GaussianBlur(2))
        noise = random.integers(0, 6, (kind.height, kind.width, channels)).squeeze()
        pixels = np.clip(np.asarray(soft).astype(int) + noise, 0, 255).astype(np.uint8)
        path = folder / f"{kind.width}-{kind.mode}-{number}{kind.suffix}"
        Image.fromarray(pixels).save(path)
        paths.append(str(path))
    return [paths[i % len(paths)] for i in range(kind.count)]


def pillow(paths: Sequence[str]) -> None:
    """Open, convert, resize."""
    for path in paths:
        with Image.open(path) as image:
            square = image.convert("RGB").resize((VIEW.size, VIEW.size), Image.Resampling.BILINEAR)
            np.asarray(square)


def guarded(decoders: Decoders) -> Callable[[Sequence[str]], None]:
    """As `onlygood score` does, one picture after the other."""

    def run(paths: Sequence[str]) -> None:
        for picture in ImageSource.of(list(paths)):
            assert decoders.submit(picture, VIEW).result().error is None

    return run


def measure(kind: Kind, rounds: int, folder: Path, decoders: Decoders) -> Row:
    """Alternating rounds of both, after one of each to warm up."""
    paths = written(kind, folder)
    ways = (pillow, guarded(decoders))
    taken: tuple[list[float], list[float]] = ([], [])
    for round_ in range(rounds + 1):
        for seconds, way in zip(taken, ways, strict=True):
            began = time.perf_counter()
            way(paths)
            if round_:
                seconds.append((time.perf_counter() - began) / len(paths))
    return Row(
        kind=kind.name,
        pillow_ms=Spread.of([1e3 * s for s in taken[0]]),
        guarded_ms=Spread.of([1e3 * s for s in taken[1]]),
        ratio=Spread.of([b / a for a, b in zip(*taken, strict=True)]),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all kinds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="of each way")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    kinds, rounds = (QUICK, 1) if options.quick else (KINDS, options.rounds)
    facts = machine()
    print(in_words(facts))
    print(f"{rounds} alternating rounds; median (min–max)\n")
    with TemporaryDirectory() as folder, Decoders(1) as decoders:
        rows = [measure(kind, rounds, Path(folder), decoders) for kind in kinds]
    print(
        table(
            ("pictures", "Pillow, ms", "guarded, ms", "ratio"),
            [
                (row.kind, f"{row.pillow_ms:.2f}", f"{row.guarded_ms:.2f}", f"{row.ratio:.2f}")
                for row in rows
            ],
        )
    )
    if options.json:
        figures = {"machine": facts, "rounds": rounds, "rows": [asdict(row) for row in rows]}
        write_json(options.json, figures)
    return 0


if __name__ == "__main__":
    sys.exit(main())
