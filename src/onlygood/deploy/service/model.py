"""A model file that is served: its network, its queue, its drift, and what replaces it."""

import json
import logging
import math
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, final

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray

from onlygood.core.errors import ModelFileError, OnlygoodError, in_a_line
from onlygood.decision.drift import Watch
from onlygood.deploy.runtime import Runtime
from onlygood.deploy.service.batching import Batches, Room
from onlygood.deploy.service.settings import ServiceSettings

logger = logging.getLogger(__name__)

Pixels = UInt8[np.ndarray, "h w C"]


class NetworkError(OnlygoodError):
    """A network failed on pictures that it should have scored."""


class Answer(NamedTuple):
    """What the network says of one picture."""

    score: float
    parts: dict[str, float]
    heat: NDArray[np.float32] | None
    """`(*View.shape)`: 0 = median of normal pixels, 1 = pixel threshold."""


@final
class Model:
    """One content of a model file, ready to answer."""

    def __init__(self, runtime: Runtime, settings: ServiceSettings, watch: Watch) -> None:
        self.runtime = runtime
        self.watch = watch
        self.batches: Batches[Pixels, Answer] = Batches(
            self._answers,
            name=f"network {runtime.sha256[:8]}",
            size=settings.batch,
            limit=settings.queue,
            wait_s=settings.wait_ms / 1000,
        )

    def _answers(self, pictures: list[Pixels]) -> list[Answer]:
        try:
            return answers(self.runtime, pictures)
        except Exception as error:  # what ONNX Runtime raises shares no base
            logger.error("a network failed on %d pictures: %s", len(pictures), in_a_line(error))
            raise NetworkError(
                "the network failed, for want of memory perhaps; what the service printed says more"
            ) from error


def answers(runtime: Runtime, pictures: list[Pixels]) -> list[Answer]:
    """What a network says of pictures, in order."""
    raw = runtime.run(np.stack(pictures))
    return [
        Answer(
            float(raw.scores[i]),
            dict(zip(runtime.terms, map(float, raw.parts[i]), strict=True)),
            # A copy: a part would keep the maps of the whole batch in memory.
            None if raw.maps is None else raw.maps[i].copy(),
        )
        for i in range(len(pictures))
    ]


def described(runtime: Runtime, watch: Watch) -> dict[str, Any]:
    """What a model says of itself, and how its stream is."""
    calibration = runtime.calibration
    return {
        "method": runtime.method,
        "precision": runtime.precision,
        "sha256": runtime.sha256,
        "size": runtime.view.size,
        "channels": runtime.view.channels,
        "localizes": runtime.localizes,
        "terms": runtime.terms,
        "threshold": calibration.threshold,
        "strict_threshold": calibration.strict_threshold,
        "target_fpr": calibration.target_fpr,
        "promised_fpr": calibration.promised_fpr,
        "confidence": calibration.confidence,
        "n_calibration": calibration.n,
        "grouped": calibration.grouped,
        "guarantee": calibration.guarantee,
        "note": calibration.note,
        "drift": watch.verdict()._asdict(),
        "provenance": runtime.provenance,
    }


@final
class Served:
    """A model file and what is served of it, which changes when the file does.

    A file that cannot be used, because it is damaged, half copied, not pinned or gone, changes
    nothing: the model before it goes on, and `stale` says why.
    """

    def __init__(
        self,
        path: Path,
        settings: ServiceSettings,
        history: Callable[[str], list[float]] = lambda sha256: [],
    ) -> None:
        """Load the file.

        Args:
            path: What `onlygood export` has written.
            settings: Of the service.
            history: The latest p-values of the model with a digest, oldest first.

        Raises:
            ConfigError: an extra that the model needs is not installed.
            ModelFileError: the file cannot be used.
        """
        self.path, self.name = path, path.stem
        self._settings, self._history = settings, history
        self._lock = threading.Lock()
        self._seen = _identity(path)
        self._model = self._loaded()
        self.stale = ""
        """Why the file as it is now is not what is served; empty when it is."""

    @property
    def model(self) -> Model:
        """What is served now."""
        return self._model

    @contextmanager
    def room(self, count: int) -> Iterator[tuple[Model, Room[Pixels, Answer]]]:
        """Room for so many pictures with the present model, which stays until they are done.

        Raises:
            BusyError: its queue is full.
        """
        # Under the lock, so that no model can close between being chosen and being held.
        with self._lock:
            model = self._model
            room = model.batches.room(count)
        with room:
            yield model, room

    def refresh(self) -> bool:
        """Look at the file, and take it over if it is a new one; whether it was.

        Raises:
            ModelFileError: it cannot be used; said once, until the file changes.
        """
        identity = _identity(self.path)
        if identity == self._seen:
            return False
        # Before reading: what changes while it is read is looked at once more.
        self._seen = identity
        try:
            model = self._loaded()
        except Exception as error:  # whatever it is, the model is not what the file is
            known = isinstance(error, OnlygoodError)
            words = str(error) if known else f"{self.path} cannot be used ({in_a_line(error)})"
            self.stale = f"{words}; the model before it is still serving"
            raise ModelFileError(self.stale) from error
        with self._lock:
            before, self._model = self._model, model
        self.stale = ""
        before.batches.close()
        logger.info("%s: now serving %s", self.name, model.runtime.sha256)
        return True

    def close(self) -> None:
        """Answer what has room, then end."""
        self._model.batches.close(timeout_s=None)

    def describe(self) -> dict[str, Any]:
        """All that a user may know of it."""
        model, stale = self._model, self.stale
        state: Literal["ready", "stale"] = "stale" if stale else "ready"
        told = described(model.runtime, model.watch)
        return {"name": self.name, "state": state, "words": stale, **told}

    def _loaded(self) -> Model:
        """Read the file, and try it before anybody depends on it."""
        runtime = Runtime.load(self.path, threads=self._settings.threads)
        pins = self._settings.pins
        if pins and not any(runtime.sha256.startswith(pin) for pin in pins):
            raise ModelFileError(
                f"{self.path} is whole, but its digest {runtime.sha256} is none of those that "
                "were pinned; pin it, or put the right file there"
            )
        watch = Watch(runtime.calibration, self._history(runtime.sha256))
        try:
            _try(runtime, watch)
        except Exception as error:  # what ONNX Runtime raises shares no base
            what = in_a_line(error)
            raise ModelFileError(f"{self.path} cannot be run ({what}); export it anew") from error
        return Model(runtime, self._settings, watch)


def _try(runtime: Runtime, watch: Watch) -> None:
    """Take one picture the whole way to a decision, and say what is said of the model."""
    shape = (*runtime.given.canvas, runtime.given.channels)
    (answer,) = answers(runtime, [np.resize(np.arange(256, dtype=np.uint8), shape)])
    if not math.isfinite(answer.score):
        raise ValueError(f"its score is {answer.score}")
    if answer.heat is not None and answer.heat.shape != runtime.view.shape:
        raise ValueError(f"its map has the shape {answer.heat.shape}, not {runtime.view.shape}")
    runtime.calibration.p_values(answer.score)
    runtime.calibration.decide(answer.score)
    json.dumps(described(runtime, watch), allow_nan=False, ensure_ascii=False).encode()


def _identity(path: Path) -> tuple[int, ...] | None:
    """What differs when the file was replaced, rewritten or made readable; None: it is gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size
