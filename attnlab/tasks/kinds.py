"""Which class answers for which kind of task."""

from importlib import import_module

from attnlab.config import Experiment
from attnlab.tasks.base import Task

HOMES = {
    "translation": "translation.Translator",
    "classification": "classification.Classifier",
    "stories": "stories.Storyteller",
    "spans": "spans.SpanReader",
    "captioning": "captioning.Captioner",
    "visual_qa": "visual_qa.VisualQuestions",
}
"""Kind in a config -> module and class; imported when asked for."""


def kind(config: Experiment) -> type[Task]:
    """Return the class for the task of an experiment."""
    return named(config.task.kind)


def named(kind: str) -> type[Task]:
    """Return the class for a kind of task."""
    module, name = HOMES[kind].split(".")
    return getattr(import_module(f"attnlab.tasks.{module}"), name)
