"""Attention with its logits and weights written out: the reference that every other implementation must equal.

`one_head` is the whole method, for one head of one example; the rest maps it over heads and batch.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from attnlab.functional import dropout, statistics
from attnlab.functional.masks import Mask
from attnlab.functional.parts import as_part, heads_axis, split_heads
from attnlab.functional.types import KeyPositions, Logits, QueryPositions, Weights, Where, widen


@dataclass(frozen=True)
class Plan:
    """What does not change from head to head, and is not an array."""

    dropout_rate: float
    returns: tuple[str, ...]


def attend(
    query: Array,
    key: Array,
    value: Array | None,
    *,
    parts: tuple[Callable[..., Array], ...],
    mask: Mask | None,
    rng: Array | None,
    plan: Plan,
) -> dict[str, Array]:
    """Attend for [*B, T, N, D] queries; return "output" (when there are values) and what `plan.returns` names.

    `parts` are the score, the mods in their order, and the normalizer.
    """
    batch, (queries, query_heads) = query.shape[:-3], query.shape[-3:-1]
    keys, key_heads = key.shape[-3:-1]
    group = query_heads // key_heads
    parts = tuple(split_heads(as_part(part), key_heads, group) for part in parts)
    leaves, mask_tree = jax.tree.flatten(None if mask is None else mask.fitted(queries, keys, query_heads))
    positions = jnp.arange(queries, dtype=jnp.int32), jnp.arange(keys, dtype=jnp.int32)
    heads = jnp.arange(query_heads, dtype=jnp.int32).reshape(key_heads, group)

    def one(query, key, value, parts, head, leaves, example, rng):
        mask = jax.tree.unflatten(mask_tree, leaves)
        where = None if mask is None else mask(*positions, head)
        kept = None
        if rng is not None:
            kept = dropout.keep(rng, plan.dropout_rate, example, head, *positions)
        return one_head(query, key, value, parts, where, kept, (*positions, head), plan)

    own = tuple(heads_axis(part) for part in parts)
    one = jax.vmap(one, in_axes=(1, None, None, own, 0, None, None, None))
    one = jax.vmap(one, in_axes=(1, 1, 1, own, 0, None, None, None))
    for _ in batch:
        axes = [] if mask is None else mask.batch_axes(batch)
        one = jax.vmap(one, in_axes=(0, 0, 0, None, None, axes, 0, None))
    grouped = query.reshape(*batch, queries, key_heads, group, query.shape[-1])
    examples = jnp.arange(math.prod(batch), dtype=jnp.int32).reshape(batch)
    found = one(grouped, key, value, parts, heads, leaves, examples, rng)
    found = {name: x.reshape(*batch, query_heads, *x.shape[len(batch) + 2 :]) for name, x in found.items()}
    if "output" in found:
        found["output"] = jnp.moveaxis(found["output"], -3, -2)
    return found


def one_head(
    query: Array,
    key: Array,
    value: Array | None,
    parts: tuple[Callable[..., Array], ...],
    where: Where | None,
    kept: Array | None,
    positions: tuple[QueryPositions, KeyPositions, Array],
    plan: Plan,
) -> dict[str, Array]:
    """Score, modify, mask, normalize, drop and pool: [q d], [k e], [k v] -> [q v] and the extras asked for."""
    spoiled: dict[str, Any] = {"weights": None, "output": None}
    if where is not None:
        query, key, value, spoiled = contain(query, key, value, where)
    score, *mods, normalizer = parts
    logits = score(query, key)
    for mod in mods:
        logits = mod(logits, *positions)
    weights = normalizer(logits, where)
    found = {name: EXTRAS[name](logits, weights, where) for name in plan.returns}
    found = {name: _spoil(extra, spoiled["weights"]) for name, extra in found.items()}
    if value is not None:
        dropped = weights if kept is None else dropout.drop(weights, kept, plan.dropout_rate)
        found["output"] = _spoil(pool_head(dropped, value), spoiled["output"])
    return found


def pool_head(weights: Weights, value: Array) -> Array:
    """Average the values of one head by the weights of each query: [q k], [k v] -> [q v], in the values' dtype."""
    wide = widen(value)
    return jnp.matmul(weights.astype(wide.dtype), wide).astype(value.dtype)


def contain(
    query: Array, key: Array, value: Array | None, where: Where
) -> tuple[Array, Array, Array | None, dict[str, Array]]:
    """Keep NaN and Inf from where they may not be seen: a weight of 0 does not, for 0 × NaN is NaN.

    A key or value that holds NaN or Inf becomes 0, as does a query that sees no key. Returned with them is
    which queries may attend to such a key, and so get NaN weights, or to such a key or value, and so NaN output.
    """
    bad = ~jnp.isfinite(key).all(axis=1)
    query = jnp.where(where.any(axis=1)[:, None], query, jnp.zeros_like(query))
    key = jnp.where(bad[:, None], jnp.zeros_like(key), key)
    spoiled = {"weights": (where & bad[None, :]).any(axis=1)}
    if value is not None:
        bad_value = ~jnp.isfinite(value).all(axis=1)
        value = jnp.where(bad_value[:, None], jnp.zeros_like(value), value)
        spoiled["output"] = (where & (bad | bad_value)[None, :]).any(axis=1)
    return query, key, value, spoiled


def _spoil(rows: Array, spoiled: Array | None) -> Array:
    if spoiled is None:
        return rows
    return jnp.where(spoiled.reshape(-1, *[1] * (rows.ndim - 1)), jnp.full_like(rows, jnp.nan), rows)


EXTRAS: dict[str, Callable[[Logits, Weights, Where | None], Array]] = {
    "weights": lambda logits, weights, where: weights,
    "logits": lambda logits, weights, where: statistics.masked_logits(logits, where),
    "lse": lambda logits, weights, where: statistics.lse(logits, where),
    "entropy": lambda logits, weights, where: statistics.entropy(weights),
    "max": lambda logits, weights, where: statistics.largest(logits, where),
}
