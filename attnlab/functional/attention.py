"""The entry: check what is asked for, and hand it to an implementation."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.functional import dense, normalizers, scores
from attnlab.functional.masks import Mask
from attnlab.functional.types import HeadWeights, Keys, Mod, Normalizer, Outputs, Queries, Score, Values

IMPLEMENTATIONS: dict[str, Callable[..., dict[str, Array]]] = {"dense": dense.attend}
FIELDS = tuple(dense.EXTRAS)


class AttentionOutput(NamedTuple):
    """What `attention` returns when extras are asked for; a field not asked for is None."""

    output: Float[Array, "*B T N V"]
    weights: Float[Array, "*B N T S"] | None = None
    """What the normalizer gave, before dropout: each row adds up to one (softmax) or is empty."""
    logits: Float[Array, "*B N T S"] | None = None
    """After the mods; −inf where masked."""
    lse: Float[Array, "*B N T"] | None = None
    """log Σ exp(logits) over the allowed keys; −inf for an empty row."""
    entropy: Float[Array, "*B N T"] | None = None
    """−Σ w log w of each row of weights, in nats."""
    max: Float[Array, "*B N T"] | None = None
    """The largest allowed logit; −inf for an empty row."""


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
    returns: Sequence[str] = (),
    implementation: str | None = None,
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
            shared by all heads, or one set a head when said so by `parts.per_head`.
        mods: each (logits [q k], query positions [q], key positions [k], head []) -> logits; `per_head` likewise.
        mask: which query may attend to which key (`masks`); None lets all attend to all.
        normalizer: (logits [q k], where) -> weights [q k]; `per_head` likewise.
        dropout_rate: probability in [0, 1) that a weight is dropped, a Python number; the others are scaled up.
        rng: needed when dropout_rate > 0. What is dropped depends on it and on (example, head, query, key) alone.
        returns: extras, names of fields of `AttentionOutput`. They do not change the output.
        implementation: "dense", or None to have one chosen.
    Returns: output [*B, T, N, V] in the dtype of the values; an `AttentionOutput` when `returns` names any extra.
    Numerics: float64 stays float64; anything narrower than float32 is computed in float32. A query that may
        attend to nothing gets output 0 and finite gradients. With a mask, NaN or Inf in a key or value reaches no
        output and no gradient of a query that may not attend to it; one that may gets NaN. Differentiable
        forward and in reverse, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 5 and 6; Vaswani et al. 2017, eq. 1.

    >>> query, key = jnp.ones((2, 1, 4)), jnp.ones((3, 1, 4))
    >>> attention(query, key, jnp.arange(3.0).reshape(3, 1, 1)).ravel().tolist()
    [1.0, 1.0]
    """
    _check_parts(mask, mods, dropout_rate, rng)
    _check_shapes(query, key, value)
    found = _implementation(implementation)(
        query,
        key,
        value,
        parts=(score, *mods, normalizer),
        mask=mask,
        rng=rng if dropout_rate else None,
        plan=dense.Plan(dropout_rate, _names(returns)),
    )
    return AttentionOutput(**found) if returns else found["output"]


def attention_weights(
    query: Queries,
    key: Keys,
    *,
    score: Score = scores.scaled_dot,
    mods: Sequence[Mod] = (),
    mask: Mask | None = None,
    normalizer: Normalizer = normalizers.softmax,
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
    _check_parts(mask, mods, 0.0, None)
    _check_shapes(query, key, key)
    plan = dense.Plan(0.0, ("weights",))
    parts = (score, *mods, normalizer)
    return dense.attend(query, key, None, parts=parts, mask=mask, rng=None, plan=plan)["weights"]


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
    heads, key_heads = weights.shape[-3], value.shape[-2]
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


def _implementation(name: str | None) -> Callable[..., dict[str, Array]]:
    name = "dense" if name is None else name
    if name not in IMPLEMENTATIONS:
        raise ValueError(f"attention: implementation {name!r} is none of {', '.join(IMPLEMENTATIONS)}")
    return IMPLEMENTATIONS[name]


def _names(returns: Sequence[str]) -> tuple[str, ...]:
    if isinstance(returns, str):
        raise ValueError(f"attention: returns is a tuple of names: ({returns!r},)")
    for name in returns:
        if name not in FIELDS:
            raise ValueError(f"attention: returns {name!r} is none of {', '.join(FIELDS)}")
    return tuple(returns)


def _check_parts(mask: object, mods: object, dropout_rate: float, rng: object) -> None:
    if mask is not None and not isinstance(mask, Mask):
        raise ValueError('attention: mask is no mask; write an array as masks.array(where, axes="b h q k")')
    if callable(mods):
        raise ValueError("attention: mods is a tuple of functions: (mod,)")
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(f"attention: dropout_rate {dropout_rate} is not in [0, 1)")
    if dropout_rate and rng is None:
        raise ValueError("attention: dropout needs an rng")


def _check_shapes(query: Array, key: Array, value: Array) -> None:
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 3:
        raise ValueError(f"attention: [*B, positions, heads, features] is needed: {shapes}")
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"attention: batch axes, and keys and heads of key and value, must agree: {shapes}")
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        raise ValueError(f"attention: {query.shape[-2]} query heads are no multiple of {key.shape[-2]} key heads")
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (query, key, value)):
        raise ValueError(f"attention: floating-point arrays are needed: {query.dtype}, {key.dtype}, {value.dtype}")
