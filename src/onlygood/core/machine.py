"""What this machine has, and how its memory is used."""

import ctypes
import os
import sys
from functools import cache

_TRIM_THRESHOLD, _MMAP_MAX, _LARGEST = -1, -4, 2**31 - 1
"""Of glibc's `mallopt`, see its manual page."""


def memory() -> tuple[int, int] | None:
    """Bytes of memory in all, and free; None where the system does not tell."""
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


@cache
def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for what comes next; whether it does so now.

    Networks take and give back the same large arrays over and over. glibc returns each to the
    system, which then has to clear it page by page before it gives it out again: a third of the
    time of a fit on a processor. The process keeps the memory of its peak instead. It is glibc's
    alone; elsewhere, and where `MALLOC_TRIM_THRESHOLD_` says what is wanted, nothing is changed.
    """
    if sys.platform != "linux" or "MALLOC_TRIM_THRESHOLD_" in os.environ:
        return False
    library = ctypes.CDLL(None)
    try:
        option = library.mallopt
    except AttributeError:  # musl's
        return False
    return bool(option(_MMAP_MAX, 0)) and bool(option(_TRIM_THRESHOLD, _LARGEST))
