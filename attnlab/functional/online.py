"""Softmax attention of one head, block by block, with the running maximum and sum of each row (flash attention).

Of a row's logits only the largest, m, and the sum l of exp(logit − m) are kept, and the output so far in units of
exp(m); a new block of keys rescales them. Backward, the weights of a block are computed again from the rows'
log Σ exp. Nothing of size T×S exists, forward or backward.

References: Milakov & Gimelshein 2018 (the running sum); Rabe & Staats 2021; Dao et al. 2022, algorithms 1 and 4.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from attnlab.functional import dropout
from attnlab.functional.blocks import Cut, Lists, cut, every, needed
from attnlab.functional.dense import Options, drop, logits_of
from attnlab.functional.inputs import Inputs
from attnlab.functional.parts import floats
from attnlab.functional.types import Positions, Where, accumulation_dtype, widen

LOG2_E = math.log2(math.e)


class Blocked(NamedTuple):
    """One head, cut: what the loops over blocks read."""

    head: Inputs
    """With query [m, bq, d], key [n, bk, e], value [n, bk, v], and positions likewise [m, bq] and [n, bk]."""
    lists: Lists
    queries: Cut
    keys: Cut
    options: Options

    def positions(self, i: Any, j: Any) -> Positions:
        """Where block (i, j) lies."""
        return Positions(self.head.query_positions[i], self.head.key_positions[j], self.head.head, self.head.example)

    def where(self, positions: Positions, j: Any) -> Where:
        """Which of the block's queries may attend to which of its keys; padding is attended to by none."""
        real = jnp.broadcast_to(
            (j * self.keys.size + jnp.arange(self.keys.size, dtype=jnp.int32) < self.keys.length)[None, :],
            (self.queries.size, self.keys.size),
        )
        return real if self.head.mask is None else real & self.head.mask(positions)

    def logits(self, parts: Any, query: Array, key: Array, positions: Positions) -> Array:
        """Score a block and apply the mods, with these parts in the place of the head's."""
        score, mods = parts
        return logits_of(self.head._replace(score=score, mods=mods), query, key, positions)

    def visit(self, i: Any, step: Any, state: Any) -> Any:
        """Fold `step(state, j, masked)` over the key blocks of query block i: full ones, then partial ones."""
        for indices, counts, masked in (
            (self.lists.full, self.lists.full_counts, False),
            (self.lists.partial, self.lists.partial_counts, True),
        ):
            indices, counts = jnp.asarray(indices), jnp.asarray(counts)
            if indices.shape[1]:
                state = lax.fori_loop(0, counts[i], lambda n, s, at=indices, m=masked: step(s, at[i, n], m), state)
        return state


def blocked(head: Inputs, options: Options, skip: bool) -> Blocked:
    """Cut a head into blocks, and list those to visit: all, or those that the mask may let through."""
    bq, bk = options.block_size or (512, 256)
    queries, keys = cut(head.query.shape[0], bq), cut(head.key.shape[0], bk)
    lists = needed(head, queries, keys) if skip else every(queries, keys, head.mask is not None)
    at = jnp.asarray(queries.places(head.rows())), jnp.asarray(keys.places(head.columns()))
    query, key, value = queries.blocks(head.query), keys.blocks(head.key), keys.blocks(head.value)
    cut_head = head._replace(query=query, key=key, value=value, query_positions=at[0], key_positions=at[1])
    return Blocked(cut_head, lists, queries, keys, options)


def forward(blocked: Blocked) -> tuple[Array, Array]:
    """Return the output [T, V] and log Σ exp of the allowed logits of each query [T]."""
    head, queries = blocked.head, blocked.queries
    parts = head.score, head.mods
    dtype = accumulation_dtype(head.query, head.key, head.value)

    def row(i: Array) -> tuple[Array, Array]:
        query = head.query[i]

        def step(state: tuple[Array, Array, Array], j: Array, masked: bool) -> tuple[Array, Array, Array]:
            largest, total, pooled = state
            positions = blocked.positions(i, j)
            logits = blocked.logits(parts, query, head.key[j], positions).astype(dtype) * LOG2_E
            if masked:
                logits = jnp.where(blocked.where(positions, j), logits, -jnp.inf)
            new = jnp.maximum(largest, jnp.max(logits, axis=1))
            shift = jnp.where(new == -jnp.inf, 0.0, new) if masked else new
            powers = jnp.exp2(logits - shift[:, None])
            rescale = jnp.exp2(largest - shift)
            total = total * rescale + jnp.sum(powers, axis=1)
            dropped = drop(head, powers, positions, blocked.options.dropout_rate)
            pooled = pooled * rescale[:, None] + jnp.matmul(dropped, widen(head.value[j]).astype(dtype))
            return new, total, pooled

        rows = queries.size
        start = jnp.full(rows, -jnp.inf, dtype), jnp.zeros(rows, dtype), jnp.zeros((rows, head.value.shape[-1]), dtype)
        largest, total, pooled = blocked.visit(i, step, start)
        empty = total == 0.0
        safe = jnp.where(empty, 1.0, total)
        lse = jnp.where(empty, -jnp.inf, (jnp.where(empty, 0.0, largest) + jnp.log2(safe)) / LOG2_E)
        return pooled / safe[:, None], lse

    pooled, lse = lax.map(row, jnp.arange(queries.count, dtype=jnp.int32))
    return queries.joined(pooled), queries.joined(lse)


