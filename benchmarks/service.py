"""How much does a service take away from the network behind it, and what happens above capacity?

The service runs in a process of its own, this one is its clients: each has one connection, sends
one JPEG file after the other, and waits for every answer. In alternating rounds the bare runtime
scores the same files from memory, in batches and on all cores, while the service idles. Then a
service with little room is asked by many at once, a third one is sent pictures that are made to be
costly beside its honest clients, and a fourth one is watched while it answers many requests.
Networks are fitted with a single step, as speed does not depend on what they have learnt.

    python benchmarks/service.py --json service.json
"""

import argparse
import asyncio
import re
import sqlite3
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from deploy import CASES, QUICK, Case
from measure import Spread, family, in_words, machine, table, write_json
from onlygood import Detector
from onlygood.deploy.export import export
from onlygood.deploy.runtime import Runtime
from scoring import camera_files, drain

PICTURES = 64
"""Different files, sent in turn."""
CROWD = 128
"""Clients above capacity."""
ROOM = 32
"""Pictures that there is room for then."""
BOMBS = 2.0
"""Costly pictures that come each second, whatever became of those before."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """So many clients at once; rates in pictures/s, times in milliseconds."""

    clients: int
    pictures: int
    """In each request."""
    rate: Spread
    of_runtime: float
    """Of the bare runtime's rate in the same run; medians."""
    p50_ms: float
    p95_ms: float
    p99_ms: float


