"""What a launcher is. It keeps no state of a sweep: any launcher can go on with what another one began."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from attnlab.sweep.job import Job


@dataclass(frozen=True)
class Ended:
    """The end of a job.

    Attributes:
        code: its exit code; 0 is success.
        reason: why the engine ended it; empty if it ended by itself.
    """

    code: int
    reason: str = ""


class Handle(Protocol):
    """A job that was started."""

    def poll(self) -> Ended | None:
        """Return the end of the job; None while it runs, or waits in the queue of an engine."""
        ...

    def stop(self) -> None:
        """Ask the job to save its state and end; returns at once."""
        ...


class Launcher(Protocol):
    """Starts jobs, on this machine or elsewhere."""

    @property
    def capacity(self) -> int | None:
        """How many jobs it takes at a time; None for an engine with a queue, which takes them all."""
        ...

    @property
    def parallel(self) -> int:
        """How many jobs run at a time, as far as it is known."""
        ...

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Start jobs, at most as many as it has capacity for."""
        ...

    def close(self) -> None:
        """Release what the launcher holds; its jobs have ended."""
        ...


@runtime_checkable
class Scripted(Protocol):
    """A launcher that submits a script."""

    def script(self, count: int) -> str:
        """Return the script that is submitted for so many jobs."""
        ...
