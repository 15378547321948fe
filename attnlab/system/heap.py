"""What the C library does with memory that is freed. Imports no jax."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Have glibc keep large blocks that are freed, instead of giving them back to the kernel.

    On a CPU, XLA asks for the working memory of a training step anew in every step. glibc returns blocks of 32 MiB and
    more at once, and the kernel has to clear every page of the next one: a fifth of the time of a training step was
    that (docs/decisions.md). With one heap for all threads, no maps of their own for large blocks and no trimming, the
    pages stay. What the process holds never shrinks; its peak is the same.

    Returns: whether that was done: not where the C library is another, nor where the environment already says how it
        is to allocate (`GLIBC_TUNABLES`, `MALLOC_…`).
    """
    configured = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if configured or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
