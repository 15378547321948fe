"""Means and differences over seeds alone, where the scores of single items are unknown."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy import stats

from attnlab.analysis.significance.estimate import Estimate


def seeds_mean(scores: Float[np.ndarray, " n"]) -> Estimate:
    """Estimate the mean over seeds: ȳ with standard error s / √n and n − 1 degrees of freedom.

    The interval is for other seeds on the same test items, not for other items.

    Args:
        scores: the score of every run, at least two.
    Reference: Student 1908.

    >>> seeds_mean(np.array([90.0, 92.0, 94.0])).interval()[0].round(2).item()
    87.03
    """
    return Estimate(scores.mean(), stats.sem(scores), len(scores) - 1)


def seeds_difference(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " k"]) -> Estimate:
    """Estimate the difference of the means of two groups over seeds, without assuming equal variances.

    Args:
        first: the score of every run of the first group, at least two.
        second: likewise for the second group.
    Numerics: if no score varies, the standard error is 0, with min(n, k) − 1 degrees of freedom.
    Reference: Welch 1947, by `scipy.stats.ttest_ind`.
    """
    error = float(np.hypot(stats.sem(first), stats.sem(second)))
    df = min(len(first), len(second)) - 1
    if error > 0:
        df = float(stats.ttest_ind(first, second, equal_var=False).df)  # pyright: ignore[reportAttributeAccessIssue]
    return Estimate(first.mean() - second.mean(), error, df)


def independent_sum(estimates: Sequence[Estimate]) -> Estimate:
    """Estimate the sum of independent estimates.

    V = Σ V_i,  df = V² / Σ (V_i² / df_i); the smallest df where nothing varies

    Args:
        estimates: such as means over the seeds of several groups, or their negatives.
    Reference: Satterthwaite 1946; of two means it is Welch's, `seeds_difference`.

    >>> first, second = np.array([90.0, 92.0, 94.0]), np.array([80.0, 81.0, 84.0])
    >>> both = independent_sum([seeds_mean(first), seeds_mean(-second)])
    >>> np.allclose(both.interval(), seeds_difference(first, second).interval())
    True
    """
    variances = [float(estimate.standard_error) ** 2 for estimate in estimates]
    df = min(float(estimate.df) for estimate in estimates)
    if sum(variances) > 0:
        terms = (variance**2 / estimate.df for variance, estimate in zip(variances, estimates, strict=True))
        df = sum(variances) ** 2 / float(sum(terms))
    return Estimate(sum(estimate.value for estimate in estimates), sum(variances) ** 0.5, df)
