"""Where two configs differ."""

from collections.abc import Iterator
from typing import Any

from attnlab.config.experiment import Experiment
from attnlab.config.explain import Place, shortened


def difference(run: Experiment, here: Experiment, there: str = "in the run", this: str = "here") -> list[str]:
    """List the settings that differ, one line each: `model.dropout: 0.1 in the run, 0.2 here`."""
    found = iter_differences(run.model_dump(mode="json"), here.model_dump(mode="json"))
    return [f"{place}: {first} {there}, {second} {this}" for place, first, second in found]


def iter_differences(first: Any, second: Any, place: Place = ()) -> Iterator[tuple[str, str, str]]:
    """Yield the settings that differ between two configs as data: the key, and its value in each.

    >>> list(iter_differences({"model": {"width": 8, "heads": 2}}, {"model": {"width": 4, "heads": 2}}))
    [('model.width', '8', '4')]
    """
    if isinstance(first, dict) and isinstance(second, dict):
        absent = object()
        for name in [*first, *(name for name in second if name not in first)]:
            yield from iter_differences(first.get(name, absent), second.get(name, absent), (*place, name))
    elif type(first) is not type(second) or first != second:
        yield ".".join(place), _shown(first), _shown(second)


def _shown(value: Any) -> str:
    return "absent" if type(value) is object else shortened(value)
