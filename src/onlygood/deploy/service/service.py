"""What a service does, without HTTP: pictures in; scored, logged and watched; results out."""

import asyncio
import io
import logging
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from onlygood.core.errors import DataError, OnlygoodError, alternatives, in_a_line
from onlygood.core.settings import View
from onlygood.data.align import Pose
from onlygood.data.loading import Decoders, Loaded, threads
from onlygood.data.resize import restored
from onlygood.data.source import Picture
from onlygood.decision.drift import WINDOW
from onlygood.deploy.service.batching import Batches, Room
from onlygood.deploy.service.inspections import Inspections, Row, Verdict
from onlygood.deploy.service.intake import Prepared, Upload, digest
from onlygood.deploy.service.log_file import LogError
from onlygood.deploy.service.metrics import Metrics
from onlygood.deploy.service.model import Answer, Model, Pixels, Served
from onlygood.deploy.service.recent import Kept, Recent
from onlygood.deploy.service.settings import ServiceSettings
from onlygood.report.heatmap import colourise, found_in, may_outline
from onlygood.report.regions import Region, regions

logger = logging.getLogger(__name__)

COMMIT = 1024
"""Requests whose rows go into one transaction, at most."""
PRUNE_SECONDS = 60.0
READING_SECONDS = 3600.0
"""Between two readings of the clock, by which old inspections leave."""
LARGEST_MAP = 4_000_000
"""Pixels of a drawn map; of larger pictures it keeps the proportions."""
LARGEST_SEARCHED = 2**18
"""The same of one whose regions are told: for more an answer would have to wait."""


class UnknownModelError(OnlygoodError):
    """No model of that name is served."""


class Outcome(NamedTuple):
    """A picture, and what came of it."""

    upload: Upload
    prepared: Prepared
    answer: Answer | None
    """None where it could not be scored."""
    error: str | None
    decision: str
    found_in: str | None
    regions: list[Region]
    """Outlined in its map."""
    latency_ms: float


