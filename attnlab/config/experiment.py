"""An experiment: a task, a model and a training."""

from typing import Self

from pydantic import model_validator

from attnlab.config.base import Config, FileName, Seed
from attnlab.config.models import Model
from attnlab.config.task import Task
from attnlab.config.training import Training


class Experiment(Config):
    """Config of an experiment: all settings that determine the results of a run."""

    name: FileName
    """Name of the experiment, which also names the run's folder. By default it is the name of the file."""
    seed: Seed = 1
    """Seed of the initial parameters, of dropout and of the order of the training examples."""
    task: Task
    """The task and its data."""
    model: Model
    """The model that is trained."""
    training: Training
    """How the model is trained."""

    @model_validator(mode="after")
    def _model_fits_task(self) -> Self:
        if reason := self.task.incompatibility(self.model):
            raise ValueError(reason)
        objective = getattr(self.task, "objective", None)
        if objective is not None and self.training.label_smoothing:
            raise ValueError(
                f"training.label_smoothing {self.training.label_smoothing} must be 0 with task.objective.kind "
                f"{objective.kind}, which uses no labels"
            )
        return self

    def tiny(self) -> Self:
        """Return a copy that runs in seconds, to check that everything works.

        All kinds are kept, so that the same code runs; the name gets the suffix `-tiny`, so that runs have separate
        folders. Idempotent. No number grows, except where a dot product needs equal widths.
        """
        return super().tiny().replace(name=self.name if self.name.endswith("-tiny") else f"{self.name}-tiny")