def reverse(blocked: Blocked, output: Array, lse: Array, d_output: Array, d_lse: Array) -> list[Array]:
    """Return the cotangents of query, key, value, and of the floating-point arrays of score and mods.

    dlogits = weights ∘ (d_output valueᵀ − Δ),    Δ_i = d_output_i · output_i − d_lse_i
    """
    head, queries, keys = blocked.head, blocked.queries, blocked.keys
    learned, constant, parts_of = floats((head.score, head.mods))
    dtype = accumulation_dtype(head.query, head.key, head.value)
    rate = blocked.options.dropout_rate
    d_output, output = d_output.astype(dtype), output.astype(dtype)
    offset = queries.blocks(jnp.sum(d_output * output, axis=1) - d_lse)
    d_output = queries.blocks(d_output)
    # An empty row, and one that only pads, gets no weight: exp2(x − ∞) = 0.
    level = jnp.where(lse == -jnp.inf, jnp.inf, lse) * LOG2_E
    level = jnp.pad(level, (0, queries.padding), constant_values=jnp.inf).reshape(queries.count, queries.size)

    def row(i: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        d_queries, d_keys, d_values, d_parts = state
        query, d_out = head.query[i], d_output[i]

        def step(state: tuple[Any, ...], j: Array, masked: bool) -> tuple[Any, ...]:
            d_query, d_keys, d_values, d_parts = state
            positions = blocked.positions(i, j)
            key, value = head.key[j], widen(head.value[j]).astype(dtype)

            def block(query: Array, key: Array, learned: list[Array]) -> Array:
                return blocked.logits(parts_of(learned, constant), query, key, positions).astype(dtype)

            logits, pull = jax.vjp(block, query, key, learned)
            weights = jnp.exp2(logits * LOG2_E - level[i][:, None])
            if masked:
                where = blocked.where(positions, j)
                weights = jnp.where(where, weights, 0.0)
            d_weights = jnp.matmul(d_out, value.T)
            dropped = weights
            if head.rng is not None:
                at = positions.example, positions.head, positions.query, positions.key
                kept = dropout.keep(head.rng, rate, *at)
                dropped, d_weights = dropout.drop(weights, kept, rate), dropout.drop(d_weights, kept, rate)
            d_logits = weights * (d_weights - offset[i][:, None])
            more_query, more_key, more_parts = pull(d_logits)
            d_query = d_query + more_query.astype(dtype)
            d_keys = _add(d_keys, j, more_key.T)
            d_values = _add(d_values, j, jnp.matmul(d_out.T, dropped))
            return d_query, d_keys, d_values, jax.tree.map(jnp.add, d_parts, more_parts)

        start = jnp.zeros(query.shape, dtype), d_keys, d_values, d_parts
        d_query, d_keys, d_values, d_parts = blocked.visit(i, step, start)
        return lax.dynamic_update_index_in_dim(d_queries, d_query, i, 0), d_keys, d_values, d_parts

    # Gradients of keys and values are kept transposed, [n, e, bk]: the products that make them run half again as
    # fast where the block of weights is the right-hand side.
    zeros = [jnp.zeros(jnp.swapaxes(x, 1, 2).shape, dtype) for x in (head.key, head.value)]
    state = jnp.zeros(head.query.shape, dtype), *zeros, [jnp.zeros_like(x) for x in learned]
    d_query, *transposed, d_parts = lax.fori_loop(0, queries.count, row, state)
    d_key, d_value = (jnp.swapaxes(x, 1, 2) for x in transposed)
    return [
        queries.joined(d_query).astype(head.query.dtype),
        keys.joined(d_key).astype(head.key.dtype),
        keys.joined(d_value).astype(head.value.dtype),
        *d_parts,
    ]


def _add(blocks: Array, j: Array, more: Array) -> Array:
    here = lax.dynamic_index_in_dim(blocks, j, 0, keepdims=False)
    return lax.dynamic_update_index_in_dim(blocks, here + more.astype(blocks.dtype), j, 0)
