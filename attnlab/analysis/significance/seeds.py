"""Means and differences over seeds alone, where the scores of single items are unknown."""

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
