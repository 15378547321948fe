"""Training of the studies of claims, the analyses of their runs, and measurements of cost."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.claims import costs
from attnlab.claims.gold import write_gold
from attnlab.claims.plans import StudyPlan, Version
from attnlab.config.claim import Analyses, Claim
from attnlab.results.run_files import ALIGNMENT, FAITHFULNESS
from attnlab.sweep.devices import devices_of
from attnlab.sweep.job import DEVICES, Job, failure
from attnlab.sweep.launchers.base import Handle
from attnlab.sweep.launchers.local import LocalLauncher
from attnlab.sweep.plan import LOGS, PlannedRun, check_directory
from attnlab.sweep.status import is_complete
from attnlab.sweep.sweep import Engine, sweep
from attnlab.system.cores import cores

POLL = 0.25
"""Seconds between looks at the analyses."""
GOLD = "gold.jsonl"
"""Gold alignment of the test set, in the directory of a study."""


@dataclass(frozen=True)
class Runner:
    """Carries out what a claim needs.

    Attributes:
        version: which version, and where.
        jobs: processes at a time; None for one a core.
        data_dir: directory of datasets.
        poll: raises `Interrupted` after a signal to stop.
        log: called with lines of progress.
    """

    version: Version
    jobs: int | None
    data_dir: Path | None
    poll: Callable[[], None]
    log: Callable[[str], None]

    def run(self, claim: Claim) -> bool:
        """Train the studies of a claim, analyze their runs and measure costs; what is done already is not repeated.

        Returns: whether all is complete; what has failed is reported.

        Raises:
            Interrupted: raised by `poll`; the state of every run is saved.
        """
        complete = True
        for plan in self.version.plans(claim).values():
            if plan.plan is not None:
                complete = self._train(plan) and complete
        for name, cost in claim.costs.items():
            self.poll()
            directory = self.version.directory / name
            costs.run_benchmark(cost, self.version.quick, self.version.tiny, directory, self.log)
        return complete

    def _train(self, plan: StudyPlan) -> bool:
        assert plan.plan is not None
        check_directory(plan.plan)
        devices = devices_of(plan.plan.directory, None)
        engine = Engine("local", self.jobs, devices, (), self.data_dir)
        minutes = None if self.version.tiny else plan.study.budget.minutes
        complete = sweep(plan.plan, engine, minutes, self.poll)
        runs = [run for run in plan.plan.runs if is_complete(run.directory, run.experiment)]
        jobs = [job for run in runs for job in self._analyses(plan, run, devices)]
        return self._carry_out(jobs) and complete

    def _analyses(self, plan: StudyPlan, run: PlannedRun, devices: int) -> Iterator[Job]:
        """Yield the analyses of a run that are left."""
        assert plan.plan is not None
        folder, commands = plan.plan.directory, []
        if plan.analyses.faithfulness and not (run.directory / FAITHFULNESS).exists():
            commands.append(["faithfulness", str(run.directory), *_faithfulness(plan.analyses, self.version.tiny)])
        if plan.analyses.alignment and not (run.directory / ALIGNMENT).exists():
            count = write_gold(run.experiment, self.data_dir, folder / GOLD)
            dev = min(plan.analyses.alignment.dev, count // 2)
            options = ["--gold", str(folder / GOLD), "--dev", str(dev), "--aligners", "ibm1"]
            commands.append(["align", str(run.directory), *options])
        data = ["--data", str(self.data_dir)] if self.data_dir else []
        for command in commands:
            log = folder / LOGS / f"{run.name}-{command[0]}.log"
            yield Job(run, (*command, *data), {DEVICES: str(devices)}, Path.cwd(), log)

    def _carry_out(self, jobs: Sequence[Job]) -> bool:
        """Carry out analyses, several at a time; return whether none has failed."""
        launcher = LocalLauncher(max(1, min(self.jobs or cores(), len(jobs) or 1)))
        waiting, failed = list(jobs), 0
        active: list[tuple[Job, Handle]] = []
        try:
            while waiting or active:
                self.poll()
                while waiting and len(active) < launcher.capacity:
                    job = waiting.pop(0)
                    active += [(job, handle) for handle in launcher.start([job])]
                for job, handle in list(active):
                    if (ended := handle.poll()) is not None:
                        active.remove((job, handle))
                        failed += ended.code != 0
                        text = f"failed: {failure(job, ended.code)} ({job.log})" if ended.code else "done"
                        self.log(f"{job.run.name}: {job.arguments[0]}: {text}")
                time.sleep(POLL)
        except BaseException:
            for _, handle in active:
                handle.stop()
            raise
        return not failed


def _faithfulness(analyses: Analyses, tiny: bool) -> list[str]:
    assert analyses.faithfulness is not None
    examples = min(analyses.faithfulness.examples, 5) if tiny else analyses.faithfulness.examples
    return ["--examples", str(examples), "--methods", ",".join(analyses.faithfulness.methods)]
