"""Compare training speed with an equivalent PyTorch model of the same sizes on the same batches.

Each side is a process that waits while the other one works. Speed is the number of real target tokens (end tokens
included, padding excluded) per second of wall time. The time of a step includes moving the batch, the forward and
backward pass, the update, and reading the loss. It excludes compilation: every batch shape is run once before.
"""

import importlib.util
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from attnlab.bench import synthetic_pairs
from attnlab.bench.budget import Budget, unlimited
from attnlab.bench.process import Process, ProcessEnded, start_worker
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch, Batches
from attnlab.system.cores import cores, host_devices
from attnlab.tasks.translation.task import TranslationTask

ROUNDS = 8
STEPS = 20
"""Steps of each side in a round."""
SIDES = ("jax", "torch")
MIN_ROUNDS = 3
"""Rounds that are run even when the budget is used up."""
DEVICES: Mapping[str, Mapping[str, str]] = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.4"},
}
"""Environment variables of both sides, by device."""


@dataclass(frozen=True)
class Round:
    """The times of both sides for the same batches."""

    tokens: int
    """Number of real target tokens."""
    jax_seconds: float
    torch_seconds: float

    @property
    def ratio(self) -> float:
        """Speed of attnlab relative to PyTorch."""
        return self.torch_seconds / self.jax_seconds


@dataclass(frozen=True)
class Comparison:
    """The times of all rounds; prints as a table and a line of JSON."""

    name: str
    jax: str
    torch: str
    real_fraction: float
    """Fraction of target positions in the batches that are not padding."""
    rounds: tuple[Round, ...]

    @property
    def jax_tokens_per_second(self) -> float:
        """Median speed of attnlab over the rounds."""
        return median(r.tokens / r.jax_seconds for r in self.rounds)

    @property
    def torch_tokens_per_second(self) -> float:
        """Median speed of PyTorch over the rounds."""
        return median(r.tokens / r.torch_seconds for r in self.rounds)

    @property
    def ratio(self) -> float:
        """Median of the ratios within a round, in which a temporary slowdown of the whole machine cancels."""
        return median(r.ratio for r in self.rounds)

    def as_json(self) -> str:
        """Return all measurements as one line of JSON."""
        medians = {name: getattr(self, name) for name in ("jax_tokens_per_second", "torch_tokens_per_second", "ratio")}
        return json.dumps(asdict(self) | medians)

    def __str__(self) -> str:
        lines = [
            f"{self.name}: training, target tokens per second ({1 - self.real_fraction:.0%} of positions are padding)"
        ]
        lines.append(f"{'':<10}{'median':>8}{'lowest':>8}{'highest':>8}")
        for name, runtime in (("attnlab", self.jax), ("PyTorch", self.torch)):
            speeds = self._speeds(name)
            figures = "".join(f"{value:>8,.0f}" for value in (median(speeds), min(speeds), max(speeds)))
            lines.append(f"{name:<10}{figures}  {runtime}")
        ratios = [r.ratio for r in self.rounds]
        figures = "".join(f"{value:>8.2f}" for value in (self.ratio, min(ratios), max(ratios)))
        lines.append(f"{'ratio':<10}{figures}  of {len(ratios)} rounds on the same batches, in alternating order")
        return "\n".join([*lines, self.as_json()])

    def _speeds(self, name: str) -> list[float]:
        return [r.tokens / (r.jax_seconds if name == "attnlab" else r.torch_seconds) for r in self.rounds]


def _log(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compare(
    experiment: Experiment,
    data_dir: Path | None,
    rounds: int = ROUNDS,
    steps: int = STEPS,
    log: Callable[[str], None] = _log,
    device: str = "cpu",
    synthetic: bool = False,
    budget: Budget | None = None,
) -> Comparison:
    """Train both sides in alternating rounds and compare their speed.

    Args:
        experiment: a translation experiment.
        data_dir: directory of its data.
        rounds: number of rounds; the side that starts alternates.
        steps: training steps per round, at most `training.steps`.
        log: called with each line of progress.
        device: "cpu", or "gpu" to run both sides on the first GPU.
        synthetic: train on synthetic pairs with the lengths of Multi30k instead of the experiment's data.
        budget: no round starts after it is used up, and no worker may take longer; None for no limit.

    Returns: the times of every round.

    Raises:
        UserError: the task is not translation, PyTorch is missing, or a worker failed or timed out.
    """
    if experiment.task.kind != "translation":
        raise UserError(f"bench training: no PyTorch model for task.kind {experiment.task.kind}; valid: translation")
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "bench training compares with PyTorch, which is not installed: pip install -e '.[bench]' in the checkout"
        )
    budget = budget or unlimited()
    devices = host_devices() if device == "cpu" else 1
    steps = min(steps, experiment.training.steps)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        directory = Path(temporary)
        work = _pairs(experiment, data_dir, directory, synthetic) | {"device": device}
        batches, warm_up, real_fraction = _prepare(experiment, work, directory, rounds * steps, devices)
        start = lambda side: stack.enter_context(_worker(side, directory, devices, device, budget))  # noqa: E731
        with ThreadPoolExecutor(1 if device == "cpu" else len(SIDES)) as pool:  # with a GPU, both sides compile at once
            sides: dict[str, Worker] = dict(zip(SIDES, pool.map(start, SIDES), strict=True))
            for side, seconds in zip(
                SIDES, pool.map(lambda side: sides[side].run(warm_up, budget), SIDES), strict=True
            ):
                log(f"{side}: compiled {len(warm_up)} batch shapes in {seconds:.1f} s")
        measured: list[Round] = []
        for n in range(rounds):
            if n >= MIN_ROUNDS and budget.left() == 0.0:
                break
            chunk = list(range(n * steps, (n + 1) * steps))
            measured.append(_round(sides, batches, chunk, SIDES[:: -1 if n % 2 else 1]))
            log(f"round {n + 1} of {rounds}: attnlab / PyTorch = {measured[-1].ratio:.2f}")
        return Comparison(experiment.name, sides["jax"].runtime, sides["torch"].runtime, real_fraction, tuple(measured))


