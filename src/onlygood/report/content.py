"""What a report says, as plain data; whoever has a detector fills it in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from PIL import Image

from onlygood.report.heatmap import HeatMap


@dataclass(frozen=True, kw_only=True)
class DecisionSummary:
    """The threshold, and what is promised of it."""

    threshold: float
    """Pictures that score above it are no longer normal."""
    target_fpr: float
    """Share of normal pictures that may be above the threshold, as asked for."""
    confidence: float
    """Probability that the promise holds."""
    promised_fpr: float
    """The share that is really promised."""
    guarantee: str
    """The promise in one sentence."""
    n_calibration: int
    """Normal pictures that the promise rests on, or parts where it is about these."""
    n_pictures: int | None = None
    """Pictures of these parts; None: the promise is about pictures."""
    strict_threshold: float | None = None
    """Pictures between `threshold` and it are unsure; None: two states."""
    note: str | None = None
    """What was asked for but cannot be promised."""
    pictures: str | None = None
    """What the calibration pictures are, or why they are none to rest a promise on."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Item:
    """One scored picture."""

    name: str
    score: float | None = None
    """None where the picture could not be read."""
    p_value: float | None = None
    decision: Literal["normal", "unsure", "anomalous"] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    """The parts of the score, by name."""
    label: bool | None = None
    """True: known to be anomalous; None: not known."""
    picture: Image.Image | None = None
    """8 bits a channel; needed only where `shown` asks for it."""
    reconstruction: Image.Image | None = None
    """The picture as the method gives it back, where it does; of the picture's proportions."""
    map: HeatMap | None = None
    """On the fixed scale: 0 = normal median, 1 = pixel threshold."""
    error: str | None = None
    """Why the picture could not be scored."""


class KindSummary(NamedTuple):
    """How one kind of defect was told from the normal pictures."""

    n: int
    """Pictures of it."""
    found: int
    """Of these, those above the threshold."""
    auroc: float


@dataclass(frozen=True, kw_only=True)
class EvaluationSummary:
    """How well labelled pictures were told apart; every rate in [0, 1]."""

    auroc: float
    average_precision: float
    max_balanced_accuracy: float
    """Over all thresholds: chosen with the labels, hence optimistic."""
    false_positive_rate: float
    """Share of normal pictures above the threshold."""
    true_positive_rate: float
    """Share of anomalous pictures above the threshold."""
    n_normal: int
    n_anomalous: int
    words: str = ""
    """How many anomalous pictures are found, and how sure that is."""
    promise: str = ""
    """Whether the false alarms agree with the promise, in words."""
    promise_broken: bool = False
    promise_advice: str = ""
    """What to do about a broken one."""
    parts: Mapping[str, float] = field(default_factory=dict)
    """AUROC of each part of the score."""
    kinds: Mapping[str, KindSummary] = field(default_factory=dict)
    """In the order in which they are shown; one alone is not."""
    pixel_auroc: float | None = None
    aupro: float | None = None
    """Area under the per-region overlap curve."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportContent:
    """Everything on the page; a section without content is left out."""

    title: str
    created: str
    """ISO 8601."""
    method: str
    method_summary: str
    decision: DecisionSummary
    calibration_scores: Sequence[float] = ()
    calibration_parts: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Of each part of the score, that of every calibration picture."""
    unusual: Sequence[Item] = ()
    """Calibration pictures with the highest scores, the highest first; all are shown."""
    items: Sequence[Item] = ()
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    """Name of a term: (step, value) in the order of training."""
    verdict: str = ""
    """Health of the training in words."""
    provenance: Mapping[str, str | int | float] = field(default_factory=dict)
    evaluation: EvaluationSummary | None = None
