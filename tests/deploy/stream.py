"""Pictures of a line, and services that are asked about them."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import uvicorn
from PIL import Image

from onlygood.deploy.runtime import file
from onlygood.deploy.service.listening import configured
from onlygood.deploy.service.server import create_app
from onlygood.deploy.service.settings import ServiceSettings

Files = list[tuple[str, tuple[str, bytes, str]]]


def normal(seed: int, light: float = 1.0, defect: bool = False) -> bytes:
    """A striped part as PNG, 50 x 40."""
    draw = np.random.default_rng(seed)
    grey = 128 + 60 * np.sin(np.arange(40) / 3)[:, None] * np.ones(50)
    colours = grey[..., None] + draw.normal(0, 6, (40, 50, 3))
    if defect:
        colours[10:20, 10:20] = 255
    image = Image.fromarray((light * colours).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def anomalous(seed: int) -> bytes:
    return normal(seed, defect=True)


def pixels(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def files(*contents: bytes, field: str = "files") -> Files:
    return [(field, (f"{i:03}.png", content, "image/png")) for i, content in enumerate(contents)]


def another(path: Path, tag: str = "another") -> str:
    """Replace an exported model by an equal one with another digest; gives that."""
    model = path.read_bytes()[: -file._LENGTH]
    entry = b"\x0a\x03tag\x12" + bytes([len(tag)]) + tag.encode()
    return file.write(path, model + b"\x72" + bytes([len(entry)]) + entry)


def altered(path: Path, **facts: Any) -> None:
    """Replace an exported model by one with the right digest that says something else of itself."""
    import onnx

    model = onnx.load_model_from_string(path.read_bytes()[: -file._LENGTH])
    (entry,) = (entry for entry in model.metadata_props if entry.key == "onlygood")
    entry.value = json.dumps({**json.loads(entry.value), **facts})
    file.write(path, model.SerializeToString())


@contextmanager
def serving(settings: ServiceSettings, **options: Any) -> Iterator[httpx.Client]:
    """A service in this process, on a port of its own."""
    app = create_app(settings)
    config = configured(app, host="127.0.0.1", port=0, log_level="critical", **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        port = server.servers[0].sockets[0].getsockname()[1]
        # A connection that the service is about to close as idle must not be used once more.
        idle = httpx.Limits(keepalive_expiry=1.0)
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=address, timeout=120, limits=idle) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


class Process:
    """A service in a process of its own, as a user starts it."""

    def __init__(self, *words: object) -> None:
        command = [sys.executable, "-m", "onlygood.cli", "serve", *map(str, words)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [*command, "--port", "0", "--threads", "1"],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.said: list[str] = []
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line)
            if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
                self.url = found[0]
                break
        else:
            raise AssertionError("".join(self.said))

    def kill(self) -> None:
        """As the system does when memory is short."""
        self._process.send_signal(signal.SIGKILL)
        self._end()

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self._end()

    def _end(self) -> int:
        assert self._process.stderr is not None
        self.said += self._process.stderr.readlines()
        self._process.stderr.close()
        return self._process.wait(30)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)
