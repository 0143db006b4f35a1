"""What the papers claim of their parts, and whether it holds in our records.

A claim compares two settings of a method. Its pairs are cells of one data set, protocol, class and
seed that differ in the settings of the claim alone, wherever these came from. Where it compares two
methods, both see the same pictures in the same way, each with a preset of the same name, whose
settings are its own; beyond it nothing is said but the length, which stands beside both. It is
judged where both sides are above the mean picture: what has not learnt more than that proves
nothing.
"""

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import product
from typing import Any, NamedTuple

from onlygood.core.settings import Training, View
from onlygood.evaluation.records import Line, in_words, parted

EQUAL = 0.01
"""AUROCs that differ by no more are called equal."""
ROUNDING = 1e-9
"""Means that differ by less are the same: 0.8 - 0.7 and 0.5 - 0.6 add up to more than nothing."""
FLOOR = "mean_picture"
"""The method that both sides must be above."""
SEEN = {f.name for f in fields(View)}
"""Settings by which two methods see the same."""
OWN = {"steps", "epochs", "minutes", "precision"}
"""Of these, where two methods are compared, each may have what suits it."""

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Side:
    """Cells of which a claim speaks."""

    settings: Mapping[str, Value] = field(default_factory=dict)
    """What their complete settings have; a field that only the other side names is another value
    here."""
    part: str = ""
    """The part of the score whose AUROC counts; empty: the score."""
    method: str = ""
    """Another method than the claim's."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """That one side is better than the other, or as good."""

    words: str
    paper: str
    method: str
    published: str
    """Sizes as differences of AUROC, in words."""
    better: Side = field(default_factory=Side)
    worse: Side
    equal: bool = False
    """That both are equal, to `EQUAL`."""
    idle: Sequence[str] = ()
    """Further fields that may differ, as they do nothing on one of the sides."""
    metric: str = "auroc"
    """What of a record is compared."""


class Pair(NamedTuple):
    """AUROC of two cells that differ in the settings of a claim alone."""

    better: float
    worse: float


class Finding(NamedTuple):
    """A claim on one data set, with one pair of settings."""

    claim: Claim
    dataset: str
    protocol: str
    settings: str
    """Of the better side, where it came from."""
    pairs: Mapping[int, Mapping[str, Pair]]
    """By seed and class."""
    floors: Mapping[str, float]
    """AUROC of the mean picture by class; one that has no record of it is left out."""
    apart: frozenset[tuple[int, str]] = frozenset()
    """Seeds and classes whose two sides were run on two devices."""

    @property
    def differences(self) -> list[float]:
        """Better less worse for each seed in order, as the mean over its classes."""
        return self._by_seed(lambda pair, _: pair.better - pair.worse)

    @property
    def sides(self) -> Pair:
        """The means over seeds and classes."""
        return Pair(
            statistics.mean(self._by_seed(lambda pair, _: pair.better)),
            statistics.mean(self._by_seed(lambda pair, _: pair.worse)),
        )

    @property
    def floor(self) -> float | None:
        """The mean picture's mean over the same cells; None: some have no record of it."""
        if not self.floors.keys() >= {name for seed in self.pairs.values() for name in seed}:
            return None
        return statistics.mean(self._by_seed(lambda _, name: self.floors[name]))

    def _by_seed(self, value: Callable[[Pair, str], float]) -> list[float]:
        return [
            statistics.mean(value(pair, name) for name, pair in classes.items())
            for _, classes in sorted(self.pairs.items())
        ]


