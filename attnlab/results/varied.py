"""What is varied between groups of runs: their names, the settings that differ, and refusal of other differences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attnlab.config.difference import iter_differences
from attnlab.config.errors import UserError
from attnlab.results.groups import RunGroup
from attnlab.results.record import INPUTS

UNRELATED = ("name", "seed")
"""Settings that are no part of a comparison."""
FOLLOWS = {"training.optimizer.warmup_steps": "training.steps"}
"""Settings whose default is computed from another setting: no difference of their own where that one differs."""
FLAG = "--allow-differences"
SHOWN = 6
"""Largest number of differences in a message."""


def labels(groups: Sequence[RunGroup]) -> list[str]:
    """Return a short name for every group.

    It is the name of the experiment, or of the directory of a single run. Groups of one experiment are named by the
    overrides that not all of them have, such as `score=dot`, and by their directories if there are none.
    """
    names = [group.runs[0].directory.resolve().name if len(group.runs) == 1 else group.name for group in groups]
    shared = set.intersection(*(set(_overrides(group)) for group in groups))
    alike = len({group.name for group in groups}) == 1
    short = []
    for group, name in zip(groups, names, strict=True):
        own = ", ".join(_short(key, value) for key, value in _overrides(group) if (key, value) not in shared)
        if own and len(group.runs) > 1 and names.count(name) > 1:
            name = own if alike else f"{name} ({own})"
        short.append(name)
    return [name if short.count(name) == 1 else group.directories for name, group in zip(short, groups, strict=True)]


def _short(key: str, value: str) -> str:
    """Return the last part of a key with its value; a part without options is named by its kind."""
    kind = re.fullmatch(r"\{\s*kind:\s*([\w-]+)\s*\}", value)
    last, whole = key.rpartition(".")[2], kind[1] if kind else value
    return f"{key.split('.')[-2]}={whole}" if last == "kind" else f"{last}={whole}"


def varied_settings(groups: Sequence[RunGroup]) -> dict[str, list[str]]:
    """Return the settings in which groups differ: key -> the value of every group.

    The seed is one of them where no group has several.
    """
    several = any(len(group.runs) > 1 for group in groups)
    first = dict(groups[0].runs[0].config)
    found: dict[str, list[str]] = {}
    for number, group in enumerate(groups):
        for place, value, other in iter_differences(first, dict(group.runs[0].config)):
            if place != "name" and not (several and place == "seed"):
                found.setdefault(place, [value] * len(groups))[number] = other
    return found


def refuse_unvaried(groups: Sequence[RunGroup], names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> None:
    """Raise if groups that are compared differ in more than what is varied.

    What is varied is what the overrides of both groups set, as a sweep does for its axes, or else a single setting. A
    part of another kind, such as another score function, is one setting.

    Args:
        groups: the groups.
        names: their names, for the message.
        pairs: which of them are compared.
    Raises:
        UserError: names the settings.
    """
    for first, second in pairs:
        varied, others = _differences(groups[first], groups[second])
        if others and (varied or len(others) > 1):
            listed = "; ".join(f"{place}: {value} vs. {other}" for place, value, other in others[:SHOWN])
            more = f"; and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
            meant = f" than {', '.join(varied)}" if varied else " than one setting"
            raise UserError(
                f"{names[first]} and {names[second]} differ in more{meant}: {listed}{more}; "
                f"{FLAG} compares them all the same"
            )


def _differences(first: RunGroup, second: RunGroup) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Return the overridden keys of both groups that differ, and all other settings that differ."""
    keys = {key for key, _ in _overrides(first)} & {key for key, _ in _overrides(second)}
    varied: dict[str, None] = {}
    others = []
    found = list(iter_differences(dict(first.runs[0].config), dict(second.runs[0].config)))
    places = {place for place, *_ in found}
    for place, *values in found:
        if place in UNRELATED or FOLLOWS.get(place) in places:
            continue
        key = next((key for key in keys if _contains(key, place) or _contains(place, key)), None)
        if key is None:
            others.append((place, *values))
        else:
            varied[key] = None
    return list(varied), [*others, *_inputs(first, second, [*varied, *(place for place, *_ in others)])]


def _inputs(first: RunGroup, second: RunGroup, explained: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Yield the inputs with different fingerprints, such as data of the same name, unless a setting explains them."""
    sections = {
        "data": ("task.data",), "pretrained": ("model.pretrained",), "base": ("task.objective", "model.pooling"),
    }  # fmt: skip
    hashes, others = (_fingerprint(group) for group in (first, second))
    for name in INPUTS:
        if hashes.get(name) != others.get(name):
            pairs = ((section, place) for section in sections[name] for place in explained)
            if not any(_contains(section, place) or _contains(place, section) for section, place in pairs):
                yield f"fingerprint of the {name}", str(hashes.get(name))[:12], str(others.get(name))[:12]


def _fingerprint(group: RunGroup) -> Mapping[str, Any]:
    return group.runs[0].environment["fingerprint"]


def _overrides(group: RunGroup) -> list[tuple[str, str]]:
    """Return the overrides that all runs of a group have, without the seed."""
    texts = [text for text in group.runs[0].overrides if all(text in run.overrides for run in group.runs)]
    pairs = (text.partition("=") for text in texts)
    return [(key, value) for key, _, value in pairs]


def _contains(key: str, place: str) -> bool:
    return place == key or place.startswith(f"{key}.")
