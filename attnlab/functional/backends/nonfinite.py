"""Handling of NaN and Inf: those in masked keys or values must not reach the output, although 0 × NaN is NaN.

A query, key or value that contains NaN or Inf is replaced by finite numbers before the computation. Afterwards the rows
of the results that may attend to it are set to NaN, so that no gradient passes through it either.

What every masked call does is written in `jax.lax`, which is traced several times as fast as `jax.numpy`.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from attnlab.functional.types import Where


class Nonfinite(NamedTuple):
    """Truth values of the queries, keys and values that contain NaN or Inf."""

    query: Bool[Array, "*axes q"]
    key: Bool[Array, "*axes k"]
    value: Any
    """Like `key`; None if there are no values."""

    def any(self) -> Bool[Array, ""]:
        """Return whether any query, key or value contains NaN or Inf."""
        return jnp.stack([x.any() for x in self if x is not None]).any()


def replace(query: Array, key: Array, value: Array | None) -> tuple[Array, Array, Array | None, Nonfinite]:
    """Replace every query, key and value that contains NaN or Inf, and return which ones were replaced.

    Values become 0. Queries and keys become 1, since a score may divide by the norm of its arguments.
    """
    nonfinite = Nonfinite(_is_nonfinite(query), _is_nonfinite(key), None if value is None else _is_nonfinite(value))
    query, key = _set(query, nonfinite.query, 1.0), _set(key, nonfinite.key, 1.0)
    return query, key, None if value is None else _set(value, nonfinite.value, 0.0), nonfinite


def nan_rows(where: Where, nonfinite: Nonfinite, output: bool) -> Bool[Array, " q"]:
    """Return the rows of a block that become NaN: nonfinite queries, and queries that may attend to a nonfinite key.

    A nonfinite query that is fully masked is an empty row like any other, with output 0.

    Args:
        where: the mask of the block.
        nonfinite: the nonfinite queries, keys and values of the block.
        output: True for the rows of the output, which also become NaN by a nonfinite value; False for those of all
            results that are computed from weights or logits.
    """
    keys = nonfinite.key
    if output and nonfinite.value is not None:
        keys = lax.bitwise_or(keys, nonfinite.value)
    attended = lax.bitwise_and(where, lax.broadcast_in_dim(keys, where.shape, (1,)))
    any_key = lax.reduce_or(where, (1,))
    return lax.bitwise_or(lax.reduce_or(attended, (1,)), lax.bitwise_and(nonfinite.query, any_key))


def set_nan(rows: Float[Array, "q *axes"], selected: Bool[Array, " q"]) -> Float[Array, "q *axes"]:
    """Set the selected rows to NaN."""
    # No separate array of NaN: `jax_debug_nans` would stop at it.
    return jnp.where(_spread(selected, rows), jnp.nan, rows)


def set_zero(rows: Array, selected: Array) -> Array:
    """Set the selected rows to 0."""
    return _set(rows, selected, 0.0)


def _set(rows: Array, selected: Array, number: float) -> Array:
    return lax.select(_spread(selected, rows), lax.full_like(rows, number), rows)


def _spread(selected: Array, rows: Array) -> Array:
    return lax.broadcast_in_dim(selected, rows.shape, range(selected.ndim))


def _is_nonfinite(rows: Array) -> Array:
    # 0 × NaN and 0 × Inf are NaN, and a sum is faster than a reduction of booleans.
    total = lax.reduce_sum(lax.mul(lax.stop_gradient(rows), lax.full_like(rows, 0.0)), (rows.ndim - 1,))
    return lax.ne(total, total)
