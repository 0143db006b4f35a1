"""Services that are killed, overrun, out of disk, or two on one log."""

import asyncio
import os
import re
import resource
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from onlygood.deploy.runtime import Raw, Runtime
from onlygood.deploy.service import log_file, service
from onlygood.deploy.service.inspections import Inspections
from onlygood.deploy.service.log_file import LogError
from onlygood.deploy.service.settings import ServiceSettings
from tests.deploy.stream import Process, another, files, normal, serving, until

pytestmark = pytest.mark.slow

PICTURES = [normal(i) for i in range(20)]


def logged(path: Path) -> list[tuple[int, str]]:
    with closing(sqlite3.connect(path)) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return reader.execute("SELECT id, name FROM inspections ORDER BY id").fetchall()


def has_rows(path: Path, count: int) -> bool:
    return len(logged(path)) >= count


def ask(url: str, name: str, goes_on: Callable[[], bool]) -> list[tuple[int, str]]:
    """Ask one by one, each picture under a name of its own; gives what was answered."""
    answered: list[tuple[int, str]] = []
    with httpx.Client(base_url=url, timeout=30) as client:
        for i in range(10_000):
            if not goes_on():
                break
            sent = [("files", (f"{name}-{i}", PICTURES[i % len(PICTURES)], "image/png"))]
            try:
                answer = client.post("/v1/score", files=sent)
            except httpx.TransportError:
                break
            assert answer.status_code == 200, answer.text
            answered += [(each["id"], each["name"]) for each in answer.json()["results"]]
    return answered


def times(count: int) -> Callable[[], bool]:
    """True so many times."""
    left = iter(range(count))
    return lambda: next(left, None) is not None


def test_a_kill_loses_nothing_that_was_answered(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.sqlite"
    answered: list[tuple[int, str]] = []
    for life in range(3):
        with Process(model, "--log", log) as process, ThreadPoolExecutor(4) as clients:
            asking = [
                clients.submit(ask, process.url, f"{life}-{i}", lambda: True) for i in range(4)
            ]
            until(partial(has_rows, log, len(answered) + 60))
            process.kill()
            for each in asking:
                answered += each.result()
        found = Counter(logged(log))
        assert max(found.values()) == 1
        assert set(answered) <= set(found)
    assert len(answered) == len(set(answered)) >= 100
    with Process(model, "--log", log) as process:
        assert httpx.get(f"{process.url}/v1/inspections").status_code == 200
        assert process.stop() == -signal.SIGTERM


def test_a_stop_answers_what_was_asked(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.sqlite"
    with Process(model, "--log", log) as process, ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(ask, process.url, f"{i}", lambda: True) for i in range(4)]
        until(partial(has_rows, log, 40))
        assert process.stop() == -signal.SIGTERM
        answered = [one for each in asking for one in each.result()]
    assert sorted(answered) == logged(log)  # nor is anything logged that was not answered


def test_two_services_share_a_log(model: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.sqlite"
    with Process(model, "--log", log) as one, Process(model, "--log", log) as other:
        with ThreadPoolExecutor(4) as clients:
            asking = [
                clients.submit(ask, service.url, f"{which}-{i}", times(50))
                for which, service in enumerate((one, other))
                for i in range(2)
            ]
            answered = [each for client in asking for each in client.result()]
        rows = httpx.get(f"{one.url}/v1/inspections", timeout=30).json()["inspections"]
        assert rows == httpx.get(f"{other.url}/v1/inspections", timeout=30).json()["inspections"]
    assert sorted(answered) == logged(log)
    assert {name[0] for _, name in answered} == {"0", "1"}


def test_a_full_disk_is_said_and_answers_again_when_there_is_space(
    settings: ServiceSettings,
) -> None:
    statuses: Counter[int] = Counter()
    answered: list[int] = []

    def score(client: httpx.Client) -> None:
        answer = client.post("/v1/score", files=files(*PICTURES))
        statuses[answer.status_code] += 1
        if answer.status_code == 200:
            answered.extend(each["id"] for each in answer.json()["results"])
        else:
            assert "the inspection log cannot be written" in answer.json()["error"]
            assert answer.headers["retry-after"]

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(settings) as client:
        score(client)
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, before[1]))
        try:
            for _ in range(30):
                score(client)
            assert client.get("/readyz").status_code == 503
            said = client.post("/v1/feedback", json={"id": 1, "verdict": "miss"})
            assert said.status_code == 503
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        score(client)
        assert client.get("/readyz").status_code == 200
    assert set(statuses) == {200, 503} and statuses[503] > 1
    assert [number for number, _ in logged(settings.log)] == sorted(answered)


