"""The estimate of the remaining time of a sweep, from the logs of its runs."""

from collections.abc import Collection, Iterable, Mapping
from statistics import mean

from attnlab.sweep.plan import PlannedRun
from attnlab.sweep.status import RunStatus


def seconds_to_go(
    unfinished: Collection[PlannedRun], statuses: Mapping[PlannedRun, RunStatus], overhead: float, parallel: int
) -> float | None:
    """Estimate the remaining seconds of a sweep; None before the first line of a log.

    A run takes as long as the runs of its setting, or of all settings where none of its own has begun.

    Args:
        unfinished: runs that are running or waiting.
        statuses: the status of every run.
        overhead: seconds of a run besides training: start, evaluation.
        parallel: how many run at a time.
    """
    known = {run: total for run, status in statuses.items() if (total := _total(status)) is not None}
    if not known:
        return None
    remaining = []
    for run in unfinished:
        same = [total for other, total in known.items() if other.setting == run.setting]
        total = known.get(run) or mean(same or known.values())
        status = statuses[run]
        remaining.append(total * (1.0 - min(status.step / status.steps, 1.0)) + overhead)
    return max([sum(remaining) / max(min(parallel, len(remaining)), 1), *remaining]) if remaining else 0.0


def mean_overhead(jobs: Iterable[tuple[float, float]]) -> float:
    """Return the mean time of jobs besides training.

    Args:
        jobs: of every job that has ended, its seconds and the seconds of training that it logged.
    """
    beside = [max(seconds - training, 0.0) for seconds, training in jobs]
    return mean(beside) if beside else 0.0


def _total(status: RunStatus) -> float | None:
    """Return the seconds of the whole training of a run; None before it has logged any."""
    if status.complete:  # it may have stopped early
        return status.seconds
    return status.seconds * status.steps / status.step if status.step and status.seconds else None
