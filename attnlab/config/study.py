"""A study: a sweep as a config, with the experiment that it varies, axes, seeds and a budget."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PositiveFloat, PositiveInt, ValidationError

from attnlab.config.axes import Axis, axis_of_settings, axis_of_values, value_text
from attnlab.config.base import Config, FileName, Seed
from attnlab.config.errors import UserError
from attnlab.config.explain import dotted, first_mistake, shortened
from attnlab.config.match import Match
from attnlab.config.overrides import parse_override
from attnlab.config.read_file import read_file
from attnlab.config.yaml_text import parse

MOST_SEEDS = 10_000
"""Largest number of seeds of a sweep."""


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a text such as 1-5 or 1,3,7-9.

    Raises:
        ValueError: it is no such text, or a seed is given twice; one line, without the place.

    >>> parse_seeds("1,3,7-9")
    (1, 3, 7, 8, 9)
    """
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,10})\s*(?:-\s*(\d{1,10})\s*)?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < 2**32 or len(seeds) + last - first >= MOST_SEEDS:
            raise ValueError(f"expected seeds such as 1-5 or 1,2,3 (below 2^32), got {shortened(text)}")
        seeds += range(first, last + 1)
    return _distinct(tuple(seeds))


def _distinct(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if twice := next((seed for index, seed in enumerate(seeds) if seed in seeds[:index]), None):
        raise ValueError(f"the seed {twice} is given twice")
    return seeds


def _seeds(value: Any) -> Any:
    if isinstance(value, str):
        return parse_seeds(value)
    return tuple(value) if isinstance(value, list) else (value,) if isinstance(value, int) else value


Seeds = Annotated[tuple[Seed, ...], Field(min_length=1), BeforeValidator(_seeds), AfterValidator(_distinct)]


class Budget(Config):
    """What a study may take."""

    steps: PositiveInt | None = None
    """Training steps of every run; null: as many as the experiment has."""
    minutes: PositiveFloat | None = None
    """Minutes after which a sweep begins no other run; null: no limit."""


class Study(Config):
    """Config of a study: runs of one experiment that differ in the settings of its axes and in the seed."""

    name: FileName
    """Name of the study, which also names its directory and its runs. By default it is the name of the file."""
    base: str
    """Path of the experiment, as in `attnlab train`."""
    overrides: dict[str, Any] = {}
    """Settings of all runs: values by the paths of their keys, such as `model.dropout: 0.2`."""
    axes: dict[str, Any] = {}
    """Settings that vary: for the path of a key, the list of its values. Settings that vary together have a name of
    their own choice, and for the label of each point the values by the paths of their keys."""
    match: Match | None = None
    """Equal parameters or operations for all settings, by a width of each that is adjusted; null adjusts nothing."""
    seeds: Seeds = (1,)
    """Seeds of every setting: `1-5`, `1,3,7`, or a list."""
    budget: Budget = Budget()
    """Training steps of every run, and time of the sweep."""

    def run_name(self, tiny: bool = False) -> str:
        """Return the name of the runs, with the suffix of tiny experiments if they are shrunk."""
        return f"{self.name}-tiny" if tiny and not self.name.endswith("-tiny") else self.name

    def settings(self, tiny: bool = False) -> list[str | Axis]:
        """Return the overrides of all runs as texts `key=value`, and the axes.

        Args:
            tiny: shrink the study: the runs keep the few steps of a tiny experiment.
        """
        fixed = {"name": self.run_name(tiny), **self.overrides}
        if self.budget.steps is not None and not tiny:
            fixed = {"training.steps": self.budget.steps, **fixed}
        return [
            *(f"{key}={value_text(value)}" for key, value in fixed.items()),
            *(_axis(key, values) for key, values in self.axes.items()),
        ]


def read_study(path: Path) -> Study | None:
    """Return the study of a YAML file; None if the file is an experiment.

    Raises:
        UserError: one line with the file and line, the path of the key, the value, and the valid values.
    """
    document = parse(read_file(path), str(path))
    if not is_study(document.data):
        return None
    document.data.setdefault("name", path.stem.encode(errors="replace").decode())
    try:
        study = Study.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        place, message = first_mistake(error, Study)
        raise UserError(": ".join(filter(None, (document.line_of(place), dotted(place), message)))) from None
    for section in ("overrides", "axes"):
        for key in getattr(study, section):
            try:
                _check(study, section, key)
            except UserError as error:
                raise UserError(f"{document.line_of((section, key))}: {section}: {error}") from None
    return study


def is_study(data: Any) -> bool:
    """Return whether the data of a YAML file are those of a study, which alone has a base."""
    return isinstance(data, Mapping) and "base" in data


def is_claim(data: Any) -> bool:
    """Return whether the data of a YAML file are those of a claim (`config.claim`)."""
    return isinstance(data, Mapping) and "claim" in data


def _check(study: Study, section: str, key: str) -> None:
    """Raise if an entry of the overrides or axes is invalid."""
    if section == "axes":
        _axis(key, study.axes[key])
    else:
        parse_override(f"{key}={value_text(study.overrides[key])}")


def _axis(key: str, values: Any) -> Axis:
    if isinstance(values, list):
        parse_override(f"{key}=null")
        return axis_of_values(key, values)
    if isinstance(values, Mapping) and all(isinstance(settings, Mapping) and settings for settings in values.values()):
        return axis_of_settings(key, values)
    valid = "a list of values, or a section of settings by label, such as {small: {model.hidden: 64}}"
    raise UserError(f"{key}: expected {valid}; got {shortened(values)}")
