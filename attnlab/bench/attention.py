"""Compare implementations of attention on the same inputs, each in its own process.

The output of every implementation, and in mode forward_backward its gradients, are first compared with a float64
reference; an implementation that differs is reported and not timed. Then each runs one timed call per round, in an
order that changes from round to round. Only one process works at a time, the others sleep. The reported time is the
median over the rounds, the reported ratio the median of the ratios within a round.
"""

import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.bench import memory, reference
from attnlab.bench.budget import Budget, unlimited
from attnlab.bench.cases import IN_TORCH, ON_GPU, Case, Peer
from attnlab.bench.process import Process, ProcessEnded, start_worker
from attnlab.bench.results import Outcome, Report, Result, choose_baseline
from attnlab.config.errors import UserError
from attnlab.system.cores import cores, host_devices

WORKER = "attnlab.bench.attention_worker"
PAUSE = 0.005
"""Seconds between two turns: the threads of the previous process spin for a while before they sleep."""
PREPARE_TIMEOUT, TURN_TIMEOUT = 60.0, 10.0
"""Seconds that a peer may take to prepare a case and to run a turn. They apply only with a budget."""
MAX_FAILURES = 2
"""Number of cases that a peer may fail to prepare before it is skipped. Applies only with a budget."""
MIN_TIMEOUT = 5.0
"""Seconds granted to work that started within the budget."""
MIN_ROUNDS = 3
"""Rounds that are run even when the budget is used up."""
Log = Callable[[str], None]


