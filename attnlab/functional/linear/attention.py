"""The public function `linear_attention`, of all heads and examples."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from attnlab.functional.backends.eager import compiled_once
from attnlab.functional.checks import check_arrays
from attnlab.functional.linear import forms
from attnlab.functional.linear.checks import (
    HINTS,
    check_feature_map,
    check_inputs,
    check_memory,
    check_rule,
    check_state,
    check_where,
)
from attnlab.functional.linear.elementwise import elu_plus_one, identity, silu_unit
from attnlab.functional.linear.mapped_features import FeatureMap, map_features
from attnlab.functional.linear.rule import Rule
from attnlab.functional.linear.sum_rule import sum_rule
from attnlab.functional.parts import as_part
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Keys, Outputs, Queries, Values, accumulation_dtype

DEFAULT_FEATURE_MAPS = {"sum_rule": elu_plus_one, "delta_rule": silu_unit, "gated_delta_rule": silu_unit}
"""Rule -> the feature map of its paper, if it is not the identity."""


class State(NamedTuple):
    """The state of `linear_attention` after some tokens, of a size that does not depend on their number."""

    memory: Float[Array, "*B K M W"]
    """S of every key head, in float32 or float64; the last column of a normalized rule is z."""
    length: Int[Array, ""]
    """The number of tokens, padding included: the position of the next one."""


@suggest_arguments(elsewhere=HINTS)
def linear_attention(
    query: Queries,
    key: Keys,
    value: Values,
    *,
    rule: Rule = sum_rule(),  # noqa: B008, a frozen value
    feature_map: FeatureMap | tuple[FeatureMap, FeatureMap] | None = None,
    causal: bool = False,
    where: Bool[Array, "*B S"] | None = None,
    state: State | None = None,
    chunk: int | None = None,
) -> tuple[Outputs, State]:
    """Compute linear attention, whose time is linear in the length, and whose state has a fixed size.

    (S_i, output_i) = rule(S_{i−1}, φ(query_i), φ(key_i), value_i),    φ = feature_map

    Not `attention` with another score: no logits and weights exist, and each rule sums over the past in its own way.

    Args:
        query: [*B, T, N, D]: T queries, N heads.
        key: [*B, S, K, D]: S keys, K heads; N is a multiple of K, and query head n reads the state of key head
            n // (N / K).
        value: [*B, S, K, V], of any width V.
        rule: how a token changes the state: `linear.sum_rule()`, `retention`, `gated`, `delta_rule` or
            `gated_delta_rule`. Arrays of a rule have the axes [*B, S, K].
        feature_map: features [t d] -> features [t m] of one head; parameters are bound with `jax.tree_util.Partial` and
            shared by all heads and examples, unless an array is wrapped by `parts.map_over`. A pair for query and key.
            None for that of the rule's paper: `elu_plus_one` for sum_rule, `silu_unit` for the delta rules, `identity`
            for retention and gated.
        causal: True if each token attends to the tokens up to itself. Only sum_rule has the other form.
        where: True for keys that may be attended to; the others leave the state unchanged. None for all.
        state: the state before the first token, the second result of a call with the tokens before; None for none.
        chunk: the number of tokens of a chunk; None for 64, or 16 for a decay for each feature. It changes cost only.
    Returns: output [*B, T, N, V] in the dtype of the values, and the state after the last token. A sequence in several
        calls, token by token too, has the outputs of one call.
    Numerics: float64 stays float64; dtypes narrower than float32 are computed in float32, the state included. A query
        that may attend to no key gets output 0. NaN or Inf in a masked key, value or gate reaches neither output nor
        gradients. Differentiable in forward and reverse mode, to any order.
    Reference: that of the rule; Katharopoulos et al. 2020; Sun et al. 2023, eq. 5 to 7 (the three forms).

    >>> query, key = jnp.ones((2, 1, 4)), jnp.ones((2, 1, 4))
    >>> output, state = linear_attention(query, key, jnp.arange(2.0).reshape(2, 1, 1), causal=True)
    >>> output.ravel().tolist(), state.memory.shape
    ([0.0, 0.5], (1, 4, 2))
    """
    check_arrays(query=query, key=key, value=value)
    check_rule(rule, causal, chunk)
    check_inputs(query, key, value, causal)
    check_where(where, key)
    check_state(state)
    default = DEFAULT_FEATURE_MAPS.get(rule.name, identity)
    maps: Any = feature_map if isinstance(feature_map, tuple) and len(feature_map) == 2 else (feature_map,) * 2
    maps = tuple(default if part is None else part for part in maps)
    check_feature_map(maps, state, query, key, causal)
    arrays = {
        "inputs": (query, key, value),
        "rule": rule.per_token(key.shape[:-1]),
        "maps": tuple(map(as_part, maps)),
        "where": where,
        "state": state,
    }
    return compiled_once(_compute, (causal, chunk), arrays)


def _compute(static: tuple[bool, int | None], arrays: dict[str, Any]) -> tuple[Array, State]:
    causal, chunk = static
    query, key, value = map(jnp.asarray, arrays["inputs"])
    rule, where, state, batch, heads = arrays["rule"], arrays["where"], arrays["state"], key.shape[:-3], key.shape[-2]
    if where is not None:  # before the feature map, whose derivative at NaN is NaN
        key = jnp.where(where[..., None, None], key, jnp.zeros((), key.dtype))
    before = jnp.zeros((), jnp.int32) if state is None else state.length
    query, key = (
        map_features(name, part, x, before + jnp.arange(x.shape[-3], dtype=jnp.int32))
        for name, part, x in zip(("query", "key"), arrays["maps"], (query, key), strict=True)
    )
    features, group = key.shape[-1], query.shape[-2] // heads
    if query.shape[-1] != features:
        raise ValueError(
            f"linear_attention: the features of query and key must have equal width, got {query.shape[-1]} and "
            f"{features}"
        )
    shape = (*batch, heads, features, value.shape[-1] + rule.normalized)
    if state is None:
        memory = jnp.zeros(shape, accumulation_dtype(query, key, value))
    else:
        check_memory(state.memory, shape)
        memory = jnp.asarray(state.memory)
    # Heads before positions: [*B, K, g, T, m] for the queries of each key head, which share its state; [*B, K, S, ...].
    first = len(batch)
    grouped = jnp.moveaxis(query.reshape(*query.shape[:-2], heads, group, features), first, -2)
    rule, key, value_by_head = jax.tree.map(lambda x: jnp.moveaxis(x, first + 1, first), (rule, key, value))

    def one_head(query: Array, rule: Rule, memory: Array, key: Array, value: Array, where: Array | None) -> Any:
        if not causal:
            return forms.bidirectional(rule, memory, query, key, value, where)
        if query.shape[0] == 1:
            return forms.recurrent(rule, memory, query, key, value, where)
        return forms.chunked(rule, memory, query, key, value, where, chunk=chunk)

    function = jax.vmap(one_head, in_axes=(0, None, None, None, None, None), out_axes=(None, 0))
    function = jax.vmap(function, in_axes=(0, 0, 0, 0, 0, None))
    for _ in batch:
        function = jax.vmap(function)
    memory, output = function(grouped, rule, memory, key, value_by_head, where)
    output = jnp.moveaxis(output, -2, first).reshape(*query.shape[:-1], value.shape[-1])
    return output.astype(value.dtype), State(memory, before + arrays["inputs"][1].shape[-3])
