"""Scores: how well each query matches each key. Every one sees one head of one example, [q d] and [k e].

A score with parameters is bound with `jax.tree_util.Partial`, which makes it a pytree:

    score = Partial(scores.general, w=w)
"""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.functional.types import Key, Logits, Query, accumulation_dtype


def dot(query: Query, key: Key) -> Logits:
    """Score every query against every key with their inner product.

    logits[i, j] = query_i · key_j

    Not `scaled_dot`: these logits grow with the width d (their variance is d for unit-variance features).

    Args:
        query: as wide as the keys.
        key: as wide as the queries.
    Returns: logits, unbounded.
    Numerics: accumulated in float32 for bfloat16 and float16 (and returned so), in the dtype itself otherwise.
    Reference: Luong, Pham & Manning 2015, eq. 8, "dot".

    >>> dot(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0, 2.0]]
    """
    return jnp.matmul(query, key.T, preferred_element_type=accumulation_dtype(query, key))


def scaled_dot(query: Query, key: Key) -> Logits:
    """Score every query against every key with their inner product over the root of their width.

    logits[i, j] = query_i · key_j / √d

    Args:
        query: as wide as the keys; d is this width.
        key: as wide as the queries.
    Returns: logits, unbounded; of variance one for independent unit-variance features.
    Numerics: as `dot`; the products are divided, not the queries.
    Reference: Vaswani et al. 2017, eq. 1.

    >>> scaled_dot(jnp.ones((1, 4)), jnp.ones((2, 4))).tolist()
    [[2.0, 2.0]]
    """
    return dot(query, key) / query.shape[-1] ** 0.5


def general(query: Query, key: Float[Array, "k e"], *, w: Float[Array, "d e"]) -> Logits:
    """Score every query against every key with a learned bilinear form.

    logits[i, j] = query_iᵀ W key_j

    `dot` is the case W = I. Not "additive": there is no non-linearity.

    Args:
        query: of width d.
        key: of width e, which may differ from d.
        w: W, learned.
    Returns: logits, unbounded.
    Numerics: as `dot`; queryᵀ W is formed first, so the cost beyond `dot` is one product with the queries.
    Reference: Luong, Pham & Manning 2015, eq. 8, "general".

    >>> general(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [1.0]]), w=jnp.array([[1.0], [1.0]])).tolist()
    [[9.0, 3.0]]
    """
    dtype = accumulation_dtype(query, key, w)
    projected = jnp.matmul(query, w, preferred_element_type=dtype)
    return jnp.matmul(projected, key.T.astype(dtype), preferred_element_type=dtype)


def additive(
    query: Float[Array, "q d"],
    key: Float[Array, "k e"],
    *,
    w_query: Float[Array, "d a"] | None,
    w_key: Float[Array, "e a"] | None,
    v: Float[Array, " a"],
) -> Logits:
    """Score every query against every key with a feed-forward network of one hidden layer.

    logits[i, j] = vᵀ tanh(W_qᵀ query_i + W_kᵀ key_j)

    Called "concat" by Luong et al.; the two are the same function. Not Keras's `AdditiveAttention`,
    which has no learned projections.

    Args:
        query: of width d.
        key: of width e.
        w_query: W_q; None when the queries come already projected (then d = a).
        w_key: W_k; None when the keys come already projected (then e = a), as by a decoder that
            projects its keys once and attends at every step.
        v: read-out of the hidden layer.
    Returns: logits between −‖v‖₁ and ‖v‖₁.
    Numerics: computed in float32 for bfloat16 and float16; an array [q k a] exists while this runs.
    Reference: Bahdanau, Cho & Bengio 2015, appendix A.1.2.

    >>> logits = additive(jnp.ones((1, 2)), jnp.ones((3, 2)), w_query=jnp.eye(2), w_key=None, v=jnp.ones(2))
    >>> logits.shape, round(float(logits[0, 0]), 4)
    ((1, 3), 1.9281)
    """
    dtype = accumulation_dtype(query, key, v)
    hidden = jnp.tanh(_projected(query, w_query, dtype)[:, None, :] + _projected(key, w_key, dtype)[None, :, :])
    return jnp.matmul(hidden, v.astype(dtype), preferred_element_type=dtype)


def _projected(features: Array, w: Array | None, dtype: jnp.dtype) -> Array:
    return features.astype(dtype) if w is None else jnp.matmul(features, w, preferred_element_type=dtype)
