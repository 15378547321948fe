"""The forms of linear attention of one head of one example: recurrent, parallel, chunked and not causal.

For every rule the causal forms are the same function, at a different cost: `recurrent` takes one token after another,
`parallel` computes the weights of all queries and keys, and `chunked` does so in chunks, from the state before each.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.linear.rule import Rule
from attnlab.functional.types import accumulation_dtype
from attnlab.functional.varying import vary_like

State = Float[Array, "m w"]
Features = Float[Array, "t m"]
Values = Float[Array, "t v"]
Where = Bool[Array, " t"]
Result = tuple[State, Float[Array, "q v"]]


def init_state(rule: Rule, features: int, width: int, dtype: Any) -> State:
    """Return the state before the first token: zeros [m, V], or [m, V + 1] for a normalized rule.

    Args:
        rule: the state rule.
        features: m, the number of features of a key after the feature map.
        width: V, the width of values.
        dtype: float64, or any other for float32.

    >>> from attnlab.functional.linear.sum_rule import sum_rule
    >>> init_state(sum_rule(), 4, 2, jnp.float32).shape
    (4, 3)
    """
    wide = jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32
    return jnp.zeros((features, width + rule.normalized), wide)


def recurrent(
    rule: Rule, state: State, query: Features, key: Features, value: Values, where: Where | None = None
) -> Result:
    """Compute causal linear attention token by token.

    (S_i, output_i) = rule(S_{i−1}, query_i, key_i, value_i)

    Args:
        rule: the state rule, with arrays [t, ...].
        state: S before the first token, of `init_state` or of an earlier call.
        query: queries after the feature map.
        key: keys after the feature map.
        value: values.
        where: True for keys that are added to the state; None for all. The queries of the others get an output too.
    Returns: the state after the last token, and the outputs of all tokens; both at least float32.
    Numerics: O(t m V) time; the reverse mode stores a state for every token.
    Reference: that of the rule.

    >>> from attnlab.functional.linear.sum_rule import sum_rule
    >>> ones = jnp.ones((3, 1))
    >>> jax.jit(recurrent)(sum_rule(normalized=False), jnp.zeros((1, 1)), ones, ones, ones)[1].ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    prepared = _prepared(rule, state, query, key, value, where)

    def step(state: Array, token: tuple[Rule, Array, Array, Array]) -> tuple[Array, Array]:
        rule, query, key, value = token
        return rule.step(state, query, key, value)

    state, output = jax.lax.scan(step, prepared[0], prepared[1])
    return state, _divided(rule, output)


