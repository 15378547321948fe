"""The measured peak of memory of one call, by the kernel's own high-water mark. Linux alone can; elsewhere None.

The process that measures is started with `ENVIRONMENT`: what the allocator is given back goes back to the system at
once, so that memory taken anew is seen anew. It costs time, so times are taken in another process.
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
    """Measure how much resident memory a call takes at its peak beyond what stood before it and its own output.

    To be called when the function is compiled and has run, so that neither compilation nor loading of code counts.

    Args:
        call: returns when all is computed; its result is let go.
        output_bytes: what it returns.
    Returns: the largest of three calls; None where the system has no such mark.
    """
    largest = None
    for _ in range(CALLS):
        if not _give_back_and_reset():
            return None
        before = _status("VmRSS")
        result = call()
        peak = _status("VmHWM")
        del result
        largest = max(largest or 0, peak - before - output_bytes)
    return largest


def available_bytes() -> int | None:
    """Tell how much memory the system can give without swapping; None where it does not say."""
    with suppress(OSError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return None


def die_first() -> None:
    """Ask the kernel to end this process before any other when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _give_back_and_reset() -> bool:
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        CLEAR.write_text("5", encoding="ascii")  # sets VmHWM to what is resident now
        return bool(_status("VmHWM"))
    except (OSError, AttributeError, StopIteration):
        return False


def _status(name: str) -> int:
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{name}:")).split()[1])
