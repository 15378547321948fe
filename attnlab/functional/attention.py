"""The entry: check what is asked for, and hand it to an implementation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Float, Int

from attnlab.functional import dense, normalizers, scores, separable, sharded
from attnlab.functional.calls import explained
from attnlab.functional.checks import (
    check_arrays,
    check_mask,
    check_options,
    check_parts,
    check_positions,
    check_shapes,
    fit,
)
from attnlab.functional.devices import device
from attnlab.functional.eager import compiled_once
from attnlab.functional.extras import NAMES, Extra, TopKeys, requested
from attnlab.functional.inputs import Call, Inputs, chosen, inputs
from attnlab.functional.masks import Mask
from attnlab.functional.parts import as_part
from attnlab.functional.plan import IMPLEMENTATIONS, Plan, choose
from attnlab.functional.types import HeadWeights, Keys, Mod, Normalizer, Outputs, Queries, Score, Size, Values

FIELDS = NAMES


class AttentionOutput(NamedTuple):
    """What `attention` returns when extras are asked for; a field not asked for is None."""

    output: Float[Array, "*B T N V"]
    weights: Float[Array, "*B N T S"] | None = None
    """What the normalizer gave, before dropout: each row adds up to one (softmax) or is empty."""
    scores: Float[Array, "*B N T S"] | None = None
    """What the score gave, before the mods; −inf where masked."""
    logits: Float[Array, "*B N T S"] | None = None
    """After the mods; −inf where masked."""
    lse: Float[Array, "*B N T"] | None = None
    """log Σ exp(logits) over the allowed keys; −inf for an empty row."""
    entropy: Float[Array, "*B N T"] | None = None
    """−Σ w log w of each row of weights, in nats."""
    max: Float[Array, "*B N T"] | None = None
    """The largest allowed logit; −inf for an empty row."""
    distance: Float[Array, "*B N T"] | None = None
    """Σ w |i − j|: how far a query looks, in positions."""
    top_k: TopKeys | None = None
    """The keys that weigh most: `weights` and `keys`, each [*B, N, T, k]."""
    key_mass: Float[Array, "*B N S"] | None = None
    """Σ of the weights that each key gets from all queries."""


@explained()
def attention(
    query: Queries,
    key: Keys,
    value: Values,
    *,
    score: Score = scores.scaled_dot,
    mods: Sequence[Mod] = (),
    mask: Mask | None = None,
    normalizer: Normalizer = normalizers.softmax,
    dropout_rate: float = 0.0,
    rng: Array | None = None,
    query_positions: Int[Array, " T"] | Int[Array, "*B T"] | None = None,
    key_positions: Int[Array, " S"] | Int[Array, "*B S"] | None = None,
    returns: Sequence[str | Extra] = (),
    implementation: str | None = None,
    block_size: tuple[int, int] | None = None,
    mesh: Mesh | None = None,
) -> Outputs | AttentionOutput:
    """Attend: score every query against every key, normalize, and pool the values by the weights.

    output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

    The order is fixed: score, mods from left to right, mask, normalizer, dropout, pooling. With rank 3 there is
    no batch, and `jax.vmap(attention)` is the batched call.

    Args:
        query: [*B, T, N, D]: T queries, N heads.
        key: [*B, S, K, E]: S keys, K heads; N is a multiple of K, and query head n attends to key head n // (N / K).
        value: [*B, S, K, V], of any width V.
        score: (query [q d], key [k e]) -> logits [q k]. Parameters are bound with `jax.tree_util.Partial` and
            shared by all heads and examples, unless an array is marked by `parts.each` (or `per_head`).
        mods: each (logits [q k], positions) -> logits [q k]; their parameters likewise.
        mask: which query may attend to which key (`masks`); None lets all attend to all.
        normalizer: (logits [q k], where) -> weights [q k]; its parameters likewise.
        dropout_rate: probability in [0, 1) that a weight is dropped, a Python number; the others are scaled up.
        rng: needed when dropout_rate > 0. What is dropped depends on it and on (example, head, query, key) alone.
        query_positions: [T] or [*B, T], what mods, mask and dropout take the queries' positions to be; None for
            0 … T − 1. A decoder that continues at position n passes n + arange(T), with `masks.causal(0)`.
        key_positions: [S] or [*B, S], likewise.
        returns: extras: names of fields of `AttentionOutput`, or `extras.top_k(k)`, `extras.weights(rows, heads)`.
            They do not change the output.
        implementation: "dense", "streaming", "block_sparse", or None to have one chosen; `plan` tells which and why.
            The latter two compute blocks: a custom score or mod answers for each pair of query and key by itself, a
            normalizer for each query. One that does not (it averages over queries, say) is tried and told: it is
            computed by "dense", and refused where another is named.
        block_size: (queries, keys) of a block of the latter two; None for what this machine likes.
        mesh: devices, along one axis, to divide the key heads among, or else the examples, the query heads, or the
            queries. None for one device, or what the compiler makes of sharded inputs.
    Returns: output [*B, T, N, V] in the dtype of the values; an `AttentionOutput` when `returns` names any extra.
    Numerics: float64 stays float64; anything narrower than float32 is computed in float32. A query that may
        attend to nothing gets output 0 and finite gradients. With a mask, NaN or Inf in a key or value reaches no
        output and no gradient of a query that may not attend to it; one that may gets NaN. Differentiable
        forward and in reverse, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 5 and 6; Vaswani et al. 2017, eq. 1; Dao et al. 2022, algorithm 1.

    >>> query, key = jnp.ones((2, 1, 4)), jnp.ones((3, 1, 4))
    >>> attention(query, key, jnp.arange(3.0).reshape(3, 1, 1)).ravel().tolist()
    [1.0, 1.0]
    """
    check_arrays(value=value)
    call, options, extras = _prepared(
        query,
        key,
        value,
        score=score,
        mods=mods,
        mask=mask,
        normalizer=normalizer,
        dropout_rate=dropout_rate,
        rng=rng,
        query_positions=query_positions,
        key_positions=key_positions,
        returns=returns,
        block_size=block_size,
        mesh=mesh,
    )

    def carry_out(call: Call) -> dict[str, Any]:
        given = inputs(*call)
        decided = choose(given, options, implementation)
        how = How(decided.implementation, replace(options, block_size=decided.block_size), extras, mesh)
        found = _attend(how, given) if how.op_by_op else compiled_once(_attend, how, given)
        return _unfolded(found, query.shape[:-3])

    found = sharded.by_compiler(carry_out, call, extras)
    return AttentionOutput(**found) if returns else found["output"]


@dataclass(frozen=True)
class How:
    """What of a call's plan is no array."""

    implementation: str
    options: dense.Options
    extras: tuple[Extra, ...]
    mesh: Mesh | None

    @property
    def op_by_op(self) -> bool:
        """Whether an eager call needs no compiling of its own.

        It does where JAX looks for NaN and Inf after each operation: a masked logit is −∞ on its way.
        """
        if any(getattr(jax.config, flag) for flag in ("jax_debug_nans", "jax_debug_infs")):
            return False
        return self.implementation == "dense" and self.mesh is None and not any(extra.chosen for extra in self.extras)


