"""The public functions `attention`, `plan`, `attention_weights` and `pool`: check the arguments, and run a backend."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.sharding import Mesh
from jaxtyping import Float, Int

from attnlab.functional import normalizers, scores
from attnlab.functional.backends.call import Call, Operands, Options, fold
from attnlab.functional.backends.dense import pool_head
from attnlab.functional.backends.devices import device_kind
from attnlab.functional.backends.execute import execute
from attnlab.functional.backends.plan import Plan, choose
from attnlab.functional.checks import (
    check_arrays,
    check_mask,
    check_options,
    check_parts,
    check_positions,
    check_shapes,
    fit,
)
from attnlab.functional.extras import Extra, TopKeys, requested
from attnlab.functional.masks import Mask
from attnlab.functional.parts import as_part
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import HeadWeights, Keys, Mod, Normalizer, Outputs, Queries, Score, Values


class AttentionOutput(NamedTuple):
    """The result of `attention` with extras; fields that `returns` does not name are None."""

    output: Float[Array, "*B T N V"]
    weights: Float[Array, "*B N T S"] | None = None
    """The weights before dropout; with softmax each row sums to 1, or to 0 if it is fully masked."""
    scores: Float[Array, "*B N T S"] | None = None
    """The scores before the mods; −inf where masked."""
    logits: Float[Array, "*B N T S"] | None = None
    """The logits after the mods; −inf where masked."""
    lse: Float[Array, "*B N T"] | None = None
    """log Σ exp(logits) over the allowed keys; −inf for a fully masked row."""
    entropy: Float[Array, "*B N T"] | None = None
    """−Σ w log w of each row of weights, in nats."""
    max: Float[Array, "*B N T"] | None = None
    """The largest allowed logit; −inf for a fully masked row."""
    distance: Float[Array, "*B N T"] | None = None
    """Σ w |i − j|: the mean distance from a query to the keys it attends to, in positions."""
    top_k: TopKeys | None = None
    """The keys with the largest weights: `weights` and `keys`, each [*B, N, T, k]."""
    key_mass: Float[Array, "*B N S"] | None = None
    """Σ_i weights[i, j]: the sum of the weights of each key over all queries."""


@suggest_arguments()
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
    """Compute attention: score every query against every key, normalize, and average the values by the weights.

    output_i = Σ_j weights[i, j] value_j,    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

    The order is fixed: score, mods from left to right, mask, normalizer, dropout, pooling. Arrays of rank 3 have no
    batch axes; `jax.vmap(attention)` is the batched call.

    Args:
        query: [*B, T, N, D]: T queries, N heads.
        key: [*B, S, K, E]: S keys, K heads; N is a multiple of K, and query head n attends to key head n // (N / K).
        value: [*B, S, K, V], of any width V.
        score: (query [q d], key [k e]) -> logits [q k]. Parameters are bound with `jax.tree_util.Partial` and
            shared by all heads and examples, unless an array is wrapped by `parts.map_over` (or `parts.per_head`).
        mods: functions (logits [q k], positions) -> logits [q k], with parameters bound likewise.
        mask: which query may attend to which key (`masks`); None for all to all.
        normalizer: (logits [q k], where) -> weights [q k], with parameters bound likewise.
        dropout_rate: probability in [0, 1) that a weight is dropped, a Python number; kept weights are scaled up.
        rng: a key of `jax.random`, required when dropout_rate > 0. Which weights are dropped depends only on it and on
            (example, head, query, key).
        query_positions: [T] or [*B, T], the positions of the queries for mods, mask and dropout; None for 0 … T − 1. A
            decoder that continues at position n passes n + arange(T), with `masks.causal(0)`.
        key_positions: [S] or [*B, S], likewise.
        returns: extra results: names of fields of `AttentionOutput`, or `extras.top_k(k)`, `extras.weights(rows,
            heads)`. They do not change the output.
        implementation: "dense", "streaming", "block_sparse", or None for the fastest by estimate; `plan` returns which
            and why. "streaming" and "block_sparse" compute blocks, so a custom score or mod must compute every pair of
            a query and a key independently, and a normalizer every query. Other parts, such as an average over queries,
            are detected by calling them on a few numbers; only "dense" supports them.
        block_size: (queries, keys) of a block of "streaming" or "block_sparse"; None for the fastest on this kind of
            device.
        mesh: devices along one axis, which divide the key heads, or else the examples, the query heads, or the
            queries. None for one device, or for inputs that are sharded already.
    Returns: output [*B, T, N, V] in the dtype of the values; an `AttentionOutput` when `returns` names any extra.
    Numerics: float64 stays float64; dtypes narrower than float32 are computed in float32. A fully masked query gets
        output 0 and finite gradients. NaN or Inf in a masked key or value reaches neither output nor gradients; a query
        that may attend to it gets NaN. Differentiable in forward and reverse mode, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 5 and 6; Vaswani et al. 2017, eq. 1; Dao et al. 2022, algorithm 1.

    >>> import jax.numpy as jnp
    >>> query, key = jnp.ones((2, 1, 4)), jnp.ones((3, 1, 4))
    >>> attention(query, key, jnp.arange(3.0).reshape(3, 1, 1)).ravel().tolist()
    [1.0, 1.0]
    """
    arguments = locals()
    check_arrays(value=value)
    results = execute(*_prepare(arguments), implementation)
    return AttentionOutput(**results) if returns else results["output"]


@suggest_arguments(options_of=attention)
def plan(query: Any, key: Any, value: Any, *, implementation: str | None = None, **options: Any) -> Plan:
    """Return how `attention` computes a call with these arguments, and why; print it to read it.

    Args: those of `attention`; query, key and value may be `jax.ShapeDtypeStruct`s.
    Returns: a `Plan`: the implementation, its block size, its estimated peak memory, and the reason for or against
        every implementation.
    Numerics: nothing is computed; shapes and dtypes are evaluated abstractly.

    >>> import jax.numpy as jnp
    >>> shape = jax.ShapeDtypeStruct((1, 4096, 8, 64), jnp.float32)
    >>> plan(shape, shape, shape).implementation
    'streaming'
    """
    plans: list[Plan] = []

    def trace(query: Array, key: Array, value: Array) -> None:
        operands, static = _prepare({"query": query, "key": key, "value": value, **options})
        plans.append(choose(Call(fold(operands), static), implementation))

    jax.eval_shape(trace, query, key, value)
    return plans[0]


@suggest_arguments()
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
    """Compute the weight of every key for every query: the first half of `attention`; `pool` is the second.

    weights[i] = normalizer(mods(score(query_i, key)), where = mask[i])

    Args: as in `attention`.
    Returns: weights [*B, N, T, S], in float32 or, for float64 inputs, float64.
    Numerics: as in `attention`; the weight of a masked key is exactly 0.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 6.

    >>> import jax.numpy as jnp
    >>> attention_weights(jnp.ones((1, 1, 4)), jnp.ones((2, 1, 4))).tolist()
    [[[0.5, 0.5]]]
    """
    arguments = locals() | {"value": None, "returns": ("weights",)}
    return execute(*_prepare(arguments), "dense")["weights"]


@suggest_arguments()
def pool(weights: HeadWeights, value: Values) -> Outputs:
    """Average the values by the weights of each query: the second half of `attention`.

    output_i = Σ_j weights[i, j] value_j

    Args:
        weights: [*B, N, T, S].
        value: [*B, S, K, V]; N is a multiple of K.
    Returns: [*B, T, N, V] in the dtype of the values.
    Numerics: accumulated in float32 for narrower values. There is no mask here, so a value that holds NaN gives NaN
        even with a weight of 0; `attention` masks it.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 5.

    >>> import jax.numpy as jnp
    >>> pool(jnp.array([[[0.25, 0.75]]]), jnp.array([[[0.0]], [[4.0]]])).tolist()
    [[[3.0]]]
    """
    check_arrays(weights=weights, value=value)
    shapes = f"weights {weights.shape}, value {value.shape}"
    if min(weights.ndim, value.ndim) < 3 or weights.shape[:-3] != value.shape[:-3]:
        raise ValueError(f"pool: expected weights [*B, N, T, S] and value [*B, S, K, V], got {shapes}")
    heads, key_heads = weights.shape[-3], value.shape[-2]
    if weights.shape[-1] != value.shape[-3]:
        raise ValueError(
            f"pool: the number of keys S of weights and value must be equal, got {shapes}; write pool(weights, value)"
        )
    if heads % key_heads:
        raise ValueError(f"pool: the {heads} heads of weights must be a multiple of the {key_heads} heads of values")
    group = heads // key_heads
    grouped = weights.reshape(*weights.shape[:-3], key_heads, group, *weights.shape[-2:])
    pool_heads = jax.vmap(pool_head, in_axes=(0, None), out_axes=1)
    pool_heads = jax.vmap(pool_heads, in_axes=(0, 1), out_axes=1)
    for _ in weights.shape[:-3]:
        pool_heads = jax.vmap(pool_heads)
    pooled = pool_heads(grouped, value)
    return pooled.reshape(*pooled.shape[:-3], heads, pooled.shape[-1])


_DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(attention).parameters.items()
    if parameter.kind is parameter.KEYWORD_ONLY
}


def _prepare(arguments: Mapping[str, Any]) -> tuple[Operands, Options]:
    """Check the arguments of `attention`, by name, and divide them into arrays and static options."""
    arguments = _DEFAULTS | dict(arguments)
    query, key, value, mask, mods = (arguments[name] for name in ("query", "key", "value", "mask", "mods"))
    dropout_rate, block_size = arguments["dropout_rate"], arguments["block_size"]
    check_arrays(query=query, key=key)
    check_shapes(query, key, key if value is None else value)
    check_mask(mask, query, key)
    check_parts(arguments["score"], mods, arguments["normalizer"], query)
    check_options(dropout_rate, arguments["rng"], block_size, arguments["mesh"])
    extras = requested(arguments["returns"])
    positions = {name: arguments[name] for name in ("query_positions", "key_positions")}
    check_positions("query", positions["query_positions"], query)
    check_positions("key", positions["key_positions"], key)
    operands = Operands(
        query=query,
        key=key,
        value=value,
        score=as_part(arguments["score"]),
        mods=tuple(map(as_part, mods)),
        normalizer=as_part(arguments["normalizer"]),
        mask=fit(mask, mods, query, key, **positions),
        rng=arguments["rng"] if dropout_rate else None,
        **positions,
    )
    options = Options(
        dropout_rate=dropout_rate,
        returns=tuple(extra for extra in extras if not extra.selects),
        selected=tuple(extra for extra in extras if extra.selects),
        block_size=None if block_size is None else (int(block_size[0]), int(block_size[1])),
        mesh=arguments["mesh"],
        device=device_kind(),
    )
    return operands, options
