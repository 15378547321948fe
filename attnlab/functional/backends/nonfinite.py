"""Containment of NaN and Inf: a masked key or value that holds one must reach no output, though 0 × NaN is NaN.

A query, key or value that holds NaN or Inf is replaced by finite numbers before the computation, and the rows of the
results that may attend to it are set to NaN afterwards, so that no gradient passes through it either.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.types import Where


class Nonfinite(NamedTuple):
    """Which queries, keys and values hold NaN or Inf."""

    query: Bool[Array, " q"]
    key: Bool[Array, " k"]
    value: Bool[Array, " k"]

    def any(self) -> Bool[Array, ""]:
        """Return whether any does."""
        return self.query.any() | self.key.any() | self.value.any()


class Visible(NamedTuple):
    """What each query may attend to."""

    any_key: Bool[Array, " q"]
    nonfinite_key: Bool[Array, " q"]
    nonfinite_value: Bool[Array, " q"]


class NanRows(NamedTuple):
    """The rows to set to NaN: `weights` in everything computed from weights or logits, `output` in the output."""

    weights: Bool[Array, " q"]
    output: Bool[Array, " q"]


def replace(query: Array, key: Array, value: Array | None) -> tuple[Array, Array, Array | None, Nonfinite]:
    """Replace every query, key and value that holds NaN or Inf, and return which those are.

    Values become 0. Queries and keys become 1, since a score may divide by the norm of its arguments.
    """
    nonfinite_value = jnp.zeros(key.shape[0], bool) if value is None else _is_nonfinite(value)
    nonfinite = Nonfinite(_is_nonfinite(query), _is_nonfinite(key), nonfinite_value)
    value = None if value is None else set_zero(value, nonfinite.value)
    return _set_one(query, nonfinite.query), _set_one(key, nonfinite.key), value, nonfinite


def visible(where: Where, nonfinite: Nonfinite) -> Visible:
    """Return what each query of a block may attend to; `nonfinite` is of the block's queries and keys."""
    any_nonfinite = lambda which: (where & which[None, :]).any(axis=1)  # noqa: E731
    return Visible(where.any(axis=1), any_nonfinite(nonfinite.key), any_nonfinite(nonfinite.value))


def nan_rows(visible: Visible, nonfinite: Nonfinite) -> NanRows:
    """Return the rows to set to NaN: those that attend to a nonfinite key or value, and nonfinite queries themselves.

    A nonfinite query that may attend to nothing is an empty row like any other.
    """
    weights = visible.nonfinite_key | (nonfinite.query & visible.any_key)
    return NanRows(weights, weights | visible.nonfinite_value)


def set_nan(rows: Float[Array, "q *axes"], which: Bool[Array, " q"]) -> Float[Array, "q *axes"]:
    """Set these rows to NaN."""
    # No array of NaN by itself: `jax_debug_nans` would stop at it where nothing is compiled.
    return jnp.where(which.reshape(-1, *[1] * (rows.ndim - 1)), jnp.nan, rows)


def set_zero(rows: Array, which: Array) -> Array:
    """Set these rows to 0."""
    return jnp.where(which[:, None], jnp.zeros_like(rows), rows)


def _set_one(rows: Array, which: Array) -> Array:
    return jnp.where(which[:, None], jnp.ones_like(rows), rows)


def _is_nonfinite(rows: Array) -> Array:
    # 0 × NaN and 0 × Inf are NaN, and a sum is faster than a reduction of booleans.
    return jnp.isnan(jnp.sum(jax.lax.stop_gradient(rows) * jnp.zeros((), rows.dtype), axis=-1))
