"""Tables of the bench: ours beside what the papers print, and the page of all results."""

import csv
import io
import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from typing import NamedTuple

from onlygood.core.text import cell, fixed, many, signed
from onlygood.evaluation.claims import Finding, findings, holds
from onlygood.evaluation.published import MEANS, Figure, beside, remarks
from onlygood.evaluation.records import DIAGNOSTIC, Line, in_words, parted

MANY = 20
"""Classes from which on there is no table by class."""

METRICS = {
    "auroc": "AUROC",
    "max_balanced_accuracy_by_kind": "max. balanced accuracy by kind",
}
"""What papers print, by the names of entries and in words."""

Name = tuple[str, ...]
Value = Callable[[Line], float | None]


class Sheet(NamedTuple):
    """A table of text."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """As Markdown, without the title."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join(f"| {' | '.join(map(_in_markdown, cells))} |" for cells in lines)

    def latex(self, notes: Sequence[str] = ()) -> str:
        """As a `table` of LaTeX with the rules of the package booktabs, and notes below it."""
        head, *rows = (
            f"{' & '.join(map(_in_latex, cells))} \\\\" for cells in (self.columns, *self.rows)
        )
        return "\n".join(
            [
                "\\begin{table}",
                f"\\caption{{{_in_latex(self.title)}}}",
                f"\\begin{{tabular}}{{{'l' * len(self.columns)}}}",
                *("\\toprule", head, "\\midrule", *rows, "\\bottomrule"),
                "\\end{tabular}",
                *(f"\\par\\footnotesize {_in_latex(note)}" for note in notes),
                "\\end{table}",
            ]
        )


def sheets(lines: Sequence[Line]) -> dict[tuple[str, str], list[Sheet]]:
    """Tables of each data set and protocol: over all classes, by class, learning curves.

    Figures are the mean ± the standard deviation (over n - 1) over seeds. One over all classes is,
    for each seed that has been run on all classes that are there, the mean over these.
    """
    wheres = sorted(set(map(_where, lines)))
    return {where: _of(where, [x for x in lines if _where(x) == where]) for where in wheres}


def claims_sheet(lines: Sequence[Line]) -> Sheet:
    """What the papers claim of their parts, and what our records say."""
    rows: list[tuple[str, ...]] = []
    for claim, found in findings(lines):
        head = (claim.words, claim.paper, claim.published)
        rows += [
            (*head, f"{f.dataset} {f.protocol}", f.settings, *_difference(f), holds(f))
            for f in found
        ]
        if not found:
            rows.append((*head, *[""] * 8, "not measured yet"))
    columns = (
        *("claim", "paper", "published", "data", "settings", "ours", "each seed"),
        *("classes", "both sides", "mean picture", "cells on two devices", "holds?"),
    )
    return Sheet("What the papers claim", columns, rows)


def spread(values: Sequence[float]) -> str:
    """Mean ± standard deviation (over n - 1); a single value stands alone, and none is nothing."""
    if not values:
        return ""
    mean = fixed(statistics.mean(values), 3)
    return f"{mean} ± {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def over_seeds(lines: Sequence[Line], value: Value) -> list[float]:
    """The mean over classes of each seed that has all of them; nothing where none has.

    Classes count in which there is a value at all: one without masks has none of pixels.
    """
    found: dict[int, dict[str, float]] = {}
    for line in lines:
        if (one := value(line)) is not None:
            found.setdefault(line["seed"], {})[line["class"]] = one
    classes = {name for by in found.values() for name in by}
    whole = [by for by in found.values() if by.keys() == classes]
    return [statistics.mean(by.values()) for by in whole]


def merged(lists: Iterable[Iterable[str]]) -> list[str]:
    """Names in the order of their first mention."""
    return list(dict.fromkeys(name for one in lists for name in one))


def without_empty(sheet: Sheet) -> Sheet:
    """Without columns that no row fills."""
    return _with(sheet, [any(column) for column in zip(*sheet.rows, strict=True)])


def _with(sheet: Sheet, kept: Sequence[bool]) -> Sheet:
    """With these columns alone."""
    columns, *rows = (tuple(compress(row, kept)) for row in (sheet.columns, *sheet.rows))
    return Sheet(sheet.title, columns, rows)


# The page ----------------------------------------------------------------------------------------

