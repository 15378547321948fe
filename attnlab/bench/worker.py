"""One side of `bench training` in its own process: takes training steps on request and times them.

    python -m attnlab.bench.worker jax|torch DIRECTORY

DIRECTORY contains `work.json` (experiment, vocabularies, threads) and `batches.npz`. Every line on standard input is a
JSON list of batch numbers; the response is one line {"seconds": ..., "losses": [...]}. The sides work alternately, so
that neither slows the other down.
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
    """Build the training step of attnlab, data parallel over one host device per core, or on a GPU."""
    import jax

    from attnlab.data.text.tokenizer import Tokenizers
    from attnlab.tasks.translation.task import TranslationTask
    from attnlab.training.steps import initial_state, make_train_step, shard_batch

    if work["tokenizers"] is None:  # synthetic pairs are token ids
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

    device = jax.devices()[0].device_kind if work["device"] == "gpu" else f"{jax.device_count()} host devices"
    return step, f"jax {jax.__version__}, {device}"


def torch_side(work: dict[str, Any], experiment: Experiment) -> tuple[Step, str]:
    """Build the same training step in PyTorch."""
    from attnlab.bench.torch_trainer import Trainer, use_threads

    device = "cuda" if work["device"] == "gpu" else "cpu"
    runtime = use_threads(work["threads"], device)
    return Trainer(experiment, work["source_vocabulary"], work["target_vocabulary"], device).step, runtime


SIDES = {"jax": jax_side, "torch": torch_side}


def serve(side: str, directory: Path) -> None:
    """Handle requests until standard input ends; everything else that is printed goes to standard error."""
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    keep_freed_memory()  # as in `attnlab train`; PyTorch is faster with it too
    work = json.loads((directory / "work.json").read_text(encoding="utf-8"))
    step, runtime = SIDES[side](work, Experiment.model_validate_json(json.dumps(work["experiment"])))
    batches = _load(directory / "batches.npz")

    def respond(**values: Any) -> None:
        print(json.dumps(values), file=responses, flush=True)

    respond(runtime=runtime)
    for line in sys.stdin:
        start = time.perf_counter()
        losses = [step(batches[number]) for number in json.loads(line)]
        respond(seconds=time.perf_counter() - start, losses=losses)


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
