"""The training loop: take steps, look at dev now and then, save; stop when done, told to, or no longer getting better.

A run broken off anywhere and taken up again goes through the same states: everything that a decision rests on is in
the checkpoint (`TrainState`) or in the log (`run.metrics()`), nothing in this process.
"""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import jax
from jaxtyping import PyTree

from attnlab.config import Training
from attnlab.config.errors import UserError
from attnlab.training.signals import Interrupted
from attnlab.training.steps import Batch, Metrics, TrainState, place

LOG_EVERY = 50
"""Steps between lines of metrics."""

Poll = Callable[[], None]
"""Raises `Interrupted` when somebody asked to stop."""


class Recorder(Protocol):
    """What the loop needs of a run directory (see runs.py)."""

    checkpoints: Any

    def log(self, step: int, **values: Any) -> None: ...

    def metrics(self) -> list[dict[str, Any]]: ...


class Watcher(Protocol):
    """Who is shown the progress (see progress.py)."""

    def step(self, step: int, loss: float | None, count: int, compiling: bool) -> None: ...

    def evaluated(self, step: int, scores: dict[str, float], best: bool) -> None: ...


def fit(
    state: TrainState,
    train_step: Callable[[TrainState, Batch], tuple[TrainState, Metrics]],
    batches: Iterator[Batch],
    *,
    training: Training,
    measure: str,
    evaluate: Callable[[PyTree, Poll], dict[str, float]],
    run: Recorder,
    watcher: Watcher,
    poll: Poll,
) -> TrainState:
    """Train from `state` to the end.

    Args:
        state: where to start; its step says how many steps were taken.
        train_step: see `steps.make_train_step`.
        batches: from the batch of the next step on.
        training: length, patience, and how often to look.
        measure: name of the score on dev that chooses checkpoints; larger is better.
        evaluate: (params, poll) -> scores on dev, `measure` among them.
        run: keeps the log and the checkpoints.
        watcher: shows progress.
        poll: called between steps and inside evaluations.

    Returns: the last state. Raises `Interrupted` after saving it, when `poll` did.
    """
    step = int(state.step)
    log = run.metrics()
    history = [(entry["step"], entry[measure]) for entry in log if measure in entry]
    clock = _Clock(max((entry.get("seconds", 0.0) for entry in log), default=0.0))
    shapes: set[tuple] = set()
    try:
        while True:
            if _due(step, training) and (not history or history[-1][0] != step):
                scores = evaluate(state.params, poll)
                best = not history or scores[measure] > max(score for _, score in history)
                history.append((step, scores[measure]))
                run.log(step, **scores, seconds=clock.seconds())
                run.checkpoints.save(step, state, scores, best=best)
                watcher.evaluated(step, scores, best)
            if step >= training.steps or hopeless(history, training.patience):
                return state
            poll()
            batch = next(batches)
            shape = tuple((name, array.shape) for name, array in batch.items())
            state, metrics = train_step(state, place(batch))
            step += 1
            logged = {name: float(v) for name, v in jax.device_get(metrics).items()}
            if not (math.isfinite(logged["loss"]) and math.isfinite(logged["gradient_norm"])):
                raise UserError(
                    f"step {step}: loss {logged['loss']}, gradient norm {logged['gradient_norm']}: "
                    "nothing of this step is saved; "
                    "try a lower training.optimizer.learning_rate or a training.optimizer.clip_norm"
                )
            watcher.step(step, logged["loss"], int(logged.pop("count")), shape not in shapes)
            shapes.add(shape)
            if step % LOG_EVERY == 0:
                run.log(step, **logged, seconds=clock.seconds())
    except Interrupted:
        if step > 0 and step not in run.checkpoints.steps():
            run.checkpoints.save(step, state, temporary=True)
        raise


def _due(step: int, training: Training) -> bool:
    return step > 0 and (step % training.evaluate_every == 0 or step == training.steps)


def hopeless(history: list[tuple[int, float]], patience: int | None) -> bool:
    """True when the last `patience` evaluations brought no better score than the best before them."""
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
