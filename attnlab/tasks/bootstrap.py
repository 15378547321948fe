"""Bootstrap confidence intervals of a test metric, and a paired bootstrap test of the difference of two systems."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

RESAMPLES = 1000
"""Default number of bootstrap resamples of the test set."""
MIN_EXAMPLES = 20
"""Fewest examples for an interval: resamples of fewer examples repeat each other, and their percentiles are too narrow
(for a single example the interval has no width at all)."""
SEED = 12345
"""Seed of the resamples, so that an interval is the same every time."""
Statistic = Callable[[np.ndarray], Any]
"""(rows, one for each example) -> the value of a metric, a number."""


def draws(examples: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Shaped[np.ndarray, " n"]]:
    """Yield the indices of each resample: as many examples as the test set has, drawn with replacement."""
    rng = np.random.default_rng(seed)
    return (rng.integers(examples, size=examples) for _ in range(resamples))


def interval(
    rows: Shaped[np.ndarray, "n *k"], statistic: Statistic = np.mean, resamples: int = RESAMPLES, seed: int = SEED
) -> list[float] | None:
    """Return the 95% bootstrap percentile interval of a metric, or None for fewer than `MIN_EXAMPLES` examples.

    Args:
        rows: the contribution of each example to the metric.
        statistic: computes the metric from rows.
        resamples: number of resamples.
        seed: seed of the resamples.
    Reference: Efron & Tibshirani 1993, section 13.3.

    >>> interval(np.ones(20)), interval(np.ones(19))
    ([1.0, 1.0], None)
    """
    if len(rows) < MIN_EXAMPLES:
        return None
    values = [statistic(rows[indices]) for indices in draws(len(rows), resamples, seed)]
    return np.percentile(values, [2.5, 97.5]).tolist()


@dataclass(frozen=True)
class Difference:
    """The values of a metric of two systems on one test set, with interval and p-value of their difference.

    Attributes:
        first: value of the first system.
        second: value of the second system.
        low: lower end of the 95% interval of `first - second`; None for fewer than `MIN_EXAMPLES` examples.
        high: its upper end; None where `low` is.
        p: twice the share of resamples in which the difference is zero or has the opposite sign, the observed
            difference counted as one more resample; at least `smallest_p`, at most 1. None for a single example.
    """

    first: float
    second: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def difference(self) -> float:
        """first − second."""
        return self.first - self.second


def paired_difference(
    first: Shaped[np.ndarray, "n *k"],
    second: Shaped[np.ndarray, "n *k"],
    statistic: Statistic = np.mean,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    outputs: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """Compare two systems on the same examples by a paired bootstrap: both are scored on the same resamples.

    The interval reflects how much the difference would vary over test sets of this kind, not over seeds of training.
    With few examples the share of resamples alone would be overconfident, so p is at least `smallest_p`.

    Args:
        first: the contribution of each example to the metric of the first system.
        second: likewise for the second system, in the same order.
        statistic: computes the metric from rows.
        resamples: number of resamples.
        seed: seed of the resamples.
        outputs: rows that decide on how many examples the systems differ; None uses `first` and `second`. Needed where
            the systems are means over different numbers of runs.
    Reference: Koehn 2004; Efron & Tibshirani 1993; the additional resample: Davison & Hinkley 1997, eq. 4.11.

    >>> paired_difference(np.array([100.0, 100, 0, 0]), np.array([0.0, 100, 0, 0]), resamples=100).difference
    25.0
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired scores must be of the same examples, not {first.shape} and {second.shape}")
    observed = statistic(first), statistic(second)
    scores = float(observed[0]), float(observed[1])
    if len(first) == 1:
        return Difference(*scores, None, None, None)
    resampled = draws(len(first), resamples, seed)
    differences = np.array([statistic(first[indices]) - statistic(second[indices]) for indices in resampled])
    opposite = np.sum(differences <= 0) if observed[0] > observed[1] else np.sum(differences >= 0)
    share = 1.0 if observed[0] == observed[1] else 2 * (int(opposite) + 1) / (resamples + 1)
    low, high = np.percentile(differences, [2.5, 97.5]).tolist() if len(first) >= MIN_EXAMPLES else (None, None)
    return Difference(*scores, low, high, min(max(share, smallest_p(*(outputs or (first, second)))), 1.0))


def smallest_p(first: Shaped[np.ndarray, "n *k"], second: Shaped[np.ndarray, "n *k"]) -> float:
    """Return the smallest two-sided p-value that is possible with these paired examples: 2 / 2^m, at most 1.

    m counts the examples on which the two systems differ. Under the null hypothesis the two outputs of each example
    are exchangeable. Swapping equal outputs changes nothing, so there are 2^m equally likely permutations, and two of
    them are always as extreme as the observation: the observation and its mirror image. For a difference of means this
    is the sign-flip test, but it holds for any metric.

    Reference: Noreen 1989 (approximate randomization); Riezler & Maxwell 2005.

    >>> smallest_p(np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0]))
    0.25
    """
    differing = (first != second).reshape(len(first), -1).any(axis=1)
    return min(2.0 / 2.0 ** int(differing.sum()), 1.0)
