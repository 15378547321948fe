"""The display of a sweep: a live table on a terminal, a line per event elsewhere."""

import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from attnlab.sweep.estimate import mean_overhead, seconds_to_go
from attnlab.sweep.plan import Plan, PlannedRun
from attnlab.sweep.status import RunStatus, read_status
from attnlab.training.progress import TerminalConsole, carried_out, duration

REFRESH_EVERY = 1.0
"""Seconds between updates of the table."""
SPARE_LINES = 8
"""Lines of a terminal that are left to the heading of the table and to messages."""


class Display:
    """Shows which runs are done, running, and failed, and the remaining time of the sweep.

    Args:
        plan: the sweep.
        parallel: how many runs are carried out at a time.
        console: output; None is stderr.
        status: returns the status of a run.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        plan: Plan,
        parallel: int,
        console: Console | None = None,
        status: Callable[[PlannedRun], RunStatus] = read_status,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._plan, self._parallel, self._status, self._clock = plan, parallel, status, clock
        self._console = console or TerminalConsole(stderr=True, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=False, vertical_overflow="crop")
        self._updating = False
        self._statuses = {run: status(run) for run in plan.runs}
        self._running: dict[PlannedRun, float] = {}
        self._seconds_before = {run: status.seconds for run, status in self._statuses.items()}
        self._failed: dict[PlannedRun, str] = {}
        self._jobs: list[tuple[float, float]] = []
        self._shown = float("-inf")

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._updating = self._try(self._live.start)
        return self

    def __exit__(self, *_: object) -> None:
        if self._updating:
            try:
                self._try(lambda: self._live.update(self._table(), refresh=True))
            finally:
                self._try(self._live.stop)  # gives stdout and stderr back

    @property
    def done(self) -> int:
        """Number of complete runs."""
        return sum(status.complete for status in self._statuses.values())

    def print(self, line: str) -> None:
        """Print a line that stays."""
        self._try(lambda: self._console.print(Text(line), soft_wrap=True))

    def begun(self, run: PlannedRun) -> None:
        """Show that a run is begun, or goes on."""
        self._running[run] = self._clock()
        status = self._statuses[run]
        progress = f"goes on; its log is at step {status.step:,} of {status.steps:,}"
        self._event(run, progress if status.step else "begins")

    def elsewhere(self, run: PlannedRun) -> None:
        """Show that another process is training a run."""
        self.print(f"{run.name}: another process is training it; waiting for that")

    def completed(self, run: PlannedRun, seconds: float | None) -> None:
        """Show that a run is complete.

        Args:
            run: the run.
            seconds: seconds of its job; None if another process has completed it.
        """
        self._statuses[run] = self._status(run)
        self._running.pop(run, None)
        if seconds is not None:
            self._jobs.append((seconds, self._statuses[run].seconds - self._seconds_before[run]))
        self._event(run, f"done{'' if seconds is None else f' in {duration(seconds)}'}; {self._summary()}")

    def failed(self, run: PlannedRun, reason: str) -> None:
        """Show that a run has failed."""
        self._running.pop(run, None)
        self._failed[run] = reason
        self.print(f"{run.name}: failed: {reason}")

    def update(self) -> None:
        """Show the current state, if the last update is a second ago."""
        if self._console.is_terminal and self._clock() - self._shown >= REFRESH_EVERY:
            self._shown = self._clock()
            for run in self._running:
                self._statuses[run] = self._status(run)
            self._try(lambda: self._live.update(self._table(), refresh=True))

    def _event(self, run: PlannedRun, text: str) -> None:
        """Print an event where there is no table."""
        if not self._console.is_terminal:
            self.print(f"{run.name}: {text}")

    def _summary(self) -> str:
        parts = [f"{self.done} of {len(self._plan.runs)} done"]
        parts += [f"{len(self._running)} running"] if self._running else []
        parts += [f"{len(self._failed)} failed"] if self._failed else []
        unfinished = [run for run in self._plan.runs if not self._statuses[run].complete and run not in self._failed]
        seconds = seconds_to_go(unfinished, self._statuses, mean_overhead(self._jobs), self._parallel)
        parts += [f"about {duration(seconds)} to go"] if unfinished and seconds is not None else []
        return ", ".join(parts)

    def _table(self) -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in ("setting", "done", "running", "failed"):
            table.add_column(heading, no_wrap=True, overflow="ellipsis")
        rows = [
            (setting.name, [run for run in self._plan.runs if run.setting == setting])
            for setting in self._plan.settings
        ]
        height = max(self._console.height - SPARE_LINES, 1)
        busy = [row for row in rows if any(run in self._running or run in self._failed for run in row[1])]
        shown = rows if len(rows) <= height else busy[:height]
        for name, runs in shown:
            table.add_row(name, *self._cells(runs))
        lines = [table, Text(self._summary())]
        if len(shown) < len(rows):
            lines.insert(1, Text(f"... and {len(rows) - len(shown)} other settings"))
        return Group(*lines)

    def _cells(self, runs: Sequence[PlannedRun]) -> list[str]:
        done = sum(self._statuses[run].complete for run in runs)
        running = (f"s{run.seed} {_percentage(self._statuses[run])}" for run in runs if run in self._running)
        failed = (f"s{run.seed}" for run in runs if run in self._failed)
        return [f"{done} of {len(runs)}", ", ".join(running), ", ".join(failed)]

    def _try(self, show: Callable[[], None]) -> bool:
        return carried_out(self._console, show)


def _percentage(status: RunStatus) -> str:
    return f"{100 * status.step // status.steps}%"
