"""Softmax attention of one head, block by block, with the running maximum and sum of each row (flash attention).

The forward pass keeps for each row its largest logit m, the sum l of exp(logit − m), and the output so far in units of
exp(m); every new block of keys rescales them. The backward pass recomputes the weights of a block as
exp(logit − m) / l. No array of size T×S is stored in either pass.

The difference logit − m is computed first, and m and l are stored separately: rounding a logit of magnitude L times
log₂ e, or m + log l, would change an exponent by L · 2⁻²⁴, which is not small for large L.

References: Milakov & Gimelshein 2018 (the running sum); Rabe & Staats 2021; Dao et al. 2022, algorithms 1 and 4.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from attnlab.functional import dropout
from attnlab.functional.backends.block_schedule import BlockGrid, BlockSchedule, block_grid, block_schedule
from attnlab.functional.backends.call import Head, Options
from attnlab.functional.backends.dense import drop, logits_of
from attnlab.functional.backends.tuning import TUNING
from attnlab.functional.parts import floats
from attnlab.functional.types import Positions, Where, accumulation_dtype, widen
from attnlab.functional.varying import vary_like


class RowStats(NamedTuple):
    """The statistics from which the weights of a row are recomputed: weight = exp(logit − largest) / total."""

    largest: Array
    """[T]; −inf for a fully masked row."""
    total: Array
    """[T], Σ exp(logit − largest), at least 1; 0 for a fully masked row."""


class BlockedHead(NamedTuple):
    """A head divided into blocks, and the schedule of its blocks."""

    head: Head
    """With query [m, bq, d], query positions [m, bq], and padded keys, values and key positions."""
    schedule: BlockSchedule
    queries: BlockGrid
    keys: int
    """S, without padding."""
    options: Options

    def take(self, keys: Array, start: Any) -> Array:
        """Return the block of these rows that starts at `start`."""
        return lax.dynamic_slice_in_dim(keys, start, self.schedule.block)

    def positions(self, i: Any, start: Any) -> Positions:
        """Return the positions of query block i and of the key block that starts at `start`."""
        columns = self.take(self.head.key_positions, start)
        return Positions(self.head.query_positions[i], columns, self.head.head_index, self.head.example_index)

    def where(self, positions: Positions, start: Any, first: Any) -> Where:
        """Return the mask of a block, [bq, bk]; padding, and keys before `first`, are masked."""
        index = start + jnp.arange(self.schedule.block, dtype=jnp.int32)
        valid = ((index >= first) & (index < self.keys))[None, :]
        if self.head.mask is None:
            return jnp.broadcast_to(valid, (self.queries.size, self.schedule.block))
        return valid & self.head.mask(positions)

    def logits(self, parts: Any, query: Array, key: Array, positions: Positions) -> Array:
        """Score a block and apply the mods, with `parts` (score, mods) instead of the head's own."""
        score, mods = parts
        return logits_of(replace(self.head, score=score, mods=mods), query, key, positions)

    def scan_keys(self, i: Any, step: Any, state: Any) -> Any:
        """Fold `step(state, start, first)` over the key blocks of query block i; `first` is None for full blocks."""
        schedule = self.schedule
        for starts, counts, firsts in (
            (schedule.full, schedule.full_counts, None),
            (schedule.partial, schedule.partial_counts, schedule.first),
        ):
            if starts.shape[1] and not (isinstance(counts, np.ndarray) and not counts.any()):
                equal_count = int(counts[0]) if isinstance(counts, np.ndarray) and (counts == counts[0]).all() else None
                starts, counts = jnp.asarray(starts), jnp.asarray(counts)
                firsts = None if firsts is None else jnp.asarray(firsts)

                def body(n: Any, state: Any, starts: Array = starts, firsts: Array | None = firsts) -> Any:
                    return step(state, starts[i, n], None if firsts is None else firsts[i, n])

                if equal_count == 1:
                    state = body(0, state)
                else:
                    stop = counts[i] if equal_count is None else np.int32(equal_count)
                    state = lax.fori_loop(np.int32(0), stop, body, state)
        return state


def divide(head: Head, options: Options, skip: bool) -> BlockedHead:
    """Divide a head into blocks, and schedule all blocks, or only those that are not fully masked (`skip`)."""
    bq, bk = options.block_size or (512, 256)
    queries = block_grid(head.query.shape[0], bq)
    count = head.key.shape[0]
    schedule = block_schedule(head, queries, bk, skip)
    padding = schedule.padded - count
    # Padding repeats the last row, since a score may divide by the norm of its arguments.
    key, value = (jnp.pad(x, ((0, padding), (0, 0)), mode="edge") if padding else x for x in (head.key, head.value))
    columns = jnp.pad(jnp.asarray(head.columns()), (0, padding), mode="edge")
    rows = jnp.asarray(queries.split_positions(head.rows()))
    query = queries.split(head.query)
    if TUNING[options.device].sequential_heads:  # low precision is not faster on a CPU, and would round every block
        query, key = widen(query), widen(key)
    head = replace(head, query=query, key=key, value=value, query_positions=rows, key_positions=columns)
    return BlockedHead(head, schedule, queries, count, options)


