"""What the papers print, from `published.csv`, with remarks where other rules were followed.

The file has one figure in a line: paper, table, dataset, protocol, metric, method, class, value.
Names of data sets, protocols and classes are ours, those of methods are the paper's. The class
`mean` is the mean as printed, `all` a data set that is taken whole.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import NamedTuple

MEANS = ("texture_mean", "object_mean", "mean")
"""Classes that are none."""
SAME = {"ood-full": "ood", "celeba-five": "celeba-attributes"}
"""Protocols whose figures are shown beside those of another one."""
STANDS_FOR = {"mnist-5k": "mnist"}
"""Data sets that are a part of a published one."""


class Figure(NamedTuple):
    """A figure as it is printed: a line of the file."""

    paper: str
    table: str
    dataset: str
    protocol: str
    metric: str
    method: str
    normal: str
    value: float


@dataclass(frozen=True, kw_only=True)
class Remark:
    """Other rules that some figures follow; what is left empty is true of all."""

    words: str
    paper: str
    tables: Sequence[str] = ()
    datasets: Sequence[str] = ()
    methods: Sequence[str] = ()
    classes: Sequence[str] = ()

    def is_about(self, figure: Figure) -> bool:
        """Whether a figure follows these rules."""
        return (
            figure.paper == self.paper
            and figure.table in (self.tables or (figure.table,))
            and figure.dataset in (self.datasets or (figure.dataset,))
            and figure.method in (self.methods or (figure.method,))
            and figure.normal in (self.classes or (figure.normal,))
        )


_AMA = (
    "AMA",
    "AMA with R-score instead of A-score",
    "AMA without mirrored loss",
    "AMA without simplex interpolation",
    "AMA without atypical selection",
)

REMARKS = (
    Remark(
        words="number of runs and choice of the checkpoint are not stated",
        paper="CE-BiGAN",
        methods=(
            "AutoEncoder",
            "BiGAN concatenate (EGBAD)",
            "BiGAN projection",
            "BiGAN concatenate + consistency",
            "BiGAN projection + consistency (CE-BiGAN)",
        ),
    ),
    Remark(
        words="copied from the MVTec paper, where it is most likely the AUROC of pixels",
        paper="CE-BiGAN",
        methods=("AnoGAN (copied from MVTec paper)",),
    ),
    Remark(
        words="threshold chosen on the test pictures; the kinds of defects weigh the same; number "
        "of runs not stated",
        paper="CBiGAN",
        tables=("Table II",),
        methods=("EGBAD", "CBiGAN"),
    ),
    Remark(
        words="copied from other papers: accuracy at a threshold of theirs, no maximum",
        paper="CBiGAN",
        tables=("Table II",),
        methods=(
            *("AnoGAN", "VAE-grad", "AE_SSIM", "AE_L2", "AVID", "LSA"),
            *("CAVGA-Du (extra data)", "CAVGA-Ru (extra data)"),
        ),
    ),
    Remark(
        words="below 0.5, which a maximum over thresholds cannot be",
        paper="CBiGAN",
        tables=("Table II",),
        methods=("EGBAD",),
        classes=("toothbrush",),
    ),
    Remark(
        words="number of runs not stated; the authors' later code keeps the checkpoint with the "
        "best AUROC on the test pictures, the one behind this table the last",
        paper="CBiGAN",
        tables=("Table III",),
        methods=("EGBAD", "CBiGAN"),
    ),
    Remark(
        words="copied from the ITAE paper",
        paper="CBiGAN",
        tables=("Table III",),
        methods=("AE_L2", "GeoTrans", "GANomaly", "ITAE"),
    ),
    Remark(
        words="CBiGAN's authors could not reproduce it",
        paper="CBiGAN",
        tables=("Table III",),
        methods=("ITAE",),
    ),
    Remark(
        words="epoch and weights chosen with about 50 labelled anomalous pictures of the set that "
        "is tested; number of runs not stated",
        paper="AMA",
        methods=_AMA,
    ),
    Remark(
        words="copied from its paper, on a test set with another share of anomalous pictures",
        paper="AMA",
        tables=("Table 1",),
        methods=(
            "WAIC on WGAN ensemble",
            "Likelihood ratio on PixelCNN++",
            "S score PixelCNN++ and FLIF",
        ),
    ),
    Remark(
        words="copied from its paper; scores batches of two pictures",
        paper="AMA",
        methods=("Typicality test on Glow",),
    ),
    Remark(
        words="run by AMA's authors without its normalisation", paper="AMA", methods=("DeepSVDD",)
    ),
    Remark(
        words="model chosen with about 50 labelled anomalous pictures of the set that is tested, "
        "whose anomalous share is 20 %",
        paper="AMA",
        tables=("Table 2",),
        methods=("ALAD", "AnoGAN", "Skip-GANomaly", "FGAN"),
    ),
    Remark(
        words="the mean is misprinted: the classes have 0.534",
        paper="AMA",
        datasets=("cifar10",),
        methods=("FGAN",),
    ),
    Remark(
        words="copied from the LSA paper",
        paper="PIAD",
        tables=("Table 2",),
        methods=("OC-SVM", "KDE", "AnoGAN"),
    ),
    Remark(
        words="copied from its paper",
        paper="PIAD",
        tables=("Table 2", "text"),
        methods=("ADGAN", "OCGAN", "LSA", "DeepSVDD"),
    ),
    Remark(
        words="copied from its paper, on another split: both parts merged, 60 % to train on, all "
        "that is left of the other classes in the test",
        paper="PIAD",
        methods=("ALAD",),
    ),
    Remark(
        words="mean of 3 runs, no selection; features learned on ImageNet",
        paper="PIAD",
        tables=("Table 2", "Table 3", "text"),
        methods=(
            "PIAD",
            "PIAD: perceptual loss",
            "PIAD: perc-L1 (standardised features and L1)",
            "PIAD: rel-perc-L1 (PIAD)",
        ),
    ),
    Remark(
        words="mean of 3 runs; weights chosen by people who saw results of several runs",
        paper="PIAD",
        tables=("Table 3",),
        methods=("PIAD: MSE with hand-chosen weights (baseline)",),
    ),
    Remark(
        words="mean of 3 runs, no selection",
        paper="PIAD",
        tables=("Table 3",),
        methods=("PIAD: MSE + gradient-normalised weights",),
    ),
    Remark(
        words="its code trains on three of five folds (60 %), and chooses a threshold with another",
        paper="PIAD",
        tables=("Table 3",),
        methods=("GPND",),
    ),
    Remark(
        words="another split: the first 80 % of the files to train on, and the first files of the "
        "other classes as anomalous ones",
        paper="PIAD",
        tables=("Table 3",),
        methods=("OCGAN",),
    ),
    Remark(
        words="one model for all five attributes, trained on faces with none of them, as in our "
        "celeba-five",
        paper="PIAD",
        datasets=("celeba",),
    ),
    Remark(words="a single run", paper="PIAD", tables=("Fig. 5",)),
)
"""Read from papers and authors' code."""


def beside(dataset: str, protocol: str) -> list[Figure]:
    """Published figures that ours of a data set and protocol are compared with."""
    name = "-vs-".join(STANDS_FOR.get(part, part) for part in dataset.split("-vs-"))
    wanted = name, SAME.get(protocol, protocol)
    return [figure for figure in _figures() if (figure.dataset, figure.protocol) == wanted]


def remarks(figures: Iterable[Figure]) -> str:
    """Which other rules the figures of a row follow, in words; empty where none are known."""
    found = list(figures)
    return "; ".join(
        ", ".join(remark.classes) + (": " if remark.classes else "") + remark.words
        for remark in REMARKS
        if any(remark.is_about(figure) for figure in found)
    )


@cache
def _figures() -> tuple[Figure, ...]:
    text = resources.files(__package__).joinpath("published.csv").read_text("utf-8")
    _, *rows = csv.reader(text.splitlines())
    return tuple(Figure._make([*names, float(value)]) for *names, value in rows)
