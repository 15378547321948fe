"""An experiment: the sentence made of a task, a model and a training."""

from typing import Self

from pydantic import model_validator

from attnlab.config.base import Config, FileName, Seed
from attnlab.config.models import Model
from attnlab.config.task import Task
from attnlab.config.training import Training


class Experiment(Config):
    """All that decides the numbers of a run, and nothing else."""

    name: FileName
    """Filled from the file's name when it is not given; the run's folder is named after it."""
    seed: Seed = 1
    """Seed of the initial parameters, of dropout and of the order of the training examples."""
    task: Task
    """What the model learns to do, and the data."""
    model: Model
    """The model that is trained."""
    training: Training
    """How the model is trained."""

    @model_validator(mode="after")
    def _model_fits_task(self) -> Self:
        if reason := self.task.incompatibility(self.model):
            raise ValueError(reason)
        return self

    def tiny(self) -> Self:
        """Make it so small that it runs in seconds: it shows that everything works, not how well.

        Every kind stays, so the same code runs, and its own `-tiny` name keeps runs apart. Idempotent; no number grows
        except to keep the widths that a dot product needs.
        """
        return self.replace(
            name=self.name if self.name.endswith("-tiny") else f"{self.name}-tiny",
            task=self.task.tiny(),
            model=self.model.tiny(),
            training=self.training.tiny(),
        )