def parallel(
    rule: Rule, state: State, query: Features, key: Features, value: Values, where: Where | None = None
) -> Result:
    """Compute causal linear attention of all tokens at once, with the weights of all queries and keys.

    output = weights value    (and what the state before adds), weights[i, j] = 0 for j > i

    Args: as in `recurrent`.
    Returns: as in `recurrent`.
    Numerics: O(t²) time and memory, with a decay for each feature O(t² m). A NaN or Inf of an allowed key or value
        reaches the outputs of all queries, also of those before it.
    Reference: that of the rule.

    >>> from attnlab.functional.linear.sum_rule import sum_rule
    >>> ones = jnp.ones((3, 1))
    >>> jax.jit(parallel)(sum_rule(normalized=False), jnp.zeros((1, 1)), ones, ones, ones)[1].ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    return chunked(rule, state, query, key, value, where, chunk=max(query.shape[0], 1))


def chunked(
    rule: Rule,
    state: State,
    query: Features,
    key: Features,
    value: Values,
    where: Where | None = None,
    *,
    chunk: int | None = None,
) -> Result:
    """Compute causal linear attention in chunks: parallel within a chunk, recurrent between chunks.

    Args:
        rule, state, query, key, value, where: as in `recurrent`.
        chunk: the number of tokens of a chunk, c; None for 64, or 16 for a decay for each feature. The last chunk is
            padded.
    Returns: as in `recurrent`.
    Numerics: O(t (c + m) V) time, O(t) memory: the reverse mode stores a state for every chunk. A NaN or Inf of an
        allowed key or value reaches the outputs after it, and those before it in its chunk.
    Reference: that of the rule; Sun et al. 2023, "Retentive Network", eq. 7 (the chunks).

    >>> from attnlab.functional.linear.sum_rule import sum_rule
    >>> ones = jnp.ones((3, 1))
    >>> in_twos = jax.jit(lambda *tokens: chunked(sum_rule(normalized=False), jnp.zeros((1, 1)), *tokens, chunk=2))
    >>> in_twos(ones, ones, ones)[1].ravel().tolist()
    [1.0, 2.0, 3.0]
    """
    count = query.shape[0]
    first, tokens = _prepared(rule, state, query, key, value, where)
    if count == 0:
        return first, _divided(rule, tokens[-1])
    size = min(tokens[0].chunk if chunk is None else chunk, count)
    chunks = -(-count // size)

    def divide(array: Array) -> Array:
        padding = [(0, chunks * size - count)] + [(0, 0)] * (array.ndim - 1)
        return jnp.pad(array, padding).reshape(chunks, size, *array.shape[1:])

    def block(state: Array, tokens: tuple[Rule, Array, Array, Array]) -> tuple[Array, Array]:
        rule, query, key, value = tokens
        return rule.block(state, query, key, value)

    if chunks == 1:
        state, output = block(first, tokens)
        return state, _divided(rule, output)
    last, output = jax.lax.scan(jax.checkpoint(block, prevent_cse=False), first, jax.tree.map(divide, tokens))
    return last, _divided(rule, output.reshape(chunks * size, tokens[-1].shape[-1])[:count])


def bidirectional(
    rule: Rule,
    state: State,
    query: Float[Array, "q m"],
    key: Float[Array, "k m"],
    value: Float[Array, "k v"],
    where: Bool[Array, " k"] | None = None,
) -> Result:
    """Compute linear attention without a causal mask: every query reads the state after all keys.

    S = S_before + Σ_j φ(key_j) value_jᵀ,    output_i = Sᵀ φ(query_i)

    Args: as in `recurrent`, with any numbers of queries and keys; the rule must not depend on the order of keys.
    Returns: the state after all keys, and the outputs of all queries.
    Numerics: O((q + k) m V) time.
    Reference: Katharopoulos et al. 2020, section 3.2.

    >>> from attnlab.functional.linear.sum_rule import sum_rule
    >>> ones = jnp.ones((3, 1))
    >>> jax.jit(bidirectional)(sum_rule(normalized=False), jnp.zeros((1, 1)), ones[:1], ones, ones)[1].tolist()
    [[3.0]]
    """
    if rule.ordered:
        raise ValueError(
            f"linear.{rule.name}: it has no non-causal form, as its state depends on the order of tokens; write "
            "causal=True, or rule=linear.sum_rule()"
        )
    dtype = accumulation_dtype(state, query, key, value)
    key, value = _allowed(rule, key.astype(dtype), value.astype(dtype), where)
    state = state.astype(dtype) + key.T @ value
    return state, _divided(rule, query.astype(dtype) @ state)


def _prepared(
    rule: Rule, state: Array, query: Array, key: Array, value: Array, where: Array | None
) -> tuple[Array, tuple[Rule, Array, Array, Array]]:
    """Return the state and the tokens in the dtype to compute in, with neutral entries where a key is not allowed."""
    rule = rule.per_token(key.shape[:1])
    rule.check_features(key.shape[-1])
    dtype = accumulation_dtype(state, query, key, value, *jax.tree.leaves(rule))
    key, value = _allowed(rule, key.astype(dtype), value.astype(dtype), where)
    rule = jax.tree.map(lambda gate: _zero_unless(where, gate.astype(dtype)), rule)
    tokens = rule, query.astype(dtype), key, value
    return vary_like(state.astype(dtype), tokens), tokens


def _allowed(rule: Rule, key: Array, value: Array, where: Array | None) -> tuple[Array, Array]:
    if rule.normalized:
        value = jnp.concatenate([value, jnp.ones((value.shape[0], 1), value.dtype)], axis=-1)
    return _zero_unless(where, key), _zero_unless(where, value)


def _zero_unless(where: Array | None, array: Array) -> Array:
    return array if where is None else jnp.where(where.reshape(-1, *[1] * (array.ndim - 1)), array, 0.0)


def _divided(rule: Rule, output: Array) -> Array:
    """Divide by the last column for a normalized rule; 0 where that is 0.

    Both sides are multiplied by a constant first, so that the divisor is 1: the derivative of a quotient has the square
    of the divisor below it, which is 0 in float32 for sums below 1e-19.
    """
    if not rule.normalized:
        return output
    sums = output[:, -1:]
    empty = sums == 0
    output = output / jax.lax.stop_gradient(jnp.where(empty, 1.0, sums))
    return jnp.where(empty, 0.0, output[:, :-1] / jnp.where(empty, 1.0, output[:, -1:]))
