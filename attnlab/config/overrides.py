"""Apply overrides such as `model.dropout=0.2` to a config."""

import copy
from collections.abc import Sequence
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.explain import Place, cut, dotted, shortened
from attnlab.config.yaml_text import parse_value

MAX_DEPTH = 50
"""Largest number of keys in the path of an override."""
WARMUP: Place = ("training", "optimizer", "warmup_steps")


def parse_override(text: str) -> tuple[Place, Any]:
    """Return the path and the value of an override `key.path=value`."""
    dotted, equals, value = text.partition("=")
    place = tuple(dotted.strip().split("."))
    where = f"override {cut(text)!r}"
    if not equals or not all(place):
        raise UserError(f"{where}: expected key.path=value, such as model.dropout=0.2")
    if len(place) > MAX_DEPTH:
        raise UserError(f"{where}: a path of {len(place)} keys; paths have at most {MAX_DEPTH} keys")
    if not value.strip():
        raise UserError(f"{where}: has no value after '='; null means none")
    return place, parse_value(value, where)


def apply(data: dict[str, Any], place: Place, value: Any) -> Place:
    """Set a value in `data`; return the place of the section or value that now comes from the override."""
    section = data
    for depth, name in enumerate(place[:-1]):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            outer = dotted(place[: depth + 1])
            raise UserError(f"override {dotted(place)}: {outer} is {shortened(section)}, not a section with keys")
    if place[-1] == "kind" and section.get("kind", value) != value:
        section.clear()
        section["kind"] = value
        return place[:-1]
    section[place[-1]] = copy.deepcopy(value)
    if place[-1] == "function":
        section.pop("source", None)
        section.pop("modules", None)
    return place


def schedule(data: dict[str, Any]) -> tuple[Any, Any]:
    """Return `steps` and `warmup_steps` of a config before validation; None for a missing value."""
    training = data.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    warmup = optimizer.get("warmup_steps") if isinstance(optimizer, dict) else None
    return (training.get("steps") if isinstance(training, dict) else None), warmup


def keep_warmup_share(data: dict[str, Any], original: tuple[Any, Any], overridden: Sequence[Place]) -> None:
    """Shorten the warm-up in proportion if an override reduces the steps but does not set the warm-up.

    Args:
        data: the config after the overrides.
        original: its `schedule` before the overrides.
        overridden: the places that the overrides set.
    """
    (old_steps, old_warmup), (steps, warmup) = original, schedule(data)
    sets_warmup = any(WARMUP[: len(place)] == place for place in overridden)
    are_counts = all(type(number) is int and number > 0 for number in (old_steps, old_warmup, steps))
    if are_counts and not sets_warmup and warmup == old_warmup and steps < old_steps:
        data["training"]["optimizer"]["warmup_steps"] = old_warmup * steps // old_steps
