"""Settings of the C library for freed memory. Imports no jax."""

import ctypes
import os
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8
"""Constants of glibc's malloc.h."""


def keep_freed_memory() -> bool:
    """Make glibc keep freed blocks of memory instead of returning them to the kernel.

    On a CPU, XLA allocates the working memory of every training step anew. By default glibc returns freed blocks of
    32 MiB and more to the kernel, which must clear every page of the next block; this took a fifth of the time of a
    training step (docs/decisions.md). With a single heap for all threads, no separate mappings for large blocks and no
    trimming, the pages are kept. The memory of the process never shrinks, and its peak is unchanged.

    Call it before there is another thread. Each thread keeps the heap that it got when it began, and a new one may get
    that of a thread that has ended; in all of these but the first, large blocks are mapped and returned every time.

    Returns: whether the settings were changed. They are not changed with another C library, or where the environment
        configures the allocator (`GLIBC_TUNABLES`, `MALLOC_…`).
    """
    configured = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    if configured or platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(M_ARENA_MAX, 1), mallopt(M_MMAP_MAX, 0), mallopt(M_TRIM_THRESHOLD, -1)])
