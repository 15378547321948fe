"""The settings that are selected by name, and the valid values of each."""

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel

from attnlab.config.experiment import Experiment
from attnlab.config.explain import kind_of, models_of

Setting = tuple[str, list[str]]
"""The path of a key, and its valid values."""


def choices() -> Iterator[tuple[str, list[Setting]]]:
    """Yield the settings that are selected by name, grouped by kind of task; the settings of all models come last.

    >>> dict(dict(choices())["task.kind=story_qa"])["model.kind"]
    ['memory_network', 'transformer_story_reader']
    """
    for task in models_of(Experiment.model_fields["task"].annotation):
        models = list(getattr(task, "models"))  # noqa: B009
        yield f"task.kind={kind_of(task)}", [*_settings(task, "task."), ("model.kind", models)]
    fields = {name: Experiment.model_fields[name] for name in ("model", "training")}
    settings = [item for name, field in fields.items() for item in _merged(models_of(field.annotation), f"{name}.")]
    yield "model and training (mods are a list, as 'model.attention.mods=[{kind: soft_cap, cap: 30}]')", settings


def _settings(model: type[BaseModel], place: str) -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        is_list = get_origin(field.annotation) is tuple
        models = models_of(get_args(field.annotation)[0] if is_list else field.annotation)
        if model in models:  # recursive, such as a mask made of masks
            continue
        if len(models) > 1:
            yield f"{place}{name}{'[]' if is_list else ''}.kind", [kind for kind in map(kind_of, models) if kind]
        elif name != "kind":
            if literal := _literals(field.annotation):
                yield f"{place}{name}", literal
        if not is_list:
            yield from _merged(models, f"{place}{name}.")


def _literals(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _merged(models: list[type[BaseModel]], place: str) -> Iterator[Setting]:
    """Yield the settings of several kinds of one section; a key that several kinds have gets the values of all."""
    merged: dict[str, list[str]] = {}
    for model in models:
        for key, names in _settings(model, place):
            values = merged.setdefault(key, [])
            values += [name for name in names if name not in values]
    yield from merged.items()
