"""Overrides of a config, as on the command line: `model.dropout=0.2`."""

import copy
from collections.abc import Sequence
from typing import Any

from attnlab.config.errors import UserError
from attnlab.config.explain import Place, cut, dotted, shortened
from attnlab.config.yaml_text import parse_value

DEEPEST = 50
"""Most keys in the path of an override."""
WARMUP: Place = ("training", "optimizer", "warmup_steps")


def parse_override(text: str) -> tuple[Place, Any]:
    dotted, equals, value = text.partition("=")
    place = tuple(dotted.strip().split("."))
    where = f"override {cut(text)!r}"
    if not equals or not all(place):
        raise UserError(f"{where}: expected key.path=value, such as model.dropout=0.2")
    if len(place) > DEEPEST:
        raise UserError(f"{where}: {len(place)} keys inside one another; no setting is so deep")
    if not value.strip():
        raise UserError(f"{where}: has no value after '='; null means none")
    return place, parse_value(value, where)


def apply(data: dict[str, Any], place: Place, value: Any) -> Place:
    """Set the value in place; the answer is the place of what now comes from the override."""
    section = data
    for depth, name in enumerate(place[:-1]):
        if section.get(name) is None:
            section[name] = {}
        section = section[name]
        if not isinstance(section, dict):
            outer = dotted(place[: depth + 1])
            raise UserError(f"override {dotted(place)}: {outer} is {shortened(section)}, not a section with keys in it")
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
    """Read `steps` and `warmup_steps` of a config that is not checked yet; None for what is not there."""
    training = data.get("training")
    optimizer = training.get("optimizer") if isinstance(training, dict) else None
    warmup = optimizer.get("warmup_steps") if isinstance(optimizer, dict) else None
    return (training.get("steps") if isinstance(training, dict) else None), warmup


def keep_warmup_share(data: dict[str, Any], begun: tuple[Any, Any], overridden: Sequence[Place]) -> None:
    """Shorten the file's warm-up with the training, where an override shortens the training alone."""
    (before, warmup), (steps, same) = begun, schedule(data)
    given = any(WARMUP[: len(place)] == place for place in overridden)
    counts = all(type(number) is int and number > 0 for number in (before, warmup, steps))
    if counts and not given and same == warmup and steps < before:
        data["training"]["optimizer"]["warmup_steps"] = warmup * steps // before
