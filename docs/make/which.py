"""docs/which.md, and the figures on the pages of methods: which method, by the records in results.

    python docs/make/which.py

A row is a method with what it reached on data of each kind; a test says when a page is behind.
"""

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from blocks import FIGURES, replaced, table

from onlygood.core.text import fixed
from onlygood.evaluation.records import Line, in_words, read
from onlygood.evaluation.tables import Sheet, over_seeds, spread

ROOT = Path(__file__).parents[2]
FLOOR = "mean_picture"
"""Learns nothing but a mean: what is not above it is not to be picked."""


class Kind(NamedTuple):
    """Data of a kind, as records name them."""

    words: str
    name: str
    """What the page of a method calls it."""
    dataset: str
    protocol: str


KINDS = (
    Kind("aligned parts, one look (solar cells, mono)", "ELPV mono", "elpv-mono", "elpv"),
    Kind("aligned parts, many looks (solar cells, poly)", "ELPV poly", "elpv-poly", "elpv"),
    Kind(
        "parts roughly in place (print, photographs, solar cells)", "five parts", "parts", "parts"
    ),
    Kind("surfaces (sixteen textures)", "sixteen surfaces", "surfaces", "surfaces"),
    Kind(
        "tiny pictures, 28 px (clothes)",
        "Fashion-MNIST, 80/20, ten classes",
        "fashion-mnist",
        "gpnd",
    ),
)

PAGE = """# Which method

Made by `python docs/make/which.py` from the records in `results`; do not edit.
[All results](results.md) say with which schedule, how many seeds, and what papers print.

| your pictures | take | because |
| --- | --- | --- |
{advice}

Start with `reflect`, which `onlygood fit FOLDER` takes by itself, and let
`onlygood compare reflect OTHER FOLDER` say on your own pictures whether another one is better, and
how sure that is.

## What was measured

AUROC of pictures, the mean over seeds that ran on all classes; of several settings of a method
those with the most seeds, and among these with the best mean, which flatters a method that was
tried with many. The range of minutes is of one training on one to two cores of a server, or on a
GPU where the results name one. Bold is the best of a column, in brackets what is not better than
`mean_picture`, the distance from an average of the pictures. Empty: not measured on all classes.

{table}

| | {heads} |
| --- | {rules} |
| pictures to learn from | {counts} |
| seeds | {seeds} |
"""


MEASURED = """## Measured

Made from the records in `results`: AUROC of pictures, mean ± standard deviation over
seeds, by the [rule of all methods](../which.md#what-was-measured) where it ran with several
settings; in brackets, of pixels. [The results page](../results.md) has classes, other metrics,
other settings, and times.
{floor}
{table}"""

Best = dict[Kind, dict[str, list[Line]]]


def best(lines: Sequence[Line]) -> Best:
    """What stands for each method on data of each kind."""
    return {kind: _best([line for line in lines if _is_of(line, kind)]) for kind in KINDS}


def measured(page: str, name: str, best: Best) -> str:
    """A method's page with what the records say of it."""
    beside = [other for other in (FLOOR, "reflect") if other != name]
    heads = ("pictures", "settings", "schedule", "seeds", "AUROC", *map("`{}`".format, beside))
    rows = [
        (
            kind.name,
            in_words(found[name][0]),
            found[name][0]["schedule"],
            str(len({line["seed"] for line in found[name]})),
            _figure(found[name]),
            *(_figure(found[other]) for other in beside),
        )
        for kind, found in best.items()
        if name in found
    ]
    floor = "" if name == FLOOR else _beside_the_floor(name, best)
    return replaced(page, FIGURES, MEASURED.format(table=table(heads, rows), floor=floor))


def _beside_the_floor(name: str, best: Best) -> str:
    """On which data the mean is above that of what learns nothing, in words."""
    sides: dict[bool, list[str]] = {True: [], False: []}
    for kind, found in best.items():
        if name in found:
            sides[auroc(found[name]) > auroc(found[FLOOR])].append(kind.name)
    above, below = ("; ".join(names) for names in (sides[True], sides[False]))
    if not above or not below:
        where = "on all of these" if above else "on none of these"
        return f"\nThe mean is above that of `{FLOOR}` {where}.\n"
    return f"\nThe mean is above that of `{FLOOR}` on {above}.\nIt is not on {below}.\n"


def _figure(lines: Sequence[Line]) -> str:
    """Of pictures and, where they have masks and the method has maps, of pixels."""
    words = spread(over_seeds(lines, lambda line: line["auroc"]))
    pixels = over_seeds(lines, lambda line: line.get("pixel_auroc"))
    return f"{words} ({spread(pixels)})" if pixels else words


