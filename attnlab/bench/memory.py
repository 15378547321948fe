"""The peak memory of a call, from the high-water mark of the Linux kernel; None on other systems.

The measuring process is started with `ENVIRONMENT`, which makes the allocator return freed memory to the system at
once, so that every allocation of a call is counted. This slows the process down; times are measured in another one.
"""

import ctypes
import gc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

CALLS = 3
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "65536"}
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_bytes(call: Callable[[], Any], output_bytes: int) -> int | None:
    """Return the peak resident memory of a call beyond the memory before it and its output.

    The function must have been compiled and called before, so that compilation and loading of code do not count.

    Args:
        call: returns when its computation is complete; its result is discarded.
        output_bytes: size of its result.

    Returns: the largest peak of three calls; None where the system has no high-water mark.
    """
    largest = None
    for _ in range(CALLS):
        if not _reset_peak():
            return None
        before = _status("VmRSS")
        result = call()
        peak = _status("VmHWM")
        del result
        largest = max(largest or 0, peak - before - output_bytes)
    return largest


def available_bytes() -> int | None:
    """Return the memory that is available without swapping; None where the system does not report it."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def die_first() -> None:
    """Make this process the first that the kernel kills when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _reset_peak() -> bool:
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        CLEAR.write_text("5", encoding="ascii")  # resets VmHWM to the resident memory
        return bool(_status("VmHWM"))
    except (OSError, AttributeError, StopIteration):
        return False


def _status(name: str) -> int:
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
