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

    Of two sections of different kinds only the kind is yielded, since their other keys do not correspond.

    >>> list(iter_differences({"model": {"width": 8, "heads": 2}}, {"model": {"width": 4, "heads": 2}}))
    [('model.width', '8', '4')]
    >>> list(iter_differences({"score": {"kind": "additive", "hidden": 8}}, {"score": {"kind": "dot"}}))
    [('score.kind', '"additive"', '"dot"')]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        absent = object()
        names = [*first, *(name for name in second if name not in first)]
        if first.get("kind") != second.get("kind"):
            names = ["kind"]
        for name in names:
            yield from iter_differences(first.get(name, absent), second.get(name, absent), (*place, name))
    elif type(first) is not type(second) or first != second:
        yield ".".join(place), _value_text(first), _value_text(second)


def _value_text(value: Any) -> str:
    return "absent" if type(value) is object else shortened(value)
