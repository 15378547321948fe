"""Attention with all logits and weights in memory: the reference for all other backends.

`dense_head` is the whole method, for one head of one example; `streaming` calls it on blocks of rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from attnlab.functional import dropout
from attnlab.functional.backends import nonfinite
from attnlab.functional.backends.base import Backend, Cost, Results
from attnlab.functional.backends.call import Call, Head, Options
from attnlab.functional.backends.map_heads import AXES, map_heads
from attnlab.functional.backends.separable import mixing
from attnlab.functional.extras import Rows
from attnlab.functional.normalizers import Positional
from attnlab.functional.normalizers.allowed import rounded
from attnlab.functional.parts import MappedArray
from attnlab.functional.types import Logits, Positions, Size, Weights, Where, widen


@dataclass(frozen=True)
class LogitTimes:
    """Seconds to write a logit to memory and read it again."""

    cached: int
    """The number of logits that fit into the cache."""
    cached_seconds: float
    """Seconds for a logit in the cache."""
    seconds: float
    """Seconds for a logit outside the cache."""


LOGIT_TIMES: Mapping[str, LogitTimes] = {
    "cpu": LogitTimes(cached=2**20, cached_seconds=3e-9, seconds=6e-9),
    "gpu": LogitTimes(cached=2**25, cached_seconds=1e-11, seconds=2e-11),
}
"""By kind of device. CPU: up to 2²⁰ logits (16 heads of 256 queries and keys) blocks take 0.95 to 1.9 times as long
(one device, 2 cores of an AMD EPYC; most where gradients are computed). GPU: estimated, not yet measured."""


class Dense(Backend):
    """The backend that computes all logits and all weights at once."""

    name = "dense"

    def supports(self, call: Call) -> str | None:
        """Return None, except for a part that mixes queries in a call that a mesh divides."""
        if call.options.mesh is None or call.sizes.symbolic or not call.sizes.logits:
            return None
        mixed_part = call.once(mixing)
        if mixed_part is None or mixed_part.mixed == "masked keys":
            return None
        return mixed_part.reason("a mesh that divides the call cannot compute it; write mesh=None")

    def cost(self, call: Call, device: str) -> Cost:
        """Estimate the time and memory of writing all logits and weights."""
        sizes, times = call.sizes, LOGIT_TIMES[device]
        if sizes.symbolic:
            reason = f"it needs no lengths at compile time ({sizes.queries} queries and {sizes.keys} keys are symbolic)"
            return Cost(None, None, reason)
        shape = f"{sizes.total_heads} × {sizes.queries} × {sizes.keys} logits"
        peak = 2 * sizes.logits * call.itemsize
        if sizes.logits <= times.cached:
            return Cost(sizes.logits * times.cached_seconds, peak, f"only {shape}")
        reason = f"{shape} and as many weights take {peak / 2**20:.1f} MiB"
        return Cost(sizes.logits * times.seconds, peak, reason)

    def run(self, call: Call) -> Results:
        """Compute all heads at once."""
        heads, bad = (call.heads, None) if call.heads.mask is None else _finite(call.heads)
        return map_heads(
            lambda operands: dense_head(operands[0], call.options, operands[1]), (heads, bad), sequential=False
        )


def _finite(heads: Head) -> tuple[Head, nonfinite.Nonfinite]:
    """Replace what `nonfinite.replace` replaces in all heads at once, which is traced faster than in each.

    The axes of heads come first, so that the truth values of a head's keys lie next to each other in memory.
    """
    operands = _heads_first(heads.query), _heads_first(heads.key), heads.value and _heads_first(heads.value)
    *arrays, bad = nonfinite.replace(*(x and x.array for x in operands))
    mapped = lambda arrays: jax.tree.map(lambda x, like: MappedArray(x, like.axes), tuple(arrays), operands)  # noqa: E731
    query, key, value = mapped(arrays)
    return replace(heads, query=query, key=key, value=value), nonfinite.Nonfinite(*mapped(bad))


def _heads_first(mapped: MappedArray) -> MappedArray:
    order = sorted(range(len(mapped.axes)), key=lambda axis: (AXES + "ts").index(mapped.axes[axis]))
    features = range(len(order), mapped.array.ndim)
    return MappedArray(jax.lax.transpose(mapped.array, (*order, *features)), tuple(mapped.axes[n] for n in order))


def dense_head(
    head: Head,
    options: Options,
    bad: nonfinite.Nonfinite | None,
    *,
    columns: Array | None = None,
    valid_keys: Array | None = None,
    keys: Size | None = None,
    valid_queries: Array | None = None,
) -> dict[str, Any]:
    """Compute attention of one head: [q d], [k e], [k v] -> the output [q v] and the extras, by name.

    Args:
        head: operands of one head of one example, or of a block of it.
        options: dropout rate and extras.
        bad: the queries, keys and values that contained NaN or Inf and were replaced; None if nothing is masked.
        columns: indices of these keys among all `keys`, for the extras; None if they are all keys.
        valid_keys: [k], False for padding; None for no padding.
        keys: number of all keys; None if these are all keys.
        valid_queries: [q], False for padding; None for no padding.
    """
    positions = head.positions()
    where = _where(head, positions, valid_keys)
    scores = scores_of(head, head.query, head.key)
    logits = apply_mods(head, scores, positions)
    weights = normalize(head, logits, where, positions)
    results: dict[str, Any] = {}
    if options.returns:
        shown = weights
        if bad is not None and where is not None:
            nan_rows = nonfinite.nan_rows(where, bad, output=False)
            scores, logits, shown = (nonfinite.set_nan(x, nan_rows) for x in (scores, logits, weights))
        total_keys = head.key.shape[0] if keys is None else keys
        rows = Rows(scores, logits, shown, where, positions, columns, total_keys, valid_queries)
        results = {extra.name: extra(rows) for extra in options.returns}
    if head.value is not None:
        output = pool_head(drop(head, weights, positions, options.dropout_rate), head.value)
        if bad is not None and where is not None:
            output = nonfinite.set_nan(output, nonfinite.nan_rows(where, bad, output=True))
        results["output"] = output
    return results


def logits_of(head: Head, query: Array, key: Array, positions: Positions) -> Logits:
    """Score a block of queries and keys, and apply the mods."""
    return apply_mods(head, scores_of(head, query, key), positions)


def scores_of(head: Head, query: Array, key: Array) -> Logits:
    """Score a block of queries and keys, in float32 at least."""
    return widen(_check_shape("score", head.score(query, key), (query.shape[0], key.shape[0])))


def apply_mods(head: Head, scores: Logits, positions: Positions) -> Logits:
    """Apply the mods from left to right."""
    logits = scores
    for number, mod in enumerate(head.mods):
        logits = _check_shape(f"mod {number}", mod(logits, positions), scores.shape)
    return rounded(logits)


def normalize(head: Head, logits: Logits, where: Where | None, positions: Positions) -> Weights:
    """Normalize whole rows of logits."""
    if isinstance(getattr(head.normalizer, "func", head.normalizer), Positional):
        return _check_shape("normalizer", head.normalizer(logits, where, positions), logits.shape)
    return _check_shape("normalizer", head.normalizer(logits, where), logits.shape)


def _check_shape(part: str, result: Array, shape: tuple[Size, ...]) -> Array:
    """Raise unless a part returned [q k]: another shape would be broadcast to wrong logits."""
    if result.shape != shape:
        raise ValueError(
            f"attention: the {part} returned shape {result.shape} for one head of one example; it must return [q k] = "
            f'{shape}. An array for each head or example is wrapped as parts.map_over(array, "h"), "b" or "b h"'
        )
    return result


def drop(head: Head, weights: Weights, positions: Positions, rate: float) -> Weights:
    """Apply dropout to the weights of a block, if there is an rng."""
    if head.rng is None:
        return weights
    kept = dropout.keep(head.rng, rate, positions.example, positions.head, positions.query, positions.key)
    return dropout.drop(weights, kept, rate)


def pool_head(weights: Weights, value: Array) -> Array:
    """Average the values of one head by the weights of each query: [q k], [k v] -> [q v], in the values' dtype."""
    wide = widen(value)
    return jnp.matmul(weights.astype(wide.dtype), wide).astype(value.dtype)


def _where(head: Head, positions: Positions, valid_keys: Array | None) -> Where | None:
    where = None if head.mask is None else head.mask(positions)
    if valid_keys is None:
        return where
    valid_keys = jnp.broadcast_to(valid_keys[None, :], (positions.query.size, valid_keys.size))
    return valid_keys if where is None else where & valid_keys
