"""A metric of a group of runs, and its difference between two groups, with intervals over seeds and test examples."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from attnlab.analysis.significance import (
    Estimate,
    crossed_difference,
    crossed_mean,
    hedges_g,
    pseudo_values,
    seeds_difference,
    seeds_mean,
)
from attnlab.results.groups import RunGroup
from attnlab.tasks.base import Metric
from attnlab.tasks.bootstrap import MIN_EXAMPLES, interval, paired_difference, smallest_p

BOTH, SEEDS, EXAMPLES, NOTHING = "seeds and examples", "seeds", "examples", ""
"""What an interval accounts for."""
Interval = tuple[float, float]


@dataclass(frozen=True)
class GroupScore:
    """A metric of a group on a test set.

    Attributes:
        group: index of the group.
        split: name of the test set.
        metric: the metric.
        runs: its value for every run, ordered by seed.
        interval: 95% interval of the mean; None if there is none.
        basis: what the interval accounts for: `BOTH`, `SEEDS`, `EXAMPLES` or `NOTHING`.
    """

    group: int
    split: str
    metric: Metric
    runs: tuple[float, ...]
    interval: Interval | None
    basis: str

    @property
    def mean(self) -> float:
        """Mean over the runs."""
        return float(np.mean(self.runs))

    @property
    def deviation(self) -> float | None:
        """Standard deviation over the runs; None for a single one."""
        return float(np.std(self.runs, ddof=1)) if len(self.runs) > 1 else None


@dataclass(frozen=True)
class GroupDifference:
    """The difference of a metric between two groups, first minus second.

    Attributes:
        first: index of the first group.
        second: index of the second group.
        split: name of the test set.
        metric: the metric.
        value: the difference.
        effect: Hedges' g over seeds; None without a variance over seeds.
        basis: what interval and p account for.
        interval: 95% interval of the difference; None if there is none.
        p: two-sided p-value.
        p_holm: p-value corrected for the comparisons of this metric on this test set; None for a single comparison.
        detectable: the smallest true difference that is found with a chance of 80%; None for `EXAMPLES`.
        standard_error: of the value; None for `EXAMPLES`, whose interval is a bootstrap's.
        df: degrees of freedom of the standard error.
    """

    first: int
    second: int
    split: str
    metric: Metric
    value: float
    effect: float | None
    basis: str
    interval: Interval | None = None
    p: float | None = None
    p_holm: float | None = None
    detectable: float | None = None
    standard_error: float | None = None
    df: float | None = None


@dataclass(frozen=True)
class MetricScores:
    """A metric of a group on a test set, by run and by example.

    Attributes:
        runs: value of every run.
        rows: what every example contributes, [examples, runs, ...]; None if it is unknown.
    """

    group: RunGroup
    metric: str
    runs: np.ndarray
    rows: np.ndarray | None

    @property
    def basis(self) -> str:
        """Return what an interval can account for."""
        known = self.rows is not None and len(self.rows) >= MIN_EXAMPLES
        if len(self.runs) > 1:
            return BOTH if known else SEEDS
        return EXAMPLES if known else NOTHING

    @cached_property
    def items(self) -> np.ndarray:
        """Scores of single examples [runs, examples], or pseudo-values of blocks of them.

        The metric is the mean of these: exactly for metrics that are means, to first order for all others.
        """
        assert self.rows is not None
        if self.rows.ndim == 2:
            return self.rows.T
        columns = (self.rows[:, run] for run in range(self.rows.shape[1]))
        return np.stack([pseudo_values(rows, self.aggregate) for rows in columns])

    def aggregate(self, rows: np.ndarray) -> float:
        """Compute the metric of some examples of one run."""
        return self.group.task.aggregate(self.metric, rows)

    def aggregate_mean(self, rows: np.ndarray) -> float:
        """Compute the mean of the metric over the runs, for some examples."""
        return float(np.mean([self.aggregate(rows[:, run]) for run in range(rows.shape[1])]))


def metric_scores(
    group: RunGroup, rows: Mapping[str, np.ndarray] | None, split: str, metric: Metric
) -> MetricScores | None:
    """Return a metric of a group on a test set; None if a run lacks it.

    Args:
        group: the group.
        rows: metric -> what every example contributes, [examples, runs, ...]; None if it is unknown.
        split: name of the test set.
        metric: the metric.
    """
    if rows is not None and metric.name in rows:
        columns = rows[metric.name]
        runs = [group.task.aggregate(metric.name, columns[:, run]) for run in range(columns.shape[1])]
        return MetricScores(group, metric.name, np.array(runs), columns)
    values = [run.results[split].get(metric.name) for run in group.runs]
    if any(not isinstance(value, int | float) for value in values):
        return None
    return MetricScores(group, metric.name, np.array(values, float), None)


def group_score(number: int, split: str, metric: Metric, scores: MetricScores) -> GroupScore:
    """Return the mean of a metric over the runs of a group, with its interval.

    Args:
        number: index of the group.
        split: name of the test set.
        metric: the metric.
        scores: its values.
    """
    basis = scores.basis
    ends: Interval | None = None
    if basis == BOTH:
        ends = _ends(crossed_mean(scores.items))
    elif basis == SEEDS:
        ends = _ends(seeds_mean(scores.runs))
    elif basis == EXAMPLES:
        assert scores.rows is not None
        recorded = scores.group.runs[0].results[split].get(f"{metric.name}_ci95")
        low, high = recorded or interval(scores.rows[:, 0], scores.aggregate) or (None, None)
        ends = None if low is None or high is None else (low, high)
    return GroupScore(number, split, metric, tuple(scores.runs.tolist()), ends, basis if ends else NOTHING)


def group_difference(
    pair: tuple[int, int], split: str, metric: Metric, first: MetricScores, second: MetricScores
) -> GroupDifference:
    """Return the difference of a metric between two groups, with interval and p-value, not corrected.

    Over seeds and examples if both groups have several runs and per-example scores, over seeds if they have only the
    runs, over examples by a paired bootstrap if one of them is a single run.

    Args:
        pair: indices of the groups.
        split: name of the test set.
        metric: the metric.
        first: its values of the first group.
        second: likewise of the second group, with the same examples.
    """
    value, outputs = float(first.runs.mean() - second.runs.mean()), _outputs(first, second)
    difference = GroupDifference(*pair, split, metric, value, hedges_g(first.runs, second.runs), NOTHING)
    if len(first.runs) > 1 and len(second.runs) > 1:
        crossed = first.basis == second.basis == BOTH
        if crossed:
            estimate = crossed_difference(first.items, second.items)
        else:
            estimate = seeds_difference(first.runs, second.runs)
        p = _p_value(estimate)
        return replace(
            difference,
            interval=_ends(estimate),
            p=p if p is None or outputs is None else max(p, smallest_p(*outputs)),
            standard_error=float(estimate.standard_error),
            df=float(estimate.df),
            basis=BOTH if crossed else SEEDS,
        )
    if first.rows is None or second.rows is None:
        return difference
    paired = paired_difference(first.rows, second.rows, first.aggregate_mean, outputs=outputs)
    ends = None if paired.low is None or paired.high is None else (paired.low, paired.high)
    return replace(difference, interval=ends, p=paired.p, basis=EXAMPLES)


def _outputs(first: MetricScores, second: MetricScores) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what decides on which examples two groups differ: means over the runs; None if examples are unknown."""
    if first.rows is None or second.rows is None:
        return None
    return first.rows.mean(axis=1), second.rows.mean(axis=1)


def _ends(estimate: Estimate) -> Interval | None:
    """Return the interval of an estimate; None if nothing varies, which says nothing of other seeds and examples."""
    low, high = (float(end) for end in estimate.interval())
    return (low, high) if high > low else None


def _p_value(estimate: Estimate) -> float | None:
    if float(estimate.standard_error) > 0:
        return float(estimate.p_value())
    return 1.0 if float(estimate.value) == 0 else None
