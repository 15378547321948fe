"""The job of a run: the command that trains and evaluates it, and its process.

The command is the one that a user would type. It resumes the run from its last checkpoint, so a job that was stopped
is simply started again, by any launcher.
"""

import ctypes
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.sweep.plan import LOGS, Plan, PlannedRun
from attnlab.sweep.status import is_complete, is_training
from attnlab.system.cores import THREADS
from attnlab.training.atomic_files import writing

DEVICES = "JAX_NUM_CPU_DEVICES"
_DEVICES_FLAG = re.compile(r"--xla_force_host_platform_device_count=\S*")
PR_SET_PDEATHSIG = 1
"""Constant of Linux's prctl."""
POLL = 0.5
"""Seconds between looks at a run that another process trains."""


@dataclass(frozen=True)
class Job:
    """The command of a run; it can be pickled, and carried out on another machine with the same files.

    Attributes:
        run: the run.
        arguments: arguments of `attnlab`.
        environment: environment variables that it needs.
        folder: folder to start it in.
        log: file for its output.
    """

    run: PlannedRun
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path
    log: Path

    @property
    def command(self) -> str:
        """The command as a user would type it."""
        variables = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*variables, shlex.join(["attnlab", *self.arguments])])


def make_job(plan: Plan, run: PlannedRun, devices: int, data_dir: Path | None, trust: bool) -> Job:
    """Return the job of a run.

    Args:
        plan: the sweep.
        run: one of its runs.
        devices: number of host devices.
        data_dir: directory of datasets; None for an experiment that needs none.
        trust: execute the code of custom parts even if it is not the code recorded at training.
    """
    arguments = ["train", str(plan.config), *run.setting.overrides, "--seed", str(run.seed), "--out"]
    arguments += [str(run.directory), "--evaluate"]
    arguments += ["--tiny"] if plan.tiny else []
    arguments += ["--data", str(data_dir)] if data_dir else []
    arguments += ["--trust"] if trust else []
    log = plan.directory / LOGS / f"{run.name}.log"
    return Job(run, tuple(arguments), {DEVICES: str(devices)}, Path.cwd(), log)


def start(job: Job, cores: Sequence[int] | None = None) -> subprocess.Popen[bytes]:
    """Start the process of a job. It is stopped, with its state saved, when the calling thread or process ends.

    Args:
        job: the job.
        cores: cores that it may run on; None for those of this process.
    """
    libc = ctypes.CDLL(None)

    def prepare() -> None:
        if hasattr(libc, "prctl"):
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if cores is not None and hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, cores)

    log = job.folder / job.log
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            file.write(f"$ {job.command}\n".encode())
            file.flush()
            return subprocess.Popen(
                [sys.executable, "-m", "attnlab", *job.arguments],
                cwd=job.folder,
                env=_environment(job),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,  # Ctrl-C reaches the sweep only, which stops its jobs
                preexec_fn=prepare,
            )


def execute(job: Job) -> int:
    """Carry out a job in this process, and return its exit code; for engines that call a function.

    A run that is complete is not touched. A run that another process is training is waited for: the process of an
    engine's node that failed may still be saving its state.
    """
    directory = job.folder / job.run.directory
    while is_training(directory):
        time.sleep(POLL)
    if is_complete(directory, job.run.experiment):
        return 0
    process = start(job)
    try:
        return process.wait()
    finally:  # the engine cancels the job by an exception
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Ask a job to save its state and end, and wait for it."""
    if process.poll() is None:
        process.terminate()
        process.wait()


def failure(job: Job, code: int) -> str:
    """Return why a job failed, in one line: what it reported last, or its exit code."""
    try:
        lines = (job.folder / job.log).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    last = next((line for line in reversed(lines) if line.strip()), "")
    reported = last.startswith("attnlab: ") or re.match(r"\w[\w.]*(Error|Exception|Interrupt)\b", last)
    if 0 < code < 128 and reported:
        return last.removeprefix("attnlab: ")
    number = -code if code < 0 else code - 128
    if number in [*signal.Signals]:
        hint = " (out of memory?)" if number == signal.SIGKILL else ""
        return f"ended by {signal.Signals(number).name}{hint}"
    return f"exit code {code}"


def _environment(job: Job) -> dict[str, str]:
    """Return the environment of a job, without other numbers of host devices and of threads in it."""
    environment = {**os.environ, **job.environment}
    environment.pop(THREADS, None)  # a thread for each device, on any number of cores
    if "XLA_FLAGS" in environment:
        environment["XLA_FLAGS"] = _DEVICES_FLAG.sub("", environment["XLA_FLAGS"]).strip()
    return environment
