"""The forms of answers, for the OpenAPI document, and of what is told by JSON."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

LARGEST_NUMBER = 2**63 - 1
"""Of an inspection: what SQLite counts up to."""

_RESULT: JsonDict = {
    "id": 4711,
    "name": "0001.png",
    "score": 12.5,
    "threshold": 10.0,
    "times_threshold": 1.25,
    "p_value": 0.0041,
    "decision": "anomalous",
    "found_in": "region",
    "regions": [{"left": 612, "top": 208, "width": 96, "height": 41, "area": 2950, "peak": 1.8}],
    "parts": {"distance": 12.5},
    "error": None,
    "width": 1280,
    "height": 960,
    "model": "nut",
    "model_sha256": "1f0c...",
    "picture_sha256": "9a31...",
    "latency_ms": 8.1,
}


class Refusal(BaseModel):
    """Why there is no other answer."""

    error: str


class OutlinedRegion(BaseModel):
    """Where a picture is unusual, in its own pixels."""

    left: int
    top: int
    width: int
    height: int
    area: int = Field(description="Of the outlined pixels, not of the box around them.")
    peak: float = Field(description="Of the heat map in it; 1 = pixel threshold.")


class ScoredPicture(BaseModel):
    """What is said of one picture."""

    model_config = ConfigDict(json_schema_extra={"examples": [_RESULT]})

    id: int | None = Field(description="Number of the inspection; null where there is none.")
    name: str
    score: float | None = Field(description="Raw, larger = more anomalous.")
    threshold: float = Field(description="A score above it is no longer normal.")
    times_threshold: float | None = Field(
        description="The score divided by it; null where it is not above 0."
    )
    p_value: float | None = Field(description="Conformal.")
    decision: Literal["normal", "unsure", "anomalous", "error"]
    found_in: Literal["region", "whole picture"] | None = Field(
        description="Whether a region of the heat map is outlined; null of normal pictures, and "
        "where there is no map."
    )
    regions: list[OutlinedRegion] = Field(
        description="Those that are outlined, the highest peak first; 100 at most."
    )
    parts: dict[str, float | None] = Field(description="Of the score, before their weights.")
    error: str | None = Field(description="Why the picture could not be scored.")
    width: int | None
    height: int | None
    model: str
    model_sha256: str
    picture_sha256: str
    latency_ms: float


class Scored(BaseModel):
    """Results in the order of the pictures."""

    results: list[ScoredPicture]


class DriftState(BaseModel):
    """Whether the stream still is what the model was calibrated on."""

    state: Literal["too_few", "as_calibrated", "left"]
    n: int
    smallest_share: float | None = Field(
        description="Share of the pictures that must score above all calibration scores to be "
        "seen; null where no share is enough."
    )
    words: str


class ServedModel(BaseModel):
    """A model that is served."""

    name: str
    method: str
    precision: str
    sha256: str
    size: int
    channels: int
    localizes: bool
    terms: list[str]
    threshold: float
    strict_threshold: float | None
    target_fpr: float
    promised_fpr: float = Field(description="What is really promised of the threshold.")
    confidence: float
    n_calibration: int = Field(description="Pictures, or parts where it is `grouped`.")
    grouped: bool = Field(description="Whether scores and rates are of parts, not of pictures.")
    guarantee: str
    note: str
    state: Literal["ready", "stale"] = Field(
        description="stale: the file on disk cannot be used, and the one before it serves."
    )
    words: str
    drift: DriftState
    provenance: dict[str, Any]


class Models(BaseModel):
    """All of them."""

    models: list[ServedModel]


class CalibrationData(BaseModel):
    """What a slider needs to say what a threshold would promise."""

    scores: list[float] = Field(description="Of normal pictures, ascending.")
    bounds: list[float] = Field(
        description="Upper bound of the false-alarm rate with x scores above the threshold, "
        "for all thresholds at once."
    )
    confidence: float
    threshold: float


class Inspection(BaseModel):
    """A decision of the log."""

    id: int
    time: str = Field(description="ISO 8601, UTC.")
    model: str
    model_sha256: str
    picture_sha256: str
    name: str
    score: float
    p_value: float
    decision: Literal["normal", "unsure", "anomalous"]
    latency_ms: float
    feedback: Literal["false_alarm", "miss", "correct"] | None = Field(
        description="The latest verdict of a person."
    )
    comment: str | None = Field(description="Said with it.")


class Log(BaseModel):
    """Newest first."""

    log: str = Field(description="Which log: another one counts from 1 again.")
    inspections: list[Inspection]


class Feedback(BaseModel):
    """What a person says of a decision."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={"examples": [{"id": 4711, "verdict": "false_alarm", "comment": "dust"}]},
    )

    id: int = Field(ge=1, le=LARGEST_NUMBER)
    verdict: Literal["false_alarm", "miss", "correct"]
    comment: str = Field("", max_length=2000)
    picture_sha256: str | None = Field(
        None, description="Of the picture that was judged; refused where the number has another."
    )