def forward(blocked: BlockedHead) -> tuple[Array, RowStats]:
    """Return the output [T, V] and the statistics of each row [T]."""
    head, queries = blocked.head, blocked.queries
    parts = head.score, head.mods
    dtype = accumulation_dtype(head.query, head.key, head.value)

    def row(i: Array) -> tuple[Array, RowStats]:
        query = head.query[i]

        def step(state: tuple[Array, ...], start: Array, first: Array | None) -> tuple[Array, ...]:
            largest, total, pooled = state
            positions = blocked.positions(i, start)
            key, value = blocked.take(head.key, start), widen(blocked.take(head.value, start)).astype(dtype)
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
        largest, total, pooled = blocked.scan_keys(i, step, vary_like(start, head))
        return pooled / jnp.where(largest == -jnp.inf, 1.0, total)[:, None], RowStats(largest, total)

    pooled, stats = lax.map(row, jnp.arange(queries.count, dtype=jnp.int32))
    return queries.join(pooled), RowStats(*map(queries.join, stats))


def reverse(blocked: BlockedHead, output: Array, stats: RowStats, d_output: Array, d_total: Array) -> list[Array]:
    """Return the cotangents of query, key, value and the float arrays of score and mods, in float32 at least.

    dlogits = weights ∘ (d_output valueᵀ − Δ),    Δ_i = d_output_i · output_i − d_total_i total_i

    If a weight is 1, the output of the row is that value and the two products are equal. Their difference, which is
    rounding error, is set to 0, since it would be multiplied by the large keys that cause such weights.
    """
    head, queries = blocked.head, blocked.queries
    learned, constant, parts_of = floats((head.score, head.mods))
    dtype = accumulation_dtype(head.query, head.key, head.value)
    rate = blocked.options.dropout_rate
    d_output, output = d_output.astype(dtype), output.astype(dtype)
    # With exp(logits − largest) instead of the weights, the division of each row by its total moves to d_output.
    share = 1.0 / jnp.where(stats.largest == -jnp.inf, 1.0, stats.total)
    d_output = d_output * share[:, None]
    offset = jnp.sum(d_output * output, axis=1)
    # Empty rows and padding have weights 0: exp(x − ∞) = 0.
    largest = jnp.where(stats.largest == -jnp.inf, jnp.inf, stats.largest)
    largest = jnp.pad(largest, (0, queries.padding), constant_values=jnp.inf).reshape(queries.count, queries.size)
    single = jnp.where(stats.total == 1.0, 1.0, jnp.inf)
    d_output, offset, d_total, single = map(queries.split, (d_output, offset, d_total, single))

    def row(i: Array, state: tuple[Any, ...]) -> tuple[Any, ...]:
        d_queries, d_keys, d_values, d_parts = state
        query, d_out = head.query[i], d_output[i]

        def step(state: tuple[Any, ...], start: Array, first: Array | None) -> tuple[Any, ...]:
            d_query, d_keys, d_values, d_parts = state
            positions = blocked.positions(i, start)
            key, value = blocked.take(head.key, start), widen(blocked.take(head.value, start)).astype(dtype)

            def block(query: Array, key: Array, learned: list[Array]) -> Array:
                return blocked.logits(parts_of(learned, constant), query, key, positions).astype(dtype)

            logits, pull = jax.vjp(block, query, key, learned)
            powers = jnp.exp(logits - largest[i][:, None])
            if first is not None:
                powers = jnp.where(blocked.where(positions, start, first), powers, 0.0)
            d_weights = jnp.matmul(d_out, value.T)
            dropped = powers
            if head.rng is not None:
                indices = positions.example, positions.head, positions.query, positions.key
                kept = dropout.keep(head.rng, rate, *indices)
                dropped, d_weights = dropout.drop(powers, kept, rate), dropout.drop(d_weights, kept, rate)
            changes = d_weights - (offset[i] - d_total[i])[:, None]
            d_logits = powers * jnp.where(powers == single[i][:, None], d_total[i][:, None], changes)
            block_query, block_key, block_parts = pull(d_logits)
            d_query = d_query + block_query.astype(dtype)
            d_keys = _add(d_keys, start, block_key.T)
            d_values = _add(d_values, start, jnp.matmul(d_out.T, dropped))
            d_parts = [sums + widen(term) for sums, term in zip(d_parts, block_parts, strict=True)]
            return d_query, d_keys, d_values, d_parts

        start = vary_like(jnp.zeros(query.shape, dtype), head), d_keys, d_values, d_parts
        d_query, d_keys, d_values, d_parts = blocked.scan_keys(i, step, start)
        return lax.dynamic_update_index_in_dim(d_queries, d_query, i, 0), d_keys, d_values, d_parts

    # The gradients of keys and values are accumulated transposed, [e, S]: the matrix products run 1.5 times as fast
    # with the block of weights on the right-hand side.
    zeros = [jnp.zeros(x.shape[::-1], dtype) for x in (head.key, head.value)]
    state = jnp.zeros(head.query.shape, dtype), *zeros, [widen(jnp.zeros_like(x)) for x in learned]
    d_query, *transposed, d_parts = lax.fori_loop(0, queries.count, row, vary_like(state, head))
    d_key, d_value = (x.T[: blocked.keys] for x in transposed)
    return [queries.join(d_query), d_key, d_value, *d_parts]


def _add(columns: Array, start: Array, block: Array) -> Array:
    """Add a block to the columns from `start` on."""
    sums = lax.dynamic_slice_in_dim(columns, start, block.shape[1], axis=1)
    return lax.dynamic_update_slice_in_dim(columns, sums + block.astype(columns.dtype), start, axis=1)
