"""A cache for incremental decoding: the keys and values of the tokens so far, in buffers of a fixed length.

A step appends the keys and values of its tokens (one, or a prompt's many) and lets their queries attend to all
that is stored. Nothing is compiled anew from step to step: the length is an array.
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
    """The keys and values of the first `length` tokens; what lies behind them in the buffers is never attended to."""

    key: Float[Array, "*B L K E"]
    value: Float[Array, "*B L K V"]
    length: Int[Array, ""]
    """How many tokens were appended. More than L, the capacity, when it overflowed: see `overflowed`."""


def init(key: Any, value: Any, capacity: int) -> Cache:
    """Make an empty cache for keys and values like these.

    Args:
        key: [*B, any, K, E], or a `jax.ShapeDtypeStruct` of that shape; only its shape and dtype are read.
        value: [*B, any, K, V], likewise.
        capacity: L, how many tokens it can hold.
    Returns: a cache of length 0, with buffers of zeros.

    >>> empty = init(jnp.ones((1, 2, 8)), jnp.ones((1, 2, 4)), capacity=16)
    >>> empty.key.shape, empty.value.shape, int(empty.length)
    ((16, 2, 8), (16, 2, 4), 0)
    """
    if capacity < 1:
        raise ValueError(f"cache: capacity {capacity} holds nothing; it is a whole number from 1 on")
    buffers = [jnp.zeros((*x.shape[:-3], capacity, *x.shape[-2:]), x.dtype) for x in (key, value)]
    return Cache(*buffers, length=jnp.zeros((), jnp.int32))


def of(key: Float[Array, "*B S K E"], value: Float[Array, "*B S K V"], capacity: int) -> Cache:
    """Make a cache that holds these keys and values.

    Args: as for `init`; capacity is at least S.
    Returns: a cache of length S.

    >>> int(of(jnp.ones((3, 2, 8)), jnp.ones((3, 2, 4)), capacity=16).length)
    3
    """
    return append(init(key, value, capacity), key, value)


def append(cache: Cache, key: Float[Array, "*B T K E"], value: Float[Array, "*B T K V"]) -> Cache:
    """Store the keys and values of the next T tokens.

    Args:
        cache: holds the tokens before them.
        key: of the next tokens, in the dtype of the cache. Rotary positions are applied to it before (`positions`).
        value: likewise.
    Returns: a cache longer by T. Where the T tokens do not fit, none of them is stored and the length still
        grows by T, past the capacity: a compiled program cannot raise, so ask `overflowed`.
    Numerics: differentiable. When the old cache is donated to `jax.jit` the buffers are written in place.

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
    """Tell whether more tokens were appended than the cache can hold; those that did not fit are lost.

    >>> full = of(jnp.zeros((2, 1, 1)), jnp.zeros((2, 1, 1)), capacity=2)
    >>> bool(overflowed(full)), bool(overflowed(append(full, jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)))))
    (False, True)
    """
    return cache.length > cache.key.shape[-3]


def positions(cache: Cache, tokens: int) -> Int[Array, " t"]:
    """Return the positions that the next tokens will have: length, length + 1, ...

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

    The same rows as those of `attention` over the whole sequence with `masks.causal()`, whatever the steps in
    which the tokens come. Examples of different lengths: `jax.vmap(attend)` over caches with a length each.

    Args:
        cache: holds the tokens before them.
        query: [*B, T, N, D], of the next tokens.
        key: of the next tokens.
        value: of the next tokens.
        mask: what else restricts them; its alignment, if it has one, is that of the whole sequence to itself.
        options: of `attention`: score, mods, normalizer, returns and so on. Mods see positions in the whole sequence.
    Returns: what `attention` returns for the T queries over the L slots of the buffers, and the longer cache.
    Numerics: NaN in every output when the cache overflowed, for a wrong number would not be seen.

    >>> empty = init(jnp.ones((1, 1, 2)), jnp.ones((1, 1, 1)), capacity=4)
    >>> output, cache = attend(empty, jnp.ones((2, 1, 2)), jnp.ones((2, 1, 2)), jnp.array([[[1.0]], [[3.0]]]))
    >>> output.ravel().tolist(), int(cache.length)
    ([1.0, 2.0], 2)
    """
    for name in ("query_positions", "key_positions"):
        if name in options:
            raise ValueError(f"cache: {name} cannot be given, for the cache knows the positions of its tokens")
    tokens = query.shape[-3]
    if tokens != key.shape[-3]:
        raise ValueError(f"cache: {tokens} queries and {key.shape[-3]} keys; a step brings as many of one as the other")
    now = positions(cache, tokens)
    cache = append(cache, key, value)
    seen, capacity = masks.causal(0), cache.key.shape[-3]
    if mask is not None:
        seen &= _Fitted(mask.placed(capacity, capacity, query.shape[-2]))
    found = attention(query, cache.key, cache.value, mask=seen, query_positions=now, **options)
    lost = overflowed(cache)
    return jax.tree.map(lambda x: _spoil(x, lost), found), cache


@partial(register_dataclass, data_fields=["mask"], meta_fields=[])
@dataclass(frozen=True, repr=False)
class _Fitted(masks.Mask):
    """A mask that knows its size, which is not that of the call."""

    mask: Any

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> masks.Mask:
        return self.mask


def _spoil(array: Array, lost: Bool[Array, ""]) -> Array:
    return jnp.where(lost, jnp.nan, array) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _check(cache: Cache, key: Array, value: Array) -> None:
    for name, buffer, new in (("key", cache.key, key), ("value", cache.value, value)):
        front, back = buffer.shape[:-3], buffer.shape[-2:]
        if new.shape[:-3] != front or new.shape[-2:] != back or new.ndim != buffer.ndim:
            raise ValueError(
                f"cache: {name} {new.shape} does not fit into a buffer {buffer.shape} [*B, L, heads, width]"
            )
        if new.dtype != buffer.dtype:
            raise ValueError(f"cache: {name} of {new.dtype}, the buffer is of {buffer.dtype}; cast it first")
        if new.shape[-3] > buffer.shape[-3]:
            raise ValueError(f"cache: {new.shape[-3]} tokens at once into a capacity of {buffer.shape[-3]}")
    if key.shape[-3] != value.shape[-3]:
        raise ValueError(f"cache: {key.shape[-3]} keys and {value.shape[-3]} values; each token has one of both")
