"""Jobs of Slurm, submitted by submitit as an array; a job that is preempted or out of time is queued again."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import submitit
from submitit.slurm import slurm

from attnlab.config.errors import UserError
from attnlab.sweep.job import Job, execute
from attnlab.sweep.launchers.base import Ended, Handle

DEFAULTS: Mapping[str, Any] = {"name": "attnlab", "timeout_min": 720, "slurm_max_num_timeout": 100}
"""Parameters of submitit: a job may take 12 hours, and is queued again as often as it needs more."""
CLUSTERS = ("slurm", "local")


class TrainingJob(submitit.helpers.Checkpointable):
    """A job as submitit calls it; after a signal it is queued again, and resumes the run."""

    def __call__(self, job: Job) -> int:
        """Carry out a job and return its exit code."""
        return execute(job)

    def checkpoint(self, job: Job) -> submitit.helpers.DelayedSubmission:
        """Return the job to queue again: the signal handler ends the call, which stops the process of the run."""
        return submitit.helpers.DelayedSubmission(self, job)


class SlurmLauncher:
    """Submits jobs to Slurm, or with the option `cluster=local` starts them by submitit on this machine.

    Args:
        folder: folder for submitit's files.
        jobs: how many jobs run at a time; None for as many as Slurm allows.
        cores: cores of a job.
        options: parameters of submitit (`timeout_min`, `mem_gb`, `gpus_per_node`) and options of sbatch (`partition`,
            `time`, `qos`), and `cluster`.
    """

    def __init__(self, folder: Path, jobs: int | None, cores: int, options: Mapping[str, Any]) -> None:
        self._folder, self._jobs = folder, jobs
        self.cluster = options.get("cluster", "slurm")
        if self.cluster not in CLUSTERS:
            raise UserError(f"--option cluster={self.cluster}: expected one of {', '.join(CLUSTERS)}")
        self.capacity = (jobs or 1) if self.cluster == "local" else None
        self.parallel = jobs or 1
        self.parameters = _parameters(jobs, cores, options)
        self._executor: submitit.AutoExecutor | None = None

    def start(self, jobs: Sequence[Job]) -> list[Handle]:
        """Submit jobs, as one array if they are several."""
        executor = self._open()
        with executor.batch():
            submitted = [executor.submit(TrainingJob(), job) for job in jobs]
        return [_Submitted(job) for job in submitted]

    def close(self) -> None:
        """Do nothing: submitit keeps nothing open."""

    def script(self, count: int) -> str:
        """Return the script that is given to sbatch for an array of jobs.

        Args:
            count: number of jobs.
        """
        parameters = {name: value for name, value in self.parameters.items() if name != "slurm_max_num_timeout"}
        shared = slurm.SlurmExecutor._equivalence_dict()
        given = {shared.get(name, name.removeprefix("slurm_")): value for name, value in parameters.items()}
        if "mem" in given and "mem_gb" in parameters:
            given["mem"] = f"{given['mem']}GB"
        command = f"{sys.executable} -u -m submitit.core._submit {self._folder}"
        return slurm._make_sbatch_string(command=command, folder=self._folder, map_count=count, **given)

    def _open(self) -> submitit.AutoExecutor:
        if self._executor is None:
            own = {"slurm_max_num_timeout": self.parameters["slurm_max_num_timeout"]}
            try:
                executor = submitit.AutoExecutor(self._folder, cluster=self.cluster, **own)
            except RuntimeError:
                raise UserError(
                    "--launcher slurm: there is no srun on this machine; start the sweep where Slurm is, or give "
                    "--option cluster=local"
                ) from None
            executor.update_parameters(**{name: value for name, value in self.parameters.items() if name not in own})
            self._executor = executor
        return self._executor


class _Submitted:
    """A job of submitit."""

    def __init__(self, job: submitit.Job[int]) -> None:
        self._job = job

    def poll(self) -> Ended | None:
        if not self._job.done():
            return None
        try:
            return Ended(self._job.result())
        except Exception as error:  # the errors of submitit, and of Slurm's commands
            return Ended(1, f"job {self._job.job_id} of {type(self._job).__name__}: {_last_line(error)}")

    def stop(self) -> None:
        self._job.cancel()


def _parameters(jobs: int | None, cores: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters of submitit.

    Raises:
        UserError: there is no option of that name.
    """
    shared = submitit.AutoExecutor._valid_parameters()
    of_slurm = slurm.SlurmExecutor._valid_parameters() | {"max_num_timeout"}
    parameters = {**DEFAULTS, "cpus_per_task": cores}
    if jobs is not None:
        parameters["slurm_array_parallelism"] = jobs
    for name, value in options.items():
        if name == "cluster":
            continue
        if name not in shared | of_slurm:
            valid = ", ".join(sorted(shared | of_slurm | {"cluster"}))
            raise UserError(f"--option {name}: unknown option of --launcher slurm; valid: {valid}")
        parameters[name if name in shared else f"slurm_{name}"] = value
    return parameters


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(error).__name__
