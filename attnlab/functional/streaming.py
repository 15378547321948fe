"""Attention in memory linear in the length: blocks of queries and, for the softmax family, blocks of keys.

Softmax goes by `online`. Any other normalizer needs whole rows, which exist for one block of queries at a time.
What is to be returned besides the output is made in a pass of its own, so that it cannot change the output.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import Partial

from attnlab.functional import contain, online
from attnlab.functional.blocks import Cut, Lists, cut, needed
from attnlab.functional.dense import Options
from attnlab.functional.dense import one_head as dense_head
from attnlab.functional.derivatives import plainly, with_reverse
from attnlab.functional.devices import device
from attnlab.functional.extras import SUMMED, Extra, Rows
from attnlab.functional.inputs import Inputs, each_head, each_head_summed
from attnlab.functional.normalizers import Softmax, as_softmax, softmax
from attnlab.functional.online import Level
from attnlab.functional.parts import Each, floats, marked
from attnlab.functional.statistics import masked_logits
from attnlab.functional.types import Logits, Positions, accumulation_dtype
from attnlab.functional.varying import vary_like


def attend(given: Inputs, options: Options, skip: bool = False) -> dict[str, Any]:
    """Attend: "output" and what is to be returned, [b, k, g, …]; `skip` the blocks that the mask empties."""
    given = vary_like(given, given)
    family = as_softmax(given.normalizer)
    if family is None or given.value is None:
        return each_head(lambda head: rows(head, options, skip), given, options.in_turn)
    apart = replace(options, block_size=None)
    extras = given._replace(value=None)
    found = each_head(lambda head: rows(head, apart, skip), extras, options.in_turn) if options.returns else {}
    return found | {"output": _softmax(given, family, options, skip)}


def rows(head: Inputs, options: Options, skip: bool) -> dict[str, Any]:
    """Attend by blocks of queries, each with its whole rows of logits, or what of them the mask may let through."""
    keys = head.key.shape[0]
    bq, bk = options.block_size or row_block(keys)
    queries = cut(head.query.shape[0], bq)
    key_cut = cut(keys, bk)
    lists = needed(head, queries, key_cut) if skip else None
    known = None if lists is None else columns_of(lists, key_cut)
    columns = None if known is None else jnp.asarray(known)

    @jax.checkpoint
    def block(query: Array, positions: Array, live: Array, columns: Any) -> dict[str, Any]:
        part = head._replace(query=query, query_positions=positions)
        if columns is None:
            return dense_head(part, options, live=live)
        real = columns < keys
        at = jnp.where(real, columns, keys - 1)
        value = None if head.value is None else head.value[at]
        part = part._replace(key=head.key[at], value=value, key_positions=jnp.asarray(head.columns())[at])
        return dense_head(part, options, columns=columns, real=real, keys=keys, live=live)

    live = queries.live()
    blocks = queries.blocks(head.query), jnp.asarray(queries.places(head.rows())), live, columns
    with plainly():  # second derivatives go through this loop
        found = lax.map(lambda xs: block(*xs), blocks)
    joined = {name: jax.tree.map(queries.joined, x) for name, x in found.items() if name not in SUMMED}
    return joined | {name: jnp.sum(x, axis=0) for name, x in found.items() if name in SUMMED}


def row_block(keys: int) -> tuple[int, int]:
    """Return how many queries whole rows are made for at a time, and by how many the keys are picked."""
    return max(min(256, device().row_entries // max(keys, 1)), 1), 64


def columns_of(lists: Lists, keys: Cut) -> np.ndarray | None:
    """The keys that each query block may see [m, …], S for none; or None where most may be seen, or it is not known."""
    if not all(isinstance(x, np.ndarray) for x in lists):
        return None
    chosen = [np.concatenate([full[:some], partial[:rest]]) for full, some, partial, rest in zip(*lists, strict=True)]
    longest = max(map(len, chosen))
    if 4 * longest > 3 * keys.count:
        return None
    columns = np.full((len(chosen), max(longest, 1), keys.size), keys.length, np.int32)
    for row, blocks in zip(columns, chosen, strict=True):
        row[: len(blocks)] = np.sort(blocks)[:, None] * keys.size + np.arange(keys.size)
    return np.minimum(columns, keys.length).reshape(len(chosen), -1)


def _softmax(given: Inputs, family: Softmax, options: Options, skip: bool) -> Array:
    """Return the output of the softmax family, [b, k, g, T, V]."""
    if family.temperature is not None:
        given = given._replace(mods=(*given.mods, Partial(_cool, temperature=family.temperature)))
    output, level = _online(given, options, skip)

    def finish(head: tuple[Array, Level, Any]) -> Array:
        output, (largest, total), sink = head
        if sink is not None:
            empty = largest == -jnp.inf  # it has output 0, and its sink may be −∞
            above = jnp.where(empty, 0.0, largest) - jnp.asarray(sink).astype(largest.dtype)
            share = jax.nn.sigmoid(above + jnp.log(jnp.where(empty, 1.0, total)))[:, None]
            spoiled = jnp.isnan(output)  # and no gradient through NaN
            output = jnp.where(spoiled, output, jnp.where(spoiled, 0.0, output) * share)
        return output.astype(given.value.array.dtype)

    heads = ("b", "k", "g")
    levels = jax.tree.map(lambda x: Each(x, heads), level)
    return each_head(finish, (Each(output, heads), levels, family.sink), in_turn=False)


def _cool(logits: Logits, positions: Positions, temperature: Any) -> Logits:
    return logits / jnp.asarray(temperature).astype(logits.dtype)


def _cleaned(head: Inputs) -> tuple[Inputs, contain.Bad, Array]:
    """Return one head without NaN and Inf, where those stood, and which rows of the output they reach."""
    query, key, value, bad = contain.clean(head.query, head.key, head.value)
    at = head.positions()
    queries = cut(at.query.size, row_block(at.key.size)[0])

    def block(rows: tuple[Array, Array]) -> Array:
        some = bad._replace(query=rows[1])
        return contain.spoiled(contain.seen(head.mask(at._replace(query=rows[0])), some), some).output

    def reached(state: tuple[Array, Array]) -> tuple[Array, Array]:
        needed, bad_queries = lax.optimization_barrier((state[0], queries.blocks(bad.query)))
        return jnp.zeros_like(needed), queries.joined(lax.map(block, (queries.places(at.query), bad_queries)))

    # A loop of one turn or none: where all heads are computed at once, a `lax.cond` would always compute it. The
    # barrier makes the turn depend on the state, or the compiler would take it out of the loop.
    state = bad.any(), vary_like(jnp.zeros(query.shape[0], bool), query)
    spoiled = lax.while_loop(lambda state: state[0], reached, state)[1]
    return head._replace(query=query, key=key, value=value), bad, spoiled


def _online(given: Inputs, options: Options, skip: bool) -> tuple[Array, Level]:
    """Return output [b, k, g, T, V] and level [b, k, g, T], differentiable in every floating-point array.

    The rule is given to all heads together: JAX forgets the rule of a function inside a loop once the loop has
    been differentiated, and so could not differentiate it again. What the weights are relative to is a constant.
    """
    dtype = accumulation_dtype(given.query.array, given.key.array, given.value.array)
    learned, constant, together = floats(_differentiable(given))

    def whole(fixed: Any, learned: list[Array]) -> Inputs:
        constant, rng, mask = fixed
        return together(learned, constant)._replace(rng=rng, mask=mask)

    def fast(fixed: Any, learned: list[Array]) -> tuple[Array, Level]:
        def one(head: Inputs) -> tuple[Array, Level]:
            if head.mask is None:
                return online.forward(online.blocked(head, options, skip))
            head, _, spoiled = _cleaned(head)
            output, level = online.forward(online.blocked(head, options, skip))
            return contain.spoil(output, spoiled), level

        return each_head(one, whole(fixed, learned), options.in_turn)

    def reverse(fixed: Any, learned: list[Array], found: tuple[Array, Level], change: tuple[Array, Level]) -> Any:
        def one(head: Any) -> list[Array]:
            head, (output, level), (d_output, (_, d_total)) = head
            if head.mask is None:
                return online.reverse(online.blocked(head, options, skip), output, level, d_output, d_total)
            head, bad, spoiled = _cleaned(head)
            output, d_output = contain.zeroed(output, spoiled), contain.zeroed(d_output, spoiled)
            d_total = jnp.where(spoiled, 0.0, d_total)
            gradients = online.reverse(online.blocked(head, options, skip), output, level, d_output, d_total)
            return [*map(contain.zeroed, gradients[:3], bad), *gradients[3:]]

        found, change = jax.tree.map(lambda x: Each(x, ("b", "k", "g")), (found, change))
        given = whole(fixed, learned)
        return each_head_summed(one, (given, found, change), _learned(given), options.in_turn)

    def plain(fixed: Any, learned: list[Array]) -> tuple[Array, Level]:
        def one(head: Inputs) -> tuple[Array, Level]:
            head = head._replace(value=head.value.astype(dtype), normalizer=softmax)
            found = rows(head, replace(options, returns=(_Level("level"),), block_size=None), skip)
            return found["output"], Level(*(x.astype(dtype) for x in found["level"]))

        return each_head(one, whole(fixed, learned), options.in_turn)

    return with_reverse(fast, reverse, plain)((constant, given.rng, given.mask), learned)


class _Level(Extra):
    """Ask for the level of each row."""

    def __call__(self, rows: Rows) -> Level:
        logits = masked_logits(rows.logits, rows.where)
        largest = lax.stop_gradient(jnp.max(logits, axis=1, initial=-jnp.inf))
        shift = jnp.where(largest == -jnp.inf, 0.0, largest)
        return Level(largest, jnp.sum(jnp.exp(logits - shift[:, None]), axis=1))


def _differentiable(given: Inputs) -> Inputs:
    """Leave out what gets no gradient here."""
    return given._replace(normalizer=(), rng=None, mask=None)


def _learned(given: Inputs) -> list[Each]:
    """Return the floating-point arrays of a call in their order, marked."""
    arrays, axes, _ = marked(_differentiable(given))
    pairs = zip(arrays, axes, strict=True)
    return [Each(x, own) for x, own in pairs if jnp.issubdtype(jnp.asarray(x).dtype, jnp.floating)]
