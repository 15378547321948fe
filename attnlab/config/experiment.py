"""An experiment: the sentence made of a task, a model and a training."""

from typing import Self

from pydantic import NonNegativeInt, model_validator

from attnlab.config.base import Config
from attnlab.config.model import Model
from attnlab.config.task import Task
from attnlab.config.training import Training


class Experiment(Config):
    """All that decides the numbers of a run, and nothing else."""

    name: str
    """Filled from the file's name when it is not given."""
    seed: NonNegativeInt = 1
    task: Task
    model: Model
    training: Training

    @model_validator(mode="after")
    def _tied_source_needs_joint_vocabulary(self) -> Self:
        if self.model.tie_embeddings == "all" and not self.task.tokenizer.joint:
            raise ValueError("model.tie_embeddings all needs task.tokenizer.joint: true")
        return self