class Worker:
    """A process that takes training steps on request (see worker.py)."""

    def __init__(self, side: str, process: Process):
        self._side, self._process = side, process
        self.runtime = process.runtime

    def run(self, numbers: Sequence[int], budget: Budget | None = None) -> float:
        """Take a step with each of the batches and return the total seconds."""
        try:
            response = self._process.request(list(numbers), (budget or unlimited()).left())
        except ProcessEnded as end:
            raise _worker_error(self._side, end) from None
        if not np.isfinite(response["losses"]).all():
            raise UserError(f"bench training: the loss of {self._side} is not finite: {response['losses'][-1]}")
        return response["seconds"]


def _worker_error(side: str, end: ProcessEnded) -> UserError:
    return UserError(f"bench training: {side}: {end}, see above")


@contextmanager
def _worker(side: str, directory: Path, devices: int, device: str, budget: Budget) -> Iterator[Worker]:
    environment = {**DEVICES[device], "JAX_NUM_CPU_DEVICES": str(devices)}
    name, arguments = "attnlab.bench.worker", [side, str(directory)]
    with ExitStack() as stack:
        try:
            process = stack.enter_context(start_worker(name, arguments, environment, budget.left()))
        except ProcessEnded as end:
            raise _worker_error(side, end) from None
        yield Worker(side, process)


def _round(sides: Mapping[str, Worker], batches: list[Batch], chunk: list[int], order: Sequence[str]) -> Round:
    seconds = {side: sides[side].run(chunk) for side in order}
    tokens = sum(int(batches[number]["target_lengths"].sum()) for number in chunk)
    return Round(tokens, seconds["jax"], seconds["torch"])


def _pairs(experiment: Experiment, data_dir: Path | None, directory: Path, synthetic: bool) -> dict[str, Any]:
    """Return the training pairs, the sizes of their vocabularies, and the directory of the saved tokenizers."""
    if synthetic:
        size = synthetic_pairs.vocabulary_of(experiment)
        return {"pairs": synthetic_pairs.pairs(size), "tokenizers": None, "vocabularies": (size, size)}
    corpus: Any = TranslationTask.load(experiment, data_dir)
    task = TranslationTask.prepare(experiment, corpus)
    tokenizers = task.tokenizers
    tokenizers.save(directory / "tokenizers")
    sizes = tokenizers.source.vocabulary_size, tokenizers.target.vocabulary_size
    return {"pairs": task.pairs(corpus.train), "tokenizers": str(directory / "tokenizers"), "vocabularies": sizes}


def _prepare(
    experiment: Experiment, work: Mapping[str, Any], directory: Path, count: int, row_multiple: int
) -> tuple[list[Batch], list[int], float]:
    """Write the input files of the workers; return the batches, the warm-up batch numbers, and the real fraction.

    The warm-up batches, one per shape, follow the `count` measured batches.
    """
    training, (source, target) = experiment.training, work["vocabularies"]
    stream = Batches.of_pairs(work["pairs"], training.batch_tokens, training.buckets, experiment.seed, row_multiple)
    batches = [stream.batch(step) for step in range(count)]
    batches += _one_batch_per_shape(stream)
    arrays: dict[str, Any] = {f"{n}/{name}": array for n, b in enumerate(batches) for name, array in b.items()}
    np.savez(directory / "batches.npz", **arrays)
    contents = {
        "experiment": experiment.model_dump(mode="json"),
        "source_vocabulary": source,
        "target_vocabulary": target,
        "tokenizers": work["tokenizers"],
        "device": work["device"],
        "threads": cores(),
    }
    (directory / "work.json").write_text(json.dumps(contents), encoding="utf-8")
    real, positions = (sum(size(b) for b in batches[:count]) for size in (_real_tokens, _positions))
    return batches, list(range(count, len(batches))), real / positions


def _one_batch_per_shape(stream: Batches) -> list[Batch]:
    """Return one batch of each shape from an epoch."""
    batches = {}
    for step in range(len(stream)):
        batch = stream.batch(step)
        batches.setdefault((batch["source"].shape, batch["target_in"].shape), batch)
        if len(batches) == len(stream.shapes):
            break
    return list(batches.values())


def _real_tokens(batch: Batch) -> int:
    return int(batch["target_lengths"].sum())


def _positions(batch: Batch) -> int:
    return batch["target_in"].size
