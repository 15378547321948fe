"""Dropout of weights as a function of positions, independent of how they are divided into blocks."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Int

from attnlab.functional import random
from attnlab.functional.types import Head, KeyPositions, QueryPositions, Weights


def keep(
    rng: Array,
    rate: float,
    example: Int[Array, ""],
    head: Head,
    query_positions: QueryPositions,
    key_positions: KeyPositions,
) -> Bool[Array, "q k"]:
    """Draw the dropout mask of the weights of one head of one example.

    keep[i, j] ~ Bernoulli(1 − rate), from `random.bits`

    Args:
        rng: a key of `jax.random`, of any implementation.
        rate: probability that a weight is dropped, in [0, 1).
        example: index of the example, row-major over the batch axes.
        head: index of the query head.
        query_positions: positions of the queries.
        key_positions: positions of the keys.
    Returns: True where kept; each value depends on its own query and key only, not on the others of the call.
    Reference: Salmon et al. 2011 (Threefry, a counter-based generator).

    >>> import jax
    >>> rng, zero, three = jax.random.key(0), jnp.int32(0), jnp.arange(3)
    >>> kept = keep(rng, 0.5, zero, zero, three, three)
    >>> bool((keep(rng, 0.5, zero, zero, three[1:], three[2:]) == kept[1:, 2:]).all())
    True
    """
    drawn = random.bits(rng, example, head, query_positions, key_positions)
    return drawn >= jnp.uint32(int(rate * 2**32))


def drop(weights: Weights, kept: Bool[Array, "q k"], rate: float) -> Weights:
    """Set the weights that are not kept to zero and scale the others, so that the expectation is unchanged.

    dropped[i, j] = weights[i, j] / (1 − rate)    where kept, else 0

    Args:
        weights: weights of one head.
        kept: the dropout mask of `keep`.
        rate: probability that a weight is dropped, in [0, 1).
    Returns: the weights after dropout, in their dtype.
    Reference: Srivastava et al. 2014, section 10 ("inverted" dropout).

    >>> drop(jnp.array([[0.5, 0.5]]), jnp.array([[True, False]]), 0.5).tolist()
    [[1.0, 0.0]]
    """
    return jnp.where(kept, weights / (1.0 - rate), 0.0)
