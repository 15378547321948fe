"""One side of a comparison in a process of its own: takes training steps when told to, and says how long they took.

    python -m attnlab.bench.worker jax|torch DIRECTORY

DIRECTORY holds `work.json` (experiment, vocabularies, threads) and `batches.npz`. Every line on standard input is a
JSON list of batch numbers; the answer is one line {"seconds": ..., "losses": [...]}. The sides take turns, so that
neither slows the other.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from attnlab.config import Experiment
from attnlab.system.heap import keep_freed_memory

Batch = dict[str, np.ndarray]
Step = Callable[[Batch], float]
"""Takes one training step and returns its loss."""


def jax_side(work: dict[str, Any], experiment: Experiment) -> tuple[Step, str]:
    """Build attnlab's own training step, data parallel over one host device a core, or on a GPU."""
    import jax

    from attnlab.data.text.tokenizer import Tokenizers
    from attnlab.tasks.translation.task import TranslationTask
    from attnlab.training.steps import initial_state, make_train_step, shard_batch

    if work["tokenizers"] is None:  # made-up pairs: numbers alone
        sizes = (SimpleNamespace(vocabulary_size=work[f"{side}_vocabulary"]) for side in ("source", "target"))
        tokenizers: Any = SimpleNamespace(**dict(zip(("source", "target"), sizes, strict=True)))
    else:
        tokenizers = Tokenizers.load(Path(work["tokenizers"]))
    task = TranslationTask(experiment, tokenizers)
    state = initial_state(task.initialize, experiment.training, experiment.seed)
    train_step = make_train_step(task.loss, experiment.training, experiment.seed)

    def step(batch: Batch) -> float:
        nonlocal state
        state, metrics = train_step(state, shard_batch(batch))
        return float(jax.block_until_ready(metrics["loss"]))

    where = jax.devices()[0].device_kind if work["device"] == "gpu" else f"{jax.device_count()} host devices"
    return step, f"jax {jax.__version__}, {where}"


def torch_side(work: dict[str, Any], experiment: Experiment) -> tuple[Step, str]:
    """Build the same step in PyTorch."""
    from attnlab.bench.torch_trainer import Trainer, use_threads

    device = "cuda" if work["device"] == "gpu" else "cpu"
    about = use_threads(work["threads"], device)
    return Trainer(experiment, work["source_vocabulary"], work["target_vocabulary"], device).step, about


SIDES = {"jax": jax_side, "torch": torch_side}


def serve(side: str, directory: Path) -> None:
    """Answer on the standard output as it was at the start; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    keep_freed_memory()  # as `attnlab train` does; PyTorch gains by it too
    work = json.loads((directory / "work.json").read_text(encoding="utf-8"))
    step, about = SIDES[side](work, Experiment.model_validate_json(json.dumps(work["experiment"])))
    batches = _load(directory / "batches.npz")

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    answer(about=about)
    for line in sys.stdin:
        start = time.perf_counter()
        losses = [step(batches[number]) for number in json.loads(line)]
        answer(seconds=time.perf_counter() - start, losses=losses)


def _load(path: Path) -> list[Batch]:
    """Read batches from arrays named `<number>/<name>`."""
    batches: dict[int, Batch] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for full_name in arrays.files:
            number, name = full_name.split("/")
            batches.setdefault(int(number), {})[name] = arrays[full_name]
    return [batches[number] for number in sorted(batches)]


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]))
