"""Dropout of weights, as a function of positions: the same numbers whatever the block in which they are drawn."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import threefry_2x32
from jaxtyping import Bool, Int, UInt32

from attnlab.functional.types import Head, KeyPositions, QueryPositions, Weights


def keep(
    rng: Array,
    rate: float,
    example: Int[Array, ""],
    head: Head,
    query_positions: QueryPositions,
    key_positions: KeyPositions,
) -> Bool[Array, "q k"]:
    """Draw which weights of one head of one example are kept.

    keep[i, j] ~ Bernoulli(1 − rate), a hash of (query i, key j) keyed by the hash of (example, head) keyed by rng

    Args:
        rng: a key of `jax.random`, of any implementation.
        rate: probability that a weight is dropped, in [0, 1).
        example: number of the example, row-major over the batch axes.
        head: number of the query head.
    Returns: True where kept; no number depends on which others are drawn with it.
    Reference: Salmon et al. 2011 (Threefry, a counter-based generator).

    >>> rng, zero, three = jax.random.key(0), jnp.int32(0), jnp.arange(3)
    >>> kept = keep(rng, 0.5, zero, zero, three, three)
    >>> bool((keep(rng, 0.5, zero, zero, three[1:], three[2:]) == kept[1:, 2:]).all())
    True
    """
    key_of_head = threefry_2x32(jax.random.bits(rng, (2,), jnp.uint32), jnp.stack([example, head]).astype(jnp.uint32))
    bits = _hash(key_of_head, query_positions[:, None], key_positions[None, :])
    return bits >= jnp.uint32(int(rate * 2**32))


def _hash(key: UInt32[Array, "2"], first: Array, second: Array) -> UInt32[Array, "q k"]:
    """Hash every pair of a number of `first` [q, 1] and one of `second` [1, k]."""
    shape = jnp.broadcast_shapes(first.shape, second.shape)
    pairs = jnp.stack([jnp.broadcast_to(x, shape).astype(jnp.uint32) for x in (first, second)])
    return threefry_2x32(key, pairs.reshape(-1))[: pairs[0].size].reshape(shape)


def drop(weights: Weights, kept: Bool[Array, "q k"], rate: float) -> Weights:
    """Set the weights that are not kept to zero and scale the others, so that the expectation stays.

    dropped[i, j] = weights[i, j] / (1 − rate)    where kept, else 0

    Reference: Srivastava et al. 2014, section 10 ("inverted" dropout).

    >>> drop(jnp.array([[0.5, 0.5]]), jnp.array([[True, False]]), 0.5).tolist()
    [[1.0, 0.0]]
    """
    return jnp.where(kept, weights / (1.0 - rate), 0.0)