@final
class Service:
    """Models, the log, and what is between them. Its coroutines belong to one event loop."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Open the log and load the models.

        Raises:
            ConfigError: the log cannot be opened, or a package is missing.
            ModelFileError: a model cannot be used.
        """
        self.settings = settings
        self.log = Inspections(
            settings.log, keep_days=settings.keep_days, keep_bytes=settings.keep_bytes
        )
        self.models: dict[str, Served] = {}
        try:
            for path in settings.models:
                self.models[path.stem] = Served(path, settings, self._history)
        except OnlygoodError:
            self._close_models()
            self.log.close()
            raise
        self.recent = Recent(settings.recent_bytes)
        self.metrics = Metrics()
        for served in self.models.values():
            self._observe(served)
        self._decoders = Decoders(threads())
        self._feedback = ThreadPoolExecutor(1, "feedback")
        self._failing: dict[str, str] = {}
        """What part of the upkeep fails now, and how."""
        self._commits: Batches[Sequence[Row], list[int]] = Batches(
            self._commit, name="log", size=COMMIT, limit=0
        )

    def find(self, name: str | None) -> Served:
        """The model of that name, or the only one.

        Raises:
            DataError: no name, where there are several.
            UnknownModelError: there is no such model.
        """
        if name is None:
            if len(self.models) > 1:
                raise DataError(f"say which model, with ?model=; {', '.join(self.models)}")
            return next(iter(self.models.values()))
        if name not in self.models:
            raise UnknownModelError(f'unknown model "{name[:80]}"{alternatives(name, self.models)}')
        return self.models[name]

    async def score(
        self, served: Served, model: Model, room: Room[Pixels, Answer], pictures: Sequence[Upload]
    ) -> list[dict[str, Any]]:
        """Score pictures and log their decisions; what is given back is on disk.

        Raises:
            LogError: it could not be logged, so nothing is answered.
        """
        outcomes = await self.answers(model, room, pictures)
        results = [_result(served.name, model, outcome) for outcome in outcomes]
        decided = [i for i, outcome in enumerate(outcomes) if outcome.answer is not None]
        if decided:
            rows = [Row(**{name: results[i][name] for name in Row._fields}) for i in decided]
            numbers = await asyncio.wrap_future(self._commits.submit(rows))
            for i, number in zip(decided, numbers, strict=True):
                results[i]["id"] = number
                normal = results[i]["decision"] == "normal"
                self._keep(number, outcomes[i], model.runtime.view, normal)
            model.watch.add(row.p_value for row in rows)
        for result in results:
            self.metrics.pictures.labels(served.name, result["decision"]).inc()
            # What cannot be read is refused at once, and would look like a fast service.
            if result["decision"] != "error":
                self.metrics.latency.labels(served.name).observe(result["latency_ms"] / 1000)
        return results

    async def answers(
        self, model: Model, room: Room[Pixels, Answer], pictures: Sequence[Upload]
    ) -> list[Outcome]:
        """Decode pictures and ask the network, all at once; in order."""
        began = time.perf_counter()
        # Even when one fails: none may come after the room for it is gone.
        found = await asyncio.gather(
            *(self._answer(model, room, picture, began) for picture in pictures),
            return_exceptions=True,
        )
        outcomes = []
        for outcome in found:
            if isinstance(outcome, BaseException):
                raise outcome
            outcomes.append(outcome)
        return outcomes

    async def draw(
        self,
        heat: NDArray[np.float32],
        size: tuple[int, int],
        view: View,
        pose: Pose | None,
        outline: bool,
    ) -> bytes:
        """A map as PNG, see `drawn`."""
        return await asyncio.wrap_future(self._decoders.run(drawn, heat, size, view, pose, outline))

    async def judge(
        self, number: int, verdict: Verdict, comment: str, picture_sha256: str | None
    ) -> bool:
        """See `Inspections.judge`.

        Raises:
            LogError: it cannot be written.
        """
        loop = asyncio.get_running_loop()
        # Not on the threads that all share: who waits for the log would have every one of them.
        return await loop.run_in_executor(
            self._feedback, self.log.judge, number, verdict, comment, picture_sha256
        )

    async def keep_up(self) -> None:
        """Watch the model files and the log, until cancelled; nothing that fails ends it."""
        next_prune, next_reading = 0.0, time.monotonic() + READING_SECONDS
        while True:
            for served in self.models.values():
                await self._upkeep(f"model {served.name}", served.refresh)
            await self._upkeep("log", self.log.look)
            if time.monotonic() >= next_prune:
                next_prune = time.monotonic() + PRUNE_SECONDS
                await self._upkeep("prune", self.log.prune)
            if time.monotonic() >= next_reading:
                next_reading = time.monotonic() + READING_SECONDS
                await self._upkeep("clock", self.log.note_time, datetime.now(UTC))
            await asyncio.sleep(self.settings.poll_seconds)

    def close(self) -> None:
        """Finish what was begun; whoever still asks gets no answer."""
        self._close_models()
        self._commits.close(timeout_s=None)
        self._decoders.close()
        self._feedback.shutdown()
        self.log.close()

    async def _upkeep(self, task: str, work: Callable[..., object], *given: object) -> None:
        """Do a part of the upkeep; what fails is counted, and said until it is different."""
        try:
            await asyncio.to_thread(work, *given)
        except Exception as error:  # whatever it is, the rest of the upkeep must go on
            self.metrics.upkeep.labels(task).inc()
            known = isinstance(error, OnlygoodError)
            words = str(error) if known else f"{type(error).__name__}: {in_a_line(error)}"
            if words not in self._failing.values():
                logger.warning("upkeep (%s): %s", task, words)
            self._failing[task] = words
        else:
            self._failing.pop(task, None)

    async def _answer(
        self, model: Model, room: Room[Pixels, Answer], upload: Upload, began: float
    ) -> Outcome:
        picture = Picture(upload.name, upload.content, self.settings.max_pixels)
        loaded = self._decoders.submit(picture, model.runtime.given)
        sha256 = self._decoders.run(digest, upload)
        prepared = Prepared(await asyncio.wrap_future(loaded), await asyncio.wrap_future(sha256))
        answer, error = None, prepared.loaded.error
        if prepared.loaded.pixels is not None:
            answer = await asyncio.wrap_future(room.submit(prepared.loaded.pixels))
            if not math.isfinite(answer.score):
                answer, error = None, f"{upload.name}: the score is not finite; export it anew"
        decision, place, found = "error", None, list[Region]()
        if answer is not None:
            decision = str(model.runtime.calibration.decide(answer.score))
            if may_outline(decision) and answer.heat is not None:
                view = model.runtime.view
                place, found = await asyncio.wrap_future(
                    self._decoders.run(outlined, decision, answer.heat, prepared.loaded, view)
                )
        latency_ms = round(1000 * (time.perf_counter() - began), 3)
        return Outcome(upload, prepared, answer, error, decision, place, found, latency_ms)

    def _keep(self, number: int, outcome: Outcome, view: View, normal: bool) -> None:
        loaded, answer = outcome.prepared.loaded, outcome.answer
        if loaded.size is not None and answer is not None:
            content, sha256 = outcome.upload.content, outcome.prepared.sha256
            self.recent.add(
                number, Kept(content, sha256, loaded.size, view, answer.heat, normal, loaded.pose)
            )

    def _commit(self, requests: list[Sequence[Row]]) -> list[list[int]]:
        """One transaction for all who wait: its cost is the disk's, not the rows'."""
        numbers = iter(self.log.append([row for rows in requests for row in rows]))
        return [[next(numbers) for _ in rows] for rows in requests]

    def _history(self, sha256: str) -> list[float]:
        try:
            return self.log.p_values(sha256, WINDOW)
        except LogError:  # a good model need not wait for the log; drift is watched from now on
            return []

    def _observe(self, served: Served) -> None:
        self.metrics.observe(
            served.name,
            queue=lambda: served.model.batches.held,
            stale=lambda: bool(served.stale),
            drifted=lambda: served.model.watch.verdict().state == "left",
        )

    def _close_models(self) -> None:
        for served in self.models.values():
            served.close()


