"""Rank correlation of two attributions of one text: Kendall's τ-b with its p-value, and Spearman's ρ."""

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.checks import check_attributions
from attnlab.analysis.faithfulness.removal import Attributions
from attnlab.functional.types import accumulation_dtype

EXACT_UP_TO = 33
"""Number of tokens up to which the p-value is exact if there are no ties."""


class Correlation(NamedTuple):
    """A rank correlation and its two-sided p-value under independence, named as in SciPy."""

    statistic: Float[Array, ""]
    pvalue: Float[Array, ""]


def kendall_tau(first: Attributions, second: Attributions, valid: Bool[Array, " n"] | None = None) -> Correlation:
    """Compute Kendall's τ-b, the rank correlation with a correction for ties, and its p-value.

    τ = (C − D) / √((P − T₁)(P − T₂))

    with C concordant and D discordant pairs of tokens, P = n(n − 1)/2 pairs, and T₁ (T₂) pairs that are tied in the
    first (second) array. Not τ-a, which divides by P, and not a weighted τ.

    Args:
        first: attributions of each token.
        second: other attributions of the same tokens.
        valid: True for tokens that count; None if all do.
    Returns: τ in [−1, 1] and the p-value in [0, 1]. Both are NaN for fewer than two tokens, if all values of one array
        are equal, or if one is NaN.
    Numerics: float32 at least, also of float16. n² comparisons; ties are values that are exactly equal. The p-value is
        exact without ties and for at most 33 tokens, else that of the normal approximation. (SciPy with `method="auto"`
        is exact for more than 33 tokens too if at most one pair is discordant, or at most one concordant, where both
        p-values are far below any level.) No gradient.
    Reference: Kendall 1945 (ties); Kendall 1970, chapters 4 and 5 (significance).

    >>> tau = kendall_tau(jnp.array([1.0, 2.0, 3.0, 4.0]), jnp.array([1.0, 3.0, 2.0, 4.0]))
    >>> round(float(tau.statistic), 4), round(float(tau.pvalue), 4)
    (0.6667, 0.3333)
    """
    first, second, valid = _pair("kendall_tau", first, second, valid)
    dtype = first.dtype
    pairs = valid[:, None] & valid[None, :]
    signs = jnp.where(pairs, _signs(first) * _signs(second), 0)
    score = (jnp.sum(signs, dtype=jnp.int32) // 2).astype(dtype)  # C − D
    tokens = jnp.sum(valid, dtype=jnp.int32)
    total = (tokens * (tokens - 1) // 2).astype(dtype)
    ties = [_ties(values, valid, pairs, dtype) for values in (first, second)]
    first_free, second_free = total - ties[0].pairs, total - ties[1].pairs
    defined = (first_free > 0.0) & (second_free > 0.0) & ~jnp.any(valid & (jnp.isnan(first) | jnp.isnan(second)))
    mean = jnp.where(first_free == second_free, first_free, jnp.sqrt(first_free) * jnp.sqrt(second_free))
    statistic = jnp.clip(score / jnp.where(defined, mean, 1.0), -1.0, 1.0)
    without_ties = (ties[0].pairs == 0.0) & (ties[1].pairs == 0.0)
    exact = _exact_pvalue(jnp.abs(score), total, tokens)
    pvalue = jnp.where(without_ties & (tokens <= EXACT_UP_TO), exact, _normal_pvalue(score, total, tokens, *ties))
    return Correlation(jnp.where(defined, statistic, jnp.nan), jnp.where(defined, pvalue, jnp.nan).astype(dtype))


def spearman_rho(first: Attributions, second: Attributions, valid: Bool[Array, " n"] | None = None) -> Float[Array, ""]:
    """Compute Spearman's ρ: the Pearson correlation of the ranks, with the mean rank for ties.

    Args: as in `kendall_tau`.
    Returns: in [−1, 1]; NaN for fewer than two tokens, if all values of one array are equal, or if one is NaN.
    Numerics: float32 at least; n² comparisons. No gradient.
    Reference: Spearman 1904.

    >>> round(float(spearman_rho(jnp.array([1.0, 2.0, 3.0]), jnp.array([1.0, 3.0, 2.0]))), 4)
    0.5
    """
    first, second, valid = _pair("spearman_rho", first, second, valid)
    count = jnp.maximum(jnp.sum(valid, dtype=jnp.int32), 1).astype(first.dtype)
    deviations = []
    for values in (first, second):
        below = jnp.sum(valid[None, :] & (values[None, :] < values[:, None]), axis=1, dtype=jnp.int32)
        equal = jnp.sum(valid[None, :] & (values[None, :] == values[:, None]), axis=1, dtype=jnp.int32)
        rank = below.astype(values.dtype) + equal.astype(values.dtype) / 2.0
        mean = jnp.sum(jnp.where(valid, rank, 0.0)) / count
        deviations.append(jnp.where(valid, rank - mean, 0.0))
    norms = jnp.sqrt(jnp.sum(deviations[0] ** 2)) * jnp.sqrt(jnp.sum(deviations[1] ** 2))
    defined = (norms > 0.0) & ~jnp.any(valid & (jnp.isnan(first) | jnp.isnan(second)))
    rho = jnp.sum(deviations[0] * deviations[1]) / jnp.where(defined, norms, 1.0)
    return jnp.where(defined, jnp.clip(rho, -1.0, 1.0), jnp.nan)


def _pair(
    metric: str, first: Any, second: Any, valid: Bool[Array, " n"] | None
) -> tuple[Float[Array, " n"], Float[Array, " n"], Bool[Array, " n"]]:
    """Return both arrays in one dtype of float32 at least, and which tokens count."""
    one, counted = check_attributions(metric, first, valid)
    other, _ = check_attributions(metric, second)
    if one.shape != other.shape:
        raise ValueError(f"{metric}: both attributions must be of the same tokens, not {one.size} and {other.size}")
    dtype = accumulation_dtype(one, other)
    return one.astype(dtype), other.astype(dtype), counted


class _Ties(NamedTuple):
    """Sums over groups of t equal values, as the variance of τ needs them."""

    pairs: Float[Array, ""]
    """Σ t(t − 1)/2"""
    cubes: Float[Array, ""]
    """Σ t(t − 1)(t − 2)"""
    weighted: Float[Array, ""]
    """Σ t(t − 1)(2t + 5)"""


def _signs(values: Float[Array, " n"]) -> Int[Array, "n n"]:
    above, below = values[:, None] > values[None, :], values[:, None] < values[None, :]
    return above.astype(jnp.int32) - below.astype(jnp.int32)


def _ties(values: Float[Array, " n"], valid: Bool[Array, " n"], pairs: Bool[Array, "n n"], dtype: jnp.dtype) -> _Ties:
    """Sum over groups of equal values: each value of a group of t adds 1/t of the group's term."""
    size = jnp.sum(pairs & (values[:, None] == values[None, :]), axis=1, dtype=jnp.int32).astype(dtype)

    def total(terms: Float[Array, " n"]) -> Float[Array, ""]:
        return jnp.sum(jnp.where(valid, terms, 0.0))

    others = size - 1.0
    return _Ties(total(others) / 2.0, total(others * (size - 2.0)), total(others * (2.0 * size + 5.0)))


def _normal_pvalue(
    score: Float[Array, ""], total: Float[Array, ""], tokens: Int[Array, ""], first: _Ties, second: _Ties
) -> Float[Array, ""]:
    count = tokens.astype(score.dtype)
    ordered = 2.0 * total  # n(n − 1)
    safe = jnp.maximum(ordered, 1.0)
    variance = (ordered * (2.0 * count + 5.0) - first.weighted - second.weighted) / 18.0
    variance += 2.0 * (first.pairs / safe) * second.pairs
    variance += first.cubes / safe * (second.cubes / (9.0 * jnp.maximum(count - 2.0, 1.0)))
    deviation = jnp.abs(score) / jnp.sqrt(jnp.where(variance > 0.0, variance, 1.0))
    return jax.scipy.special.erfc(deviation / np.sqrt(2.0).astype(score.dtype))


def _exact_pvalue(size: Float[Array, ""], total: Float[Array, ""], tokens: Int[Array, ""]) -> Float[Array, ""]:
    """Return the probability of |C − D| or more under a random permutation."""
    table = jnp.asarray(_inversions(), size.dtype)
    discordant = ((total - size) / 2.0).astype(jnp.int32)
    row, column = jnp.minimum(tokens, EXACT_UP_TO), jnp.clip(discordant, 0, table.shape[1] - 1)
    return jnp.minimum(2.0 * table[row, column], 1.0)


@cache
def _inversions() -> Float[np.ndarray, "rows columns"]:
    """Return the probability that a random permutation of n has at most k inversions, [n, k].

    The largest of n numbers adds 0 … n − 1 inversions, each with probability 1/n.
    """
    pairs = EXACT_UP_TO * (EXACT_UP_TO - 1) // 2
    probability = np.zeros((EXACT_UP_TO + 1, pairs + 1))
    probability[:2, 0] = 1.0
    for count in range(2, EXACT_UP_TO + 1):
        for added in range(count):
            probability[count, added:] += probability[count - 1, : pairs + 1 - added] / count
    return np.cumsum(probability, axis=1)