@dataclass(kw_only=True)
class Answers:
    """What clients were told."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    """Of those that were answered with 200."""
    seconds: float = 0.0


@contextmanager
def serving(model: Path, *options: object) -> Iterator[tuple[int, int]]:
    """A service on its own; its port and its process."""
    words = [sys.executable, "-m", "onlygood.cli", "serve", model, "--port", 0, *options]
    process = subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        said = ""
        for line in process.stderr:
            said += line
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                yield int(found[1]), process.pid
                return
        raise RuntimeError(said)
    finally:
        process.terminate()
        process.wait()
        process.stderr.close()


def request(contents: Sequence[bytes]) -> bytes:
    """A request that scores some pictures, ready to be sent."""
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\n'
    body = b"".join(head + content + b"\r\n" for content in contents) + b"--x--\r\n"
    return (
        b"POST /v1/score HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\n"
        + f"Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


def ask(port: int, requests: Sequence[bytes], clients: int) -> Answers:
    """Send all requests, each client one at a time; what is refused for want of room is not resent.

    With plain sockets: what a client costs is taken from the service on the same cores.
    """
    left = iter(requests)
    answers = Answers()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for content in left:
            began = time.perf_counter()
            writer.write(content)
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
            assert found is not None
            await reader.readexactly(int(found[1]))
            status = int(head[9:12])
            answers.statuses[status] += 1
            if status == 200:
                answers.milliseconds.append(1000 * (time.perf_counter() - began))
        writer.close()

    async def all_of_them() -> None:
        began = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        answers.seconds = time.perf_counter() - began

    asyncio.run(all_of_them())
    return answers


def singles(contents: Sequence[bytes], count: int) -> list[bytes]:
    """So many requests of one picture each, in turn."""
    return list(islice(cycle([request([content]) for content in contents]), count))


def load(
    model: Path, folder: Path, contents: list[bytes], loads: Sequence[tuple[int, int]], rounds: int
) -> tuple[Spread, list[Row]]:
    """Rates of the bare runtime, and of the service at each load: clients, pictures a request."""
    runtime, bare = Runtime.load(model), list[float]()
    rates: list[list[float]] = [[] for _ in loads]
    times: list[list[float]] = [[] for _ in loads]
    with serving(model, "--log", folder / "load.sqlite") as (port, _):
        drain(runtime, contents, maps=True)
        ask(port, [request(contents[:1])] * 16, 8)
        for _ in range(rounds):
            bare.append(len(contents) / drain(runtime, contents, maps=True))
            for i, (clients, pictures) in enumerate(loads):
                # Eight requests for each client at least, or an end without company would tell.
                count = max(8 * clients * pictures, 4 * len(contents)) // pictures
                chosen = [
                    request([contents[(j * pictures + k) % len(contents)] for k in range(pictures)])
                    for j in range(count)
                ]
                answers = ask(port, chosen, clients)
                assert set(answers.statuses) == {200}, answers.statuses
                rates[i].append(count * pictures / answers.seconds)
                times[i] += answers.milliseconds
    rows = [
        Row(
            clients=clients,
            pictures=pictures,
            rate=Spread.of(rate),
            of_runtime=float(np.median(rate) / np.median(bare)),
            p50_ms=float(np.percentile(taken, 50)),
            p95_ms=float(np.percentile(taken, 95)),
            p99_ms=float(np.percentile(taken, 99)),
        )
        for (clients, pictures), rate, taken in zip(loads, rates, times, strict=True)
    ]
    return Spread.of(bare), rows


def crowd(model: Path, folder: Path, contents: list[bytes], requests: int) -> dict[str, Any]:
    """More clients than there is room for: what they are told, and what the log has."""
    log = folder / "crowd.sqlite"
    with serving(model, "--log", log, "--queue", ROOM) as (port, _):
        answers = ask(port, singles(contents, requests), CROWD)
    return {
        "clients": CROWD,
        "room": ROOM,
        "statuses": dict(answers.statuses),
        "logged": rows_of(log),
    }


def costly(side: int) -> list[bytes]:
    """Small files that take long: a PNG of 16 bit RGBA, and a JPEG of many empty scans."""
    rows = zlib.compress(bytes(1 + 8 * side) * side, 9)
    head = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    stream = BytesIO()
    Image.new("L", (side, side)).save(stream, "JPEG", progressive=True)
    jpeg = stream.getvalue()
    last = jpeg.rindex(b"\xff\xda")
    return [png, jpeg[:last] + 60 * jpeg[last:-2] + jpeg[-2:]]


def attacked(
    model: Path, folder: Path, contents: list[bytes], requests: int, side: int
) -> dict[str, Any]:
    """What eight honest clients wait for, alone and beside costly pictures."""
    with serving(model, "--log", folder / "attacked.sqlite") as (port, process):
        ask(port, singles(contents, 16), 8)
        honest = singles(contents, requests)
        return {
            "clients": 8,
            "costly_each_second": BOMBS,
            "side": side,
            "alone": beside(port, process, honest, []),
            "beside": beside(port, process, honest, costly(side)),
        }


def beside(
    port: int, process: int, honest: Sequence[bytes], bombs: Sequence[bytes]
) -> dict[str, Any]:
    """Times of honest requests while bombs come in turn.

    Memory is the most that the service and the processes that decode for it hold at one time.
    """
    stop, statuses, held = threading.Event(), Counter[int](), list[float]()

    def one(content: bytes) -> None:
        statuses.update(ask(port, [request([content])], 1).statuses)

    def send() -> None:
        sent = []
        for content in cycle(bombs):
            sent.append(threading.Thread(target=one, args=(content,)))
            sent[-1].start()
            if stop.wait(1 / BOMBS):
                break
        for thread in sent:
            thread.join()

    def watch() -> None:
        while True:
            held.append(sum(map(resident, family(process))))
            if stop.wait(0.05):
                break

    others = [threading.Thread(target=work) for work in (send, watch)]
    for thread in others:
        thread.start()
    answers = ask(port, honest, 8)
    stop.set()
    for thread in others:
        thread.join()
    assert set(answers.statuses) == {200}, answers.statuses
    return {
        "rate": len(honest) / answers.seconds,
        "p50_ms": float(np.percentile(answers.milliseconds, 50)),
        "p95_ms": float(np.percentile(answers.milliseconds, 95)),
        "longest_ms": max(answers.milliseconds),
        "peak_mib": max(held),
        "costly": dict(statuses),
    }


def resident(process: int) -> float:
    """MiB of memory that a process holds; 0 where it has ended."""
    with suppress(OSError):
        status = Path(f"/proc/{process}/status").read_text("ascii")
        if found := re.search(r"^VmRSS:\s+(\d+) kB", status, re.M):
            return int(found[1]) / 1024
    return 0.0


def rows_of(log: Path) -> int:
    """Inspections in a log."""
    with closing(sqlite3.connect(log)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM inspections").fetchone()
    return int(count)


def memory(
    model: Path, folder: Path, contents: list[bytes], requests: int, parts: int
) -> list[tuple[int, float]]:
    """Requests answered by then, and MiB of the service's resident memory."""
    chosen = singles(contents, max(1, requests // parts))
    taken, done = [], 0
    with serving(model, "--log", folder / "memory.sqlite") as (port, process):
        for _ in range(parts):
            answers = ask(port, chosen, 8)
            assert set(answers.statuses) == {200}, answers.statuses
            done += len(chosen)
            taken.append((done, resident(process)))
            print(f"{done} requests: {taken[-1][1]:.0f} MiB", file=sys.stderr)
    return taken


def exported(case: Case, folder: Path) -> Path:
    """A model of one training step."""
    random = np.random.default_rng(0)
    arrays = list(random.integers(0, 256, (24, case.size, case.size, 3), dtype=np.uint8))
    detector = Detector.fit(case.method, arrays, settings={"size": case.size, **case.settings})
    path = folder / f"{case.method}.onnx"
    export(detector, path)
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table of loads, and what came of the crowd and of the long run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--camera", type=int, default=300, help="side of the files, pixels")
    parser.add_argument("--requests", type=int, default=20_000, help="while memory is watched")
    parser.add_argument("--quick", action="store_true", help="seconds; the figures mean nothing")
    parser.add_argument("--json", type=Path, help="file for the same figures")
    options = parser.parse_args(arguments)
    case = next(case for case in CASES if case.method == "reflect" and case.size == 224)
    loads, rounds, camera = [(1, 1), (8, 1), (64, 1), (8, 8)], options.rounds, options.camera
    requests, at_once, honest, side = options.requests, 2_000, 2_000, 7_070
    if options.quick:
        case, loads, rounds, camera, requests, at_once = QUICK[0], [(2, 2)], 1, 32, 20, 200
        honest, side = 40, 300
    facts = machine()
    print(in_words(facts))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        contents = [file.read_bytes() for file in camera_files(folder, PICTURES, camera)]
        model = exported(case, folder)
        bare, rows = load(model, folder, contents, loads, rounds)
        above = crowd(model, folder, contents, at_once)
        costlier = attacked(model, folder, contents, honest, side)
        grown = memory(model, folder, contents, requests, parts=10)
    print(
        f"{case.method}, {case.size} px, JPEG files of {camera} x {camera}, {rounds} rounds, "
        f"median (min–max); bare runtime: {bare:.0f} pictures/s\n"
    )
    print(
        table(
            ("clients", "pictures a request", "pictures/s", "of bare", "p50 / p95 / p99, ms"),
            [
                (
                    *(str(row.clients), str(row.pictures), f"{row.rate:.0f}"),
                    f"{row.of_runtime:.2f}",
                    f"{row.p50_ms:.0f} / {row.p95_ms:.0f} / {row.p99_ms:.0f}",
                )
                for row in rows
            ],
        )
    )
    print(f"\nAbove capacity: {above}")
    print(f"Beside costly pictures: {costlier}")
    print("Memory: " + ", ".join(f"{done:,}: {size:.0f} MiB" for done, size in grown))
    if options.json:
        figures = {
            "bare": asdict(bare),
            "rows": [asdict(row) for row in rows],
            "above": above,
            "attacked": costlier,
            "memory": grown,
        }
        write_json(options.json, {"machine": facts, **figures})
    return 0


if __name__ == "__main__":
    sys.exit(main())
