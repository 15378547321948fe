"""Training speed beside an equivalent PyTorch model: same sizes, same batches, taking turns in one run.

Each side is a process of its own that waits while the other works. The unit is real target tokens (end tokens counted,
padding not) in a second of wall time, everything of a step included: moving the batch, forward, backward, update, and
reading the loss. Compilation is not: every batch shape is run once before.
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

from attnlab.bench import made_up as invented
from attnlab.bench.budget import Budget, unlimited
from attnlab.bench.process import Ended, Process, started
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch, Batches
from attnlab.system.cores import cores, host_devices
from attnlab.tasks.translation.task import TranslationTask

ROUNDS = 8
STEPS = 20
"""Steps of each side in a round."""
SIDES = ("jax", "torch")
FEWEST = 3
"""Rounds without which there is no median to speak of."""
DEVICES: Mapping[str, Mapping[str, str]] = {
    "cpu": {"JAX_PLATFORMS": "cpu"},
    "gpu": {"XLA_PYTHON_CLIENT_PREALLOCATE": "false", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.4"},
}
"""What the environment of both sides says of the device."""


@dataclass(frozen=True)
class Round:
    """What both sides did with the same batches, one after the other."""

    tokens: int
    """Real target tokens."""
    jax_seconds: float
    torch_seconds: float

    @property
    def ratio(self) -> float:
        """Speed of attnlab relative to PyTorch."""
        return self.torch_seconds / self.jax_seconds


@dataclass(frozen=True)
class Comparison:
    """All rounds; prints as a table and a line of JSON."""

    name: str
    jax: str
    torch: str
    real_fraction: float
    """Share of target positions in the batches that hold a token."""
    rounds: tuple[Round, ...]

    @property
    def jax_tokens_per_second(self) -> float:
        """Median over the rounds."""
        return median(r.tokens / r.jax_seconds for r in self.rounds)

    @property
    def torch_tokens_per_second(self) -> float:
        """Median over the rounds."""
        return median(r.tokens / r.torch_seconds for r in self.rounds)

    @property
    def ratio(self) -> float:
        """Median over the rounds of each round's own ratio: what slows the whole machine for a while cancels."""
        return median(r.ratio for r in self.rounds)

    def as_json(self) -> str:
        """Everything measured, on one line."""
        medians = {name: getattr(self, name) for name in ("jax_tokens_per_second", "torch_tokens_per_second", "ratio")}
        return json.dumps(asdict(self) | medians)

    def __str__(self) -> str:
        lines = [f"{self.name}: training, target tokens a second without padding ({self.real_fraction:.0%} are real)"]
        lines.append(f"{'':<10}{'median':>8}{'lowest':>8}{'highest':>8}")
        for name, about in (("attnlab", self.jax), ("PyTorch", self.torch)):
            speeds = self._speeds(name)
            figures = "".join(f"{value:>8,.0f}" for value in (median(speeds), min(speeds), max(speeds)))
            lines.append(f"{name:<10}{figures}  {about}")
        ratios = [r.ratio for r in self.rounds]
        figures = "".join(f"{value:>8.2f}" for value in (self.ratio, min(ratios), max(ratios)))
        lines.append(f"{'ratio':<10}{figures}  of {len(ratios)} rounds, the sides taking turns on the same batches")
        return "\n".join([*lines, self.as_json()])

    def _speeds(self, name: str) -> list[float]:
        return [r.tokens / (r.jax_seconds if name == "attnlab" else r.torch_seconds) for r in self.rounds]


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compare(
    experiment: Experiment,
    data_dir: Path | None,
    rounds: int = ROUNDS,
    steps: int = STEPS,
    tell: Callable[[str], None] = _tell,
    device: str = "cpu",
    made_up: bool = False,
    budget: Budget | None = None,
) -> Comparison:
    """Train both sides in turns and compare their speed.

    Args:
        experiment: what is trained; a round is no longer than its training.
        data_dir: where its data are.
        rounds: turns of each side; which side goes first alternates.
        steps: steps in a turn.
        tell: is told how far it is, a line at a time.
        device: "cpu", or "gpu" for both sides on the first of them.
        made_up: take made-up pairs of the lengths of Multi30k's, where the data are missing.
        budget: after so long no round is begun, and nobody is waited for; None for as long as it takes.

    Returns: the times of every round.
    """
    if experiment.task.kind != "translation":
        raise UserError(f"bench training: task.kind {experiment.task.kind} has no peer in PyTorch; valid: translation")
    if importlib.util.find_spec("torch") is None:
        raise UserError(
            "bench training compares with PyTorch, which is not installed: pip install -e '.[bench]' in the checkout"
        )
    budget = budget or unlimited()
    devices = host_devices() if device == "cpu" else 1
    steps = min(steps, experiment.training.steps)
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        directory = Path(temporary)
        work = _pairs(experiment, data_dir, directory, made_up) | {"device": device}
        batches, warm_up, real_fraction = _prepare(experiment, work, directory, rounds * steps, devices)
        start = lambda side: stack.enter_context(_worker(side, directory, devices, device, budget))  # noqa: E731
        with ThreadPoolExecutor(1 if device == "cpu" else len(SIDES)) as pool:  # a GPU's programs are the host's work
            sides: dict[str, Worker] = dict(zip(SIDES, pool.map(start, SIDES), strict=True))
            for side, seconds in zip(
                SIDES, pool.map(lambda side: sides[side].run(warm_up, budget), SIDES), strict=True
            ):
                tell(f"{side}: {len(warm_up)} shapes of batches, {seconds:.1f} s with compilation")
        measured: list[Round] = []
        for n in range(rounds):
            if n >= FEWEST and budget.left() == 0.0:
                break
            chunk = list(range(n * steps, (n + 1) * steps))
            measured.append(_round(sides, batches, chunk, SIDES[:: -1 if n % 2 else 1]))
            tell(f"round {n + 1} of {rounds}: attnlab / PyTorch = {measured[-1].ratio:.2f}")
        return Comparison(experiment.name, sides["jax"].about, sides["torch"].about, real_fraction, tuple(measured))


