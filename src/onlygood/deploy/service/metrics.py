"""What Prometheus is told."""

from collections.abc import Callable
from typing import final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


@final
class Metrics:
    """Of one service."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "onlygood_requests",
            "Answers, by what was asked and by status.",
            ("path", "status"),
            registry=self._registry,
        )
        self.pictures = Counter(
            "onlygood_pictures",
            "Pictures by decision; error: could not be scored.",
            ("model", "decision"),
            registry=self._registry,
        )
        self.latency = Histogram(
            "onlygood_latency_seconds",
            "From a picture's arrival to its score; of pictures that were scored.",
            ("model",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.upkeep = Counter(
            "onlygood_upkeep_failures",
            "Of the work between requests: taking model files over, and care of the log.",
            ("task",),
            registry=self._registry,
        )
        self._queue = Gauge(
            "onlygood_queue_pictures",
            "Pictures in hand; more than the queue's length are refused with 429.",
            ("model",),
            registry=self._registry,
        )
        self._stale = Gauge(
            "onlygood_model_stale",
            "1 when the file on disk cannot be used and the model before it serves.",
            ("model",),
            registry=self._registry,
        )
        self._drifted = Gauge(
            "onlygood_stream_left_calibration",
            "1 when the stream is no longer like the calibration pictures.",
            ("model",),
            registry=self._registry,
        )

    def observe(
        self,
        model: str,
        *,
        queue: Callable[[], float],
        stale: Callable[[], float],
        drifted: Callable[[], float],
    ) -> None:
        """Ask for a model's state whenever somebody looks."""
        self._queue.labels(model).set_function(queue)
        self._stale.labels(model).set_function(stale)
        self._drifted.labels(model).set_function(drifted)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)
