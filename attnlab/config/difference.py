"""Differences between two configs."""

from collections.abc import Iterator
from typing import Any

from attnlab.config.experiment import Experiment
from attnlab.config.explain import Place, shortened


def difference(run: Experiment, config: Experiment) -> list[str]:
    """Return a line for each setting of a config that differs from a run: `model.dropout: 0.1 in the run, 0.2 here`."""
    differences = iter_differences(run.model_dump(mode="json"), config.model_dump(mode="json"))
    return [f"{place}: {old} in the run, {new} here" for place, old, new in differences]


def iter_differences(first: Any, second: Any, place: Place = ()) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that differ between the data of two configs: the key, and its value in each.

    >>> list(iter_differences({"model": {"width": 8, "heads": 2}}, {"model": {"width": 4, "heads": 2}}))
    [('model.width', '8', '4')]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        absent = object()
        for name in [*first, *(name for name in second if name not in first)]:
            yield from iter_differences(first.get(name, absent), second.get(name, absent), (*place, name))
    elif type(first) is not type(second) or first != second:
        yield ".".join(place), _value_text(first), _value_text(second)


def _value_text(value: Any) -> str:
    return "absent" if type(value) is object else shortened(value)