def _attend(how: How, given: Inputs) -> dict[str, Any]:
    """Carry a call out: "output" and what is to be returned, [b, k, g, …]."""
    attend, options = IMPLEMENTATIONS[how.implementation], how.options
    found = attend(given, options) if how.mesh is None else sharded.attend(attend, given, options, how.mesh)
    for extra in how.extras:
        if extra.chosen:
            if why := separable.unfit(given).get("streaming"):
                raise ValueError(f'attention: {why}, nor some rows by themselves; write returns=("weights",)')
            part = replace(options, returns=(Extra("weights"),), block_size=None)
            rows = "streaming" if isinstance(given.key.array.shape[1], int) else "dense"
            found |= IMPLEMENTATIONS[rows](chosen(given, extra.rows, extra.heads), part)
    return found


@explained(options_of=attention)
def plan(query: Any, key: Any, value: Any, *, implementation: str | None = None, **options: Any) -> Plan:
    """Tell how `attention` of these arguments is carried out, and why; print it to read it.

    Args: those of `attention`; query, key and value may be `jax.ShapeDtypeStruct`s.
    Returns: `Plan`: the implementation, its blocks, its estimated peak of memory, and why each other one is not it.

    >>> shape = jax.ShapeDtypeStruct((1, 4096, 8, 64), jnp.float32)
    >>> plan(shape, shape, shape).implementation
    'streaming'
    """
    plans: list[Plan] = []

    def traced(query: Array, key: Array, value: Array) -> None:
        call, chosen_options, _ = _prepared(query, key, value, **options)
        plans.append(choose(inputs(*call), chosen_options, implementation))

    jax.eval_shape(traced, query, key, value)
    return plans[0]


