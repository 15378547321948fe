"""What has been measured for a claim: groups of runs by study and setting, and costs of attention."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlab.analysis.significance import Estimate, crossed_contrast, independent_sum, seeds_mean
from attnlab.bench.results import Report
from attnlab.config.errors import UserError
from attnlab.results.group_scores import BOTH, EXAMPLES, NOTHING, SEEDS, metric_scores
from attnlab.results.groups import RunGroup
from attnlab.results.run_files import ALIGNMENT, FAITHFULNESS
from attnlab.tasks.base import Metric
from attnlab.tasks.bootstrap import interval

Interval = tuple[float, float]


@dataclass(frozen=True)
class StudyRuns:
    """The runs of a study.

    Attributes:
        settings: names of all settings that the study has; one empty name for a study without axes.
        groups: the settings that have complete runs, and their runs.
        planned: number of runs that the study has.
    """

    settings: tuple[str, ...]
    groups: Mapping[str, RunGroup]
    planned: int

    @property
    def complete(self) -> int:
        """Number of complete runs."""
        return sum(len(group.runs) for group in self.groups.values())


@dataclass(frozen=True)
class Evidence:
    """What has been measured for a claim.

    Attributes:
        studies: runs by study.
        costs: reports of measurements of cost by name; only those that exist.
        quick: whether these are the quick versions.
    """

    studies: Mapping[str, StudyRuns] = field(default_factory=dict)
    costs: Mapping[str, Report] = field(default_factory=dict)
    quick: bool = False


@dataclass(frozen=True, eq=False)
class Sample:
    """A number for every run of a group.

    Attributes:
        runs: its value for every run.
        items: for every run what each test example, or block of them, contributes, [runs, items]; their mean is the
            value. None if it is unknown.
        examples: fingerprint of the examples.
    """

    runs: Float[np.ndarray, " n"]
    items: Float[np.ndarray, "n m"] | None = None
    examples: str = ""

    def __add__(self, other: "Sample") -> "Sample":
        """Add the values of two metrics of the same runs."""
        items, others = self.items, other.items
        if items is None or others is None or self.examples != other.examples or items.shape != others.shape:
            return Sample(self.runs + other.runs)
        return Sample(self.runs + other.runs, items + others, self.examples)

    def times(self, factor: float) -> "Sample":
        """Multiply all values by a factor."""
        return Sample(self.runs * factor, None if self.items is None else self.items * factor, self.examples)


@dataclass(frozen=True)
class Measured:
    """A sum of means of groups with its interval.

    Attributes:
        value: the sum.
        interval: 95% interval; None if there is none.
        basis: what the interval accounts for.
        replicates: fewest runs of a group.
    """

    value: float
    interval: Interval | None
    basis: str
    replicates: int


def sample(group: RunGroup, metric: str, file: str = "results", split: str | None = None) -> Sample:
    """Return a metric for every run of a group.

    Args:
        group: the group.
        metric: name of the metric; of an analysis, the path to its mean.
        file: "results", "faithfulness" or "alignment".
        split: the test set; None for the first.

    Raises:
        UserError: a run does not have it.
    """
    if file != "results":
        return Sample(np.array([_found(run.analysis(FILES[file]), file, metric, run, split) for run in group.runs]))
    split = split or group.splits()[0]
    per_example = group.per_example(split)
    scores = metric_scores(group, None if per_example is None else per_example[1], split, Metric(metric))
    if scores is None:
        known = ", ".join(sorted(name for name, value in group.runs[0].results[split].items() if _is_number(value)))
        raise UserError(f"{group.directories}: no metric {metric} of {split}; valid: {known}")
    if per_example is None or scores.basis not in (BOTH, EXAMPLES):
        return Sample(scores.runs)
    return Sample(scores.runs, scores.items, per_example[0])


FILES = {"faithfulness": FAITHFULNESS, "alignment": ALIGNMENT}


def total(samples: Sequence[Sample]) -> Measured:
    """Return the sum of the means of samples, each of other runs.

    The interval is for other seeds and other examples where the contributions of the same examples are known for all
    samples, or else for other seeds, or with single runs for other examples.
    """
    value, count = float(sum(part.runs.mean() for part in samples)), min(len(part.runs) for part in samples)
    known = [(part.examples, part.items) for part in samples if part.items is not None]
    items = [scores for _, scores in known]
    crossed = len(known) == len(samples) and len({(examples, scores.shape[1]) for examples, scores in known}) == 1
    if count > 1:
        if crossed:
            estimate = crossed_contrast(items, [1.0] * len(items))
        else:
            estimate = independent_sum([seeds_mean(part.runs) for part in samples])
        return Measured(value, recentered(value, estimate), BOTH if crossed else SEEDS, count)
    ends = interval(np.sum([part.mean(axis=0) for part in items], axis=0)) if crossed else None
    return Measured(value, None if ends is None else (ends[0], ends[1]), EXAMPLES if ends else NOTHING, count)


def recentered(value: float, estimate: Estimate) -> Interval:
    """Return the interval of an estimate with its center at a value."""
    low, high = (float(end) for end in estimate.interval())
    center = float(estimate.value)
    return value + low - center, value + high - center


def _found(found: Mapping[str, Any], file: str, path: str, run: Any, split: str | None) -> float:
    """Return the mean at a path of what an analysis has found."""
    entry: Any = found
    if file == "alignment":
        entry = {row.get("name"): row for row in found.get("test", ())}
    elif found:
        entry = found.get(split or next(iter(found)))
    for key in path.split("."):
        entry = entry.get(key) if isinstance(entry, Mapping) else None
    value = entry.get("mean") if isinstance(entry, Mapping) else entry
    if not isinstance(value, int | float):
        raise UserError(f"{run.directory / FILES[file]}: has no {path}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
