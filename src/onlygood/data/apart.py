"""Costly pictures are decoded in processes of their own, which can be ended.

A file that is made to that end can hold a decoder for hours, take gigabytes from a few kilobytes,
or crash it. Small pictures of plain formats cannot, so they are decoded here, where that costs
nothing more (`opened`). All others go to a process with a limit on memory and on time, through
pipes; docs/speed.md says what that adds. Processes start when they are needed first and wait for
the next picture; they end with this one.
"""

import atexit
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from jaxtyping import UInt8

from onlygood.core.errors import DataError
from onlygood.core.settings import View
from onlygood.data.align import Pose, check_alignment, pose_in
from onlygood.data.decode import MAX_PIXELS, Encoded, Pixels, file_size, read
from onlygood.data.resize import viewed

MIB = 2**20

LIGHT_BYTES = MIB // 2
"""Files up to this size may be light: so many bytes of header are parsed in a tenth of a second."""
LIGHT_PIXELS = 2**21
"""Pixels, times how often they are gone over: up to Full HD."""
LIGHT_FORMATS = ("BMP", "JPEG", "MPO", "PNG")
"""Their decoders go over the picture once, or as often as the file says in advance."""

HEADER_SECONDS = 10.0
"""For a header; a sound one takes milliseconds."""
SECONDS, SECONDS_PER_MEGAPIXEL = 10.0, 0.5
"""For the pixels: ten times what JPEG 2000, the slowest format, takes on one core."""
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""How libraries are told their number there: each takes address space, which has an end."""
SPARE_BYTES = 128 * MIB
"""Of address space, beside twice what a picture should need."""


@final
class Budget:
    """Memory for pictures that are decoded at the same time, first come, first served."""

    def __init__(self, total: int, largest: int | None = None) -> None:
        """Set the limits.

        Args:
            total: Bytes in all; a picture that needs more has them alone.
            largest: Bytes of one picture; None: any.
        """
        self.largest = largest
        self._total, self._free = total, total
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def take(self, wanted: int) -> Iterator[None]:
        """Wait until there is room, and hold it."""
        amount = min(wanted, self._total)
        # While the first one waits nobody overtakes it: small ones could for ever.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._free >= amount)
            self._free -= amount
        try:
            yield
        finally:
            with self._changed:
                self._free += amount
                self._changed.notify_all()


COMMON = Budget(1024 * MIB, largest=192 * MIB)
"""Pictures of up to 16 megapixels."""
HUGE = Budget(2048 * MIB)
"""Larger ones have a budget of their own, so that others need not wait for them."""


class Decoded(NamedTuple):
    """What a process has made of a picture."""

    pixels: UInt8[np.ndarray, "H W C"]
    """The picture, or what it was fitted to."""
    size: tuple[int, int]
    """Height and width of the picture itself."""
    pose: Pose | None = None
    """How the part lies in it, where it was fitted to a view that aligns."""


def opened(content: Path | bytes, max_pixels: int = MAX_PIXELS) -> Encoded | None:
    """Look at the header of a picture that is light, whatever else is in it; None: it may not be.

    Raises:
        DataError: it cannot be read, is no picture, or is too large.
    """
    if isinstance(content, Path):
        if file_size(content, max_pixels) > LIGHT_BYTES:
            return None
        content = read(content, max_pixels)
    if len(content) > LIGHT_BYTES:
        return None
    encoded = Encoded(content, max_pixels)
    light = encoded.format in LIGHT_FORMATS and encoded.pixels * encoded.passes <= LIGHT_PIXELS
    return encoded if light else None


def decode_apart(
    content: Path | bytes,
    max_pixels: int = MAX_PIXELS,
    *,
    fit: View | None = None,
    marks: bool = False,
    budget: Budget = HUGE,
) -> Decoded | None:
    """Decode a picture in another process; None where it needs more than the budget has for one.

    Args:
        content: A file, or its bytes.
        max_pixels: Larger ones are refused before they are decoded.
        fit: How it is seen, see `viewed`; None: the whole picture.
        marks: Whether it is a mask, see `onlygood.data.decode.decode`.
        budget: Of memory.

    Raises:
        DataError: it cannot be read, is damaged, is too large, or takes too much time or memory.
    """
    worker = _take_worker()
    try:
        # By its full path: this process may have changed its folder since the other began.
        path = isinstance(content, Path)
        body = os.fsencode(content.absolute()) if isinstance(content, Path) else content
        worker.send({"path": path, "length": len(body), "max_pixels": max_pixels}, body)
        worker.receive()  # A disk may take its time.
        needs = worker.receive(HEADER_SECONDS)
        if budget.largest is not None and needs["memory"] > budget.largest:
            worker.send({"go": False})
            _keep_worker(worker)
            return None
        with budget.take(needs["memory"]):
            seen = None if fit is None else asdict(fit)
            worker.send({"go": True, "fit": seen, "marks": marks})
            answer = worker.receive(SECONDS + SECONDS_PER_MEGAPIXEL * needs["pixels"] / 1e6)
            pixels = worker.receive_pixels(answer["shape"])
    except _RefusedError as error:
        _keep_worker(worker)
        raise DataError(str(error)) from None
    except BaseException:
        worker.end()
        raise
    _keep_worker(worker)
    pose = answer["pose"] and Pose(*answer["pose"])
    return Decoded(pixels, (answer["size"][0], answer["size"][1]), pose)


def decode_guarded(
    content: Path | bytes, max_pixels: int = MAX_PIXELS, *, marks: bool = False
) -> Pixels:
    """Decode a picture, or a mask, here if it is light, else in another process.

    Raises:
        DataError: see `decode_apart`.
    """
    encoded = opened(content, max_pixels)
    if encoded is not None:
        return encoded.decode(marks)
    decoded = decode_apart(content, max_pixels, marks=marks)
    assert decoded is not None, "nothing is too large for HUGE"
    return decoded.pixels


# This side of the pipes -------------------------------------------------------------------------


class _RefusedError(Exception):
    """The other process is well and has refused a picture."""


@final
class _Worker:
    """A process that decodes one picture at a time."""

    def __init__(self) -> None:
        """Start it.

        Raises:
            DataError: the system has no room for it.
        """
        # The modules it imports are this program's, whatever folder it is started in; what is no
        # text there Python passes over, too.
        given: list[Any] = sys.path
        paths = [path for path in given if isinstance(path, str)]
        program = f"import sys; sys.path[:] = {paths!r}; from {__name__} import _main; _main()"
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # libtiff writes there
                env={**os.environ, **dict.fromkeys(THREADS, "1")},
            )
        except OSError as error:
            raise DataError(f"no process to decode it can be started ({error.strerror})") from error
        assert self._process.stdin is not None
        assert isinstance(self._process.stdout, io.BufferedReader)
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._late = False
        self._heard = False

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: dict[str, Any], body: bytes = b"") -> None:
        try:
            self._requests.write(json.dumps(message).encode() + b"\n")
            self._requests.write(body)
            self._requests.flush()
        except OSError as error:
            raise self._broken() from error

    def receive(self, seconds: float | None = None) -> dict[str, Any]:
        """The next message; the process is ended when it takes longer.

        Raises:
            _RefusedError: the picture cannot be decoded.
            DataError: the process has ended.
        """
        timer = threading.Timer(seconds, self._expire) if seconds else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            line = self._answers.readline()
        finally:
            if timer is not None:
                timer.cancel()
        if not line.endswith(b"\n"):
            raise self._broken(seconds)
        self._heard = True
        message: dict[str, Any] = json.loads(line)
        if "error" in message:
            raise _RefusedError(message["error"])
        return message

    def receive_pixels(self, shape: list[int]) -> Pixels:
        pixels = np.empty(shape, np.uint8)
        if self._answers.readinto(pixels.data.cast("B")) != pixels.nbytes:
            raise self._broken()
        return pixels

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._answers.close()
        with suppress(BrokenPipeError):  # of what was not written yet
            self._requests.close()

    def _expire(self) -> None:
        self._late = True
        self._process.kill()

    def _broken(self, seconds: float | None = None) -> DataError:
        if self._late and seconds is not None:
            return DataError(
                f"was not decoded within {seconds:.0f} seconds, which no sound picture needs; "
                "save it anew or remove it"
            )
        if not self._heard:
            return DataError("no process to decode it can be started")
        return DataError("is damaged: its decoder crashed; copy it again or remove it")


_idle: list[_Worker] = []
_lock = threading.Lock()


def _take_worker() -> _Worker:
    with _lock:
        while _idle:
            worker = _idle.pop()
            if worker.alive:
                return worker
            worker.end()
    return _Worker()


def _keep_worker(worker: _Worker) -> None:
    with _lock:
        _idle.append(worker)


def _end_workers() -> None:
    with _lock:
        while _idle:
            _idle.pop().end()


def _forget_workers() -> None:
    """After a fork: two processes must not talk through one pipe."""
    global _idle, _lock
    _left_to_the_parent.extend(_idle)
    _idle, _lock = [], threading.Lock()


_left_to_the_parent: list[_Worker] = []
atexit.register(_end_workers)
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_forget_workers)


# The other side ---------------------------------------------------------------------------------


def _main() -> None:
    """Decode pictures until standard input ends."""
    import signal

    # Of Ctrl-C the other process decides; this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # What a library prints is no answer.

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()

    while line := requests.readline():
        request = json.loads(line)
        body = requests.read(request["length"])
        try:
            _limit_memory(2 * request["max_pixels"] * 8)
            data = read(Path(os.fsdecode(body)), request["max_pixels"]) if request["path"] else body
            answer({})
            encoded = Encoded(data, request["max_pixels"])
            answer({"memory": encoded.memory, "pixels": encoded.pixels})
            order = json.loads(requests.readline())
            if not order["go"]:
                continue
            view, pose = order["fit"] and _view(order["fit"]), None
            if view is not None:
                # A library that it may need is loaded while there is room.
                check_alignment(view)
            _limit_memory(2 * encoded.memory)
            pixels = encoded.decode(order["marks"])
            size = pixels.shape[:2]
            if view is not None:
                pose = pose_in(pixels, view)
                pixels = viewed(pixels, view, pose)
        except DataError as error:
            answer({"error": str(error)})
            continue
        except MemoryError:
            answer({"error": "needs more memory than there is; scale it down"})
            continue
        answer({"shape": pixels.shape, "size": size, "pose": pose})
        answers.write(pixels.data)
        answers.flush()
        del data, encoded, pixels, body  # while it waits for the next one


def _view(fields: dict[str, Any]) -> View:
    """A view that came as JSON, which knows no tuples."""
    values: Any = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    return View(**values)


def _limit_memory(more: int) -> None:
    """Let this process have so many more bytes than now, where the system can say so."""
    if sys.platform != "linux":
        return
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    wanted = pages * resource.getpagesize() + more + SPARE_BYTES
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
