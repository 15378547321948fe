"""Handling of NaN and Inf: those in masked keys or values must not reach the output, although 0 × NaN is NaN.

A query, key or value that contains NaN or Inf is replaced by finite numbers before the computation. Afterwards the rows
of the results that may attend to it are set to NaN, so that no gradient passes through it either.

What every masked call does is written in `jax.lax`, which is traced several times as fast as `jax.numpy`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from attnlab.functional.types import Where


class Nonfinite(NamedTuple):
    """Truth values of the queries, keys and values that contain NaN or Inf."""

    query: Bool[Array, " q"]
    key: Bool[Array, " k"]
    value: Bool[Array, " k"]

    def any(self) -> Bool[Array, ""]:
        """Return whether any query, key or value contains NaN or Inf."""
        return self.query.any() | self.key.any() | self.value.any()


class Visible(NamedTuple):
    """For each query, whether it may attend to any key, to a nonfinite key, and to a nonfinite value."""

    any_key: Bool[Array, " q"]
    nonfinite_key: Bool[Array, " q"]
    nonfinite_value: Bool[Array, " q"]


class NanRows(NamedTuple):
    """The rows to set to NaN."""

    weights: Bool[Array, " q"]
    """Rows of all results that are computed from weights or logits."""
    output: Bool[Array, " q"]
    """Rows of the output."""


def replace(query: Array, key: Array, value: Array | None) -> tuple[Array, Array, Array | None, Nonfinite]:
    """Replace every query, key and value that contains NaN or Inf, and return which ones were replaced.

    Values become 0. Queries and keys become 1, since a score may divide by the norm of its arguments.
    """
    nonfinite_value = jnp.zeros(key.shape[0], bool) if value is None else _is_nonfinite(value)
    nonfinite = Nonfinite(_is_nonfinite(query), _is_nonfinite(key), nonfinite_value)
    value = None if value is None else set_zero(value, nonfinite.value)
    return _set(query, nonfinite.query, 1.0), _set(key, nonfinite.key, 1.0), value, nonfinite


def visible(where: Where, nonfinite: Nonfinite) -> Visible:
    """Return which queries of a block may attend to nonfinite keys or values.

    Args:
        where: the mask of the block.
        nonfinite: the nonfinite queries, keys and values of the block.
    """
    any_nonfinite = lambda selected: (where & selected[None, :]).any(axis=1)  # noqa: E731
    return Visible(where.any(axis=1), any_nonfinite(nonfinite.key), any_nonfinite(nonfinite.value))


def nan_rows(visible: Visible, nonfinite: Nonfinite) -> NanRows:
    """Return the rows to set to NaN: queries that may attend to a nonfinite key or value, and nonfinite queries.

    A nonfinite query that is fully masked is an empty row like any other, with output 0.
    """
    weights = visible.nonfinite_key | (nonfinite.query & visible.any_key)
    return NanRows(weights, weights | visible.nonfinite_value)


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
    return lax.broadcast_in_dim(selected, rows.shape, (0,))


def _is_nonfinite(rows: Array) -> Array:
    # 0 × NaN and 0 × Inf are NaN, and a sum is faster than a reduction of booleans.
    total = lax.reduce_sum(lax.mul(lax.stop_gradient(rows), lax.full_like(rows, 0.0)), (1,))
    return lax.ne(total, total)