CLAIMS = (
    Claim(
        words="consistency beats none, projection discriminator",
        paper="CE-BiGAN, Table 1",
        method="cebigan",
        published="+0.07 on metal nut",
        better=Side(settings={"discriminator": "projection"}),
        worse=Side(settings={"discriminator": "projection", "alpha": 0.0}),
    ),
    Claim(
        words="consistency beats none, concatenating discriminator",
        paper="CE-BiGAN, Table 1",
        method="cebigan",
        published="+0.01 on metal nut",
        better=Side(settings={"discriminator": "concatenate"}),
        worse=Side(settings={"discriminator": "concatenate", "alpha": 0.0}),
    ),
    Claim(
        words="consistency beats none",
        paper="CBiGAN, Table III",
        method="cbigan",
        published="+0.17, mean of MVTec AD",
        worse=Side(settings={"alpha": 0.0}),
    ),
    Claim(
        words="projection beats concatenation",
        paper="CE-BiGAN, Table 1",
        method="cebigan",
        published="+0.05 on metal nut with consistency, -0.01 without",
        better=Side(settings={"discriminator": "projection"}),
        worse=Side(settings={"discriminator": "concatenate"}),
    ),
    Claim(
        words="a mirrored critic beats a plain one",
        paper="AMA, Table 1",
        method="ama",
        published="+0.33 on Fashion-MNIST against MNIST",
        worse=Side(settings={"mirrored": False}),
    ),
    Claim(
        words="interpolation beats none",
        paper="AMA, Table 1",
        method="ama",
        published="+0.03 on Fashion-MNIST against MNIST",
        worse=Side(settings={"interpolation": 0.0}),
    ),
    Claim(
        words="atypical selection beats none",
        paper="AMA, Table 1",
        method="ama",
        published="+0.09 on Fashion-MNIST against MNIST",
        worse=Side(settings={"atypical": "none"}),
    ),
    Claim(
        words="the A-score beats the R-score",
        paper="AMA, Table 1",
        method="ama",
        published="+0.52 on CIFAR-10 against SVHN, -0.004 on Fashion-MNIST against MNIST",
        better=Side(part="a"),
        worse=Side(part="r"),
    ),
    Claim(
        words="relative perceptual L1 beats perceptual L1",
        paper="PIAD, Table 3",
        method="piad",
        published="+0.075 on CIFAR-10",
        better=Side(settings={"distance": "rel_perc_l1"}),
        worse=Side(settings={"distance": "perc_l1"}),
    ),
    Claim(
        words="perceptual L1 beats the perceptual loss",
        paper="PIAD, Table 3",
        method="piad",
        published="+0.023 on CIFAR-10",
        better=Side(settings={"distance": "perc_l1"}),
        worse=Side(settings={"distance": "perceptual"}),
    ),
    Claim(
        words="the perceptual loss beats the squared error",
        paper="PIAD, Table 3",
        method="piad",
        published="+0.093 on CIFAR-10",
        better=Side(settings={"distance": "perceptual"}),
        worse=Side(settings={"distance": "mse"}),
    ),
    Claim(
        words="normalised weights equal hand-chosen ones",
        paper="PIAD, Table 3",
        method="piad",
        published="-0.001 on CIFAR-10, with the squared error",
        # The paper chose 100 and 10 by hand for the squared error, not for another distance.
        better=Side(settings={"weights": "normalised", "distance": "mse"}),
        worse=Side(settings={"weights": "fixed", "distance": "mse"}),
        equal=True,
        idle=("gamma_generator", "gamma_encoder"),
    ),
    Claim(
        words="three critics beat one of pairs",
        paper="ALAD, against EGBAD",
        method="alad",
        published="",
        worse=Side(method="egbad"),
    ),
    Claim(
        words="an encoder finds codes better than a search",
        paper="f-AnoGAN, against AnoGAN",
        method="f_anogan",
        published="",
        worse=Side(method="anogan"),
    ),
    Claim(
        words="structural similarity beats the squared error, AUROC of pixels",
        paper="AE-SSIM",
        method="ae_ssim",
        published="+0.05 of pixels, mean of MVTec AD",
        better=Side(settings={"distance": "ssim"}),
        worse=Side(settings={"distance": "l2"}),
        metric="pixel_auroc",
    ),
    Claim(
        words="a hard boundary beats a soft one",
        paper="Deep SVDD, Table 1",
        method="deep_svdd",
        published="+0.013 on MNIST, +0.015 on CIFAR-10",
        better=Side(settings={"objective": "one_class"}),
        worse=Side(settings={"objective": "soft_boundary"}),
        idle=("nu", "warmup_epochs"),
    ),
    Claim(
        words="several starts beat one",
        paper="ADGAN",
        method="adgan",
        published="",
        worse=Side(settings={"restarts": 1}),
    ),
    Claim(
        words="a ratio of likelihoods beats the likelihood",
        paper="Ren 2019",
        method="pixelcnn",
        published="+0.90 on Fashion-MNIST against MNIST",
        better=Side(part="ratio"),
        worse=Side(part="likelihood"),
    ),
)
"""In the order of the table."""


def findings(lines: Sequence[Line]) -> Iterator[tuple[Claim, list[Finding]]]:
    """Every claim with what the records say of it; nothing where they have no pair."""
    floors = {metric: _floors(lines, metric) for metric in {claim.metric for claim in CLAIMS}}
    for claim in CLAIMS:
        yield claim, list(_found(claim, lines, floors[claim.metric]))


def holds(finding: Finding) -> str:
    """Whether a claim holds, by its sign: for every seed, for none, or for some.

    A seed counts with the mean over its classes. Where one side is not above the mean picture on
    the same cells, or these have no record of it, nothing is judged.
    """
    if finding.floor is None:
        return "no mean picture on these cells"
    if min(finding.sides) <= finding.floor + ROUNDING:
        return "below the mean picture"
    means = finding.differences
    agreeing = sum(
        abs(m) <= EQUAL + ROUNDING if finding.claim.equal else m > ROUNDING for m in means
    )
    if len(means) == 1:
        return "one seed only: yes" if agreeing else "one seed only: no"
    if agreeing == len(means):
        return "holds"
    return "does not hold" if not agreeing else f"in {agreeing} of {len(means)} seeds"


def _floors(lines: Sequence[Line], metric: str) -> dict[tuple[str, str], dict[str, float]]:
    """The best figure of the mean picture, by data set and protocol, and by class.

    The best of its settings: a floor that is too high claims nothing that is not so.
    """
    found: dict[tuple[str, str], dict[str, float]] = {}
    for line in lines:
        if line["method"] == FLOOR and line.get(metric) is not None:
            classes = found.setdefault((line["dataset"], line["protocol"]), {})
            classes[line["class"]] = max(classes.get(line["class"], 0.0), float(line[metric]))
    return found


