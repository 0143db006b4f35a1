"""What the papers claim of their parts, and whether it holds in our records.

A claim compares two settings of a method. Its pairs are cells of one data set, protocol, class and
seed that differ in the settings of the claim alone, wherever these came from.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from onlygood.evaluation.records import Line

EQUAL = 0.01
"""AUROCs that differ by no more are called equal."""

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Side:
    """Cells of which a claim speaks."""

    settings: Mapping[str, Value] = field(default_factory=dict)
    """What their complete settings have; a field that only the other side names is another value
    here."""
    part: str = ""
    """The part of the score whose AUROC counts; empty: the score."""


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


class Finding(NamedTuple):
    """A claim on one data set, with one pair of settings."""

    claim: Claim
    dataset: str
    protocol: str
    settings: str
    """Of the better side, where it came from."""
    differences: Mapping[int, Mapping[str, float]]
    """AUROC of the better side less that of the worse one, by seed and class."""


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
        better=Side(settings={"weights": "normalised"}),
        worse=Side(settings={"weights": "fixed"}),
        equal=True,
        idle=("gamma_generator", "gamma_encoder"),
    ),
)
"""In the order of the table."""


def findings(lines: Sequence[Line]) -> Iterator[tuple[Claim, list[Finding]]]:
    """Every claim with what the records say of it; nothing where they have no pair."""
    for claim in CLAIMS:
        yield claim, list(_found(claim, [x for x in lines if x["method"] == claim.method]))


def holds(finding: Finding) -> str:
    """Whether a claim holds, by its sign: for every seed, for none, or for some.

    A seed counts with the mean over its classes.
    """
    means = [sum(seed.values()) / len(seed) for seed in finding.differences.values()]
    agreeing = sum(abs(m) <= EQUAL if finding.claim.equal else m > 0 for m in means)
    if len(means) == 1:
        return "one seed only: yes" if agreeing else "one seed only: no"
    if agreeing == len(means):
        return "holds"
    return "does not hold" if not agreeing else f"in {agreeing} of {len(means)} seeds"


def _found(claim: Claim, lines: Sequence[Line]) -> Iterator[Finding]:
    names = {*claim.better.settings, *claim.worse.settings, *claim.idle}
    pairs: dict[tuple[str, str, str, str], Finding] = {}
    for worse in lines:
        if not _matches(worse, claim.worse.settings):
            continue
        for better in lines:
            if not _is_pair(claim, names, better, worse):
                continue
            ours, theirs = _auroc(better, claim.better), _auroc(worse, claim.worse)
            if ours is None or theirs is None:
                continue
            key = (
                *(better["dataset"], better["protocol"]),
                *(better["config_hash"], worse["config_hash"]),
            )
            words = ", ".join([better["preset"], *map("=".join, better["settings"].items())])
            finding = pairs.setdefault(key, Finding(claim, key[0], key[1], words, {}))
            seeds = dict(finding.differences)
            seeds[better["seed"]] = {
                **seeds.get(better["seed"], {}),
                better["class"]: ours - theirs,
            }
            pairs[key] = finding._replace(differences=seeds)
    yield from pairs.values()


def _matches(line: Line, settings: Mapping[str, Value]) -> bool:
    resolved = line["resolved"]
    return bool(resolved) and settings.items() <= {k: resolved.get(k) for k in settings}.items()


def _is_pair(claim: Claim, names: set[str], better: Line, worse: Line) -> bool:
    same = ("dataset", "protocol", "class", "seed")
    if any(better[name] != worse[name] for name in same):
        return False
    if not _matches(better, claim.better.settings):
        return False
    # What only the worse side names is another value on the better one.
    if any(
        better["resolved"].get(name) == value
        for name, value in claim.worse.settings.items()
        if name not in claim.better.settings
    ):
        return False
    # A field that is newer than one of the records does nothing by default.
    fields = better["resolved"].keys() & worse["resolved"].keys() - names
    return all(better["resolved"][f] == worse["resolved"][f] for f in fields)


def _auroc(line: Line, side: Side) -> float | None:
    found = line["parts"].get(side.part) if side.part else line["auroc"]
    return None if found is None else float(found)
