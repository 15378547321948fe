"""A sweep from its plan to its outcome."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from attnlab.sweep.display import Display
from attnlab.sweep.job import Job, make_job
from attnlab.sweep.launchers import make_launcher
from attnlab.sweep.launchers.base import Launcher, Scripted
from attnlab.sweep.loop import Sweep
from attnlab.sweep.plan import LOGS, Plan, PlannedRun
from attnlab.sweep.status import read_status


@dataclass(frozen=True)
class Engine:
    """What carries out the runs of a sweep.

    Attributes:
        launcher: local, slurm or ray.
        jobs: how many runs are carried out at a time; None for the launcher's default.
        devices: number of host devices of every run.
        options: texts `key=value` for the engine.
        data_dir: directory of datasets; None for an experiment that needs none.
        trust: execute the code of custom parts even if it is not the code recorded at training.
    """

    launcher: str = "local"
    jobs: int | None = None
    devices: int = 1
    options: tuple[str, ...] = ()
    data_dir: Path | None = None
    trust: bool = False

    def make_launcher(self, plan: Plan, runs: int) -> Launcher:
        """Return the launcher of a sweep of which so many runs are not complete."""
        return make_launcher(self.launcher, plan.directory, runs, self.jobs, self.devices, self.options)

    def make_job(self, plan: Plan, run: PlannedRun) -> Job:
        """Return the job of a run."""
        return make_job(plan, run, self.devices, self.data_dir, self.trust)


def sweep(plan: Plan, engine: Engine, minutes: float | None = None, poll: Callable[[], None] = lambda: None) -> bool:
    """Train and evaluate all runs of a sweep; runs that are complete are not touched.

    Args:
        plan: the sweep.
        engine: what carries out its runs.
        minutes: no run is begun after that time; None for no limit.
        poll: raises `Interrupted` after a signal to stop.

    Returns: whether all runs are complete.

    Raises:
        Interrupted: raised by `poll`; the state of every run is saved.
        UserError: the engine is not installed, or an option is unknown.
    """
    runs = [run for run in plan.runs if not read_status(run).complete]
    launcher = engine.make_launcher(plan, len(runs))
    with Display(plan, launcher.parallel) as display:
        display.print(f"{plan.directory}: {_counts(plan, len(plan.runs) - len(runs))}")
        outcome = Sweep(runs, lambda run: engine.make_job(plan, run), launcher, display, minutes).run(poll)
    for run, reason in outcome.failed.items():
        log = plan.directory / LOGS / f"{run.name}.log"
        display.print(f"failed: {run.name}: {reason} ({log})")
    if outcome.left:
        display.print(f"budget used up: {len(outcome.left)} runs were not begun; the same command goes on with them")
    display.print(f"{display.done} of {len(plan.runs)} runs done: {plan.directory}")
    return display.done == len(plan.runs)


def describe(plan: Plan, engine: Engine) -> Iterator[str]:
    """Yield the lines of `attnlab sweep --dry-run`: the commands of the runs, and the script for Slurm."""
    runs = [run for run in plan.runs if not read_status(run).complete]
    yield f"# {plan.directory}: {_counts(plan, len(plan.runs) - len(runs))}"
    yield from (engine.make_job(plan, run).command for run in runs)
    launcher = engine.make_launcher(plan, len(runs))
    if runs and isinstance(launcher, Scripted):
        yield f"\n{launcher.script(len(runs))}"


def _counts(plan: Plan, done: int) -> str:
    settings, runs = len(plan.settings), len(plan.runs)
    text = f"{settings} setting{'' if settings == 1 else 's'}, {runs} run{'' if runs == 1 else 's'}"
    return f"{text}, {done} done already" if done else text
