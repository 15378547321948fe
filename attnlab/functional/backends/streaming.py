"""Attention in memory linear in the length: blocks of queries and, for the softmax family, blocks of keys.

The softmax family is computed by `flash`. Any other normalizer needs whole rows, which are stored for one block of
queries at a time. Extras are computed in a separate pass, so that they cannot change the output.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.tree_util import Partial

from attnlab.functional.backends import flash, nonfinite
from attnlab.functional.backends.base import Backend, Cost, Results
from attnlab.functional.backends.block_plan import block_cost, block_plan, row_block, unmasked_columns, why_not_blocks
from attnlab.functional.backends.block_schedule import block_grid, unmasked_blocks
from attnlab.functional.backends.call import Call, Head, Options
from attnlab.functional.backends.dense import Dense, dense_head
from attnlab.functional.backends.flash import RowStats
from attnlab.functional.backends.map_heads import map_heads, map_heads_summed
from attnlab.functional.backends.tuning import TUNING
from attnlab.functional.custom_transpose import custom_transpose, reference_derivatives
from attnlab.functional.extras import SUMMED, Extra, Rows
from attnlab.functional.normalizers import Softmax, as_softmax, softmax
from attnlab.functional.normalizers.exponential import divided
from attnlab.functional.parts import MappedArray, flatten_mapped, floats
from attnlab.functional.statistics import masked_logits
from attnlab.functional.types import Logits, Positions, accumulation_dtype
from attnlab.functional.varying import vary_like


class Streaming(Backend):
    """The backend that computes all blocks of logits, one after another (flash attention)."""

    name = "streaming"

    def supports(self, call: Call) -> str | None:
        """Return None, except for symbolic lengths and for parts that mix queries or keys."""
        return why_not_blocks(call, ("queries", "keys"))

    def cost(self, call: Call, device: str) -> Cost:
        """Estimate the time and memory of all blocks."""
        if call.sizes.symbolic:
            return block_cost(call, device, "", 1.0)
        plan = call.once(block_plan)
        reason = "blocks of queries and of keys" if plan.divides_keys else "blocks of queries, with whole rows"
        if plan.computed != 1.0:
            reason += "; it computes fully masked blocks too"
        return block_cost(call, device, reason, 1.0)

    def run(self, call: Call) -> Results:
        """Compute all blocks."""
        return run_blocks(call, skip=False)


def run_blocks(call: Call, skip: bool) -> Results:
    """Compute all blocks, or only those that are not fully masked (`skip`)."""
    options, sequential = call.options, TUNING[call.options.device].sequential_heads
    if not call.sizes.logits:
        return Dense().run(call)
    heads = vary_like(call.heads, call.heads)
    family = as_softmax(heads.normalizer)
    if family is None or heads.value is None:
        return map_heads(lambda head: whole_rows(head, options, skip), heads, sequential)
    results = {}
    if options.returns:
        row_options = replace(options, block_size=None)
        without_values = replace(heads, value=None)
        results = map_heads(lambda head: whole_rows(head, row_options, skip), without_values, sequential)
    return results | {"output": _softmax_output(heads, family, options, skip)}


def whole_rows(head: Head, options: Options, skip: bool) -> dict[str, Any]:
    """Compute blocks of queries with whole rows of logits, or only with the keys that are unmasked for the block."""
    keys = head.key.shape[0]
    bq, bk = options.block_size or row_block(keys, options.device)
    queries, key_grid = block_grid(head.query.shape[0], bq), block_grid(keys, bk)
    indices = unmasked_blocks(head, queries, key_grid) if skip else None
    known_columns = None if indices is None else unmasked_columns(indices, key_grid)
    columns = None if known_columns is None else jnp.asarray(known_columns)

    bad = None
    if head.mask is not None:
        query, key, value, bad = nonfinite.replace(head.query, head.key, head.value)
        head = replace(head, query=query, key=key, value=value)

    @jax.checkpoint
    def block(query: Array, positions: Array, bad_queries: Array | None, valid: Array, columns: Any) -> dict[str, Any]:
        part = replace(head, query=query, query_positions=positions)
        part_bad = None if bad is None else bad._replace(query=bad_queries)
        if columns is None:
            return dense_head(part, options, part_bad, valid_queries=valid)
        valid_keys = columns < keys
        index = jnp.where(valid_keys, columns, keys - 1)
        take = lambda array: None if array is None else array[index]  # noqa: E731
        part = replace(
            part, key=take(head.key), value=take(head.value), key_positions=take(jnp.asarray(head.columns()))
        )
        if part_bad is not None:
            part_bad = part_bad._replace(key=take(part_bad.key), value=take(part_bad.value))
        in_all = {"columns": columns, "valid_keys": valid_keys, "keys": keys}
        return dense_head(part, options, part_bad, **in_all, valid_queries=valid)

    positions = jnp.asarray(queries.split_positions(head.rows()))
    bad_queries = None if bad is None else queries.split(bad.query)
    blocks = queries.split(head.query), positions, bad_queries, queries.valid(), columns
    with reference_derivatives():  # second derivatives go through this loop
        results = lax.map(lambda xs: block(*xs), blocks)
    joined = {name: jax.tree.map(queries.join, x) for name, x in results.items() if name not in SUMMED}
    return joined | {name: jnp.sum(x, axis=0) for name, x in results.items() if name in SUMMED}


def _softmax_output(heads: Head, family: Softmax, options: Options, skip: bool) -> Array:
    """Return the output of the softmax family, [b, k, g, T, V]."""
    if family.temperature is not None:
        heads = replace(heads, mods=(*heads.mods, Partial(_divide_by, temperature=family.temperature)))
    output, stats = _flash(heads, options, skip)

    def apply_sink(head: tuple[Array, RowStats, Any]) -> Array:
        output, (largest, total), sink = head
        if sink is not None:
            empty = largest == -jnp.inf  # the output is 0, and the sink may be −∞
            above = jnp.where(empty, 0.0, largest) - jnp.asarray(sink).astype(largest.dtype)
            share = jax.nn.sigmoid(above + jnp.log(jnp.where(empty, 1.0, total)))[:, None]
            is_nan = jnp.isnan(output)  # no gradient through NaN
            output = jnp.where(is_nan, output, jnp.where(is_nan, 0.0, output) * share)
        return output.astype(heads.value.array.dtype)

    axes = ("b", "k", "g")
    mapped_stats = jax.tree.map(lambda x: MappedArray(x, axes), stats)
    return map_heads(apply_sink, (MappedArray(output, axes), mapped_stats, family.sink), sequential=False)


def _divide_by(logits: Logits, positions: Positions, temperature: Any) -> Logits:
    return divided(logits, temperature)


def _finite(head: Head, options: Options) -> tuple[Head, nonfinite.Nonfinite, Array]:
    """Return a masked head with finite arrays, the replaced rows, and the rows of the output that become NaN."""
    query, key, value, bad = nonfinite.replace(head.query, head.key, head.value)
    positions = head.positions()
    queries = block_grid(positions.query.size, row_block(positions.key.size, options.device)[0])

    def block(rows: tuple[Array, Array]) -> Array:
        part = bad._replace(query=rows[1])
        where = head.mask(positions._replace(query=rows[0]))
        return nonfinite.nan_rows(where, part, output=True)

    def search(state: tuple[Array, Array]) -> tuple[Array, Array]:
        needed, bad_queries = lax.optimization_barrier((state[0], queries.split(bad.query)))
        rows = queries.split_positions(positions.query)
        return jnp.zeros_like(needed), queries.join(lax.map(block, (rows, bad_queries)))

    # A loop of at most one iteration: if all heads are computed at once, a `lax.cond` would always compute it. The
    # barrier makes the iteration depend on the state, or the compiler would move it out of the loop.
    state = bad.any(), vary_like(jnp.zeros(query.shape[0], bool), query)
    nan_rows = lax.while_loop(lambda state: state[0], search, state)[1]
    return replace(head, query=query, key=key, value=value), bad, nan_rows


def _flash(heads: Head, options: Options, skip: bool) -> tuple[Array, RowStats]:
    """Return output [b, k, g, T, V] and row statistics [b, k, g, T], differentiable in every floating-point array.

    The custom rule applies to all heads together: JAX drops the custom rule of a function inside a loop once the loop
    has been differentiated, and so could not differentiate it again. The largest logit of a row is a constant.
    """
    dtype = accumulation_dtype(heads.query.array, heads.key.array, heads.value.array)
    learned, constant, combine = floats(_differentiable(heads))
    sequential = TUNING[options.device].sequential_heads

    def combined(fixed: Any, learned: list[Array]) -> Head:
        constant, rng, mask = fixed
        return replace(combine(learned, constant), rng=rng, mask=mask)

    def forward(fixed: Any, learned: list[Array]) -> tuple[Array, RowStats]:
        def forward_head(head: Head) -> tuple[Array, RowStats]:
            if head.mask is None:
                return flash.forward(flash.divide(head, options, skip))
            head, _, nan_rows = _finite(head, options)
            output, stats = flash.forward(flash.divide(head, options, skip))
            return nonfinite.set_nan(output, nan_rows), stats

        return map_heads(forward_head, combined(fixed, learned), sequential)

    def transpose(fixed: Any, learned: list[Array], results: tuple[Array, RowStats], cotangents: Any) -> Any:
        def reverse_head(operands: Any) -> list[Array]:
            head, (output, stats), (d_output, (_, d_total)) = operands
            if head.mask is None:
                return flash.reverse(flash.divide(head, options, skip), output, stats, d_output, d_total)
            head, bad, nan_rows = _finite(head, options)
            output, d_output = nonfinite.set_zero(output, nan_rows), nonfinite.set_zero(d_output, nan_rows)
            d_total = jnp.where(nan_rows, 0.0, d_total)
            gradients = flash.reverse(flash.divide(head, options, skip), output, stats, d_output, d_total)
            return [*map(nonfinite.set_zero, gradients[:3], bad), *gradients[3:]]

        results, cotangents = jax.tree.map(lambda x: MappedArray(x, ("b", "k", "g")), (results, cotangents))
        heads = combined(fixed, learned)
        return map_heads_summed(reverse_head, (heads, results, cotangents), _learned(heads), sequential)

    def reference(fixed: Any, learned: list[Array]) -> tuple[Array, RowStats]:
        def reference_head(head: Head) -> tuple[Array, RowStats]:
            head = replace(head, value=head.value.astype(dtype), normalizer=softmax)
            with_stats = replace(options, returns=(_RowStatsExtra("stats"),), block_size=None)
            results = whole_rows(head, with_stats, skip)
            return results["output"], RowStats(*(x.astype(dtype) for x in results["stats"]))

        return map_heads(reference_head, combined(fixed, learned), sequential)

    return custom_transpose(forward, transpose, reference)((constant, heads.rng, heads.mask), learned)


class _RowStatsExtra(Extra):
    """The statistics of each row as an extra."""

    def __call__(self, rows: Rows) -> RowStats:
        logits = masked_logits(rows.logits, rows.where)
        largest = lax.stop_gradient(jnp.max(logits, axis=1, initial=-jnp.inf))
        shift = jnp.where(largest == -jnp.inf, 0.0, largest)
        return RowStats(largest, jnp.sum(jnp.exp(logits - shift[:, None]), axis=1))


def _differentiable(heads: Head) -> Head:
    """Remove the operands that get no gradient from the custom rule."""
    return replace(heads, normalizer=(), rng=None, mask=None)


def _learned(heads: Head) -> list[MappedArray]:
    """Return the floating-point arrays of a call in their order, with their axes."""
    arrays, axes, _ = flatten_mapped(_differentiable(heads))
    pairs = zip(arrays, axes, strict=True)
    return [MappedArray(x, front) for x, front in pairs if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)]