def page(best: Best) -> str:
    """The page of all methods."""
    methods = sorted(
        {method for found in best.values() for method in found},
        key=lambda name: (-statistics.mean(_ranks(name, list(best.values()))), name),
    )
    rows = [
        (
            f"[`{name}`](methods/{name}.md)",
            *(_cell(best[k], name) for k in KINDS),
            _minutes(best, name),
        )
        for name in methods
    ]
    return PAGE.format(
        advice="\n".join(_advice(kind, best[kind]) for kind in KINDS),
        table=Sheet("", ("method", *(kind.words for kind in KINDS), "minutes"), rows).markdown(),
        heads=" | ".join(kind.words for kind in KINDS),
        rules=" | ".join("---" for _ in KINDS),
        counts=" | ".join(_range(best[k], lambda line: line["n_train"]) for k in KINDS),
        seeds=" | ".join(_range(best[k], None) for k in KINDS),
    )


def _is_of(line: Line, kind: Kind) -> bool:
    return (line["dataset"], line["protocol"]) == (kind.dataset, kind.protocol)


def _best(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Of each method the records of settings and seeds that have all classes: most seeds, best."""
    classes = {line["class"] for line in lines}
    groups: dict[tuple[str, str], dict[int, list[Line]]] = {}
    for line in lines:
        of_settings = groups.setdefault((line["method"], line["config_hash"]), {})
        of_settings.setdefault(line["seed"], []).append(line)
    found: dict[str, list[Line]] = {}
    for (method, _), seeds in groups.items():
        whole = [some for some in seeds.values() if {line["class"] for line in some} == classes]
        group = [line for some in whole for line in some]
        if not group:
            continue
        if method not in found or _standing(group) > _standing(found[method]):
            found[method] = group
    return found


def _standing(lines: Sequence[Line]) -> tuple[int, float]:
    """Seeds, so that no lucky single one counts more; the mean."""
    return len({line["seed"] for line in lines}), auroc(lines)


def auroc(lines: Sequence[Line]) -> float:
    """The mean over classes and seeds, of which each has all classes."""
    return float(statistics.mean(line["auroc"] for line in lines))


def _ranks(name: str, kinds: Sequence[dict[str, list[Line]]]) -> list[float]:
    """The share of the other methods that one is above, for each kind that it was measured on."""
    return [
        sum(auroc(found[name]) > auroc(other) for other in found.values()) / (len(found) - 1)
        for found in kinds
        if name in found
    ]


def _cell(found: dict[str, list[Line]], name: str) -> str:
    if name not in found:
        return ""
    value = auroc(found[name])
    words = fixed(value, 3)
    if value == max(map(auroc, found.values())):
        return f"**{words}**"
    return f"({words})" if name != FLOOR and value <= auroc(found[FLOOR]) else words


def _advice(kind: Kind, found: dict[str, list[Line]]) -> str:
    first, second, *_ = sorted(found, key=lambda name: -auroc(found[name]))
    because = ", ".join(
        f"`{name}` reaches {fixed(auroc(found[name]), 3)}" for name in (first, second)
    )
    floor = f"the mean picture {fixed(auroc(found[FLOOR]), 3)}"
    return f"| {kind.words} | [`{first}`](methods/{first}.md) | {because}, {floor} |"


def _minutes(best: Best, name: str) -> str:
    groups = [found[name] for found in best.values() if name in found]
    # Records of shared features tell no times.
    timed = [
        [line["training_seconds"] for line in lines if line["training_seconds"] is not None]
        for lines in groups
    ]
    minutes = [statistics.mean(seconds) / 60 for seconds in timed if seconds]
    if not minutes:
        return ""
    low, high = (f"{value:.1f}" for value in (min(minutes), max(minutes)))
    return low if low == high else f"{low} to {high}"


def _range(found: dict[str, list[Line]], value: Callable[[Line], int] | None) -> str:
    """Smallest and largest of a number over records, or of the seeds of the methods."""
    if value is None:
        numbers = {len({line["seed"] for line in lines}) for lines in found.values()}
    else:
        numbers = {value(line) for lines in found.values() for line in lines}
    low, high = f"{min(numbers):,}", f"{max(numbers):,}"
    return low if low == high else f"{low} to {high}"


def records() -> list[Line]:
    """All records of the tables."""
    return read(*sorted((ROOT / "results").glob("*.jsonl")))


if __name__ == "__main__":
    found = best(records())
    (ROOT / "docs" / "which.md").write_text(page(found), "utf-8")
    for path in (ROOT / "docs" / "methods").glob("*.md"):
        path.write_text(measured(path.read_text("utf-8"), path.stem, found), "utf-8")
