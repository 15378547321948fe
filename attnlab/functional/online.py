"""Softmax attention of one head, block by block, with the running maximum and sum of each row (flash attention).

Of a row's logits only the largest, m, and the sum l of exp(logit − m) are kept, and the output so far in units of
exp(m); a new block of keys rescales them. Backward, the weights of a block are computed again as exp(logit − m) / l.
Nothing of size T×S exists, forward or backward.

The difference logit − m is taken before anything else is done to a logit, and m and l are kept apart: a logit of
magnitude L times log₂ e, or m + log l, is rounded by L · 2⁻²⁴, which is no small change of an exponent.

References: Milakov & Gimelshein 2018 (the running sum); Rabe & Staats 2021; Dao et al. 2022, algorithms 1 and 4.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from attnlab.functional import dropout
from attnlab.functional.blocks import Cut, Visits, cut, visits
from attnlab.functional.dense import Options, drop, logits_of
from attnlab.functional.inputs import Inputs
from attnlab.functional.parts import floats
from attnlab.functional.types import Positions, Where, accumulation_dtype, widen
from attnlab.functional.varying import vary_like


class Level(NamedTuple):
    """What the weights of each row are relative to: weight = exp(logit − largest) / total."""

    largest: Array
    """[T]; −inf for an empty row."""
    total: Array
    """[T], Σ exp(logit − largest), at least 1; 0 for an empty row."""


class Blocked(NamedTuple):
    """One head, cut: what the loops over blocks read."""

    head: Inputs
    """With query [m, bq, d] and its positions [m, bq], and keys, values and their positions padded."""
    visits: Visits
    queries: Cut
    keys: int
    """S, without the padding."""
    block: int
    """Keys of a block."""
    options: Options

    def taken(self, keys: Array, start: Any) -> Array:
        """Take the block of these rows that begins here."""
        return lax.dynamic_slice_in_dim(keys, start, self.block)

    def positions(self, i: Any, start: Any) -> Positions:
        """Where the block of query block i and the keys from `start` lies."""
        columns = self.taken(self.head.key_positions, start)
        return Positions(self.head.query_positions[i], columns, self.head.head, self.head.example)

    def where(self, positions: Positions, start: Any, first: Any) -> Where:
        """Which of the block's queries may attend to which of its keys; padding is attended to by none."""
        index = start + jnp.arange(self.block, dtype=jnp.int32)
        real = ((index >= first) & (index < self.keys))[None, :]
        if self.head.mask is None:
            return jnp.broadcast_to(real, (self.queries.size, self.block))
        return real & self.head.mask(positions)

    def logits(self, parts: Any, query: Array, key: Array, positions: Positions) -> Array:
        """Score a block and apply the mods, with these parts in the place of the head's."""
        score, mods = parts
        return logits_of(self.head._replace(score=score, mods=mods), query, key, positions)

    def visit(self, i: Any, step: Any, state: Any) -> Any:
        """Fold `step(state, start, first)` over the key blocks of query block i; `first` is None for full ones."""
        at = self.visits
        for starts, counts, firsts in (
            (at.full, at.full_counts, None),
            (at.partial, at.partial_counts, at.first),
        ):
            if starts.shape[1] and not (isinstance(counts, np.ndarray) and not counts.any()):
                alike = int(counts[0]) if isinstance(counts, np.ndarray) and (counts == counts[0]).all() else None
                starts, counts = jnp.asarray(starts), jnp.asarray(counts)
                firsts = None if firsts is None else jnp.asarray(firsts)

                def body(n: Any, state: Any, starts: Array = starts, firsts: Array | None = firsts) -> Any:
                    return step(state, starts[i, n], None if firsts is None else firsts[i, n])

                if alike == 1:
                    state = body(0, state)
                else:
                    state = lax.fori_loop(np.int32(0), counts[i] if alike is None else np.int32(alike), body, state)
        return state


def blocked(head: Inputs, options: Options, skip: bool) -> Blocked:
    """Cut a head into blocks, and list those to visit: all, or those that the mask may let through."""
    bq, bk = options.block_size or (512, 256)
    queries = cut(head.query.shape[0], bq)
    count = head.key.shape[0]
    at = visits(head, queries, bk, skip)
    more = at.padded - count
    # Padding repeats the last row: what a score does with zeros (divide by their norm, say) is not known.
    key, value = (jnp.pad(x, ((0, more), (0, 0)), mode="edge") if more else x for x in (head.key, head.value))
    columns = jnp.pad(jnp.asarray(head.columns()), (0, more), mode="edge")
    rows = jnp.asarray(queries.places(head.rows()))
    query = queries.blocks(head.query)
    if options.in_turn:  # no narrow product is faster on a CPU, and a gradient is not rounded block by block
        query, key = widen(query), widen(key)
    cut_head = head._replace(query=query, key=key, value=value, query_positions=rows, key_positions=columns)
    return Blocked(cut_head, at, queries, count, at.block, options)


