"""The registry of tasks: the class that implements each kind."""

from importlib import import_module

from attnlab.config import Experiment
from attnlab.tasks.base import Task

CLASSES = {
    "translation": "attnlab.tasks.translation.task:TranslationTask",
    "classification": "attnlab.tasks.classification.task:ClassificationTask",
    "story_qa": "attnlab.tasks.story_qa.task:StoryQATask",
    "extractive_qa": "attnlab.tasks.extractive_qa.task:ExtractiveQATask",
    "captioning": "attnlab.tasks.captioning.task:CaptioningTask",
    "visual_qa": "attnlab.tasks.visual_qa.task:VisualQATask",
}
"""`task.kind` of a config -> module and class, as in an entry point; the module is imported on first use."""

CLASS_ATTRIBUTES = [name for name, hint in Task.__annotations__.items() if "ClassVar" in str(hint)]
"""The attributes of `Task` that every task defines in its class."""


def task_class(config: Experiment) -> type[Task]:
    """Return the class that implements an experiment's task."""
    return task_class_of_kind(config.task.kind)


def task_class_of_kind(kind: str) -> type[Task]:
    """Return the class that implements a kind of task; a class without an attribute of `Task` is a `TypeError`."""
    module, _, name = CLASSES[kind].partition(":")
    task = getattr(import_module(module), name)
    if missing := [attribute for attribute in CLASS_ATTRIBUTES if not hasattr(task, attribute)]:
        raise TypeError(f"{name} must define {', '.join(missing)}; see attnlab/tasks/base.py")
    return task