_INTRODUCTION = """# Results

Made by `make results` from the records that `onlygood bench run` adds to `results`; do not edit.
[The guide](guides/bench.md) says what the protocols are.

Figures are the mean ± the standard deviation over seeds; those of a single seed stand alone. The
schedule is what was run: the presets `default`, `small` and `texture`, and all that is said behind
a preset, are ours, and were not chosen by test pictures, but for [some of `reflect`](frozen.md).
Rows of one name may be of two networks, where a preset has changed between their runs: `resolved`
in a record says what was run, and the method's page which is which. Below our rows stand the
figures that the papers print, with a remark where they followed other rules. The deviation is that
of seeds on one machine: with one seed, another processor and a later commit have moved AMA's score
by 0.047.
"""
_CLAIMS = """
Each row compares cells that are equal in data set, class, seed and all settings but those of the
claim; two methods have each the preset of that name, and the lengths that are told. Ours is the
difference of AUROC; a claim holds when its sign is right for every seed, and equality when the
difference is at most 0.01 for every seed. It is judged only where the AUROC of both sides is
above that of the mean picture on the same cells: the best of all its records there, whatever
distance and seed, and so a little above its mean. Where the two sides of a cell were run on two
devices, the table says of how many; a small difference is worth less there.
"""


def page(lines: Sequence[Line]) -> str:
    """The page of all results, as Markdown."""
    parts = [_INTRODUCTION]
    for (dataset, protocol), tables in sheets(lines).items():
        parts.append(f"## {dataset}, {protocol}\n")
        parts += [f"{sheet.title}\n\n{sheet.markdown()}\n" for sheet in tables]
    sheet = claims_sheet(lines)
    return "\n".join([*parts, f"## {sheet.title}\n{_CLAIMS}\n{sheet.markdown()}\n"])


IN_A_PAPER = (
    *("method", "settings", "schedule", "classes", "seeds", "AUROC", "average precision"),
    *("max. balanced accuracy", METRICS["max_balanced_accuracy_by_kind"]),
    *("FPR at 95 % TPR", "pixel AUROC", "AUPRO"),
)
"""Columns of the table over all classes that a page of a paper has room for."""


def as_latex(lines: Sequence[Line]) -> str:
    """Tables for a paper, ours beside what is printed."""
    found = []
    for where, tables in sheets(lines).items():
        for sheet in tables:
            notes: list[str] = []
            if sheet is tables[0]:
                rows = [dict(zip(sheet.columns, row, strict=True)) for row in sheet.rows]
                notes = [
                    f"{row['method']} ({row['settings']}): {row['remark']}"
                    for row in rows
                    if row.get("remark")
                ]
                sheet = _with(sheet, [name in IN_A_PAPER for name in sheet.columns])
            title = f"{', '.join(where)}. {sheet.title.removesuffix(':')}"
            found.append(sheet._replace(title=title).latex(notes))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(found) + "\n"


