"""The lock of a run directory, which lets only one process train into it at a time."""

import fcntl
import os
import platform
import time
from pathlib import Path

from attnlab.config.errors import UserError

LOCK = "lock"
"""Name of the file; it exists only while a process holds the lock."""


PATIENCE = 0.2
"""Seconds for which `acquire` tries: `is_held` takes the lock for an instant."""
TRAINING = "is training into this run; wait for it, or choose another --out"


def acquire(path: Path, busy: str = TRAINING) -> int:
    """Acquire the lock and return its file descriptor. The system releases the lock when the process ends.

    Args:
      path: the lock file.
      busy: what the owner does, and what to do about it, for the message.
    Raises:
      UserError: another process holds it.
    """
    patience = time.monotonic() + PATIENCE
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < patience:
                os.close(lock)
                time.sleep(0.02)
                continue
            owner = os.pread(lock, 100, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise UserError(f"{path.parent}: {owner} {busy}") from None
        if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
            return lock
        os.close(lock)  # its owner removed the file after we opened it and before we locked it


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock; a file that is left of a killed process does not count."""
    try:
        lock = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def release(lock: int, path: Path) -> None:
    """Remove the lock file and release the lock."""
    path.unlink(missing_ok=True)
    os.close(lock)
