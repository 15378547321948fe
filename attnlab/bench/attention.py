"""Implementations of attention side by side: each in a process of its own, taking turns on the same inputs.

Every implementation first shows that it computes the same function: its output, and in mode forward_backward its
gradients, are compared with float64. One that differs is reported and not timed. Then all are asked for one timed
call each, round after round in changing order; only one works at a time, the others sleep. Time is the median over
the rounds, a ratio the median of each round's own ratio.
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

from attnlab.bench import cases as wanted
from attnlab.bench import memory, reference
from attnlab.bench.budget import Budget, unlimited
from attnlab.bench.cases import Case, Peer
from attnlab.bench.process import Ended, Process, started
from attnlab.bench.results import Outcome, Report, Result, compared_with
from attnlab.config.errors import UserError
from attnlab.system.cores import cores, host_devices

WORKER = "attnlab.bench.attention_worker"
REST = 0.005
"""Seconds between two turns: threads of the last one spin a while before they sleep."""
PREPARE, TURN = 60.0, 10.0
"""Seconds that a peer may take to have a case ready, and to take its turn, where there is a budget."""
TRIES = 2
"""Cases in which a peer may fail to be ready in time, where there is a budget."""
LEAST = 5.0
"""Seconds that are waited for what was begun in time."""
FEWEST = 3
"""Rounds that are taken even when the budget is used up."""
Say = Callable[[str], None]


def machine(dtype: str) -> dict[str, Any]:
    """Return versions, commit, cores, and the backend and devices of jax, as a separate process finds them."""
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
    tell: Say,
    show: Callable[[Result], None],
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
        tell: called with each line of progress.
        show: called with each result.
        budget: no case starts once it is used up, and no peer may take longer than `PREPARE` and `TURN`; None for no
            limit.
    """
    results: list[Result] = []
    report = Report(environment, ())
    limits = _Limits(budget)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        crew = _Crew(stack, environment["backend"])
        for number, case in enumerate(cases, start=1):
            if limits.used_up():
                tell(f"no time is left for {len(cases) - number + 1} of {len(cases)} cases")
                break
            tell(f"{number} of {len(cases)}: {case}")
            outcomes = _measure_case(case, peers, rounds, crew, Path(temporary), tell, limits)
            result = Result(case, outcomes, compared_with([o.peer for o in outcomes if o.seconds], against))
            results.append(result)
            report = Report(environment, tuple(results))
            report.save(directory)
            show(result)
    return report


class _Limits:
    """How long is waited for what, where there is a budget."""

    def __init__(self, budget: Budget | None):
        self._budget, self._limited = budget or unlimited(), budget is not None
        self._ended: Counter[Peer] = Counter()

    def used_up(self) -> bool:
        return self._budget.left() == 0.0

    def of(self, seconds: float) -> float:
        """At most so many seconds, and little longer than there is time."""
        return min(seconds, max(self._budget.left(), LEAST)) if self._limited else float("inf")

    def ended(self, peer: Peer) -> None:
        """Record that a peer's process ended while it prepared a case."""
        self._ended[peer] += self._limited

    def given_up(self, peer: Peer) -> bool:
        """Whether it would cost the others too much to try once more."""
        return self._ended[peer] >= TRIES


class _Crew:
    """The worker processes: started when first needed, started again after one has died."""

    def __init__(self, stack: ExitStack, backend: str):
        self._stack, self.backend = stack, backend
        self._processes: dict[tuple[Peer, str], Process] = {}

    def process(self, peer: Peer, dtype: str, task: str = "time", seconds: float = float("inf")) -> Process:
        """The process of a peer for a task, "time" or "memory", ready in so many seconds."""
        if (peer, task) not in self._processes:
            arguments = [peer.name, str(peer.devices), str(cores())]
            environment = _environment(peer.devices, dtype) | (memory.ENVIRONMENT if task == "memory" else {})
            if self.backend == "cpu":
                environment["CUDA_VISIBLE_DEVICES"] = ""  # PyTorch works where jax does
            self._processes[peer, task] = self._stack.enter_context(started(WORKER, arguments, environment, seconds))
        return self._processes[peer, task]

    def forget(self, peer: Peer, task: str = "time") -> None:
        """Do without a process that has ended."""
        self._processes.pop((peer, task), None)


