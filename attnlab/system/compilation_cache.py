"""jax's persistent compilation cache, as the command line uses it. Imports no jax."""

import hashlib
import os
import platform
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.system.cache_directory import cache_directory

VARIABLES = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
"""Environment variables that configure jax's cache, so that the command line does not."""
LIMIT = 2**30
"""Bytes that the cache may have when a command begins; the least recently used programs beyond it are deleted."""
SETTLED = 60.0
"""Seconds after which a damaged entry is taken for damaged, not for one that another process is still writing."""
FAILED_READ, FAILED_WRITE = (f"Error {name} persistent compilation cache" for name in ("reading", "writing"))
"""Beginnings of jax's warnings, after which it goes on without the cache."""


def use_compilation_cache() -> Path | None:
    """Make jax keep compiled programs in the cache directory, so that the next command does not compile them again.

    Call it before jax is imported. Programs of different processors are kept apart, as a program may use instructions
    that another processor lacks. Several processes may use the cache at once. A cache that cannot be read or written
    costs the time of compiling: jax's warnings about it are not shown, and damaged entries are deleted.

    Returns: the directory; None if it cannot be made, or if the environment configures jax's cache:
        `JAX_COMPILATION_CACHE_DIR` names another directory, `JAX_ENABLE_COMPILATION_CACHE=false` turns it off.
    """
    if any(name in os.environ for name in VARIABLES):
        return None
    directory = cache_directory() / "compiled" / processor()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        prune(directory.parent, LIMIT)
    except OSError:
        return None
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(directory)
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
    _handle_warnings(directory)
    return directory


def processor() -> str:
    """Return a hash of the processor's model and instructions."""
    text = " ".join((platform.system(), platform.machine(), platform.processor()))
    with suppress(OSError):  # only on Linux
        lines = Path("/proc/cpuinfo").read_text(errors="replace").split("\n\n")[0].splitlines()
        text += "".join(sorted(line for line in lines if line.startswith(("flags", "Features", "model", "CPU part"))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def prune(directory: Path, limit: int) -> None:
    """Delete the least recently used files of a directory until the others have at most `limit` bytes."""
    total, files = 0, []
    for path in directory.rglob("*"):
        with suppress(OSError):  # another process deleted it
            status = path.stat()
            if path.is_file():
                files.append((max(status.st_atime, status.st_mtime), status.st_size, path))
                total += status.st_size
    for _, size, path in sorted(files):
        if total <= limit:
            break
        with suppress(OSError):
            path.unlink()
            total -= size


def _handle_warnings(directory: Path) -> None:
    """Hide jax's warnings about the cache; after one about reading, delete the entries that are not being written."""
    show: Callable[..., Any] = warnings.showwarning

    def handle(message: Warning | str, *arguments: Any, **options: Any) -> None:
        if str(message).startswith(FAILED_READ):
            delete_settled(directory)
        elif not str(message).startswith(FAILED_WRITE):
            show(message, *arguments, **options)

    warnings.showwarning = handle


def delete_settled(directory: Path) -> None:
    """Delete the entries that were not written within the last minute: jax does not say which one is damaged."""
    for path in directory.glob("*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > SETTLED:
                path.unlink()
