"""Scores by inner products."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.functional.parameters import scalar
from attnlab.functional.types import Key, Logits, Query, accumulation_dtype

Scale = float | int | Float[Array, ""]
"""A number or a learned scalar array []."""


def dot(query: Query, key: Key) -> Logits:
    """Score every query against every key with their inner product.

    logits[i, j] = query_i · key_j

    Not `scaled_dot`: these logits grow with the width d (their variance is d for unit-variance features).

    Args:
        query: queries of the same width as the keys.
        key: keys of the same width as the queries.
    Returns: logits, unbounded.
    Numerics: accumulated in float32 for bfloat16 and float16 (and returned so), in the dtype itself otherwise.
    Reference: Luong, Pham & Manning 2015, section 3.1, "dot".

    >>> dot(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0, 2.0]]
    """
    check_equal_width("dot", query, key)
    return jnp.matmul(query, key.T, preferred_element_type=accumulation_dtype(query, key))


def check_equal_width(score: str, query: Array, key: Array) -> None:
    """Raise unless queries and keys have equal width; `score` is the name in the error.

    >>> check_equal_width("cosine", jnp.ones((2, 4)), jnp.ones((3, 4)))
    """
    if query.shape[1] != key.shape[1]:
        raise ValueError(
            f"scores.{score}: queries of width {query.shape[1]} and keys of width {key.shape[1]} must have equal "
            "width; write scores.general or scores.additive for different widths"
        )


def scaled_dot(query: Query, key: Key, *, scale: Scale | None = None) -> Logits:
    """Score every query against every key with their scaled inner product.

    logits[i, j] = scale · query_i · key_j

    Args:
        query: queries of width d.
        key: keys of width d.
        scale: a number or a learned scalar array []; None for 1/√d (1 for width 0).
    Returns: logits, unbounded; with scale None their variance is 1 for independent unit-variance features.
    Numerics: as in `dot`; the products are scaled, not the queries.
    Reference: Vaswani et al. 2017, eq. 1.

    >>> scaled_dot(jnp.ones((1, 4)), jnp.ones((2, 4))).tolist()
    [[2.0, 2.0]]
    """
    check_equal_width("scaled_dot", query, key)
    logits = dot(query, key)
    if scale is None:
        return logits / max(query.shape[-1], 1) ** 0.5
    return logits * scalar("scores.scaled_dot: scale", scale, logits.dtype)


def general(query: Query, key: Float[Array, "k e"], *, w: Float[Array, "d e"]) -> Logits:
    """Score every query against every key with a learned bilinear form.

    logits[i, j] = query_iᵀ W key_j

    `dot` is the case W = I. Not additive attention: there is no nonlinearity.

    Args:
        query: queries of width d.
        key: keys of width e, which may differ from d.
        w: W, learned.
    Returns: logits, unbounded.
    Numerics: as in `dot`; queryᵀ W is computed first, so the additional cost is one product with the queries.
    Reference: Luong, Pham & Manning 2015, section 3.1, "general".

    >>> general(jnp.array([[1.0, 2.0]]), jnp.array([[3.0], [1.0]]), w=jnp.array([[1.0], [1.0]])).tolist()
    [[9.0, 3.0]]
    """
    if w.shape != (query.shape[1], key.shape[1]):
        raise ValueError(
            f"scores.general: w must have shape [{query.shape[1]}, {key.shape[1]}], the widths of queries and keys, "
            f"not {list(w.shape)}"
        )
    dtype = accumulation_dtype(query, key, w)
    projected = jnp.matmul(query, w, preferred_element_type=dtype)
    return jnp.matmul(projected, key.T.astype(dtype), preferred_element_type=dtype)


def multiplicative(
    query: Query,
    key: Float[Array, "k e"],
    *,
    w_query: Float[Array, "d a"] | None,
    w_key: Float[Array, "e a"] | None,
    scale: Scale | None = None,
) -> Logits:
    """Score every query against every key with the scaled inner product of their projections to one width.

    logits[i, j] = scale · (W_qᵀ query_i) · (W_kᵀ key_j)

    One head of the attention of Transformers, with its projections as part of the score. `general` is the case of an
    unscaled product with W = W_q W_kᵀ as one matrix. The counterpart of `additive`, with the same projections.

    Args:
        query: queries of width d.
        key: keys of width e.
        w_query: W_q; None for queries that are already projected (then d = a).
        w_key: W_k; None for keys that are already projected (then e = a), as in a decoder that projects its keys once
            and attends at every step.
        scale: a number or a learned scalar array []; None for 1/√a.
    Returns: logits, unbounded; with scale 1 their variance is a for independent unit-variance projections.
    Numerics: as in `dot`; projections are kept in the dtype of the accumulation.
    Reference: Vaswani et al. 2017, section 3.2.2; Britz et al. 2017, section 4.5, unscaled, in a recurrent decoder.

    >>> w = jnp.array([[1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    >>> multiplicative(jnp.ones((1, 2)), jnp.ones((2, 2)), w_query=w, w_key=w).tolist()
    [[2.0, 2.0]]
    """
    dtype = accumulation_dtype(query, key)
    projected = [
        features.astype(dtype) if w is None else jnp.matmul(features, w, preferred_element_type=dtype)
        for features, w in ((query, w_query), (key, w_key))
    ]
    widths = [features.shape[1] for features in projected]
    if widths[0] != widths[1]:
        raise ValueError(
            f"scores.multiplicative: projected widths of queries {widths[0]} and keys {widths[1]} must agree"
        )
    return scaled_dot(projected[0], projected[1], scale=scale)
