"""Settings of a sweep with equal parameters or operations, by a width of each that is adjusted."""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import jax

from attnlab.config import catalog
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.explain import Place, dotted, shortened
from attnlab.config.load import load, validated
from attnlab.config.match import Match
from attnlab.config.overrides import parse_override
from attnlab.lab.step_counts import StepCounter
from attnlab.sweep.plan import Plan, PlannedRun, Setting

WIDEST = 2**17
"""Largest width that is tried."""
NEIGHBORS = 128
"""How many invalid widths in a row are skipped."""


@dataclass(frozen=True)
class MatchedSetting:
    """A setting with its width.

    Attributes:
        name: of the setting.
        width: the value of the adjusted field.
        count: its parameters, or the operations of a training step.
        deviation: of the count from that of the setting that all are matched to, as a share of it.
    """

    name: str
    width: int
    count: float
    deviation: float


def match_settings(plan: Plan, match: Match, data_dir: Path | None) -> tuple[Plan, list[MatchedSetting]]:
    """Adjust a width of every setting of a sweep, so that all have the parameters or the operations of one of them.

    The width becomes an override of every run, and a varied field of the sweep. Counting uses the CPU, so that no
    accelerator is held while runs need it. In a tiny sweep, whose models have few widths, the nearest one is taken
    whatever the tolerance.

    Args:
        plan: the sweep.
        match: what is made equal, and by which field.
        data_dir: directory of datasets; None for an experiment that needs none.
    Returns: the adjusted plan, and the width and count of every setting.
    Raises:
        UserError: the field is varied already or no integer, or no valid width reaches the tolerance.
    """
    field = parse_override(f"{match.field}=1")[0]
    if field in plan.varied:
        raise UserError(f"match.field: {match.field} is an axis of the sweep already; adjust another field")
    reference = _reference(plan.settings, match.to)
    first = {run.setting: run.experiment for run in plan.runs if run.seed == plan.runs[0].seed}
    widths = {setting: _width(plan, setting, first[setting], field) for setting in plan.settings}
    jax.config.update("jax_platforms", "cpu")
    target, found, settings = _count(first[reference], match, data_dir), [], {}
    for setting, width in widths.items():
        if setting is reference:
            matched = MatchedSetting(setting.name, width, target, 0.0)
        else:
            matched = _matched(setting.name, first[setting], field, width, target, match, data_dir)
        if abs(matched.deviation) > match.tolerance and not plan.tiny:
            raise UserError(
                f"{setting.name}: no {match.field} has {match.by} within {match.tolerance:.3g} of the {target:,.0f} of "
                f"{reference.name}; the nearest is {matched.width} with {matched.count:,.0f} "
                f"({matched.deviation:+.1%}); adjust another field or raise the tolerance"
            )
        found.append(matched)
        settings[setting] = Setting(setting.name, (*setting.overrides, f"{match.field}={matched.width}"))
    return _adjusted(plan, settings, field), found


