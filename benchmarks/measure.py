"""What the benchmarks share: the machine in words, spreads, tables and files."""

import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onlygood.core.files import replacing

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A figure that was measured several times."""

    median: float
    low: float
    high: float
    values: list[float]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Median, smallest and largest of at least one value."""
        kept = [float(value) for value in values]
        return cls(median=statistics.median(kept), low=min(kept), high=max(kept), values=kept)

    def __format__(self, spec: str) -> str:
        return f"{self.median:{spec}} ({self.low:{spec}}–{self.high:{spec}})"


def machine() -> dict[str, Any]:
    """The facts without which a speed means nothing; imports torch.

    To be asked for before anything is timed: the load average is to be that of others.
    """
    import torch

    from onlygood.training.precision import has_bf16

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": _cpu_name(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "bf16_in_hardware": has_bf16(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "versions": versions(),
        "commit": commit(),
        "load_average": os.getloadavg()[0] if sys.platform != "win32" else None,
    }


def versions() -> dict[str, str]:
    """Of Python and of what the figures depend on."""
    names = ("onlygood", "torch", "numpy", "pillow", "scikit-learn", "onnxruntime")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def commit() -> str:
    """The commit of the working tree, marked where it has changes; empty outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


def in_words(facts: dict[str, Any]) -> str:
    """`machine()` in one line; a load far above zero before the start spoils all timings."""
    load = facts["load_average"]
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, device "
        f"{facts['device']}, {facts['cpu_capability']}, bf16 in hardware: "
        f"{'yes' if facts['bf16_in_hardware'] else 'no'}; torch {facts['versions']['torch']}, "
        f"commit {facts['commit'] or 'unknown'}"
        + ("" if load is None else f"; load average {load:.2f}")
    )


def peak_mib(pid: int | str = "self") -> float:
    """Largest resident memory of a process so far; of others than this one on Linux alone.

    `ru_maxrss` begins with that of the process it was started by, and is what there is elsewhere.

    Raises:
        OSError: there is no such process.
    """
    if sys.platform == "darwin" and pid == "self":
        import resource  # Windows has none.

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    high = Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()
    return float(high[0]) / 1024 if high else 0.0


def family(pid: int) -> list[int]:
    """A process and all below it, whichever of its threads started them; on Linux."""
    below: list[str] = []
    with suppress(OSError):  # it has ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                below += (task / "children").read_text("ascii").split()
    return [pid, *(one for child in below for one in family(int(child)))]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def write_json(path: Path, figures: dict[str, Any]) -> None:
    """Write figures whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def _cpu_name() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text("utf-8"), re.M)
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()
