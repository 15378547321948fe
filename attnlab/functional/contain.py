"""Keep NaN and Inf from where a mask says they may not be seen: a weight of 0 does not, for 0 × NaN is NaN.

A query, key or value that holds NaN or Inf is computed with as if it were some number, and the rows of the result that
may see it are overwritten with NaN afterwards, so that no gradient passes through it either.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.types import Where


class Bad(NamedTuple):
    """Which queries, keys and values hold NaN or Inf."""

    query: Bool[Array, " q"]
    key: Bool[Array, " k"]
    value: Bool[Array, " k"]

    def any(self) -> Bool[Array, ""]:
        """Whether there is any at all."""
        return self.query.any() | self.key.any() | self.value.any()


class Seen(NamedTuple):
    """What each query may attend to."""

    anything: Bool[Array, " q"]
    bad_key: Bool[Array, " q"]
    bad_value: Bool[Array, " q"]

    def also(self, other: "Seen") -> "Seen":
        """Add what the same queries see among other keys."""
        return Seen(*(mine | theirs for mine, theirs in zip(self, other, strict=True)))


class Spoiled(NamedTuple):
    """The rows that become NaN: `weights` in all that is made of weights or logits, `output` in the output."""

    weights: Bool[Array, " q"]
    output: Bool[Array, " q"]


def clean(query: Array, key: Array, value: Array | None) -> tuple[Array, Array, Array | None, Bad]:
    """Return the arrays with numbers for every query, key and value that holds NaN or Inf, and which those are.

    Values become 0. Queries and keys become 1, for a score may divide by the norm of its arguments.
    """
    bad_value = jnp.zeros(key.shape[0], bool) if value is None else _bad(value)
    bad = Bad(_bad(query), _bad(key), bad_value)
    value = None if value is None else zeroed(value, bad.value)
    return _ones(query, bad.query), _ones(key, bad.key), value, bad


def seen(where: Where, bad: Bad) -> Seen:
    """Tell what each query of a block may attend to; `bad` is of the block's queries and keys."""
    return Seen(where.any(axis=1), (where & bad.key[None, :]).any(axis=1), (where & bad.value[None, :]).any(axis=1))


def spoiled(what: Seen, bad: Bad) -> Spoiled:
    """Tell which rows become NaN: those that see a bad key (or value), or see anything and are bad themselves."""
    weights = what.bad_key | (bad.query & what.anything)
    return Spoiled(weights, weights | what.bad_value)


def spoil(rows: Float[Array, "q *axes"], which: Bool[Array, " q"]) -> Float[Array, "q *axes"]:
    """Overwrite these rows with NaN."""
    # No array of NaN by itself: `jax_debug_nans` would stop at it where nothing is compiled.
    return jnp.where(which.reshape(-1, *[1] * (rows.ndim - 1)), jnp.nan, rows)


def _ones(rows: Array, which: Array) -> Array:
    return jnp.where(which[:, None], jnp.ones_like(rows), rows)


def _bad(rows: Array) -> Array:
    # 0 × NaN and 0 × Inf are NaN, and a sum is quicker than a reduction of truths.
    return jnp.isnan(jnp.sum(jax.lax.stop_gradient(rows) * jnp.zeros((), rows.dtype), axis=-1))


def zeroed(rows: Array, which: Array) -> Array:
    """Overwrite these rows with 0."""
    return jnp.where(which[:, None], jnp.zeros_like(rows), rows)
