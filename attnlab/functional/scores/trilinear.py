"""The trilinear score of bidirectional attention flow."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.functional.scores.products import check_equal_width, dot
from attnlab.functional.types import Key, Logits, Query, accumulation_dtype


def trilinear(
    query: Query,
    key: Key,
    *,
    w_query: Float[Array, " d"],
    w_key: Float[Array, " d"],
    w_product: Float[Array, " d"],
) -> Logits:
    """Score every query against every key with a learned vector on the query, the key and their product.

    logits[i, j] = wᵀ [query_i; key_j; query_i ∘ key_j] = w_qᵀ query_i + w_kᵀ key_j + (w_p ∘ query_i)ᵀ key_j

    The first term is the same for all keys, so it cancels in a softmax over keys; it matters to other normalizers, and
    where the logits themselves are used (the attention from question to passage in BiDAF).

    Args:
        query: queries of the same width as the keys.
        key: keys of the same width as the queries.
        w_query: w_q, the part of w for the query.
        w_key: w_k, the part for the key.
        w_product: w_p, the part for their product.
    Returns: logits, unbounded.
    Numerics: computed in float32 for bfloat16 and float16. No array [q k d] is stored.
    Reference: Seo et al. 2017, section 2, attention flow layer.

    >>> w = jnp.ones(2)
    >>> trilinear(jnp.ones((1, 2)), jnp.ones((3, 2)), w_query=w, w_key=w, w_product=w).tolist()
    [[6.0, 6.0, 6.0]]
    """
    check_equal_width("trilinear", query, key)
    dtype = accumulation_dtype(query, key, w_query, w_key, w_product)
    query = query.astype(dtype)
    rows = jnp.matmul(query, w_query.astype(dtype))
    return rows[:, None] + dot(
        query * w_product.astype(dtype)[None, :] + w_key.astype(dtype)[None, :], key.astype(dtype)
    )