def machine(dtype: str) -> dict[str, Any]:
    """Return versions, commit, cores, and the backend and devices of jax, collected in a separate process."""
    environment = os.environ | _environment(host_devices(), dtype)
    completed = subprocess.run(
        [sys.executable, "-m", WORKER, "machine"], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if completed.returncode:
        raise UserError(f"bench attention: jax does not start (code {completed.returncode}), see above")
    return json.loads(completed.stdout.splitlines()[-1])


def benchmark(
    cases: Sequence[Case],
    peers: Sequence[Peer],
    rounds: int,
    environment: Mapping[str, Any],
    against: Sequence[str],
    directory: Path,
    log: Log,
    on_result: Callable[[Result], None],
    budget: Budget | None = None,
) -> Report:
    """Benchmark the peers on all cases, or on as many as the budget allows.

    Args:
        cases: the cases, in the order in which they are run.
        peers: the implementations to compare.
        rounds: number of timed turns of each peer.
        environment: description of the machine, stored with the results.
        against: peers to use as the baseline of ratios; the first of them that was timed is used.
        directory: where results.json is written, again after every case, so that finished cases are kept.
        log: called with each line of progress.
        on_result: called with each result.
        budget: no case starts after it is used up, and no peer may take longer than `PREPARE_TIMEOUT` and
            `TURN_TIMEOUT`; None for no limit.

    Returns: the results of all cases that were run.
    """
    results: list[Result] = []
    report = Report(environment, ())
    limits = _Limits(budget)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        workers = _Workers(stack, environment["backend"])
        for number, case in enumerate(cases, start=1):
            if limits.used_up():
                log(f"time budget used up: {len(cases) - number + 1} of {len(cases)} cases were not run")
                break
            log(f"{number} of {len(cases)}: {case}")
            outcomes = _measure_case(case, peers, rounds, workers, Path(temporary), log, limits)
            result = Result(case, outcomes, choose_baseline([o.peer for o in outcomes if o.seconds], against))
            results.append(result)
            report = Report(environment, tuple(results))
            report.save(directory)
            on_result(result)
    return report


class _Limits:
    """The timeouts that follow from a budget, and the peers that exceeded them."""

    def __init__(self, budget: Budget | None):
        self._budget, self._limited = budget or unlimited(), budget is not None
        self._failures: Counter[Peer] = Counter()

    def used_up(self) -> bool:
        return self._budget.left() == 0.0

    def timeout(self, seconds: float) -> float:
        """Return a timeout: at most `seconds`, shortened to the time left; infinite without a budget."""
        return min(seconds, max(self._budget.left(), MIN_TIMEOUT)) if self._limited else float("inf")

    def record_failure(self, peer: Peer) -> None:
        """Record that a peer's process ended while it prepared a case."""
        self._failures[peer] += self._limited

    def is_skipped(self, peer: Peer) -> bool:
        """Return whether a peer has failed too often to be tried again."""
        return self._failures[peer] >= MAX_FAILURES


class _Workers:
    """The worker processes. Each starts when it is first needed, and starts again after it has ended."""

    def __init__(self, stack: ExitStack, backend: str):
        self._stack, self.backend = stack, backend
        self._processes: dict[tuple[Peer, str], Process] = {}

    def process(self, peer: Peer, dtype: str, task: str = "time", seconds: float = float("inf")) -> Process:
        """Return the process of a peer for a task, "time" or "memory"; `seconds` limits its start."""
        if (peer, task) not in self._processes:
            arguments = [peer.name, str(peer.devices), str(cores())]
            environment = _environment(peer.devices, dtype) | (memory.ENVIRONMENT if task == "memory" else {})
            if self.backend == "cpu":
                environment["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch runs on the same device as jax
            self._processes[peer, task] = self._stack.enter_context(
                start_worker(WORKER, arguments, environment, seconds)
            )
        return self._processes[peer, task]

    def discard(self, peer: Peer, task: str = "time") -> None:
        """Remove a process that has ended."""
        self._processes.pop((peer, task), None)


def _measure_case(
    case: Case,
    peers: Sequence[Peer],
    rounds: int,
    workers: _Workers,
    directory: Path,
    log: Log,
    limits: _Limits,
) -> tuple[Outcome, ...]:
    inputs = reference.draw(case)
    rows = reference.rows_of(case)
    desired = reference.expected(case, inputs, rows)
    checking = reference.only_rows(inputs["cotangent"], rows)
    np.savez(directory / "inputs.npz", **inputs, checking=checking)  # pyright: ignore[reportArgumentType]
    # With a GPU, compilation runs on the host and can run in parallel.
    with ThreadPoolExecutor(1 if workers.backend == "cpu" else max(len(peers), 1)) as pool:
        prepare = lambda peer: _prepare(case, peer, workers, directory, desired, rows, limits)  # noqa: E731
        outcomes = dict(zip(peers, pool.map(prepare, peers), strict=True))
    for peer, outcome in outcomes.items():
        if outcome.reason:
            log(f"  {peer}: {outcome.reason}")
    seconds: dict[Peer, list[float]] = {peer: [] for peer, outcome in outcomes.items() if outcome.reason is None}
    for turn in range(rounds):
        if limits.used_up() and turn >= MIN_ROUNDS:
            break
        for peer in random.Random(turn).sample(list(seconds), len(seconds)):
            time.sleep(PAUSE)
            try:
                process = workers.process(peer, case.dtype)
                seconds[peer].append(process.request({"turn": True}, limits.timeout(TURN_TIMEOUT))["seconds"])
            except ProcessEnded as end:
                workers.discard(peer)
                outcomes[peer] = Outcome(str(peer), outcomes[peer].runtime, reason=str(end))
                del seconds[peer]
    return tuple(replace(outcome, seconds=tuple(seconds.get(peer, ()))) for peer, outcome in outcomes.items())


def _prepare(
    case: Case,
    peer: Peer,
    workers: _Workers,
    directory: Path,
    desired: reference.Arrays,
    rows: np.ndarray,
    limits: _Limits,
) -> Outcome:
    """Compile a case, compare its results with the reference, and measure its memory."""
    missing = _missing(peer, workers.backend)
    if limits.is_skipped(peer):
        return Outcome(str(peer), "", reason=f"failed or timed out in {MAX_FAILURES} earlier cases")
    if missing:
        return Outcome(str(peer), "", reason=missing)
    runtime = ""
    try:
        process = workers.process(peer, case.dtype, seconds=limits.timeout(PREPARE_TIMEOUT))
        runtime = process.runtime
        response = process.request({"case": asdict(case), "directory": str(directory)}, limits.timeout(PREPARE_TIMEOUT))
        if "refused" in response:
            return Outcome(str(peer), runtime, reason=response["refused"])
        path = directory / response["arrays"]
        with np.load(path, allow_pickle=False) as arrays:
            errors = reference.errors({name: arrays[name] for name in arrays.files}, desired, rows)
        path.unlink()
        outcome = Outcome(
            str(peer), runtime, errors=errors, temp_bytes=response["temp_bytes"],
            compile_seconds=response["compile_seconds"], note=response["note"],
        )  # fmt: skip
        limit = reference.LIMITS[case.dtype]
        if workers.backend != "cpu" and case.dtype == "float32":
            limit = reference.TF32_LIMIT
        worst = max(errors, key=lambda name: errors[name])
        if not errors[worst] <= limit:
            array = worst if worst == "output" else f"gradient of {worst}"
            return replace(outcome, reason=f"not timed: relative error of the {array} is {errors[worst]:.1e}")
        return replace(outcome, peak_bytes=_peak_bytes(case, peer, workers, directory, limits))
    except ProcessEnded as end:
        workers.discard(peer)
        limits.record_failure(peer)
        return Outcome(str(peer), runtime, reason=str(end))


def _peak_bytes(case: Case, peer: Peer, workers: _Workers, directory: Path, limits: _Limits) -> int | None:
    """Measure the peak memory of a call: in a separate process on CPU, in the timed process on GPU; None if unknown."""
    if workers.backend != "cpu":
        return workers.process(peer, case.dtype).request({"peak": True}, limits.timeout(TURN_TIMEOUT)).get("peak_bytes")
    try:
        request = {"peak_of": asdict(case), "directory": str(directory)}
        return (
            workers.process(peer, case.dtype, "memory")
            .request(request, limits.timeout(PREPARE_TIMEOUT))
            .get("peak_bytes")
        )
    except ProcessEnded:
        workers.discard(peer, "memory")
        return None


def _missing(peer: Peer, backend: str) -> str | None:
    """Return why a peer cannot run here, or None; no process is started."""
    if peer.name in IN_TORCH and importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed: pip install -e '.[bench]' in the checkout"
    if peer.name in ON_GPU and backend != "gpu":
        return f"needs a GPU; jax runs on {backend} here"
    return None


def _environment(devices: int, dtype: str) -> dict[str, str]:
    """Return the environment of a worker: its number of host devices, no preallocated GPU memory, float64 if needed."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    return {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": " ".join(flags),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.25"),
        "JAX_ENABLE_X64": "1" if dtype == "float64" else "0",
    }
