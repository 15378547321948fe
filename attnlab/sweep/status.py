"""The status of a run, read from its directory, which is the only state of a sweep."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.results import lock, record
from attnlab.results.run_files import CONFIG, read_metrics, training_seconds
from attnlab.sweep.plan import PlannedRun


@dataclass(frozen=True)
class RunStatus:
    """How far a run is.

    Attributes:
        step: last step in its log.
        steps: number of its training steps.
        seconds: wall time of its training up to there.
        complete: whether it is trained, and evaluated on all test sets.
    """

    step: int
    steps: int
    seconds: float
    complete: bool = False


def read_status(run: PlannedRun) -> RunStatus:
    """Read the status of a run; it need not have begun."""
    log = read_metrics(run.directory, lambda line: None)
    step = max((entry["step"] for entry in log), default=0)
    complete = is_complete(run.directory, run.experiment)
    return RunStatus(step, run.experiment.training.steps, training_seconds(log), complete)


def is_complete(directory: Path, experiment: Experiment) -> bool:
    """Return whether a run is trained, and has been evaluated on all test sets since."""
    if not (directory / CONFIG).is_file():
        return False
    try:
        return set(names_of_test_sets(experiment)) <= record.read(directory).results.keys()
    except UserError:
        return False


def is_training(directory: Path) -> bool:
    """Return whether a process is training into the run."""
    return lock.is_held(directory / lock.LOCK)


def names_of_test_sets(experiment: Experiment) -> list[str]:
    """Return the names of the test sets of an experiment: those of its config, or else `test`."""
    named = getattr(experiment.task.data, "test", None)
    return list(named) if isinstance(named, Mapping) else ["test"]
