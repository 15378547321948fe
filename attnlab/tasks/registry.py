"""The registry of tasks: the class that implements each kind."""

from importlib import import_module

from attnlab.config import Experiment
from attnlab.tasks.base import Task

CLASSES = {
    "translation": "TranslationTask",
    "classification": "ClassificationTask",
    "story_qa": "StoryQATask",
    "extractive_qa": "ExtractiveQATask",
    "captioning": "CaptioningTask",
    "visual_qa": "VisualQATask",
}
"""`task.kind` of a config -> class in `attnlab.tasks.<kind>.task`, which is imported on first use."""


def task_class(config: Experiment) -> type[Task]:
    """Return the class that implements an experiment's task."""
    return task_class_of_kind(config.task.kind)


def task_class_of_kind(kind: str) -> type[Task]:
    """Return the class that implements a kind of task."""
    return getattr(import_module(f"attnlab.tasks.{kind}.task"), CLASSES[kind])
