"""The loop of a sweep: it starts jobs, follows them, and ends when every run is complete or has failed."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from attnlab.sweep.job import Job, failure
from attnlab.sweep.launchers.base import Handle, Launcher
from attnlab.sweep.plan import PlannedRun
from attnlab.sweep.status import RunStatus, is_training, read_status

POLL = 0.25
"""Seconds between looks at the jobs."""
ELSEWHERE_EVERY = 2.0
"""Seconds between looks at the locks of runs that are not jobs of this sweep."""


class Monitor(Protocol):
    """Receives what happens to the runs."""

    def begun(self, run: PlannedRun) -> None: ...

    def elsewhere(self, run: PlannedRun) -> None: ...

    def completed(self, run: PlannedRun, seconds: float | None) -> None: ...

    def failed(self, run: PlannedRun, reason: str) -> None: ...

    def update(self) -> None: ...


@dataclass
class Outcome:
    """What has become of the runs that were not complete.

    Attributes:
        failed: the reasons of the runs that failed.
        left: runs that were not begun, because the budget was used up.
    """

    failed: dict[PlannedRun, str] = field(default_factory=dict)
    left: list[PlannedRun] = field(default_factory=list)


@dataclass
class Sweep:
    """Runs that are carried out by a launcher.

    Attributes:
        runs: the runs that are not complete, in order.
        make_job: returns the job of a run.
        launcher: starts jobs.
        monitor: receives what happens.
        minutes: no run is begun after that time; None for no limit.
    """

    runs: Sequence[PlannedRun]
    make_job: Callable[[PlannedRun], Job]
    launcher: Launcher
    monitor: Monitor
    minutes: float | None = None

    def __post_init__(self) -> None:
        self.outcome = Outcome()
        self._waiting = list(self.runs)
        self._active: dict[PlannedRun, tuple[Job, Handle, float]] = {}
        self._elsewhere: set[PlannedRun] = set()
        self._looked = float("-inf")
        self._begun = time.monotonic()

    def run(self, poll: Callable[[], None] = lambda: None) -> Outcome:
        """Carry out all runs.

        Args:
            poll: raises `Interrupted` after a signal to stop.

        Raises:
            Interrupted: raised by `poll`; the state of every run is saved.
        """
        try:
            while self._waiting or self._active:
                poll()
                self._collect()
                self._keep_budget()
                self._start()
                self.monitor.update()
                time.sleep(POLL)
        except BaseException:
            self._stop()
            raise
        finally:
            self.launcher.close()
        return self.outcome

    def _collect(self) -> None:
        """Take the jobs that have ended."""
        for run, (job, handle, since) in list(self._active.items()):
            ended = handle.poll()
            if ended is None:
                continue
            del self._active[run]
            if ended.code == 0 and read_status(run).complete:
                self.monitor.completed(run, time.monotonic() - since)
            else:
                self._fail(run, ended.reason or failure(job, ended.code))

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self.outcome.failed[run] = reason
        self.monitor.failed(run, reason)

    def _keep_budget(self) -> None:
        """Leave the runs that were not begun when the time is used up."""
        if self.minutes is not None and time.monotonic() - self._begun > 60 * self.minutes:
            self.outcome.left += self._waiting
            self._waiting = []

    def _start(self) -> None:
        """Start as many jobs as the launcher takes."""
        self._find_elsewhere()
        capacity = self.launcher.capacity
        ready = [run for run in self._waiting if run not in self._elsewhere]
        if capacity is not None:
            ready = ready_to_compile(ready, list(self._active), capacity - len(self._active), read_status)
        if not ready:
            return
        jobs = [self.make_job(run) for run in ready]
        for run, job, handle in zip(ready, jobs, self.launcher.start(jobs), strict=True):
            self._waiting.remove(run)
            self._active[run] = job, handle, time.monotonic()
            self.monitor.begun(run)

    def _find_elsewhere(self) -> None:
        """Find the runs that another process is training, and those that it has completed."""
        if time.monotonic() - self._looked < ELSEWHERE_EVERY:
            return
        self._looked = time.monotonic()
        for run in list(self._waiting):
            if is_training(run.directory):
                if run not in self._elsewhere:
                    self._elsewhere.add(run)
                    self.monitor.elsewhere(run)
            elif run in self._elsewhere:
                self._elsewhere.remove(run)
                if read_status(run).complete:
                    self._waiting.remove(run)
                    self.monitor.completed(run, None)

    def _stop(self) -> None:
        """Ask all jobs to save their state and end, and wait for them."""
        for _, handle, _ in self._active.values():
            with suppress(Exception):  # an engine that is gone
                handle.stop()
        for _, handle, _ in self._active.values():
            with suppress(Exception):
                while handle.poll() is None:
                    time.sleep(POLL)


def ready_to_compile(
    waiting: Sequence[PlannedRun],
    active: Sequence[PlannedRun],
    places: int,
    status: Callable[[PlannedRun], RunStatus],
) -> list[PlannedRun]:
    """Return the runs to start next, so that every program is compiled once.

    While the first run of a setting compiles, which lasts until its first line in the log, no other run of the setting
    begins; it would compile the same programs.

    Args:
        waiting: runs that have not begun, in order.
        active: runs that have.
        places: at most so many are returned.
        status: returns the status of a run.
    """
    if places <= 0:
        return []
    compiling = {run.setting for run in active} - {run.setting for run in active if status(run).step > 0}
    chosen: list[PlannedRun] = []
    for run in waiting:
        if len(chosen) < places and run.setting not in compiling:
            chosen.append(run)
            compiling.add(run.setting)
    return chosen
