"""Stages of a command, timed by `attnlab bench startup`. Imports only the standard library."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Listener = Callable[[str, float], None]
"""Called with the name and the seconds of a stage when the stage ends."""
listeners: list[Listener] = []


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Return a context whose seconds are reported to all listeners under a name."""
    start = time.perf_counter()
    try:
        yield
    finally:
        for listener in listeners:
            listener(name, time.perf_counter() - start)
