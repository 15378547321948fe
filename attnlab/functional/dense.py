"""Attention with its logits and weights written out: the reference that every other implementation must equal.

`one_head` is the whole method, for one head of one example; the other implementations call it on blocks of rows.
"""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
from jax import Array

from attnlab.functional import contain, dropout
from attnlab.functional.extras import Extra, Rows
from attnlab.functional.inputs import Inputs, each_head
from attnlab.functional.normalizers import Positional
from attnlab.functional.normalizers.allowed import rounded
from attnlab.functional.types import Logits, Positions, Size, Weights, Where, widen


@dataclass(frozen=True)
class Options:
    """What does not change from head to head, and is not an array."""

    dropout_rate: float = 0.0
    returns: tuple[Extra, ...] = ()
    block_size: tuple[int, int] | None = None
    in_turn: bool = False
    """One head after the other, so that its blocks stay in cache."""
    split: bool = False
    """The call is divided among devices."""


def attend(given: Inputs, options: Options) -> dict[str, Any]:
    """Attend with everything written out: "output" (when there are values) and what is to be returned, [b, k, g, …]."""
    return each_head(lambda head: one_head(head, options), given, in_turn=False)


def one_head(
    head: Inputs,
    options: Options,
    *,
    columns: Array | None = None,
    real: Array | None = None,
    keys: Size | None = None,
    live: Array | None = None,
) -> dict[str, Any]:
    """Score, modify, mask, normalize, drop and pool: [q d], [k e], [k v] -> [q v] and the extras asked for.

    Args:
        columns: when the keys are some of `keys` ones, which; for the extras.
        real: [k], False for a column that pads a block and is no key; None when all are.
        live: [q], False for a row that pads a block and is no query; None when all are.
    """
    positions = head.positions()
    query, key, value = head.query, head.key, head.value
    where = _where(head, positions, real)
    spoiled = None
    if where is not None:
        query, key, value, bad = contain.clean(query, key, value)
        spoiled = contain.spoiled(contain.seen(where, bad), bad)
    scores = scores_of(head, query, key)
    logits = modified(head, scores, positions)
    weights = normalize(head, logits, where, positions)
    if spoiled is not None:
        scores, told, shown = (contain.spoil(rows, spoiled.weights) for rows in (scores, logits, weights))
    else:
        told, shown = logits, weights
    rows = Rows(scores, told, shown, where, positions, columns, head.key.shape[0] if keys is None else keys, live)
    found = {extra.name: extra(rows) for extra in options.returns}
    if value is not None:
        output = pool_head(drop(head, weights, positions, options.dropout_rate), value)
        found["output"] = output if spoiled is None else contain.spoil(output, spoiled.output)
    return found


def logits_of(head: Inputs, query: Array, key: Array, positions: Positions) -> Logits:
    """Score a block, and apply the mods from left to right."""
    return modified(head, scores_of(head, query, key), positions)


def scores_of(head: Inputs, query: Array, key: Array) -> Logits:
    """Score a block."""
    return widen(_of_shape("score", head.score(query, key), (query.shape[0], key.shape[0])))


def modified(head: Inputs, scores: Logits, positions: Positions) -> Logits:
    """Apply the mods from left to right."""
    logits = scores
    for number, mod in enumerate(head.mods):
        logits = _of_shape(f"mod {number}", mod(logits, positions), scores.shape)
    return rounded(logits)


def normalize(head: Inputs, logits: Logits, where: Where | None, positions: Positions) -> Weights:
    """Make weights of whole rows of logits."""
    if isinstance(getattr(head.normalizer, "func", head.normalizer), Positional):
        return _of_shape("normalizer", head.normalizer(logits, where, positions), logits.shape)
    return _of_shape("normalizer", head.normalizer(logits, where), logits.shape)


def _of_shape(part: str, answer: Array, shape: tuple[Size, ...]) -> Array:
    """Refuse what is not [q k]: it would be broadcast, and weigh something else."""
    if answer.shape != shape:
        raise ValueError(
            f"attention: the {part} answered {answer.shape} for one head of one example, [q k] = {shape} is needed; an "
            'array for each head or example is marked as parts.each(array, "h"), "b" or "b h"'
        )
    return answer


def drop(head: Inputs, weights: Weights, positions: Positions, rate: float) -> Weights:
    """Drop weights of a block, where there is an rng."""
    if head.rng is None:
        return weights
    kept = dropout.keep(head.rng, rate, positions.example, positions.head, positions.query, positions.key)
    return dropout.drop(weights, kept, rate)


def pool_head(weights: Weights, value: Array) -> Array:
    """Average the values of one head by the weights of each query: [q k], [k v] -> [q v], in the values' dtype."""
    wide = widen(value)
    return jnp.matmul(weights.astype(wide.dtype), wide).astype(value.dtype)


def _where(head: Inputs, positions: Positions, real: Array | None) -> Where | None:
    where = None if head.mask is None else head.mask(positions)
    if real is None:
        return where
    real = jnp.broadcast_to(real[None, :], (positions.query.size, real.size))
    return real if where is None else where & real
