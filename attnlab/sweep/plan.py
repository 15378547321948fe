"""The plan of a sweep: the product of settings and seeds as runs of one directory.

Only runs have a config.yaml there. Their configs differ in nothing but the varied fields and the seed: a plan or a
directory in which they would differ in more is refused.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attnlab.config import catalog
from attnlab.config.axes import Axis, short_names
from attnlab.config.base import LONGEST_NAME
from attnlab.config.difference import difference, iter_differences
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.explain import Place, dotted
from attnlab.config.load import load

CONFIG = "config.yaml"
LOGS = "logs"
"""Folder of a sweep's directory with the output of every run."""


@dataclass(frozen=True)
class Setting:
    """A point of all axes together.

    Attributes:
        name: its values, which name the group of its runs: `score=dot,dropout=0.2`.
        overrides: texts `key=value` with which it differs from the file of the experiment.
    """

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """A run of a sweep; two are equal if they are the same object.

    Attributes:
        setting: what it has in common with the runs of other seeds.
        experiment: its config.
        directory: its run directory.
    """

    setting: Setting
    experiment: Experiment
    directory: Path

    @property
    def name(self) -> str:
        """Name of its directory."""
        return self.directory.name

    @property
    def seed(self) -> int:
        """Its seed."""
        return self.experiment.seed


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep.

    Attributes:
        config: file of the experiment, as in `attnlab train`.
        tiny: whether the experiment is shrunk.
        directory: directory of the runs.
        settings: the product of the axes.
        varied: places of a config that may differ between the settings.
        runs: all seeds of all settings, ordered by seed: the first runs compile what the others use.
    """

    config: Path
    tiny: bool
    directory: Path
    settings: tuple[Setting, ...]
    varied: tuple[Place, ...]
    runs: tuple[PlannedRun, ...]


def make_plan(
    config: Path, given: Sequence[str | Axis], seeds: Sequence[int], directory: Path | None, tiny: bool = False
) -> Plan:
    """Plan a sweep, and check that its runs differ in nothing but the varied fields and the seed.

    Args:
        config: file of the experiment.
        given: in order, overrides `key=value` of all runs, and axes.
        seeds: seeds of every setting; empty for the seed of the experiment.
        directory: directory of the runs; None for runs/NAME-AXES.
        tiny: shrink the experiment; overrides and axes are applied afterward.

    Raises:
        UserError: a config is invalid, a setting also changes another field, or two settings are the same.
    """
    axes = [item for item in given if isinstance(item, Axis)]
    varied = tuple(dict.fromkeys(place for axis in axes for place in axis.varied))
    settings, experiments = [], []
    for name, overrides in _product(given):
        experiment = load(catalog.find_config(config), overrides, tiny=tiny)
        settings.append(Setting(name or experiment.name, overrides))
        experiments.append(experiment)
    _check_settings(settings, experiments, varied)
    directory = directory or default_directory(experiments[0].name, axes)
    runs = [
        PlannedRun(setting, experiment.replace(seed=seed), directory / f"{setting.name}-s{seed}")
        for seed in seeds or [experiments[0].seed]
        for setting, experiment in zip(settings, experiments, strict=True)
    ]
    if long := next((run for run in runs if len(run.name.encode()) > LONGEST_NAME), None):
        raise UserError(f"{long.name[:40]}...: too long for the name of a run; vary less, or give names in a study")
    return Plan(config, tiny, directory, tuple(settings), varied, tuple(runs))


def default_directory(name: str, axes: Sequence[Axis]) -> Path:
    """Return the directory of a sweep: that of its name, and of the axes of `attnlab sweep`."""
    return Path("runs") / "-".join([name, *(short_names(axes) or ["seeds"])])


def check_directory(plan: Plan) -> None:
    """Raise if the directory of a sweep is a run, or has runs that differ in more than what the sweep varies."""
    if (plan.directory / CONFIG).exists():
        raise UserError(f"{plan.directory}: is a run (it has a {CONFIG}); choose another --out")
    planned, first = {run.name: run for run in plan.runs}, plan.runs[0].experiment
    for path in sorted(plan.directory.glob(f"*/{CONFIG}")):
        found = load(path)
        if path.parent.name in planned:
            lines = difference(found, planned[path.parent.name].experiment)
        else:
            lines = [line for place, line in _lines(found, first) if not _is_varied(place, plan.varied)]
        if lines:
            raise UserError(
                f"{path.parent}: is a run of another sweep: {'; '.join(lines)}; choose another --out or move it"
            )


def _product(given: Sequence[str | Axis]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name and the overrides of every setting; the overrides keep the order in which they were given."""
    names = iter(short_names([item for item in given if isinstance(item, Axis)]))
    choices = [
        [("", (item,))] if isinstance(item, str) else _labeled(next(names), item) for item in given
    ]  # fmt: skip
    for chosen in itertools.product(*choices):
        name = ",".join(label for label, _ in chosen if label)
        yield name, tuple(text for _, overrides in chosen for text in overrides)


def _labeled(name: str, axis: Axis) -> list[tuple[str, tuple[str, ...]]]:
    return [(f"{name}={point.label}", point.overrides) for point in axis.points]


def _check_settings(settings: Sequence[Setting], experiments: Sequence[Experiment], varied: Sequence[Place]) -> None:
    """Raise if a setting changes a field that is not varied, or equals another setting."""
    seen: dict[str, Setting] = {}
    for setting, experiment in zip(settings, experiments, strict=True):
        for place, line in _lines(experiments[0], experiment, settings[0].name, setting.name):
            if not _is_varied(place, varied):
                raise UserError(f"{setting.name}: also changes {line}; set {dotted(place)} to one value for all runs")
        same = seen.setdefault(experiment.model_dump_json(), setting)
        if same is not setting:
            raise UserError(f"{same.name} and {setting.name}: are the same experiment")


def _lines(first: Experiment, second: Experiment, *names: str) -> Iterator[tuple[Place, str]]:
    """Yield the place and a description of every difference other than the seed."""
    where = names or ("the run", "the sweep")
    for path, value, other in iter_differences(first.model_dump(mode="json"), second.model_dump(mode="json")):
        if path != "seed":
            yield tuple(path.split(".")), f"{path} ({value} in {where[0]}, {other} in {where[1]})"


def _is_varied(place: Place, varied: Sequence[Place]) -> bool:
    return any(place[: len(field)] == field for field in varied)