class Worker:
    """A process that takes steps when told to (see worker.py)."""

    def __init__(self, side: str, process: Process):
        self._side, self._process = side, process
        self.about = process.about

    def run(self, numbers: Sequence[int], budget: Budget | None = None) -> float:
        """Take a step with each of the batches; return the seconds."""
        try:
            answer = self._process.ask(list(numbers), (budget or unlimited()).left())
        except Ended as end:
            raise _broken(self._side, end) from None
        if not np.isfinite(answer["losses"]).all():
            raise UserError(f"bench training: the loss of the {self._side} side is not finite: {answer['losses'][-1]}")
        return answer["seconds"]


def _broken(side: str, end: Ended) -> UserError:
    return UserError(f"bench training: the {side} side {str(end).removeprefix('its process ')}, see above")


@contextmanager
def _worker(side: str, directory: Path, devices: int, device: str, budget: Budget) -> Iterator[Worker]:
    environment = {**DEVICES[device], "JAX_NUM_CPU_DEVICES": str(devices)}
    name, arguments = "attnlab.bench.worker", [side, str(directory)]
    with ExitStack() as stack:
        try:
            process = stack.enter_context(started(name, arguments, environment, budget.left()))
        except Ended as end:
            raise _broken(side, end) from None
        yield Worker(side, process)


def _round(sides: Mapping[str, Worker], batches: list[Batch], chunk: list[int], order: Sequence[str]) -> Round:
    seconds = {side: sides[side].run(chunk) for side in order}
    tokens = sum(int(batches[number]["target_lengths"].sum()) for number in chunk)
    return Round(tokens, seconds["jax"], seconds["torch"])


def _pairs(experiment: Experiment, data_dir: Path | None, directory: Path, made_up: bool) -> dict[str, Any]:
    """Return the pairs that are trained on, the sizes of their vocabularies, and where the tokenizers were written."""
    if made_up:
        size = invented.vocabulary_of(experiment)
        return {"pairs": invented.pairs(size), "tokenizers": None, "vocabularies": (size, size)}
    corpus: Any = TranslationTask.load(experiment, data_dir)
    task = TranslationTask.prepare(experiment, corpus)
    tokenizers = task.tokenizers
    tokenizers.save(directory / "tokenizers")
    sizes = tokenizers.source.vocabulary_size, tokenizers.target.vocabulary_size
    return {"pairs": task.pairs(corpus.train), "tokenizers": str(directory / "tokenizers"), "vocabularies": sizes}


def _prepare(
    experiment: Experiment, work: Mapping[str, Any], directory: Path, count: int, row_multiple: int
) -> tuple[list[Batch], list[int], float]:
    """Write what the workers read; return the batches, the numbers that show every shape once, and the real share.

    The batches of the warm-up come after the `count` that are measured.
    """
    training, (source, target) = experiment.training, work["vocabularies"]
    stream = Batches.of_pairs(work["pairs"], training.batch_tokens, training.buckets, experiment.seed, row_multiple)
    batches = [stream.batch(step) for step in range(count)]
    batches += _one_of_each_shape(stream)
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


def _one_of_each_shape(stream: Batches) -> list[Batch]:
    """Pick from an epoch one batch of each shape."""
    found = {}
    for step in range(len(stream)):
        batch = stream.batch(step)
        found.setdefault((batch["source"].shape, batch["target_in"].shape), batch)
        if len(found) == len(stream.shapes):
            break
    return list(found.values())


def _real_tokens(batch: Batch) -> int:
    return int(batch["target_lengths"].sum())


def _positions(batch: Batch) -> int:
    return batch["target_in"].size
