import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from onlygood.core.errors import ModelFileError, in_a_line
from onlygood.core.settings import View
from onlygood.deploy.runtime import Raw, Runtime
from onlygood.deploy.service.batching import BusyError
from onlygood.deploy.service.model import Served, answers
from onlygood.deploy.service.settings import ServiceSettings
from tests.deploy.stream import altered, another, until

pytestmark = pytest.mark.slow


@pytest.fixture
def served(settings: ServiceSettings) -> Iterator[Served]:
    served = Served(settings.models[0], settings)
    yield served
    served.close()


def grey(count: int) -> list[np.ndarray]:
    return [np.full((16, 16, 3), 10 * i, np.uint8) for i in range(count)]


def test_answers_are_those_of_the_network_alone(served: Served, exported: Path) -> None:
    with served.room(3) as (model, room):
        found = [future.result(10) for future in [room.submit(p) for p in grey(3)]]
    raw = Runtime.load(exported, threads=1).run(np.stack(grey(3)))
    assert [answer.score for answer in found] == pytest.approx(raw.scores, rel=1e-5)
    assert raw.maps is not None
    for answer, heat in zip(found, raw.maps, strict=True):
        assert answer.heat is not None and answer.heat.base is None
        np.testing.assert_allclose(answer.heat, heat, rtol=1e-4, atol=1e-5)
    assert len(model.runtime.calibration.bounds) == model.runtime.calibration.n + 1


def test_pictures_need_not_be_square() -> None:
    runtime = Mock(spec=Runtime, terms=["distance"])
    runtime.run.return_value = Raw(np.ones(1), np.ones((1, 1), np.float32), None)
    (answer,) = answers(runtime, [np.zeros((8, 16, 3), np.uint8)])
    assert answer.score == 1


def test_who_has_room_keeps_the_model(served: Served, model: Path) -> None:
    with served.room(1) as (before, room):
        digest = another(model)
        assert served.refresh()
        assert served.model.runtime.sha256 == digest
        assert before.runtime.sha256 != digest
        assert np.isfinite(room.submit(grey(1)[0]).result(10).score)
    until(lambda: not before.batches._thread.is_alive())
    assert not served.refresh()


def test_a_stale_file_is_looked_at_again_when_it_changes(served: Served, model: Path) -> None:
    good = model.read_bytes()
    model.write_bytes(good[:-1])
    with pytest.raises(ModelFileError, match="is cut off"):
        served.refresh()
    assert not served.refresh()  # said once
    assert "is cut off" in served.stale
    assert served.describe()["state"] == "stale"
    model.write_bytes(good)
    assert served.refresh()
    assert served.describe()["state"] == "ready"


def test_the_queue_is_bounded(settings: ServiceSettings) -> None:
    limits = replace(settings, queue=3, max_files=3, batch=2, wait_ms=250.0)
    served = Served(settings.models[0], limits)
    batches = served.model.batches
    assert (batches.limit, batches._size, batches._wait_s) == (3, 2, 0.25)
    with served.room(2), pytest.raises(BusyError):
        with served.room(2):
            pass
    served.close()


def test_what_is_promised_is_told(settings: ServiceSettings, model: Path) -> None:
    calibration = Runtime.load(model).facts["calibration"]
    asked = {"target_fpr": 0.01, "confidence": 0.8, "strict_fpr": 0.005}
    altered(model, calibration={**calibration, "settings": {**calibration["settings"], **asked}})
    served = Served(model, settings)
    told, by = served.describe(), served.model.runtime.calibration
    assert told["target_fpr"] == 0.01 < told["promised_fpr"]
    for name in (
        "threshold",
        "strict_threshold",
        "promised_fpr",
        "confidence",
        "guarantee",
        "note",
    ):
        assert told[name] == getattr(by, name)
    assert told["n_calibration"] == by.n > 0
    served.close()


def test_pins_decide_at_the_start_and_later(settings: ServiceSettings, model: Path) -> None:
    digest = Runtime.load(model).sha256
    pinned = replace(settings, pins=(digest[:12],))
    served = Served(model, pinned)
    another(model)
    with pytest.raises(ModelFileError):
        served.refresh()
    assert "none of those that were pinned" in served.stale
    assert served.model.runtime.sha256 == digest
    with pytest.raises(ModelFileError, match="none of those that were pinned"):
        Served(model, pinned)
    served.close()


VIEW = asdict(View(size=32, channels=1))
WILD: list[dict[str, Any]] = [
    {"terms": ["distance", "one too many"]},
    {"terms": ["x"] * 101},
    {"provenance": {"duration_s": float("nan")}},
    {"provenance": {"duration_s": float("inf")}},
    {"provenance": 1},
    {"method": "\ud800"},
    {"view": VIEW | {"size": 20_000}},
    {"view": VIEW | {"size": 3}},
    {"view": VIEW | {"crop": 3}},
    {"view": VIEW | {"channels": 2}},
    {"view": VIEW | {"smooth": "much"}},
    {"view": VIEW | {"ignore": "no mask"}},
    {"view": VIEW | {"align": "no reference"}},
    {"calibration": {}},
]


@pytest.mark.parametrize("facts", WILD, ids=str)
def test_what_could_not_answer_is_not_taken_over(
    served: Served, model: Path, exported: Path, facts: dict[str, Any]
) -> None:
    before = served.model
    altered(model, **facts)
    with pytest.raises(ModelFileError, match="still serving"):
        served.refresh()
    assert served.model is before
    assert json.loads(json.dumps(served.describe(), allow_nan=False))["state"] == "stale"
    model.write_bytes(exported.read_bytes())
    assert served.refresh()
    assert served.describe()["state"] == "ready"


def test_a_rate_that_cannot_be_is_not_taken_over(served: Served, model: Path) -> None:
    calibration = served.model.runtime.facts["calibration"]
    settings = {**calibration["settings"], "target_fpr": 1e-320}
    altered(model, calibration={**calibration, "settings": settings})
    with pytest.raises(ModelFileError, match="still serving"):
        served.refresh()


@pytest.mark.parametrize("raw", ["score", "shape"])
def test_a_network_that_says_nonsense_is_not_taken_over(
    served: Served, model: Path, monkeypatch: pytest.MonkeyPatch, raw: str
) -> None:
    run = Runtime.run

    def nonsense(runtime: Runtime, pictures: Any) -> Raw:
        said = run(runtime, pictures)
        assert said.maps is not None
        if raw == "score":
            return said._replace(scores=said.scores * np.nan)
        return said._replace(maps=said.maps[:, :3])

    monkeypatch.setattr(Runtime, "run", nonsense)
    another(model)
    with pytest.raises(ModelFileError, match=f"its {'map' if raw == 'shape' else 'score'}"):
        served.refresh()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("what nobody expected")])
def test_whatever_fails_the_file_is_stale_and_the_next_one_is_taken(
    served: Served, model: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "load", Mock(side_effect=error))
        another(model)
        with pytest.raises(ModelFileError, match=in_a_line(error)):
            served.refresh()
    assert served.describe()["state"] == "stale"
    another(model, "good")
    assert served.refresh()
    assert served.describe()["state"] == "ready"


def test_a_file_that_becomes_readable_is_looked_at(served: Served, model: Path) -> None:
    model.chmod(0o600)
    assert served.refresh()
