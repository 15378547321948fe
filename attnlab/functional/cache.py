"""A key-value cache for incremental decoding, with buffers of a fixed length.

A step appends the keys and values of its tokens (one token, or a whole prompt) and lets their queries attend to all
stored tokens. The length is an array, so steps do not compile again.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float, Int

from attnlab.functional import masks
from attnlab.functional.attention import attention
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Keys, Queries, Values


class Cache(NamedTuple):
    """The keys and values of the first `length` tokens; the rest of the buffers is never attended to."""

    key: Float[Array, "*B L K E"]
    value: Float[Array, "*B L K V"]
    length: Int[Array, ""]
    """The number of appended tokens; more than L, the capacity, after an overflow (`overflowed`)."""


def init(key: Any, value: Any, capacity: int) -> Cache:
    """Create an empty cache for keys and values of these shapes.

    Args:
        key: [*B, any, K, E], or a `jax.ShapeDtypeStruct` of that shape; only its shape and dtype are read.
        value: [*B, any, K, V], likewise.
        capacity: L, the number of tokens it can hold.
    Returns: a cache of length 0, with buffers of zeros.

    >>> empty = init(jnp.ones((1, 2, 8)), jnp.ones((1, 2, 4)), capacity=16)
    >>> empty.key.shape, empty.value.shape, int(empty.length)
    ((16, 2, 8), (16, 2, 4), 0)
    """
    if capacity < 1:
        raise ValueError(f"cache: capacity must be an integer of 1 or more, not {capacity}")
    buffers = [jnp.zeros((*x.shape[:-3], capacity, *x.shape[-2:]), x.dtype) for x in (key, value)]
    return Cache(*buffers, length=jnp.zeros((), jnp.int32))


def of(key: Float[Array, "*B S K E"], value: Float[Array, "*B S K V"], capacity: int) -> Cache:
    """Create a cache that holds these keys and values.

    Args: as in `init`; capacity is at least S.
    Returns: a cache of length S.

    >>> int(of(jnp.ones((3, 2, 8)), jnp.ones((3, 2, 4)), capacity=16).length)
    3
    """
    return append(init(key, value, capacity), key, value)


def append(cache: Cache, key: Float[Array, "*B T K E"], value: Float[Array, "*B T K V"]) -> Cache:
    """Append the keys and values of the next T tokens.

    Args:
        cache: the previous tokens.
        key: keys of the next tokens, in the dtype of the cache, with rotary positions already applied (`positions`).
        value: values of the next tokens, in the dtype of the cache.
    Returns: a cache longer by T. If the T tokens do not fit, none of them is stored, and the length still grows by T,
        beyond the capacity: a compiled program cannot raise, so check `overflowed`.
    Numerics: differentiable. If the old cache is donated to `jax.jit`, the buffers are updated in place.

    >>> cache = of(jnp.zeros((2, 1, 1)), jnp.zeros((2, 1, 1)), capacity=4)
    >>> append(cache, jnp.ones((1, 1, 1)), jnp.ones((1, 1, 1))).key.ravel().tolist()
    [0.0, 0.0, 1.0, 0.0]
    """
    _check(cache, key, value)
    length = cache.length + key.shape[-3]
    fits = length <= cache.key.shape[-3]

    def write(buffer: Array, new: Array) -> Array:
        axis = buffer.ndim - 3
        old = jax.lax.dynamic_slice_in_dim(buffer, cache.length, new.shape[-3], axis)
        return jax.lax.dynamic_update_slice_in_dim(buffer, jnp.where(fits, new, old), cache.length, axis)

    return Cache(write(cache.key, key), write(cache.value, value), length)


def overflowed(cache: Cache) -> Bool[Array, ""]:
    """Return whether more tokens were appended than the cache can hold; those that did not fit are lost.

    >>> full = of(jnp.zeros((2, 1, 1)), jnp.zeros((2, 1, 1)), capacity=2)
    >>> bool(overflowed(full)), bool(overflowed(append(full, jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)))))
    (False, True)
    """
    return cache.length > cache.key.shape[-3]


def positions(cache: Cache, tokens: int) -> Int[Array, " t"]:
    """Return the positions of the next tokens: length, length + 1, ...

    >>> positions(of(jnp.zeros((2, 1, 1)), jnp.zeros((2, 1, 1)), capacity=4), 2).tolist()
    [2, 3]
    """
    return cache.length + jnp.arange(tokens, dtype=jnp.int32)


@suggest_arguments(options_of=attention)
def attend(
    cache: Cache,
    query: Queries,
    key: Keys,
    value: Values,
    *,
    mask: masks.Mask | None = None,
    **options: Any,
) -> tuple[Any, Cache]:
    """Append the next T tokens, and let their queries attend to all tokens up to their own.

    output_i = Σ_{j ≤ i} weights[i, j] value_j    for the positions i = length, ..., length + T − 1

    The results are the rows of `attention` over the whole sequence with `masks.causal()`, however many tokens come in
    each step. For examples of different lengths use `jax.vmap(attend)` over caches with a length each.

    Args:
        cache: the previous tokens.
        query: [*B, T, N, D], queries of the next tokens.
        key: [*B, T, K, E], keys of the next tokens.
        value: [*B, T, K, V], values of the next tokens.
        mask: a mask of the whole sequence with itself, combined with the causal mask by "and"; None for no other mask.
        options: arguments of `attention`: score, mods, normalizer, returns and so on. Positions are those in the whole
            sequence.
    Returns: the result of `attention` for the T queries over the L slots of the buffers, and the extended cache.
    Numerics: all outputs are NaN after an overflow, so that it is noticed.

    >>> empty = init(jnp.ones((1, 1, 2)), jnp.ones((1, 1, 1)), capacity=4)
    >>> output, cache = attend(empty, jnp.ones((2, 1, 2)), jnp.ones((2, 1, 2)), jnp.array([[[1.0]], [[3.0]]]))
    >>> output.ravel().tolist(), int(cache.length)
    ([1.0, 2.0], 2)
    """
    for name in ("query_positions", "key_positions"):
        if name in options:
            raise ValueError(
                f"cache: {name} is not an argument of attend; the cache determines the positions of its tokens"
            )
    tokens = query.shape[-3]
    if tokens != key.shape[-3]:
        raise ValueError(
            f"cache: the numbers of queries and keys of a step must be equal, got {tokens} and {key.shape[-3]}"
        )
    query_positions = positions(cache, tokens)
    cache = append(cache, key, value)
    total_mask, capacity = masks.causal(0), cache.key.shape[-3]
    if mask is not None:
        total_mask &= _Fitted(mask.placed(capacity, capacity, query.shape[-2]))
    results = attention(query, cache.key, cache.value, mask=total_mask, query_positions=query_positions, **options)
    overflow = overflowed(cache)
    return jax.tree.map(lambda x: _nan_where(overflow, x), results), cache


@partial(register_dataclass, data_fields=["mask"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class _Fitted(masks.Mask):
    """A mask that is fitted to the whole sequence already, not to the queries and keys of a call."""

    mask: Any

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> masks.Mask:
        return self.mask


def _nan_where(overflow: Bool[Array, ""], array: Array) -> Array:
    return jnp.where(overflow, jnp.nan, array) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _check(cache: Cache, key: Array, value: Array) -> None:
    for name, buffer, new in (("key", cache.key, key), ("value", cache.value, value)):
        front, back = buffer.shape[:-3], buffer.shape[-2:]
        if new.shape[:-3] != front or new.shape[-2:] != back or new.ndim != buffer.ndim:
            raise ValueError(f"cache: {name} {new.shape} does not fit a buffer {buffer.shape} [*B, L, heads, width]")
        if new.dtype != buffer.dtype:
            cast = f"write {name}.astype(jnp.{buffer.dtype})"
            raise ValueError(f"cache: {name} has dtype {new.dtype}, but the buffer {buffer.dtype}; {cast}")
        if new.shape[-3] > buffer.shape[-3]:
            raise ValueError(f"cache: {new.shape[-3]} tokens do not fit a capacity of {buffer.shape[-3]}")
    if key.shape[-3] != value.shape[-3]:
        raise ValueError(
            f"cache: the numbers of keys and values must be equal, got {key.shape[-3]} and {value.shape[-3]}"
        )