def forward(blocked: Blocked) -> tuple[Array, Level]:
    """Return the output [T, V] and the level of each row of weights [T]."""
    head, queries = blocked.head, blocked.queries
    parts = head.score, head.mods
    dtype = accumulation_dtype(head.query, head.key, head.value)

    def row(i: Array) -> tuple[Array, Level]:
        query = head.query[i]

        def step(state: tuple[Array, ...], start: Array, first: Array | None) -> tuple[Array, ...]:
            largest, total, pooled = state
            positions = blocked.positions(i, start)
            key, value = blocked.taken(head.key, start), widen(blocked.taken(head.value, start)).astype(dtype)
            logits = blocked.logits(parts, query, key, positions).astype(dtype)
            if first is not None:
                logits = jnp.where(blocked.where(positions, start, first), logits, -jnp.inf)
            new = jnp.maximum(largest, jnp.max(logits, axis=1))
            shift = jnp.where(new == -jnp.inf, 0.0, new)
            powers = jnp.exp(logits - shift[:, None])
            rescale = jnp.exp(largest - shift)
            total = total * rescale + jnp.sum(powers, axis=1)
            dropped = drop(head, powers, positions, blocked.options.dropout_rate)
            pooled = pooled * rescale[:, None] + jnp.matmul(dropped, value)
            return new, total, pooled

        rows = queries.size
        start = jnp.full(rows, -jnp.inf, dtype), jnp.zeros(rows, dtype), jnp.zeros((rows, head.value.shape[-1]), dtype)
        largest, total, pooled = blocked.visit(i, step, vary_like(start, head))
        return pooled / jnp.where(largest == -jnp.inf, 1.0, total)[:, None], Level(largest, total)

    pooled, level = lax.map(row, jnp.arange(queries.count, dtype=jnp.int32))
    return queries.joined(pooled), Level(*map(queries.joined, level))


def reverse(blocked: Blocked, output: Array, level: Level, d_output: Array, d_total: Array) -> list[Array]:
    """Return the cotangents of query, key, value, and of the floats of score and mods, in float32 at least.

    dlogits = weights ∘ (d_output valueᵀ − Δ),    Δ_i = d_output_i · output_i − d_total_i total_i

    Where a weight is 1 the row's output is that value, and what the two products differ by is their rounding: it counts
    as 0, since keys as large as it takes for such weights would multiply it.
    """
    head, queries = blocked.head, blocked.queries
    learned, constant, parts_of = floats((head.score, head.mods))
    dtype = accumulation_dtype(head.query, head.key, head.value)
    rate = blocked.options.dropout_rate
    d_output, output = d_output.astype(dtype), output.astype(dtype)
    # With powers = exp(logits − largest) in the place of the weights, what rows are divided by goes to d_output.
    share = 1.0 / jnp.where(level.largest == -jnp.inf, 1.0, level.total)
    d_output = d_output * share[:, None]
    offset = jnp.sum(d_output * output, axis=1)
    # An empty row, and one that only pads, gets no weight: exp(x − ∞) = 0.
    largest = jnp.where(level.largest == -jnp.inf, jnp.inf, level.largest)
    largest = jnp.pad(largest, (0, queries.padding), constant_values=jnp.inf).reshape(queries.count, queries.size)
    alone = jnp.where(level.total == 1.0, 1.0, jnp.inf)
    d_output, offset, d_total, alone = map(queries.blocks, (d_output, offset, d_total, alone))

    def row(i: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        d_queries, d_keys, d_values, d_parts = state
        query, d_out = head.query[i], d_output[i]

        def step(state: tuple[Any, ...], start: Array, first: Array | None) -> tuple[Any, ...]:
            d_query, d_keys, d_values, d_parts = state
            positions = blocked.positions(i, start)
            key, value = blocked.taken(head.key, start), widen(blocked.taken(head.value, start)).astype(dtype)

            def block(query: Array, key: Array, learned: list[Array]) -> Array:
                return blocked.logits(parts_of(learned, constant), query, key, positions).astype(dtype)

            logits, pull = jax.vjp(block, query, key, learned)
            powers = jnp.exp(logits - largest[i][:, None])
            if first is not None:
                powers = jnp.where(blocked.where(positions, start, first), powers, 0.0)
            d_weights = jnp.matmul(d_out, value.T)
            dropped = powers
            if head.rng is not None:
                at = positions.example, positions.head, positions.query, positions.key
                kept = dropout.keep(head.rng, rate, *at)
                dropped, d_weights = dropout.drop(powers, kept, rate), dropout.drop(d_weights, kept, rate)
            changes = d_weights - (offset[i] - d_total[i])[:, None]
            d_logits = powers * jnp.where(powers == alone[i][:, None], d_total[i][:, None], changes)
            more_query, more_key, more_parts = pull(d_logits)
            d_query = d_query + more_query.astype(dtype)
            d_keys = _add(d_keys, start, more_key.T)
            d_values = _add(d_values, start, jnp.matmul(d_out.T, dropped))
            d_parts = [sums + widen(more) for sums, more in zip(d_parts, more_parts, strict=True)]
            return d_query, d_keys, d_values, d_parts

        start = vary_like(jnp.zeros(query.shape, dtype), head), d_keys, d_values, d_parts
        d_query, d_keys, d_values, d_parts = blocked.visit(i, step, start)
        return lax.dynamic_update_index_in_dim(d_queries, d_query, i, 0), d_keys, d_values, d_parts

    # Gradients of keys and values are kept transposed, [e, S]: the products that make them run half again as
    # fast where the block of weights is the right-hand side.
    zeros = [jnp.zeros(x.shape[::-1], dtype) for x in (head.key, head.value)]
    state = jnp.zeros(head.query.shape, dtype), *zeros, [widen(jnp.zeros_like(x)) for x in learned]
    d_query, *transposed, d_parts = lax.fori_loop(0, queries.count, row, vary_like(state, head))
    d_key, d_value = (x.T[: blocked.keys] for x in transposed)
    return [queries.joined(d_query), d_key, d_value, *d_parts]


def _add(columns: Array, start: Array, more: Array) -> Array:
    here = lax.dynamic_slice_in_dim(columns, start, more.shape[1], axis=1)
    return lax.dynamic_update_slice_in_dim(columns, here + more.astype(columns.dtype), start, axis=1)
