import ctypes
import subprocess
import sys

import pytest

from onlygood.core.machine import keep_freed_memory, memory

TWICE = """
import ctypes, resource
from onlygood.core.machine import keep_freed_memory

ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # No huge pages, which would be few.

print(keep_freed_memory())
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(b"1") * 80_000_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_is_told() -> None:
    found = memory()
    assert found is None or 0 < found[1] <= found[0]


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator alone")
def test_what_is_freed_is_taken_again_and_not_cleared_by_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", TWICE], capture_output=True, text=True, check=True)
    kept, first, *_, last = done.stdout.split()
    if kept == "False":
        pytest.skip("not glibc, or its environment says otherwise")
    assert int(first) > 10_000  # pages of 80 MB
    assert int(last) < 100


def test_who_has_said_otherwise_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("nothing is to be changed"))
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "65536")
    assert not keep_freed_memory.__wrapped__()
