"""Means and differences over seeds crossed with test items: both are random, and the items are the same for all runs.

The score of run r of group g on item i is

    y[g, r, i] = μ_g + R[g, r] + I[i] + C[g, i] + ε[g, r, i]

with random effects of the run (its seed), of the item (its difficulty), of the item in this group, and of both. Items
differ in difficulty for all runs alike, which cancels in a difference between groups: that is what pairing does.
A bootstrap of the items alone treats R as zero; a percentile bootstrap of seeds is too narrow with few of them
(`simulation` has the numbers).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlab.analysis.significance.estimate import Estimate


@dataclass(frozen=True)
class _Parts:
    """Sums of squares of one group, as contributions to the variance of its mean.

    Attributes:
        mean: mean over runs and items.
        items: mean over runs of every item.
        runs: variance of the means of the runs, divided by the number of runs.
        residual: residual mean square, divided by the number of scores; the part of `runs` that is not of the runs.
        count: number of runs.
    """

    mean: Any
    items: Float[np.ndarray, "*b m"]
    runs: Any
    residual: Any
    count: int


def crossed_mean(scores: Float[np.ndarray, "*b n m"]) -> Estimate:
    """Estimate the mean of a group over seeds and items.

    value = ȳ,  V = max(S − E, 0) + T,  df = V² / (S² / (n − 1) + T² / (m − 1)), at least n − 1

    with S = s²(means of runs) / n, T = s²(means of items) / m and E = residual mean square / (n m): S and T both
    contain the residual variance once, the true variance contains it once. Only the estimate of a variance component is
    kept from being negative, not the mean square that the degrees of freedom rest on.

    Args:
        scores: score of every run (row) on every item (column); leading axes are separate experiments.
    Raises:
        ValueError: fewer than two runs or two items.
    Reference: Satterthwaite 1946; the synthesized mean square of crossed random effects: Clark 1973, appendix.

    >>> estimate = crossed_mean(np.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0]]))
    >>> float(estimate.value), round(float(estimate.standard_error), 3)
    (0.5, 0.289)
    """
    return crossed_contrast([scores], [1.0])


def crossed_difference(first: Float[np.ndarray, "*b n m"], second: Float[np.ndarray, "*b k m"]) -> Estimate:
    """Estimate the difference of the means of two groups over seeds and items, paired by item.

    value = ȳ₁ − ȳ₂,  V = max(S₁ − E₁, 0) + max(S₂ − E₂, 0) + T,
    df = V² / (S₁² / (n₁ − 1) + S₂² / (n₂ − 1) + T² / (m − 1)), at least min(n₁, n₂) − 1

    with S and E as in `crossed_mean` and T = s²(difference of the groups' means on every item) / m. The variances of
    the two groups need not be equal, as in Welch's test. Runs are not paired by seed: equal seeds of different models
    share the order of batches and nothing else, and pairing them would halve the degrees of freedom. If runs of equal
    seeds are positively correlated, the interval is wider than it needs to be.

    Args:
        first: score of every run (row) of the first group on every item (column).
        second: likewise for the second group, with the same items in the same order.
    Raises:
        ValueError: fewer than two runs in a group, fewer than two items, or other items.
    Reference: Clark 1973; Satterthwaite 1946; Welch 1947.
    """
    return crossed_contrast([first, second], [1.0, -1.0])


def crossed_contrast(groups: Sequence[Float[np.ndarray, "*b _n m"]], weights: Sequence[float]) -> Estimate:
    """Estimate a weighted sum of the means of groups over seeds and items, whose items are the same.

    value = Σ_g w_g ȳ_g,  V = Σ_g w_g² max(S_g − E_g, 0) + T,
    df = V² / (Σ_g w_g⁴ S_g² / (n_g − 1) + T² / (m − 1)), at least the smallest n_g − 1

    with S and E as in `crossed_mean` and T = s²(Σ_g w_g mean of the group on every item) / m. The weights 1 and −1 of
    two groups are `crossed_difference`; 1, −1, −1 and 1 of four are the difference of two differences.

    Args:
        groups: of each group, the score of every run (row) on every item (column).
        weights: w, one for each group.
    Raises:
        ValueError: fewer than two runs in a group, fewer than two items, or other items.
    Reference: as in `crossed_difference`.

    >>> groups = [np.array([[1.0, 1.0], [1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])]
    >>> float(crossed_contrast(groups, [1.0, -1.0]).value)
    0.5
    """
    count = groups[0].shape[-1]
    for scores in groups:
        if scores.shape[-1] != count:
            raise ValueError(f"paired scores must be of the same items, not {count} and {scores.shape[-1]}")
    parts = [_scaled(_parts(scores), weight) for scores, weight in zip(groups, weights, strict=True)]
    items = _variance(np.sum([part.items for part in parts], axis=0)) / count
    return _estimate(sum(part.mean for part in parts), parts, items, count)


def _scaled(parts: _Parts, weight: float) -> _Parts:
    """Return the contributions of a group to a weighted sum."""
    square = weight * weight
    return _Parts(weight * parts.mean, weight * parts.items, square * parts.runs, square * parts.residual, parts.count)


def _parts(scores: Float[np.ndarray, "*b n m"]) -> _Parts:
    *_, n, m = scores.shape
    if n < 2 or m < 2:
        raise ValueError(f"an interval over seeds and items needs two runs and two items, not {n} and {m}")
    runs, items = scores.mean(axis=-1), scores.mean(axis=-2)
    mean = runs.mean(axis=-1)
    residuals = scores - runs[..., :, None] - items[..., None, :] + mean[..., None, None]
    residual = np.square(residuals).sum(axis=(-2, -1)) / ((n - 1) * (m - 1)) / (n * m)
    return _Parts(mean, items, _variance(runs) / n, residual, n)


def _estimate(value: Any, groups: list[_Parts], items: Any, count: int) -> Estimate:
    variance = items + sum(np.maximum(group.runs - group.residual, 0.0) for group in groups)
    squares = np.square(items) / (count - 1) + sum(np.square(group.runs) / (group.count - 1) for group in groups)
    with np.errstate(divide="ignore", invalid="ignore"):
        df = np.where(squares > 0, np.square(variance) / squares, 1.0)
    fewest = min(group.count for group in groups)
    return Estimate(value, np.sqrt(variance), np.maximum(df, fewest - 1))


def _variance(values: Float[np.ndarray, "*b n"]) -> Any:
    return values.var(axis=-1, ddof=1)
