"""The cost of a training step, before training: parameters, operations, memory and time."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jax

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch
from attnlab.results.step_cost import BatchCost, StepCost
from attnlab.system.messages import print_to_stderr
from attnlab.system.stages import stage
from attnlab.tasks.registry import task_class
from attnlab.training.environment import environment
from attnlab.training.steps import TrainState, initial_state, make_train_step, shard_batch

STEPS = 5
"""Steps of every shape of batch that are timed."""


def cost(
    config: Experiment,
    data_dir: Path | None,
    steps: int = STEPS,
    *,
    notify: Callable[[str], None] = print_to_stderr,
) -> StepCost:
    """Count and time the training steps of an experiment, without training it.

    Every shape of batch is compiled and timed; means weigh them by their steps in an epoch. Nothing is written.

    Args:
        config: the experiment.
        data_dir: directory of datasets; None for an experiment that needs none.
        steps: steps to time for every shape of batch, after one that is not timed.
        notify: receives lines of progress.
    Raises:
        UserError: the data are invalid, or `steps` is below 1.
    """
    if steps < 1:
        raise UserError(f"--steps {steps}: must be at least 1")
    with stage("data"):
        splits = task_class(config).load(config, data_dir)
        task = task_class(config).prepare(config, splits, data_dir)
        batches = task.training_batches(splits.train).batches
    state = initial_state(task.initialize, config.training, config.seed)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
    step = make_train_step(task.loss, config.training, config.seed)
    shapes, found, unbounded = batches.steps_by_shape(), [], 0
    for number, (shape, members) in enumerate(shapes.items(), start=1):
        notify(f"batches of {shape.rows} rows: compiling shape {number} of {len(shapes)}")
        trials = [batches.batch(member) for member in members[:steps]]
        state, numbers, loops = _cost_of_shape(step, state, trials, steps)
        found.append(BatchCost(shape.rows, shape.source, shape.target, len(members), **numbers))
        unbounded = max(unbounded, loops)
    machine = environment()
    return StepCost(
        parameters=parameters,
        batches=tuple(sorted(found, key=lambda batch: (batch.source, batch.target))),
        unit=task.loss_unit,
        unbounded_loops=unbounded,
        devices=jax.device_count(),
        machine=f"{machine['cores']} × {machine['processor'] or 'CPU'}" if _on_cpu() else jax.devices()[0].device_kind,
        jax=jax.__version__,
    )


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _cost_of_shape(
    step: Any, state: TrainState, batches: Sequence[Batch], steps: int
) -> tuple[TrainState, dict[str, Any], int]:
    """Return the state after the steps, the numbers of a `BatchCost`, and the number of unbounded loops."""
    from attnlab.bench.flops import flops

    traced = step.func.trace(state, shard_batch(batches[0]), **step.keywords)
    operations = flops(traced.jaxpr)
    with stage("compile"):
        compiled = traced.lower().compile()
    memory = compiled.memory_analysis()
    peak = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak += memory.temp_size_in_bytes
    times, counts = [], []
    for number in range(steps + 1):
        start = time.perf_counter()
        state, metrics = compiled(state, shard_batch(batches[number % len(batches)]), **step.keywords)
        counts.append(int(jax.device_get(metrics["count"])))
        jax.block_until_ready(state)
        times.append(time.perf_counter() - start)
    numbers = {
        "matmul_flops": operations.matmul,
        "flops": operations.total,
        "peak_bytes": int(peak),
        "seconds": median(times[1:]),
        "count": round(sum(counts[1:]) / steps),
    }
    return state, numbers, operations.unbounded_loops