def drawn(
    heat: NDArray[np.float32], size: tuple[int, int], view: View, pose: Pose | None, outline: bool
) -> bytes:
    """A coloured map as PNG with transparency, to be laid over its picture.

    Args:
        heat: As the runtime gives it, `(*View.shape)`.
        size: Height and width of the picture.
        view: How the model saw it.
        pose: How the part lies in it, where the model aligns.
        outline: Whether regions above the pixel threshold are marked.
    """
    file = io.BytesIO()
    fitted = _laid(heat, size, view, pose, LARGEST_MAP)
    colourise(fitted, outline=outline).save(file, "PNG", compress_level=1)
    return file.getvalue()


def outlined(
    decision: str, heat: NDArray[np.float32], loaded: Loaded, view: View
) -> tuple[str | None, list[Region]]:
    """Where a picture is unusual, see `found_in`, and what its map outlines, in its pixels.

    Args:
        decision: On the picture.
        heat: As the runtime gives it, `(*View.shape)`.
        loaded: The picture, which could be read.
        view: How the model saw it.
    """
    assert loaded.size is not None, "it has a map"
    fitted = _laid(heat, loaded.size, view, loaded.pose, LARGEST_SEARCHED)
    return found_in(decision, fitted), regions(decision, fitted, loaded.size)


def _laid(
    heat: NDArray[np.float32], size: tuple[int, int], view: View, pose: Pose | None, largest: int
) -> NDArray[np.float32]:
    """A map as it lies over its picture, made smaller where that has more than `largest` pixels."""
    shrink = min(1.0, math.sqrt(largest / (size[0] * size[1])))
    return restored(heat, size, view, shrink, pose)


def _result(name: str, model: Model, outcome: Outcome) -> dict[str, Any]:
    loaded, answer = outcome.prepared.loaded, outcome.answer
    calibration = model.runtime.calibration
    score = None if answer is None else answer.score
    threshold = calibration.threshold
    return {
        "id": None,
        "name": outcome.upload.name,
        "score": score,
        "threshold": threshold,
        "times_threshold": None if score is None or threshold <= 0 else score / threshold,
        "p_value": None if score is None else float(calibration.p_values(score)),
        "decision": outcome.decision,
        "found_in": outcome.found_in,
        "regions": [region._asdict() for region in outcome.regions],
        "parts": {} if answer is None else {n: _finite(v) for n, v in answer.parts.items()},
        "error": outcome.error,
        "width": None if loaded.size is None else loaded.size[1],
        "height": None if loaded.size is None else loaded.size[0],
        "model": name,
        "model_sha256": model.runtime.sha256,
        "picture_sha256": outcome.prepared.sha256,
        "latency_ms": outcome.latency_ms,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
