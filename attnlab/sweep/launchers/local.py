"""A pool of processes on this machine, among which the cores are divided."""

import os
import subprocess
from collections.abc import Sequence
from itertools import pairwise

from attnlab.sweep.job import Job, start
from attnlab.sweep.launchers.base import Ended, Handle
from attnlab.system.cores import cores


class LocalLauncher:
    """Runs each job in a process of its own.

    Args:
        jobs: number of processes.
    """

    def __init__(self, jobs: int) -> None:
        self.capacity = self.parallel = jobs
        self._free = divide(available_cores(), jobs)

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Start processes, each on the cores of a free place of the pool."""
        return [_Process(job, self._free) for job in jobs]

    def close(self) -> None:
        """Do nothing: all processes have ended."""


class _Process:
    """A process; its cores return to the pool when it has ended."""

    def __init__(self, job: Job, free: list[tuple[int, ...]]) -> None:
        self._free, self._cores = free, free.pop(0)
        self._process: subprocess.Popen[bytes] = start(job, self._cores)
        self._ended: Ended | None = None

    def poll(self) -> Ended | None:
        if self._ended is None and (code := self._process.poll()) is not None:
            self._free.append(self._cores)
            self._ended = Ended(code)
        return self._ended

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()


def available_cores() -> list[int]:
    """Return the numbers of the cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(cores()))


def divide(numbers: Sequence[int], parts: int) -> list[tuple[int, ...]]:
    """Divide cores evenly; with more parts than cores, a core has several parts.

    >>> divide([0, 1, 2, 3, 4], 2), divide([0, 1], 3)
    ([(0, 1, 2), (3, 4)], [(0,), (1,), (0,)])
    """
    if parts > len(numbers):
        return [(numbers[part % len(numbers)],) for part in range(parts)]
    size, more = divmod(len(numbers), parts)
    ends = [size * part + min(part, more) for part in range(parts + 1)]
    return [tuple(numbers[first:end]) for first, end in pairwise(ends)]