@pytest.mark.parametrize("how", ["moved", "removed"])
def test_a_log_that_goes_is_said_and_nothing_is_decided(
    settings: ServiceSettings, how: str
) -> None:
    aside = settings.log.with_name("aside")
    with serving(settings) as client:
        assert client.post("/v1/score", files=files(PICTURES[0])).status_code == 200
        settings.log.rename(aside) if how == "moved" else settings.log.unlink()
        assert client.get("/readyz").status_code == 503
        for path in ("/v1/score", "/v1/score", "/v1/inspections", "/v1/inspections.csv"):
            ask = client.post if path == "/v1/score" else client.get
            sent = {"files": files(PICTURES[1])} if path == "/v1/score" else {}
            answer = ask(path, **sent)
            assert answer.status_code == 503
            assert "was moved, removed, replaced" in answer.json()["error"]
        assert client.post("/v1/feedback", json={"id": 1, "verdict": "miss"}).status_code == 503
        assert client.get("/healthz").status_code == 200
        assert not settings.log.exists()
        if how == "moved":
            assert logged(aside) == [(1, "000.png")]
            aside.rename(settings.log)
            until(lambda: client.get("/readyz").status_code == 200)
            answer = client.post("/v1/score", files=files(PICTURES[2]))
            assert answer.json()["results"][0]["id"] == 2


