"""The parameters of an experiment and the operations of its training step, counted without running anything."""

from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import jax

from attnlab.config import Experiment
from attnlab.data.text.batching import Batches
from attnlab.tasks.base import Task
from attnlab.tasks.registry import task_class
from attnlab.training.steps import TrainState, initial_state, make_train_step


class StepCounter:
    """Counts for one experiment with several sizes of its model; data and vocabularies are prepared once.

    Attributes:
        config: the experiment.
    """

    def __init__(self, config: Experiment, data_dir: Path | None) -> None:
        """Read the data, and learn the vocabularies.

        Args:
            config: the experiment.
            data_dir: directory of datasets; None for an experiment that needs none.
        """
        self.config = config
        splits = task_class(config).load(config, data_dir)
        self._task = task_class(config).prepare(config, splits, data_dir)
        self._train = splits.train
        self._files = TemporaryDirectory()
        for name, content in self._task.files().items():
            path = Path(self._files.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self._files.cleanup()

    def parameters(self, config: Experiment) -> int:
        """Return the number of parameters of the experiment with another size of its model."""
        return sum(leaf.size for leaf in jax.tree.leaves(self._state(self._with(config)).params))

    def flops(self, config: Experiment) -> float:
        """Return the operations of a training step with another size of the model, the mean over an epoch.

        As `attnlab cost` counts them: on all devices together, all floating-point operations.
        """
        from attnlab.bench.flops import flops

        task = self._with(config)
        state, total, steps = self._state(task), 0, 0
        step: Any = make_train_step(task.loss, config.training, config.seed)
        for members in self._batches.steps_by_shape().values():
            traced = step.func.trace(state, self._batches.batch(members[0]), **step.keywords)
            total += flops(traced.jaxpr).total * len(members)
            steps += len(members)
        return total / steps

    def _with(self, config: Experiment) -> Task:
        if config == self.config:
            return self._task
        return task_class(config).restore(config, Path(self._files.name))

    def _state(self, task: Task) -> TrainState:
        initialize = partial(initial_state, task.initialize, task.config.training, task.config.seed)
        return jax.eval_shape(initialize)

    @cached_property
    def _batches(self) -> Batches:
        return self._task.training_batches(self._train).batches