def _measure_case(
    case: Case,
    peers: Sequence[Peer],
    rounds: int,
    crew: _Crew,
    directory: Path,
    tell: Say,
    limits: _Limits,
) -> tuple[Outcome, ...]:
    inputs = reference.draw(case)
    rows = reference.rows_of(case)
    right = reference.expected(case, inputs, rows)
    checking = reference.only_rows(inputs["cotangent"], rows)
    np.savez(directory / "inputs.npz", **inputs, checking=checking)  # pyright: ignore[reportArgumentType]
    # On a GPU compiling is the host's work, of which it can do much at once.
    with ThreadPoolExecutor(1 if crew.backend == "cpu" else max(len(peers), 1)) as pool:
        prepare = lambda peer: _prepared(case, peer, crew, directory, right, rows, limits)  # noqa: E731
        outcomes = dict(zip(peers, pool.map(prepare, peers), strict=True))
    for peer, outcome in outcomes.items():
        if outcome.why:
            tell(f"  {peer}: {outcome.why}")
    seconds: dict[Peer, list[float]] = {peer: [] for peer, outcome in outcomes.items() if outcome.why is None}
    for turn in range(rounds):
        if limits.used_up() and turn >= FEWEST:
            break
        for peer in random.Random(turn).sample(list(seconds), len(seconds)):
            time.sleep(REST)
            try:
                process = crew.process(peer, case.dtype)
                seconds[peer].append(process.ask({"turn": True}, limits.of(TURN))["seconds"])
            except Ended as end:
                crew.forget(peer)
                outcomes[peer] = Outcome(str(peer), outcomes[peer].about, why=str(end))
                del seconds[peer]
    return tuple(replace(outcome, seconds=tuple(seconds.get(peer, ()))) for peer, outcome in outcomes.items())


def _prepared(
    case: Case,
    peer: Peer,
    crew: _Crew,
    directory: Path,
    right: reference.Arrays,
    rows: np.ndarray,
    limits: _Limits,
) -> Outcome:
    """Have a case compiled, compared with the reference, and its memory measured."""
    missing = _missing(peer, crew.backend)
    if limits.given_up(peer):
        return Outcome(str(peer), "", why=f"was not ready in time, or ended, in {TRIES} cases before")
    if missing:
        return Outcome(str(peer), "", why=missing)
    about = ""
    try:
        process = crew.process(peer, case.dtype, seconds=limits.of(PREPARE))
        about = process.about
        answer = process.ask({"case": asdict(case), "directory": str(directory)}, limits.of(PREPARE))
        if "refused" in answer:
            return Outcome(str(peer), about, why=answer["refused"])
        found = directory / answer["found"]
        with np.load(found, allow_pickle=False) as arrays:
            errors = reference.errors({name: arrays[name] for name in arrays.files}, right, rows)
        found.unlink()
        outcome = Outcome(
            str(peer), about, errors=errors, temp_bytes=answer["temp_bytes"],
            compile_seconds=answer["compile_seconds"], note=answer["note"],
        )  # fmt: skip
        limit = reference.LIMITS[case.dtype]
        if crew.backend != "cpu" and case.dtype == "float32":
            limit = reference.TF32_LIMIT
        worst = max(errors, key=lambda name: errors[name])
        if not errors[worst] <= limit:
            what = worst if worst == "output" else f"gradient of {worst}"
            return replace(outcome, why=f"differs: {what} by {errors[worst]:.1e} of the largest number, not timed")
        return replace(outcome, peak_bytes=_peak_bytes(case, peer, crew, directory, limits))
    except Ended as end:
        crew.forget(peer)
        limits.ended(peer)
        return Outcome(str(peer), about, why=str(end))


def _peak_bytes(case: Case, peer: Peer, crew: _Crew, directory: Path, limits: _Limits) -> int | None:
    """Have the peak of memory measured; None where it cannot be. A GPU's is told by the process that has it ready."""
    if crew.backend != "cpu":
        return crew.process(peer, case.dtype).ask({"peak": True}, limits.of(TURN)).get("peak_bytes")
    try:
        question = {"peak_of": asdict(case), "directory": str(directory)}
        return crew.process(peer, case.dtype, "memory").ask(question, limits.of(PREPARE)).get("peak_bytes")
    except Ended:
        crew.forget(peer, "memory")
        return None


def _missing(peer: Peer, backend: str) -> str | None:
    """Say what a peer needs that is not there, before a process is started for it."""
    if peer.name in wanted.IN_TORCH and importlib.util.find_spec("torch") is None:
        return "PyTorch is not installed: pip install -e '.[bench]' in the checkout"
    if peer.name in wanted.ON_GPU and backend != "gpu":
        return f"needs a GPU; jax runs on {backend} here"
    return None


def _environment(devices: int, dtype: str) -> dict[str, str]:
    """What a worker's process finds: so many host devices, no GPU memory taken in advance, float64 where asked for."""
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    return {
        "JAX_NUM_CPU_DEVICES": str(devices),
        "XLA_FLAGS": " ".join(flags),
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "XLA_PYTHON_CLIENT_MEM_FRACTION": os.environ.get("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.25"),
        "JAX_ENABLE_X64": "1" if dtype == "float64" else "0",
    }