def test_a_log_that_is_held_holds_nothing_else(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "PATIENCE_S", 3600.0)
    said = {"id": 1, "verdict": "miss"}
    with serving(settings) as client, ThreadPoolExecutor(64) as clients:
        client.post("/v1/score", files=files(PICTURES[0]))
        with closing(sqlite3.connect(settings.log, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            asking = [clients.submit(client.post, "/v1/feedback", json=said) for _ in range(45)]
            asking.append(clients.submit(client.post, "/v1/score", files=files(PICTURES[1])))
            for path in ("/healthz", "/", "/metrics", "/v1/inspections", "/v1/models"):
                assert client.get(path).status_code == 200
            assert not any(each.done() for each in asking)
            other.execute("ROLLBACK")
            statuses = [each.result().status_code for each in asking]
            assert statuses == [201] * 45 + [200]
            monkeypatch.setattr(log_file, "PATIENCE_S", 0.5)
            other.execute("BEGIN IMMEDIATE")
            asking = [clients.submit(client.post, "/v1/feedback", json=said) for _ in range(45)]
            assert {each.result().status_code for each in asking} == {503}
            assert client.get("/readyz").status_code == 503
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/v1/score", files=files(PICTURES[1])).status_code == 200


def test_nothing_that_fails_ends_the_upkeep(
    settings: ServiceSettings,
    model: Path,
    exported: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(log: Inspections) -> None:
        raise OverflowError("what nobody expected")

    def failures(client: httpx.Client, task: str) -> float:
        found = re.search(
            rf'^onlygood_upkeep_failures_total{{task="{task}"}} (.*)$',
            client.get("/metrics").text,
            re.M,
        )
        return float(found[1]) if found else 0.0

    monkeypatch.setattr(Inspections, "prune", fail)
    monkeypatch.setattr(service, "PRUNE_SECONDS", 0.0)
    noted: list[datetime] = []
    monkeypatch.setattr(Inspections, "note_time", lambda log, time: noted.append(time))
    monkeypatch.setattr(service, "READING_SECONDS", 0.05)
    with serving(settings) as client:
        until(lambda: failures(client, "prune") >= 3)
        model.unlink()
        os.mkfifo(model)
        until(lambda: failures(client, "model nut") >= 1)
        good = model.with_name("good")
        good.write_bytes(exported.read_bytes())
        digest = another(good)
        good.rename(model)
        until(lambda: client.get("/v1/models").json()["models"][0]["sha256"] == digest)
        until(lambda: len(noted) >= 2)
    said = [record.getMessage() for record in caplog.records if "nobody expected" in record.message]
    assert said == ["upkeep (prune): OverflowError: what nobody expected"]
    assert abs(noted[-1] - datetime.now(UTC)) < timedelta(minutes=1)


def test_what_fails_again_is_said_again(
    settings: ServiceSettings, caplog: pytest.LogCaptureFixture
) -> None:
    made = service.Service(settings)

    def fail() -> None:
        raise LogError("the disk is full")

    async def keep_up() -> None:
        for work in (fail, fail, made.log.look, fail):
            await made._upkeep("log", work)

    asyncio.run(keep_up())
    assert [record.getMessage() for record in caplog.records] == [
        "upkeep (log): the disk is full"
    ] * 2
    made.close()


def test_a_model_does_not_wait_for_the_log(settings: ServiceSettings) -> None:
    made = service.Service(settings)
    settings.log.unlink()
    assert made._history(made.find(None).model.runtime.sha256) == []
    made.close()


def test_over_capacity_there_is_429_and_nothing_else(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    sizes: list[int] = []
    run = Runtime.run

    def slowly(runtime: Runtime, pictures: Any) -> Raw:
        """Until somebody was refused: four have room for two pictures each."""
        sizes.append(len(pictures))
        assert full.wait(120)
        return run(runtime, pictures)

    answered: list[int] = []
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def ask_often(client: httpx.Client) -> None:
        for i in range(6):
            answer = client.post("/v1/score", files=files(PICTURES[i], PICTURES[i + 1]))
            with lock:
                statuses[answer.status_code] += 1
                if answer.status_code == 200:
                    answered.extend(each["id"] for each in answer.json()["results"])
                else:
                    full.set()
                    assert answer.headers["retry-after"] == "1"
                    assert "at most 8 may be" in answer.json()["error"]

    limits = replace(settings, queue=8, max_files=2, batch=4)
    with serving(limits) as client, ThreadPoolExecutor(16) as clients:
        monkeypatch.setattr(Runtime, "run", slowly)
        for asking in [clients.submit(ask_often, client) for _ in range(16)]:
            asking.result()
        assert 'status="429"' in client.get("/metrics").text
    assert set(statuses) == {200, 429}
    assert sum(statuses.values()) == 16 * 6
    assert sorted(answered) == [number for number, _ in logged(settings.log)]
    assert max(sizes) <= 4


def newest(client: httpx.Client) -> dict[str, Any]:
    rows: list[dict[str, Any]] = client.get("/v1/inspections?limit=1").json()["inspections"]
    return rows[0] if rows else {"model_sha256": ""}


def test_a_replacement_drops_no_request(settings: ServiceSettings, model: Path) -> None:
    running = True
    with serving(settings) as client, ThreadPoolExecutor(4) as clients:
        url = str(client.base_url)
        asking = [clients.submit(ask, url, f"{i}", lambda: running) for i in range(4)]
        digests = []
        for i in range(5):
            digests.append(another(model, f"lot {i}"))
            # Until it has decided something.
            until(lambda: newest(client)["model_sha256"] == digests[-1])
        running = False
        answered = [one for each in asking for one in each.result()]
    assert sorted(answered) == logged(settings.log)
    # The networks that were replaced have gone.
    until(lambda: not any(thread.name.startswith("network") for thread in threading.enumerate()))


def test_a_network_that_fails_is_said_and_the_next_picture_is_scored(
    settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(settings) as client:
        run = Runtime.run

        def fail(runtime: Runtime, pictures: Any) -> Raw:
            raise RuntimeError("out of memory, in /home/me/secret")

        monkeypatch.setattr(Runtime, "run", fail)
        answer = client.post("/v1/score", files=files(PICTURES[0]))
        assert answer.status_code == 503
        assert "the network failed" in answer.json()["error"]
        assert "secret" not in answer.text and "default-src" in str(answer.headers)

        def nan(runtime: Runtime, pictures: Any) -> Raw:
            raw = run(runtime, pictures)
            return raw._replace(scores=np.full_like(raw.scores, np.nan))

        monkeypatch.setattr(Runtime, "run", nan)
        answer = client.post("/v1/score", files=files(PICTURES[0]))
        assert answer.status_code == 422 and "not finite" in answer.json()["error"]

        def slow_and_odd(runtime: Runtime, pictures: Any) -> Raw:
            time.sleep(0.05)
            raw = run(runtime, pictures)
            return raw._replace(parts=np.full_like(raw.parts, np.inf))

        monkeypatch.setattr(Runtime, "run", slow_and_odd)
        (result,) = client.post("/v1/score", files=files(PICTURES[0])).json()["results"]
        assert set(result["parts"].values()) == {None} and 50 <= result["latency_ms"] < 50_000
        monkeypatch.setattr(Runtime, "run", run)
        assert client.post("/v1/score", files=files(PICTURES[0])).status_code == 200
    assert len(logged(settings.log)) == 2
