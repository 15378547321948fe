"""Random numbers as a function of positions, independent of how they are divided into blocks."""

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.random import threefry_2x32
from jaxtyping import Int, UInt32

from attnlab.functional.types import Head, KeyPositions, QueryPositions


def bits(
    rng: Array,
    example: Int[Array, ""],
    head: Head,
    query_positions: QueryPositions,
    key_positions: KeyPositions,
) -> UInt32[Array, "q k"]:
    """Draw 32 random bits for every query and key of one head of one example.

    bits[i, j] = a hash of (query i, key j) keyed by the hash of (example, head) keyed by rng

    Args:
        rng: a key of `jax.random`, of any implementation.
        example: index of the example, row-major over the batch axes.
        head: index of the query head.
        query_positions: positions of the queries.
        key_positions: positions of the keys.
    Returns: the bits; each depends on its own query and key only, not on the others of the call.
    Reference: Salmon et al. 2011 (Threefry, a counter-based generator).

    >>> rng, zero, three = jax.random.key(0), jnp.int32(0), jnp.arange(3)
    >>> drawn = bits(rng, zero, zero, three, three)
    >>> bool((bits(rng, zero, zero, three[1:], three[2:]) == drawn[1:, 2:]).all())
    True
    """
    key_of_head = threefry_2x32(jax.random.bits(rng, (2,), jnp.uint32), jnp.stack([example, head]).astype(jnp.uint32))
    return _hash(key_of_head, query_positions[:, None], key_positions[None, :])


def _hash(key: UInt32[Array, "2"], first: Array, second: Array) -> UInt32[Array, "q k"]:
    """Hash every pair of an integer of `first` [q, 1] and one of `second` [1, k]."""
    shape = jnp.broadcast_shapes(first.shape, second.shape)
    pairs = jnp.stack([jnp.broadcast_to(x, shape).astype(jnp.uint32) for x in (first, second)])
    return threefry_2x32(key, pairs.reshape(-1))[: pairs[0].size].reshape(shape)