def nearest_width(
    start: int, target: float, count: Callable[[int], float], is_valid: Callable[[int], bool]
) -> tuple[int, float]:
    """Return the valid width whose count is nearest to a target, and its count; that of the start if it is as near.

    Args:
        start: a valid width, from which the search begins.
        target: the count to reach.
        count: the count of a valid width; it must grow with the width.
        is_valid: whether a width is valid.

    >>> nearest_width(8, 1000, lambda width: width**2, lambda width: width % 3 == 2)
    (32, 1024)
    """
    counts = {start: count(start)}

    def try_near(width: int, low: int, high: int) -> int | None:
        """Count the valid width nearest to this one, strictly between two others; return it, or None if none is."""
        for distance in range(NEIGHBORS):
            for near in dict.fromkeys((width - distance, width + distance)):
                if low < near < high and is_valid(near):
                    counts[near] = counts.get(near) or count(near)
                    return near
        return None

    low = high = start
    while counts[low] > target and (smaller := try_near(max(low // 2, 1), 0, low)):
        if counts[smaller] == counts[low]:
            break
        high, low = low, smaller
    while counts[high] < target and (larger := try_near(2 * high, high, WIDEST + 1)):
        if counts[larger] == counts[high]:
            break
        low, high = high, larger
    turn = 0
    while counts[low] < target < counts[high]:
        middle = _interpolated(low, high, counts, target) if turn < 6 else (low + high) // 2
        between = try_near(min(max(middle, low + 1), high - 1), low, high)
        if between is None:
            break
        low, high = (between, high) if counts[between] <= target else (low, between)
        turn += 1
    best = min(counts, key=lambda width: (abs(counts[width] - target), width != start, width))
    return best, counts[best]


def _interpolated(low: int, high: int, counts: dict[int, float], target: float) -> int:
    """Return the width at which a power law through both counts reaches the target."""
    share = math.log(target / counts[low]) / math.log(counts[high] / counts[low])
    return round(low * (high / low) ** share)


def _reference(settings: Sequence[Setting], to: str | None) -> Setting:
    names = [setting.name for setting in settings]
    labels = [name.partition("=")[2] for name in names]
    if to is None:
        return settings[0]
    for known in (names, labels):
        if to in known:
            return settings[known.index(to)]
    raise UserError(f"match.to: {shortened(to)} is no setting of the sweep; valid: {', '.join(names)}")


def _width(plan: Plan, setting: Setting, experiment: Experiment, field: Place) -> int:
    """Return the value of the field in a setting."""
    value: Any = experiment.model_dump(mode="json")
    for depth, name in enumerate(field):
        if isinstance(value, dict) and name not in value:
            _refuse_unknown(plan, setting, field)
        if not isinstance(value, dict):
            outer = dotted(field[:depth])
            raise UserError(
                f"match.field: {outer} is {shortened(value)} in {setting.name}, which has no {dotted(field)}"
            )
        value = value[name]
    if type(value) is not int or value < 1:
        raise UserError(f"match.field: {dotted(field)} is {shortened(value)} in {setting.name}, not a width")
    return value


def _refuse_unknown(plan: Plan, setting: Setting, field: Place) -> NoReturn:
    """Raise with the key that was probably meant."""
    try:
        load(catalog.find_config(plan.config), [*setting.overrides, f"{dotted(field)}=1"], tiny=plan.tiny)
    except UserError as error:
        raise UserError(f"match.field: in {setting.name}: {error}") from None
    raise UserError(f"match.field: {setting.name} has no {dotted(field)}")


def _with(experiment: Experiment, field: Place, width: int) -> Experiment:
    data = experiment.model_dump(mode="json")
    section = data
    for name in field[:-1]:
        section = section[name]
    section[field[-1]] = width
    return validated(data, experiment.name)


def _count(experiment: Experiment, match: Match, data_dir: Path | None) -> float:
    with StepCounter(experiment, data_dir) as counter:
        return getattr(counter, match.by)(experiment)


def _matched(
    name: str, experiment: Experiment, field: Place, width: int, target: float, match: Match, data_dir: Path | None
) -> MatchedSetting:
    def is_valid(width: int) -> bool:
        with suppress(UserError):
            _with(experiment, field, width)
            return True
        return False

    with StepCounter(experiment, data_dir) as counter:
        count = lambda width: getattr(counter, match.by)(_with(experiment, field, width))  # noqa: E731
        best, reached = nearest_width(width, target, count, is_valid)
    return MatchedSetting(name, best, reached, reached / target - 1.0)


def _adjusted(plan: Plan, settings: dict[Setting, Setting], field: Place) -> Plan:
    """Return the plan with other overrides of each setting; the adjusted field is varied too."""

    def load_run(run: PlannedRun) -> PlannedRun:
        setting = settings[run.setting]
        experiment = load(catalog.find_config(plan.config), setting.overrides, tiny=plan.tiny)
        return PlannedRun(setting, experiment.replace(seed=run.seed), run.directory)

    return replace(
        plan,
        settings=tuple(settings.values()),
        varied=(*plan.varied, field),
        runs=tuple(map(load_run, plan.runs)),
    )


def describe_match(match: Match, found: Sequence[MatchedSetting]) -> list[str]:
    """Return lines with the width and the count of every setting."""
    unit = "parameters" if match.by == "parameters" else "FLOPs of a training step"
    lines = [f"{match.field} adjusted for equal {unit}:"]
    width = max(len(setting.name) for setting in found)
    return lines + [
        f"  {setting.name:{width}}  {setting.width:6}  {setting.count:,.0f} {match.by}  {setting.deviation:+.2%}"
        for setting in found
    ]