@explained()
def attention_weights(
    query: Queries,
    key: Keys,
    *,
    score: Score = scores.scaled_dot,
    mods: Sequence[Mod] = (),
    mask: Mask | None = None,
    normalizer: Normalizer = normalizers.softmax,
    query_positions: Int[Array, " T"] | Int[Array, "*B T"] | None = None,
    key_positions: Int[Array, " S"] | Int[Array, "*B S"] | None = None,
) -> HeadWeights:
    """Weigh every key for every query: the first half of `attention`, of which `pool` is the second.

    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

    Args: as in `attention`.
    Returns: weights [*B, N, T, S], in float32 or, for float64 inputs, float64.
    Numerics: as in `attention`; what is masked has weight 0 exactly.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 6.

    >>> attention_weights(jnp.ones((1, 1, 4)), jnp.ones((2, 1, 4))).tolist()
    [[[0.5, 0.5]]]
    """
    call, options, extras = _prepared(
        query,
        key,
        None,
        score=score,
        mods=mods,
        mask=mask,
        normalizer=normalizer,
        query_positions=query_positions,
        key_positions=key_positions,
        returns=("weights",),
    )

    def carry_out(call: Call) -> dict[str, Any]:
        given, how = inputs(*call), How("dense", options, extras, None)
        found = _attend(how, given) if how.op_by_op else compiled_once(_attend, how, given)
        return _unfolded(found, query.shape[:-3])

    return sharded.by_compiler(carry_out, call, extras)["weights"]


@explained()
def pool(weights: HeadWeights, value: Values) -> Outputs:
    """Average the values by the weights of each query: the second half of `attention`.

    output_i = Σ_j weights[i, j] value_j

    Args:
        weights: [*B, N, T, S].
        value: [*B, S, K, V]; N is a multiple of K.
    Returns: [*B, T, N, V] in the dtype of the values.
    Numerics: accumulated in float32 for values narrower than that. It knows no mask: a value that holds NaN
        gives NaN even under a weight of 0; `attention` contains it.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 5.

    >>> pool(jnp.array([[[0.25, 0.75]]]), jnp.array([[[0.0]], [[4.0]]])).tolist()
    [[[3.0]]]
    """
    check_arrays(weights=weights, value=value)
    shapes = f"weights {weights.shape}, value {value.shape}"
    if min(weights.ndim, value.ndim) < 3 or weights.shape[:-3] != value.shape[:-3]:
        raise ValueError(f"pool: weights [*B, N, T, S] and value [*B, S, K, V] are needed: {shapes}")
    heads, key_heads = weights.shape[-3], value.shape[-2]
    if weights.shape[-1] != value.shape[-3]:
        raise ValueError(
            f"pool: weights of as many keys as there are values are needed: {shapes}; write pool(weights, value)"
        )
    if heads % key_heads:
        raise ValueError(f"pool: {heads} heads of weights are no multiple of {key_heads} heads of values")
    group = heads // key_heads
    grouped = weights.reshape(*weights.shape[:-3], key_heads, group, *weights.shape[-2:])
    one = jax.vmap(dense.pool_head, in_axes=(0, None), out_axes=1)
    one = jax.vmap(one, in_axes=(0, 1), out_axes=1)
    for _ in weights.shape[:-3]:
        one = jax.vmap(one)
    pooled = one(grouped, value)
    return pooled.reshape(*pooled.shape[:-3], heads, pooled.shape[-1])


def _prepared(
    query: Array,
    key: Array,
    value: Array | None,
    *,
    score: Any = scores.scaled_dot,
    mods: Any = (),
    mask: Any = None,
    normalizer: Any = normalizers.softmax,
    dropout_rate: float = 0.0,
    rng: Array | None = None,
    query_positions: Array | None = None,
    key_positions: Array | None = None,
    returns: Any = (),
    block_size: Any = None,
    mesh: Mesh | None = None,
) -> tuple[Call, dense.Options, tuple[Extra, ...]]:
    """Check a call's arguments, and gather its arrays."""
    check_arrays(query=query, key=key)
    check_shapes(query, key, key if value is None else value)
    check_mask(mask, query, key)
    check_parts(score, mods, normalizer, query)
    check_options(dropout_rate, rng, block_size, mesh)
    extras = requested(returns)
    check_positions("query", query_positions, query)
    check_positions("key", key_positions, key)
    fitted = fit(mask, mods, query, key, query_positions, key_positions)
    rng = rng if dropout_rate else None
    parts = as_part(score), tuple(map(as_part, mods)), as_part(normalizer)
    call = Call(query, key, value, *parts, fitted, rng, query_positions, key_positions)
    whole = tuple(extra for extra in extras if not extra.chosen)
    blocks = None if block_size is None else (int(block_size[0]), int(block_size[1]))
    return call, dense.Options(dropout_rate, whole, blocks, device().in_turn, mesh is not None), extras


def _unfolded(found: dict[str, Any], batch: tuple[Size, ...]) -> dict[str, Any]:
    """Give every result [b, k, g, …] its axes [*B, N, …], and the output [*B, T, N, V]."""
    found = jax.tree.map(lambda x: x.reshape(*batch, x.shape[1] * x.shape[2], *x.shape[3:]), found)
    return found | {"output": jnp.moveaxis(found["output"], -3, -2)} if "output" in found else found
