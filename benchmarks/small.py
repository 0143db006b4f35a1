"""Does every method cope with few and small pictures, as a user would give them?

Two folders: 70 grey pictures of 25 x 25 (scans of the digit 0, against other digits), and 200 grey
texture crops of 128 x 128 (a generated weave, against crops with a torn or turned patch). Each
method is fitted, evaluated and asked for heat maps through the command line.

    python benchmarks/small.py --json small.json
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

from measure import in_words, machine, table, write_json
from onlygood.cli import main as onlygood
from onlygood.core.errors import OnlygoodError
from onlygood.methods import METHODS

Pictures = list[NDArray[np.uint8]]

PRESETS = {"digits": "small", "textures": "texture"}
"""Where a method has them; else its default."""
# Of single tiles it learns too little in minutes: see the whole crop.
WHOLE = {("textures", "piad")}
"""Takes its default all the same."""
WORDS: dict[tuple[str, str], list[str]] = {
    # Without normalised contrast it looks at brightness, which the crops have by chance.
    ("textures", "ocsvm"): ["--set", "contrast=true"],
}
"""What a method needs besides."""
MINUTES = {"digits": 0.5, "textures": 5.0}
"""Of training."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One method on one folder."""

    folder: str
    method: str
    preset: str
    words: list[str]
    """Of the command line, besides."""
    steps: int
    auroc: float
    maps: int
    """Heat maps written; 0 for methods that do not localise."""
    training_seconds: float


def digits() -> tuple[Pictures, Pictures, Pictures]:
    """Normal ones to learn from, normal and anomalous ones to test on."""
    data = load_digits()
    scans = [
        np.asarray(Image.fromarray((image * 15).astype(np.uint8)).resize((25, 25)))
        for image in data.images
    ]
    zeros = [scan for scan, target in zip(scans, data.target, strict=True) if target == 0]
    others = [scan for scan, target in zip(scans, data.target, strict=True) if target != 0]
    return zeros[:70], zeros[70:], others[::12]


def textures() -> tuple[Pictures, Pictures, Pictures]:
    """Normal ones to learn from, normal and anomalous ones to test on."""
    random = np.random.default_rng(0)
    normal = [_crop(random) for _ in range(260)]
    anomalous = []
    for i in range(60):
        crop, other = _crop(random), _crop(random)
        y, x = random.integers(0, 128 - 40, 2)
        patch = other[y : y + 40, x : x + 40]
        crop[y : y + 40, x : x + 40] = patch.T[::-1] // 2 + 64 if i % 2 else patch // 3
        anomalous.append(crop)
    return normal[:200], normal[200:], anomalous


def weave(random: np.random.Generator, side: int) -> NDArray[np.float64]:
    """Crossing threads of slightly uneven width, somewhere on an endless cloth; about 0 to 255."""
    y, x = np.mgrid[:side, :side] + random.uniform(0, 64, (2, 1, 1))
    sway = 2 * np.sin(x / 37 + random.uniform(0, 6))
    threads = np.sin(y / 2.5 + sway) + 0.7 * np.sign(np.sin(x / 5)) * np.cos(x / 2)
    cloth: NDArray[np.float64] = 128 + 35 * threads + random.normal(0, 8, x.shape)
    return cloth


def _crop(random: np.random.Generator) -> NDArray[np.uint8]:
    return np.clip(weave(random, 128), 0, 255).astype(np.uint8)


FOLDERS = {"digits": digits, "textures": textures}


def write(folder: Path, parts: tuple[Pictures, Pictures, Pictures]) -> None:
    """As PNG files: train/good, test/good, test/anomalous."""
    for name, pictures in zip(("train/good", "test/good", "test/bad"), parts, strict=True):
        (folder / name).mkdir(parents=True)
        for i, picture in enumerate(pictures):
            Image.fromarray(picture).save(folder / name / f"{i:03d}.png")


def run(folder: Path, method: str, budget: Sequence[str]) -> Row:
    """Fit, evaluate and draw."""
    which, wanted = (folder.name, method), PRESETS[folder.name]
    preset = wanted if wanted in METHODS[method].presets and which not in WHOLE else "default"
    words = WORDS.get(which, [])
    model, maps = (folder.parent / f"{folder.name}-{method}{end}" for end in ("", "-maps"))
    fitted = ask(
        *("fit", method, folder, "-o", model, "--no-report", "--preset", preset),
        *(*words, *budget),
    )
    evaluated = ask("evaluate", model, folder)
    drawn = ["--maps", maps] if METHODS[method].localizes else []
    ask("score", model, folder / "test" / "bad", *drawn, "-o", folder.parent / f"{method}.csv")
    return Row(
        folder=folder.name,
        method=method,
        preset=fitted["provenance"]["preset"],
        words=words,
        steps=fitted["provenance"]["steps"],
        auroc=evaluated["auroc"],
        maps=len(list(maps.glob("*"))) if drawn else 0,
        training_seconds=fitted["provenance"]["training_seconds"],
    )


def ask(*words: object) -> dict[str, Any]:
    """What a command answers.

    Raises:
        OnlygoodError: it failed.
    """
    with redirect_stdout(StringIO()) as said:
        status = onlygood([*map(str, words), "--json", "--quiet"])
    answer: dict[str, Any] = json.loads(said.getvalue())
    if status:
        raise OnlygoodError(f"{' '.join(map(str, words))}: {answer}")
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of all methods on both folders."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, help="of training; by default 0.5 and 5")
    parser.add_argument("--folders", nargs="+", choices=list(FOLDERS), default=list(FOLDERS))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    methods = ["autoencoder", "pca"] if options.quick else options.methods
    folders = ["digits"] if options.quick else options.folders
    facts = machine()
    print(in_words(facts))
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for name in folders:
            folder = Path(temporary) / name
            write(folder, FOLDERS[name]())
            minutes = options.minutes or MINUTES[name]
            budget = ["--steps", "2"] if options.quick else ["--minutes", str(minutes)]
            for method in methods:
                rows.append(run(folder, method, budget))
                print(f"{name} {method}: AUROC {rows[-1].auroc:.3f}", file=sys.stderr)
    print(
        table(
            ("pictures", "method", "preset", "steps", "training, s", "AUROC", "heat maps"),
            [
                (
                    row.folder,
                    row.method,
                    " ".join([row.preset, *row.words]),
                    f"{row.steps:,}",
                    f"{row.training_seconds:.0f}",
                    f"{row.auroc:.3f}",
                    str(row.maps or "–"),
                )
                for row in rows
            ],
        )
    )
    if options.json:
        write_json(options.json, {"machine": facts, "rows": [asdict(row) for row in rows]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
