"""Where a head attends: spread, confidence, distance, neighbors and diagonality of its weights.

Every function takes the weights of one head of one example; `jax.vmap` adds heads and batch. `where` is the mask of the
attention with padding: True where a query may attend to a key, a row of False for a padded query; `[1 k]` is one row
for all queries. Weights at False, NaN included, never reach a result. For a captured layer it is
`analysis.interventions.allowed`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.functional import statistics
from attnlab.functional.types import Positions, Weights, Where, widen

Mask = Bool[Array, "#q #k"]
"""True where a query may attend to a key; an axis of 1 is the same for all queries or keys."""


def padding(queries: int, keys: int, query_length: int | Int[Array, ""], key_length: int | Int[Array, ""]) -> Where:
    """Return the mask [q k] of a padded example: True where query and key are real tokens.

    `jax.vmap(lambda t, s: padding(2, 2, t, s))(lengths, lengths)` is the mask [b q k] of a batch.

    >>> padding(2, 2, 1, 2).tolist()
    [[True, True], [False, False]]
    """
    return (jnp.arange(queries) < query_length)[:, None] & (jnp.arange(keys) < key_length)[None, :]


def visible(weights: Weights, where: Mask | None) -> tuple[Weights, Where]:
    """Return the weights with 0 where a query may not attend, in at least float32, and the whole mask [q k].

    A mask of None is all True.

    Raises: ValueError for a mask that does not broadcast to the weights.

    >>> visible(jnp.array([[1.0, jnp.nan]]), jnp.array([[True, False]]))[0].tolist()
    [[1.0, 0.0]]
    """
    mask = jnp.ones((1, 1), bool) if where is None else where
    if mask.ndim != 2 or any(size not in (1, full) for size, full in zip(mask.shape, weights.shape, strict=True)):
        raise ValueError(f"where {mask.shape} must be [q k] {weights.shape}, or 1 for an axis without difference")
    mask = jnp.broadcast_to(mask, weights.shape)
    return jnp.where(mask, widen(weights), 0.0), mask


def mean_over_queries(values: Float[Array, " q"], where: Mask | None = None) -> Float[Array, ""]:
    """Return the mean over the queries that may attend to any key; 0 if there is none.

    Args:
        values: a statistic of each query.
        where: mask [q k], or [1 k] for all queries alike; None counts every query.

    >>> float(mean_over_queries(jnp.array([1.0, 3.0, 9.0]), jnp.array([[True], [True], [False]])))
    2.0
    """
    rows = jnp.ones(1, bool) if where is None else where.any(axis=1)
    if rows.shape not in ((1,), values.shape):
        raise ValueError(f"where has {rows.shape[0]} rows; it must have {values.shape[0]}, the number of queries, or 1")
    rows = jnp.broadcast_to(rows, values.shape)
    count = jnp.maximum(jnp.sum(rows.astype(values.dtype)), 1.0)
    return jnp.sum(jnp.where(rows, values, 0.0)) / count


def entropy(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the entropy of each query's weights, in nats (see `functional.statistics.entropy`).

    >>> round(float(entropy(jnp.array([[0.5, 0.5, 9.0]]), jnp.array([[True, True, False]]))[0]), 4)
    0.6931
    """
    return statistics.entropy(visible(weights, where)[0])


