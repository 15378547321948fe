"""Groups of runs that differ only in the seed, and curves of adversaries that differ only in the seed and in λ."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from attnlab.analysis.faithfulness.attention_divergence import by_max_weight
from attnlab.analysis.faithfulness.model_consistent import divergence_curve
from attnlab.config import Experiment
from attnlab.config.classification import Classification, ModelConsistent
from attnlab.config.difference import iter_differences
from attnlab.results.divergence import Curve, Divergence, GroupDivergence, Kind, RunDivergence
from attnlab.results.machine_paths import without_folders
from attnlab.tasks.bootstrap import interval

Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class RunDistances:
    """A run and its distance from the base run for each text."""

    record: RunDivergence
    config: Experiment
    weight_jsd: np.ndarray
    prediction_tvd: np.ndarray
    max_weight: np.ndarray


def strength_of(config: Experiment) -> float | None:
    """Return λ of an adversary; None for a run with another objective."""
    objective = _objective(config)
    return None if objective is None else objective.strength


def grouped(base: Experiment, runs: Sequence[RunDistances]) -> tuple[tuple[GroupDivergence, ...], tuple[Curve, ...]]:
    """Return the groups of runs that differ only in the seed, and the curve of each config of adversaries.

    Args:
        base: the config of the base run.
        runs: the other runs; adversaries are all those of the base model, by whatever path they name it.
    """
    groups = _partition(runs, lambda run: _without_seed(run.config))
    groups.sort(key=lambda group: strength_of(group[0].config) or 0.0)
    kinds = [_kind(base, group[0].config) for group in groups]
    of_kind = lambda kind: [group for group, found in zip(groups, kinds, strict=True) if found == kind]  # noqa: E731
    families = _partition(of_kind("adversary"), lambda group: _without_strength(group[0].config))
    names = _names([family[0][0].config for family in families])
    records = [_group("other seeds", "seed", group) for group in of_kind("seed")]
    curves = []
    for family, name in zip(families, names, strict=True):
        start = f"{name}, " if len(families) > 1 else ""
        labels = [f"{start}λ = {strength_of(group[0].config):g}" for group in family]
        adversaries = [_group(label, "adversary", group) for label, group in zip(labels, family, strict=True)]
        records += adversaries
        curves.append(_curve(name, adversaries))
    others = of_kind("other")
    names = _names([group[0].config for group in others])
    records += [_group(name, "other", group) for name, group in zip(names, others, strict=True)]
    return tuple(records), tuple(curves)


def _partition(items: Iterable[Item], key: Callable[[Item], str]) -> list[list[Item]]:
    parts: dict[str, list[Item]] = {}
    for item in items:
        parts.setdefault(key(item), []).append(item)
    return list(parts.values())


def _objective(config: Experiment) -> ModelConsistent | None:
    objective = config.task.objective if isinstance(config.task, Classification) else None
    return objective if isinstance(objective, ModelConsistent) else None


def _without_seed(config: Experiment) -> str:
    return _with_strength(config, strength_of(config)).model_dump_json()


def _without_strength(config: Experiment) -> str:
    return _with_strength(config, 0.0).model_dump_json()


def _with_strength(config: Experiment, strength: float | None) -> Experiment:
    """Return a config without its seed and its path of the base model, and with another λ."""
    objective, config = _objective(config), config.model_copy(update={"seed": 0})
    if objective is None:
        return config
    other = objective.model_copy(update={"base": "", "strength": strength})
    return config.model_copy(update={"task": config.task.model_copy(update={"objective": other})})


def _kind(base: Experiment, config: Experiment) -> Kind:
    if _without_seed(config) == _without_seed(base):
        return "seed"
    return "other" if _objective(config) is None else "adversary"


def _names(configs: Sequence[Experiment]) -> list[str]:
    """Return the names of experiments, with the settings that differ between those of one name, seed and λ apart.

    Labels are printed in tables and archived, so that of an absolute path only the last name is in them; where that
    makes two of them equal, they are numbered.
    """
    plain = [without_folders(_with_strength(config, 0.0).model_dump(mode="json")) for config in configs]
    found = [config.name for config in configs]
    for name in set(found):
        same = [number for number, config in enumerate(configs) if config.name == name]
        settings: dict[str, dict[int, str]] = {}
        for number in same[1:]:
            for place, first, other in iter_differences(plain[same[0]], plain[number]):
                settings.setdefault(place, dict.fromkeys(same, first))[number] = other
        for number in same:
            if values := [f"{place} {settings[place][number]}" for place in settings]:
                found[number] = f"{name} ({', '.join(values)})"
    counts = {name: count(1) for name in found if found.count(name) > 1}
    return [f"{name} [{next(counts[name])}]" if name in counts else name for name in found]


def _group(label: str, kind: Kind, runs: Sequence[RunDistances]) -> GroupDivergence:
    jsd, tvd = (np.mean([getattr(run, name) for run in runs], axis=0) for name in ("weight_jsd", "prediction_tvd"))
    all_jsd, largest = (np.concatenate([getattr(run, name) for run in runs]) for name in ("weight_jsd", "max_weight"))
    scores = [(run.record.divergence.accuracy, run.record.divergence.macro_f1) for run in runs]
    correct, f1 = np.mean(scores, axis=0).tolist()
    means = Divergence(correct, f1, float(jsd.mean()), interval(jsd), float(tvd.mean()), interval(tvd))
    strength = strength_of(runs[0].config) if kind == "adversary" else None
    bins = tuple(by_max_weight(all_jsd, largest))
    return GroupDivergence(label, kind, strength, tuple(run.record for run in runs), means, bins)


def _curve(label: str, adversaries: Sequence[GroupDivergence]) -> Curve:
    strengths = jnp.array([group.strength for group in adversaries])
    jsds, tvds = (
        jnp.array([getattr(group.divergence, name) for group in adversaries])
        for name in ("weight_jsd", "prediction_tvd")
    )
    curve = divergence_curve(strengths, jsds, tvds)
    lists = [np.asarray(values, np.float64).round(6).tolist() for values in curve[:3]]
    return Curve(label, *lists, area=float(curve.area))