def _found(
    claim: Claim, lines: Sequence[Line], floors: Mapping[tuple[str, str], Mapping[str, float]]
) -> Iterator[Finding]:
    names = {*claim.better.settings, *claim.worse.settings, *claim.idle}
    found: dict[tuple[str, str, str, str], list[_Cells]] = {}
    ours_to_be, theirs_to_be = (
        [line for line in lines if _is_of(claim, side, line)]
        for side in (claim.better, claim.worse)
    )
    for worse, better in product(theirs_to_be, ours_to_be):
        if not _is_pair(claim, names, better, worse):
            continue
        ours = _figure(better, claim.better, claim.metric)
        theirs = _figure(worse, claim.worse, claim.metric)
        if ours is None or theirs is None:
            continue
        where = better["dataset"], better["protocol"]
        key = (*where, better["config_hash"], worse["config_hash"])
        found.setdefault(key, []).append(_Cells(better, worse, Pair(ours, theirs)))
    # Equal words can stand for other settings, as in the tables; equal hashes, too.
    told = {
        key: [(cells, _words(cells[0], changed)) for cells, changed in parted(equal, _resolved)]
        for key, equal in found.items()
    }
    words = Counter((*key[:2], said) for key, parts in told.items() for _, said in parts)
    for (dataset, protocol, *hashes), parts in told.items():
        for cells, said in parts:
            pairs: dict[int, dict[str, Pair]] = {}
            for better, _, figures in cells:
                pairs.setdefault(better["seed"], {})[better["class"]] = figures
            apart = frozenset(
                (better["seed"], better["class"])
                for better, worse, _ in cells
                if better.get("device") != worse.get("device")
            )
            twice = words[dataset, protocol, said] > 1
            settings = f"{said} ({', '.join(hashes)})" if twice else said
            floor = floors.get((dataset, protocol), {})
            yield Finding(claim, dataset, protocol, settings, pairs, floor, apart)


class _Cells(NamedTuple):
    """Two cells that differ in a claim alone."""

    better: Line
    worse: Line
    figures: Pair


def _resolved(cells: _Cells) -> dict[tuple[bool, str], Any]:
    """The settings of both, those of the worse one marked."""
    sides = ((False, cells.better), (True, cells.worse))
    return {(mark, f): v for mark, line in sides for f, v in line["resolved"].items()}


def _words(cells: _Cells, changed: Mapping[tuple[bool, str], Any]) -> str:
    """What was said of both, and what has changed without being said."""
    ours, theirs = (
        ", ".join([in_words(line), *(f"{f}={v}" for (of, f), v in changed.items() if of == mark)])
        for mark, line in ((False, cells.better), (True, cells.worse))
    )
    two = cells.better["method"] != cells.worse["method"]
    return f"{ours}, against {theirs}" if two else ours


def _is_of(claim: Claim, side: Side, line: Line) -> bool:
    resolved = line["resolved"]
    return (
        line["method"] == (side.method or claim.method)
        and bool(resolved)
        and side.settings.items() <= {k: resolved.get(k) for k in side.settings}.items()
    )


def _is_pair(claim: Claim, names: set[str], better: Line, worse: Line) -> bool:
    same = ("dataset", "protocol", "class", "seed")
    if any(better[name] != worse[name] for name in same):
        return False
    # What only the worse side names is another value on the better one.
    if any(
        better["resolved"].get(name) == value
        for name, value in claim.worse.settings.items()
        if name not in claim.better.settings
    ):
        return False
    if better["method"] != worse["method"]:
        seen = SEEN & better["resolved"].keys() & worse["resolved"].keys()
        return (
            better["preset"] == worse["preset"]
            and _said(better) == _said(worse)
            and all(better["resolved"][f] == worse["resolved"][f] for f in seen)
        )
    if claim.better.part or claim.worse.part:  # of one training
        return bool(better["config_hash"] == worse["config_hash"])
    ours, theirs = better["resolved"], worse["resolved"]
    if any(ours[f] != theirs[f] for f in ours.keys() & theirs.keys() - names):
        return False
    # A field that is newer than one of the records was then as it is by default.
    newer, either = (ours.keys() ^ theirs.keys()) - names, {**ours, **theirs}
    return all(either[f] == _defaults(better["method"]).get(f) for f in newer)


def _said(line: Line) -> dict[str, Any]:
    """What was said beyond the preset, but for what may differ or is compared whole."""
    return {name: value for name, value in line["settings"].items() if name not in OWN | SEEN}


@cache
def _defaults(method: str) -> Mapping[str, Any]:
    """All settings of a method as they are without a preset, as records have them."""
    from onlygood.methods import METHODS  # with torch, which tables do without

    config = METHODS[method].config_class
    whole = {f.name: f.default for kind in (config, View, Training) for f in fields(kind)}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in whole.items()}


def _figure(line: Line, side: Side, metric: str) -> float | None:
    found = line["parts"].get(side.part) if side.part else line.get(metric)
    return None if found is None else float(found)