def normalized_entropy(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the entropy of each query's weights as a share of the largest possible one.

    normalized_i = H(weights_i) / log n_i    with n_i the number of keys that query i may attend to

    Args:
        weights: rows that sum to 1.
        where: mask; None counts every key.
    Returns: in [0, 1]; 1 for equal weights. 0 for a single key, where both are 0, and for a fully masked row.
    Numerics: float32 or wider.

    >>> normalized_entropy(jnp.array([[0.5, 0.5, 0.0]]), jnp.array([[True, True, False]])).tolist()
    [1.0]
    """
    weights, mask = visible(weights, where)
    count = jnp.sum(mask.astype(weights.dtype), axis=1)
    several = count > 1.0
    return jnp.where(several, statistics.entropy(weights) / jnp.log(jnp.where(several, count, 2.0)), 0.0)


def effective_support(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the number of keys that as many equal weights of the same entropy would have (the perplexity).

    support_i = exp H(weights_i)

    Returns: in [1, n_i]; 0 for a fully masked row.

    >>> round(float(effective_support(jnp.array([[0.5, 0.5, 0.0]]))[0]), 4)
    2.0
    """
    weights, mask = visible(weights, where)
    return jnp.where(mask.any(axis=1), jnp.exp(statistics.entropy(weights)), 0.0)


def confidence(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the largest weight of each query; its mean over queries is the confidence of a head.

    Voita et al. leave out the end token: mask its key for that.

    Returns: in [1/n_i, 1]; 0 for a fully masked row.
    Reference: Voita et al. 2019, section 4 ("confident" heads).

    >>> confidence(jnp.array([[0.25, 0.75]])).tolist()
    [0.75]
    """
    return jnp.max(visible(weights, where)[0], axis=1, initial=0.0)


def distance(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the mean distance Σ_j weights[i, j] |i − j| of each query (see `functional.statistics.distance`).

    Meaningful if queries and keys are positions in one sequence.

    >>> distance(jnp.array([[0.5, 0.5], [0.5, 0.5]])).tolist()
    [0.5, 0.5]
    """
    weights = visible(weights, where)[0]
    queries, keys = (jnp.arange(size) for size in weights.shape)
    return statistics.distance(weights, Positions(queries, keys, jnp.int32(0), jnp.int32(0)))


def offset_mass(weights: Weights, offset: int, where: Mask | None = None) -> Float[Array, " q"]:
    """Return the weight of each query on the key at an offset: −1 is the previous token, 0 itself, 1 the next.

    mass_i = weights[i, i + offset]

    Returns: in [0, 1]; 0 where there is no such key.
    Reference: Clark et al. 2019, section 3.1.

    >>> offset_mass(jnp.array([[1.0, 0.0], [0.75, 0.25]]), -1).tolist()
    [0.0, 0.75]
    """
    weights = visible(weights, where)[0]
    queries, keys = (jnp.arange(size) for size in weights.shape)
    return jnp.sum(jnp.where(keys[None, :] == queries[:, None] + offset, weights, 0.0), axis=1)


def mean_offset_mass(weights: Weights, offset: int, where: Mask | None = None) -> Float[Array, ""]:
    """Return the mean of `offset_mass` over the queries that may attend to such a key.

    Unlike `heads.previous_token_head`, the first token, which has no previous one, does not count.

    Returns: in [0, 1]; 0 if no query has such a key.

    >>> float(mean_offset_mass(jnp.array([[1.0, 0.0], [0.75, 0.25]]), -1))
    0.75
    """
    mask = visible(weights, where)[1]
    queries, keys = (jnp.arange(size) for size in weights.shape)
    return mean_over_queries(offset_mass(weights, offset, where), mask & (keys[None, :] == queries[:, None] + offset))


def diagonality(weights: Weights, where: Mask | None = None) -> Float[Array, " q"]:
    """Return how near the diagonal each query's weights lie (the centrality); its mean is a head's diagonality.

    centrality_i = 1 − Σ_j weights[i, j] |d_i − j| / max_{j allowed} |d_i − j|,    d_i = i (S − 1) / (T − 1)

    with T and S the numbers of queries and keys that are not padding, so that the diagonal goes from the first query
    and key to the last. For T = S, d_i = i is the definition of Zhang et al.; T ≠ S is cross-attention.

    Args:
        weights: rows that sum to 1.
        where: mask; a key that no query may attend to is padding, at the start or the end.
    Returns: in [0, 1]; 1 if all weight is on the diagonal, or the query may attend to nothing but the diagonal; 0 for
        a fully masked row. Uniform weights have about ½ or more, depending on the row: compare heads, not numbers.
    Reference: Zhang et al. 2021, "On the usefulness of self-attention for automatic speech recognition with
        transformers".

    >>> diagonality(jnp.eye(3)).tolist(), diagonality(jnp.eye(3)[::-1]).tolist()
    ([1.0, 1.0, 1.0], [0.0, 1.0, 0.0])
    """
    weights, mask = visible(weights, where)
    queries, keys = (jnp.cumsum(mask.any(axis=axis)).astype(weights.dtype) - 1.0 for axis in (1, 0))
    last_query, last_key = (jnp.max(positions, initial=0.0) for positions in (queries, keys))
    center = queries * last_key / jnp.maximum(last_query, 1.0)
    gap = jnp.abs(center[:, None] - keys[None, :])
    largest = jnp.max(jnp.where(mask, gap, 0.0), axis=1, initial=0.0)
    share = jnp.sum(weights * gap, axis=1) / jnp.where(largest > 0.0, largest, 1.0)
    return jnp.where(mask.any(axis=1), 1.0 - share, 0.0)


class HeadStatistics(NamedTuple):
    """Means over the queries of a head that are not padding."""

    entropy: Array
    """In nats."""
    normalized_entropy: Array
    effective_support: Array
    confidence: Array
    distance: Array
    """In tokens."""
    previous: Array
    """Weight on the previous token."""
    self: Array
    """Weight on the token itself."""
    next: Array
    """Weight on the next token."""
    diagonality: Array


def head_statistics(weights: Weights, where: Mask | None = None) -> HeadStatistics:
    """Return the statistics of this file for one head of one example, each as its mean over queries.

    The distance and the neighbors are meaningful for self-attention, the diagonality also for cross-attention.

    >>> statistics_of_head = head_statistics(jnp.eye(3))
    >>> float(statistics_of_head.self), float(statistics_of_head.diagonality)
    (1.0, 1.0)
    """

    def mean(values: Float[Array, " q"]) -> Float[Array, ""]:
        return mean_over_queries(values, visible(weights, where)[1])

    return HeadStatistics(
        entropy=mean(entropy(weights, where)),
        normalized_entropy=mean(normalized_entropy(weights, where)),
        effective_support=mean(effective_support(weights, where)),
        confidence=mean(confidence(weights, where)),
        distance=mean(distance(weights, where)),
        previous=mean_offset_mass(weights, -1, where),
        self=mean_offset_mass(weights, 0, where),
        next=mean_offset_mass(weights, 1, where),
        diagonality=mean(diagonality(weights, where)),
    )