def as_csv(lines: Sequence[Line]) -> str:
    """A line for each record, with all its digits: for pandas, R or a spreadsheet.

    A part of the score is a column `part_NAME`, the settings that were said one column.
    """
    rows = []
    for line in lines:
        plain = {name: v for name, v in line.items() if not isinstance(v, dict)}
        said = " ".join(f"{name}={value}" for name, value in line["settings"].items())
        parts = {f"part_{name}": value for name, value in line["parts"].items()}
        rows.append(plain | {"settings": said} | parts)
    file = io.StringIO()
    writer = csv.DictWriter(file, merged(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
    return file.getvalue()


# One data set ------------------------------------------------------------------------------------


class _Group(NamedTuple):
    """Lines that differ in class and seed alone."""

    name: Name
    """Method, settings, schedule."""
    lines: list[Line]

    @property
    def classes(self) -> list[str]:
        return list(dict.fromkeys(line["class"] for line in self.lines))

    def over_seeds(self, value: Value) -> list[float]:
        return over_seeds(self.lines, value)

    def of_class(self, name: str, metric: str) -> list[float]:
        """The values of each seed for a class."""
        lines = [line for line in self.lines if line["class"] == name]
        return [float(line[metric]) for line in lines if line.get(metric) is not None]


def _of(where: tuple[str, str], lines: Sequence[Line]) -> list[Sheet]:
    groups = _groups(lines)
    figures: dict[Name, list[Figure]] = {}
    for figure in beside(*where):
        figures.setdefault((figure.paper, figure.table, figure.method), []).append(figure)
    found = [_overall(groups, figures)]
    for metric in METRICS:
        found += _by_class(groups, figures, metric)
    return [*found, *_curves(groups)]


def _groups(lines: Sequence[Line]) -> list[_Group]:
    """Lines by method, words on settings, and schedule.

    In whatever order settings were said, they are the same. Equal words can stand for other
    settings, where a preset has changed between the runs; such groups are told apart by their hash,
    or by the settings themselves where it was a default, of which the hash knows nothing.
    """
    found: dict[tuple[object, ...], dict[str, list[Line]]] = {}
    order = sorted(lines, key=lambda line: (line["method"], line["preset"], line["seed"]))
    for line in order:
        said = frozenset(line["settings"].items())
        hashes = found.setdefault((line["method"], line["preset"], said, line["schedule"]), {})
        hashes.setdefault(line["config_hash"], []).append(line)
    groups = []
    for hashes in found.values():
        for config_hash, equal in hashes.items():
            for same, changed in parted(equal, lambda line: line["resolved"]):
                words = in_words(same[0]) + "".join(f", {f}={v}" for f, v in changed.items())
                if len(hashes) > 1:
                    words += f" ({config_hash})"
                groups.append(_Group((same[0]["method"], words, same[0]["schedule"]), same))
    return groups


_OVERALL = (
    *("method", "settings", "schedule", "classes", "seeds", "AUROC", "AUROC of parts"),
    *("average precision", "F1, best threshold", "max. balanced accuracy"),
    *(METRICS["max_balanced_accuracy_by_kind"], "FPR at 95 % TPR", "pixel AUROC"),
    *("pixel average precision", "pixel F1, best threshold", "AUPRO", "AUPRO up to 5 %"),
    *("false alarms, promised", "found", "defects found", "training, min"),
    *("scoring, images/s", "device", "remark"),
)


def _overall(groups: Sequence[_Group], figures: Mapping[Name, list[Figure]]) -> Sheet:
    rows = [row for group in groups for row in _rows(group)]
    for (paper, table, method), found in figures.items():
        cells = {
            "method": f"{method}, as printed",
            "settings": f"{paper}, {table}",
            "classes": str(len([f for f in found if f.normal not in MEANS]) or ""),
            "remark": remarks(found),
        }
        for metric, words in METRICS.items():
            cells[words] = _mean([f for f in found if f.metric == metric])
        rows.append(cells)
    whole = [tuple((dict.fromkeys(_OVERALL, "") | row).values()) for row in rows]
    return without_empty(Sheet("Over all classes:", _OVERALL, whole))


def _rows(group: _Group) -> Iterator[dict[str, str]]:
    """Cells of the table over all classes by the names of its columns."""
    seeds = len(group.over_seeds(_entry("auroc")))

    def over(name: str) -> str:
        values = group.over_seeds(_entry(name))
        have = {line["class"] for line in group.lines if _entry(name)(line) is not None}
        of = [f"{len(have)} of {len(group.classes)}"] if have < set(group.classes) else []
        # Records of before there was such a metric have none.
        of += [f"{len(values)} of {seeds} seeds"] if len(values) < seeds else []
        return spread(values) + (f" ({', '.join(of)})" if of else "") if values else ""

    method, settings, schedule = group.name
    classes = str(len(group.classes))
    head = {"method": method, "settings": settings, "schedule": schedule, "classes": classes}
    parts = group.lines[0]["parts"]
    # Of a score of one part there is nothing more to say.
    shares = {name: group.over_seeds(_part(name)) for name in parts if len(parts) > 1}
    # Classes with fewer pictures to calibrate on have less to promise.
    promised = max((p for line in group.lines if (p := line.get("promised_fpr"))), default=None)
    seconds, rates = (
        [line[name] for line in group.lines if line[name] is not None]
        for name in ("training_seconds", "images_per_second")
    )
    yield head | {
        "seeds": str(seeds) if seeds else "differ by class",
        "AUROC": over("auroc"),
        "AUROC of parts": ", ".join(f"{name} {spread(of)}" for name, of in shares.items() if of),
        "average precision": over("average_precision"),
        "F1, best threshold": over("f1_max"),
        "max. balanced accuracy": over("max_balanced_accuracy"),
        METRICS["max_balanced_accuracy_by_kind"]: over("max_balanced_accuracy_by_kind"),
        "FPR at 95 % TPR": over("fpr_at_95_tpr"),
        "pixel AUROC": over("pixel_auroc"),
        "pixel average precision": over("pixel_average_precision"),
        "pixel F1, best threshold": over("pixel_f1_max"),
        "AUPRO": over("aupro"),
        "AUPRO up to 5 %": over("aupro_at_5"),
        "false alarms, promised": f"at most {_rounded_up(promised):.3f}" if promised else "",
        "found": over("false_positive_rate"),
        "defects found": over("true_positive_rate"),
        "training, min": f"{statistics.mean(seconds) / 60:.1f}" if seconds else "",
        "scoring, images/s": f"{statistics.mean(rates):.0f}" if rates else "",
        "device": "; ".join(merged([_device(line)] for line in group.lines)),
    }
    best = group.over_seeds(_best)
    if best and all("curve" in line for line in group.lines):
        counts = {len(line["curve"]["points"]) for line in group.lines if _best(line) is not None}
        remark = (
            f"the best of {' or '.join(map(str, sorted(counts)))} budgets, chosen by the AUROC on "
            "the test pictures: flatters, for comparison with those who chose so"
        )
        yield head | {"seeds": str(len(best)), "AUROC": spread(best), "remark": remark}


def _by_class(
    groups: Sequence[_Group], figures: Mapping[Name, list[Figure]], metric: str
) -> Iterator[Sheet]:
    printed = {
        name: {f.normal: f.value for f in found if f.metric == metric and f.normal not in MEANS}
        for name, found in figures.items()
    }
    classes = merged([*(g.classes for g in groups), *printed.values()])
    if not 1 < len(classes) <= MANY or (metric != "auroc" and not any(printed.values())):
        return
    rows = [
        (*group.name, *(_counted(group.of_class(name, metric)) for name in classes))
        for group in groups
    ]
    rows += [
        (
            f"{method}, as printed",
            f"{paper}, {table}",
            "",
            *(f"{given[name]:.3f}" if name in given else "" for name in classes),
        )
        for (paper, table, method), given in printed.items()
        if given
    ]
    yield Sheet(
        f"{METRICS[metric]} by normal class (number of seeds in brackets, where more than one):",
        ("method", "settings", "schedule", *classes),
        rows,
    )


def _curves(groups: Sequence[_Group]) -> Iterator[Sheet]:
    rows = []
    for group in groups:
        points: dict[int, list[float]] = {}
        for line in group.lines:
            for point in line.get("curve", {}).get("points", ()):
                points.setdefault(point["steps"], []).append(point["auroc"])
        rows += [
            (*group.name, str(len(values)), str(steps), spread(values))
            for steps, values in sorted(points.items())
        ]
    if rows:
        columns = ("method", "settings", "schedule", "cells", "steps", "AUROC")
        yield Sheet(f"Learning curves ({DIAGNOSTIC}):", columns, rows)


# Figures -----------------------------------------------------------------------------------------


def _entry(name: str) -> Value:
    return lambda line: line.get(name)


def _part(name: str) -> Value:
    return lambda line: line["parts"].get(name)


def _best(line: Line) -> float | None:
    found = [point["auroc"] for point in line.get("curve", {}).get("points", ())]
    return max(found) if len(found) > 1 else None


def _where(line: Line) -> tuple[str, str]:
    return line["dataset"], line["protocol"]


def _mean(figures: Sequence[Figure]) -> str:
    """As printed, or else of the classes."""
    for figure in figures:
        if figure.normal == "mean":
            return f"{figure.value:.3f}"
    values = [figure.value for figure in figures if figure.normal not in MEANS]
    return fixed(statistics.mean(values), 3) if values else ""


def _rounded_up(bound: float) -> float:
    """To three digits behind the point; a limit below the true one would be another promise."""
    return math.ceil(1000 * bound - 1e-6) / 1000  # 1 - 0.95 is a little more than 0.05


def _counted(values: Sequence[float]) -> str:
    return spread(values) + (f" ({len(values)})" if len(values) > 1 else "")


def _difference(finding: Finding) -> tuple[str, ...]:
    """Spread over seeds of the mean difference over classes, and what it rests on."""
    means = finding.differences
    deviation = f" ± {statistics.stdev(means):.3f}" if len(means) > 1 else ""
    classes = {name for seed in finding.pairs.values() for name in seed}
    pairs = sum(map(len, finding.pairs.values()))
    return (
        signed(statistics.mean(means), 3) + deviation,
        ", ".join(signed(mean, 3) for mean in means),
        str(len(classes)),
        ", ".join(fixed(side, 3) for side in finding.sides),
        "" if finding.floor is None else fixed(finding.floor, 3),
        f"{len(finding.apart)} of {pairs}" if finding.apart else "",
    )


def _in_markdown(text: str) -> str:
    """A cell; its own bars and line ends would make several of it."""
    return text.replace("\n", " ").replace("|", "\\|")


def _in_latex(text: str) -> str:
    for plain, escaped in _LATEX.items():
        text = text.replace(plain, escaped)
    return text


_LATEX = {
    "\\": r"\textbackslash ",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde ", "^": r"\textasciicircum ", "±": r"$\pm$"},
    **{"|": r"\textbar ", "<": r"\textless ", ">": r"\textgreater "},
}
"""What LaTeX takes for commands; the backslash comes first, before there are others."""


def _device(line: Line) -> str:
    words = f"{line['device']}, {many(line['threads'], 'thread')}"
    return f"{words}, shared" if "shared" in line else words
