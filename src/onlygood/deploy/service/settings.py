"""What a service is told when it starts: what it serves, to whom, and its limits."""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from onlygood.core.errors import ConfigError

MIB = 2**20
LOCAL = ("localhost", "127.0.0.1", "[::1]")
"""What the machine calls itself."""
SHORTEST_TOKEN = 16
SHORTEST_PIN = 12


@final
@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Settings of a service; checked when made."""

    models: tuple[Path, ...]
    """Files that `onlygood export` has written; their stems are the names they are served by."""
    log: Path
    """The inspection log; made when it is not there."""
    host: str = "127.0.0.1"
    """Address to listen on; one that others reach needs a token."""
    token: str = field(default="", repr=False)
    """What requests must bring as `Authorization: Bearer ...`; empty: nothing."""
    allowed_hosts: tuple[str, ...] = ()
    """Names, without port, that requests may call the service by, beside the local ones."""
    pins: tuple[str, ...] = ()
    """Digests, or beginnings of them, of the only models that may be served; empty: any."""
    max_bytes: int = 64 * MIB
    """Of one request."""
    max_pending_bytes: int = 256 * MIB
    """Of all requests that are not answered yet, and as much of answers that are not read yet."""
    max_pixels: int = 50_000_000
    """Of one picture."""
    max_files: int = 32
    """Pictures of one request."""
    upload_seconds: float = 30.0
    """In which a request must have arrived."""
    queue: int = 256
    """Pictures that one model has in hand at a time; more are refused with 429."""
    batch: int = 16
    """Pictures that go through a network together, at most."""
    wait_ms: float = 3.0
    """How long a picture waits for others that are being decoded, at most."""
    threads: int = 0
    """Of a network; 0: all cores."""
    keep_days: float = 365.0
    """Older inspections leave the log, about a day of running later."""
    keep_bytes: int = 2048 * MIB
    """The oldest inspections leave when they take more; feedback has an eighth beside."""
    recent_bytes: int = 128 * MIB
    """Memory for the most recent pictures and their maps."""
    poll_seconds: float = 1.0
    """Between two looks at the model files."""

    def __post_init__(self) -> None:
        """Check what contradicts itself.

        Raises:
            ConfigError: a setting is out of its range, or not safe.
        """
        self._check_models()
        for name, (lowest, highest) in _RANGES.items():
            if not lowest <= (value := getattr(self, name)) <= highest:
                raise ConfigError(f"{name} must be from {lowest} to {highest}, got {value}")
        if self.queue < self.max_files:
            raise ConfigError(
                f"a request of {self.max_files} pictures would never have room in a queue of "
                f"{self.queue}; make the queue longer, or max_files smaller"
            )
        if self.max_pending_bytes < self.max_bytes:
            raise ConfigError(
                f"a request of {self.max_bytes} bytes would never have room in max_pending_bytes "
                f"= {self.max_pending_bytes}; make that larger, or max_bytes smaller"
            )
        for pin in self.pins:
            if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PIN},64}}", pin):
                raise ConfigError(
                    f"a pin is the first {SHORTEST_PIN} or more hexadecimal digits of a model's "
                    f'sha256, in lower case; got "{pin}"'
                )
        for name in self.allowed_hosts:
            # As a request names it, without what goes before and behind.
            if "/" in name or without_port(name) != name:
                raise ConfigError(
                    "--allow-host takes a name or an address alone, without http:// and port, and "
                    f'one of IPv6 in brackets; got "{name}"'
                )
        self._check_reach()

    @property
    def hosts(self) -> frozenset[str]:
        """Names that requests may call the service by, in lower case."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*LOCAL, own, *self.allowed_hosts))

    @property
    def local(self) -> bool:
        """Whether nobody but this machine reaches the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def _check_models(self) -> None:
        if not self.models:
            raise ConfigError("there is nothing to serve; name a file of `onlygood export`")
        for path in self.models:
            if path.suffix.lower() != ".onnx":
                raise ConfigError(
                    f"{path} is no exported model (.onnx); make one: onlygood export {path}"
                )
            # It stands in answers, in the log and in metrics, which are text.
            if any(0xD800 <= ord(character) <= 0xDFFF for character in path.name):
                raise ConfigError(f"the name of {path!r} is no UTF-8; give the file another")
        stems = [path.stem for path in self.models]
        if twice := {stem for stem in stems if stems.count(stem) > 1}:
            raise ConfigError(
                f"models are told apart by the names of their files; {', '.join(sorted(twice))} "
                "came more than once"
            )

    def _check_reach(self) -> None:
        if self.token and not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},}}", self.token):
            raise ConfigError(
                f"a token has {SHORTEST_TOKEN} or more ASCII characters and no spaces; make one: "
                'python -c "import secrets; print(secrets.token_urlsafe(32))"'
            )
        if self.local:
            return
        if not self.token:
            raise ConfigError(
                f"others can reach {self.host}, so a token is needed (--token-file); or listen on "
                "127.0.0.1"
            )
        if self.host in ("0.0.0.0", "::") and not self.allowed_hosts:
            raise ConfigError(
                f"on {self.host} the service must know by which names it is called; give them "
                "with --allow-host"
            )


_RANGES: dict[str, tuple[float, float]] = {
    "max_bytes": (1, 2**32),
    "max_pending_bytes": (1, 2**40),
    "max_pixels": (1, 10**9),
    "max_files": (1, 10_000),
    "upload_seconds": (0.1, 3600),
    "queue": (1, 1_000_000),
    "batch": (1, 1024),
    "wait_ms": (0, 1000),
    "threads": (0, 1024),
    "keep_days": (1, 36_500),
    "keep_bytes": (16 * MIB, 2**44),
    "recent_bytes": (1, 2**40),
    "poll_seconds": (0.001, 3600),
}
"""Beyond them nobody means what they say, and sums of time and memory overflow."""


def without_port(host: str) -> str:
    """The name that a request calls the service by, without the port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
