"""Effect size, and the smallest difference that a design can detect."""

import numpy as np
from jaxtyping import Float
from scipy import optimize, stats

ALPHA, POWER = 0.05, 0.8
"""Level of a test, and the chance with which it detects the smallest detectable difference."""


def hedges_g(first: Float[np.ndarray, " n"], second: Float[np.ndarray, " k"]) -> float | None:
    """Compute the difference of two groups in standard deviations over seeds.

    g = J(ν) (ȳ₁ − ȳ₂) / s,  s² = ((n − 1) s₁² + (k − 1) s₂²) / ν,  ν = n + k − 2,  J(ν) = 1 − 3 / (4 ν − 1)

    J corrects the bias of Cohen's d with few runs. It says how far apart two runs are that differ in the seed as well;
    it is no measure of certainty.

    Args:
        first: the score of every run of the first group.
        second: likewise for the second group.
    Returns: g; None with fewer than two runs in a group, or if no score varies over seeds.
    Reference: Hedges 1981, with the approximation of J.

    >>> round(hedges_g(np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])), 2)
    1.6
    """
    if min(len(first), len(second)) < 2:
        return None
    df = len(first) + len(second) - 2
    pooled = ((len(first) - 1) * first.var(ddof=1) + (len(second) - 1) * second.var(ddof=1)) / df
    if pooled <= 0:
        return None
    return float((1 - 3 / (4 * df - 1)) * (first.mean() - second.mean()) / np.sqrt(pooled))


def detectable_difference(
    standard_error: float, df: float, comparisons: int = 1, power: float = POWER, alpha: float = ALPHA
) -> float:
    """Compute the smallest true difference that a two-sided t test detects with a given chance.

    Solves P(T > t(1 − α / 2k, ν)) = power for δ, with T noncentral t, ν degrees of freedom, noncentrality δ / SE; the
    chance of a significant difference with the wrong sign is negligible beside it.

    A difference that was not found and is smaller than this says nothing: the design could hardly have found it.

    Args:
        standard_error: of the difference, as estimated.
        df: its degrees of freedom ν.
        comparisons: k, comparisons of the family; the first step of Holm's procedure tests at α / k.
        power: chance to detect the difference.
        alpha: level of the family.
    Returns: δ, in the unit of the standard error.
    Reference: Cohen 1988, chapter 2.

    >>> round(detectable_difference(1.0, 1e6), 2)
    2.8
    """
    critical = float(stats.t.ppf(1 - alpha / (2 * comparisons), df))

    def lacking(shift: float) -> float:
        return float(stats.nct.sf(critical, df, shift)) - power

    high = critical + 1.0
    while lacking(high) < 0:
        high *= 1.2
    return standard_error * optimize.root_scalar(lacking, bracket=(0.0, high)).root
