"""The training loop: steps, evaluations on dev, checkpoints; it ends after the last step, early, or when interrupted.

An interrupted and resumed run goes through the same states as an uninterrupted one: everything that a decision or a
line of the log depends on is in the checkpoint (`TrainState` and running sums) or in the log (`run.metrics()`).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import jax
from jaxtyping import PyTree

from attnlab.config import Training
from attnlab.config.errors import UserError
from attnlab.system.stages import stage
from attnlab.training.signals import Interrupted
from attnlab.training.steps import Batch, Metrics, TrainState, shard_batch

LOG_EVERY = 50
"""Steps between lines of the log."""

Poll = Callable[[], None]
"""Raises `Interrupted` after a signal to stop."""
PER_STEP = ("gradient_norm", "learning_rate")
"""Metrics of a single step, logged as they are; all others are means over the examples or tokens of a batch."""


class TrainingRun(Protocol):
    """The part of a run directory that the loop uses (see results/run.py)."""

    checkpoints: Any

    def log(self, step: int, **values: Any) -> None: ...

    def metrics(self) -> list[dict[str, Any]]: ...


class ProgressCallback(Protocol):
    """Receives the progress of training (see progress.py)."""

    def step(self, step: int, loss: float, count: int, compiling: bool) -> None: ...

    def evaluated(self, step: int, scores: dict[str, float], best: bool) -> None: ...


class RunningMeans:
    """Means of metrics over the steps since the last line of the log, weighted by the count of each batch.

    Args:
        sums: `sums` of the checkpoint that training resumes from; empty at the start.

    >>> means = RunningMeans()
    >>> means.update({"loss": 2.0, "learning_rate": 0.1}, count=1)
    >>> means.update({"loss": 1.0, "learning_rate": 0.2}, count=3)
    >>> means.compute()
    {'loss': 1.25, 'learning_rate': 0.2}
    """

    def __init__(self, sums: Mapping[str, float] | None = None):
        self.sums = dict(sums or {})
        self._last: dict[str, float] = {}

    def update(self, metrics: Mapping[str, float], count: float) -> None:
        """Add the metrics of one step.

        Args:
            metrics: means over the batch, and the metrics of `PER_STEP`.
            count: examples or tokens in the batch.
        """
        self._last = dict(metrics)
        weighted = {name: value * count for name, value in metrics.items() if name not in PER_STEP} | {"count": count}
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in weighted.items()}

    def compute(self) -> dict[str, float]:
        """Return the means and start again."""
        count = max(self.sums.get("count", 0.0), 1.0)
        means = {name: value if name in PER_STEP else self.sums[name] / count for name, value in self._last.items()}
        self.sums = {}
        return means


def fit(
    state: TrainState,
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    batches: Iterator[Batch],
    *,
    training: Training,
    monitor: str,
    evaluate: Callable[[PyTree, Poll], dict[str, float]],
    run: TrainingRun,
    progress: ProgressCallback,
    poll: Poll,
) -> TrainState:
    """Train from `state` to the end.

    Args:
        state: the state to start from; its step is the number of steps taken.
        train_step: see `steps.make_train_step`.
        batches: beginning with the batch of the next step.
        training: number of steps, patience, and steps between evaluations.
        monitor: name of the validation metric that selects checkpoints; larger is better.
        evaluate: (params, poll) -> validation metrics, `monitor` among them.
        run: writes the log and the checkpoints.
        progress: receives every step and every evaluation.
        poll: called between steps and inside evaluations.

    Returns: the last state.
    Raises:
        Interrupted: raised by `poll`; the state is saved first.
        UserError: the loss or the gradient is not finite.
    """
    step = int(state.step)
    log = run.metrics()
    history = [(entry["step"], entry[monitor]) for entry in log if monitor in entry]
    means = RunningMeans(run.checkpoints.running_sums(step) if step else None)
    clock = _Clock(max((entry.get("seconds", 0.0) for entry in log), default=0.0))
    shapes: set[tuple] = set()
    try:
        while True:
            if _due(step, training) and (not history or history[-1][0] != step):
                scores = evaluate(state.params, poll)
                best = not history or scores[monitor] > max(score for _, score in history)
                history.append((step, scores[monitor]))
                run.log(step, **scores, seconds=clock.seconds())
                run.checkpoints.save(step, state, scores, best=best, running_sums=means.sums)
                progress.evaluated(step, scores, best)
            if step >= training.steps or should_stop_early(history, training.patience):
                return state
            poll()
            batch = next(batches)
            shape = tuple((name, array.shape) for name, array in batch.items())
            with stage("step"):
                state, metrics = train_step(state, shard_batch(batch))
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
            step += 1
            if not (math.isfinite(values["loss"]) and math.isfinite(values["gradient_norm"])):
                raise UserError(
                    f"step {step}: loss {values['loss']}, gradient norm {values['gradient_norm']}: "
                    "nothing of this step is saved; "
                    "try a lower training.optimizer.learning_rate or a training.optimizer.clip_norm"
                )
            count = values.pop("count")
            means.update(values, count)
            progress.step(step, values["loss"], int(count), shape not in shapes)
            shapes.add(shape)
            if step % LOG_EVERY == 0:
                run.log(step, **means.compute(), seconds=clock.seconds())
    except Interrupted:
        if step > 0 and step not in run.checkpoints.steps():
            run.checkpoints.save(step, state, temporary=True, running_sums=means.sums)
        raise


def _due(step: int, training: Training) -> bool:
    return step > 0 and (step % training.evaluate_every == 0 or step == training.steps)


def should_stop_early(history: list[tuple[int, float]], patience: int | None) -> bool:
    """Return whether none of the last `patience` evaluations exceeds the best one before them."""
    if patience is None or len(history) <= patience:
        return False
    scores = [score for _, score in history]
    return max(scores[-patience:]) <= max(scores[:-patience])


class _Clock:
    """Wall time of the whole run, over all its sessions."""

    def __init__(self, before: float):
        self._start = time.monotonic() - before

    def seconds(self) -> float:
        return round(time.monotonic() - self._start, 2)
