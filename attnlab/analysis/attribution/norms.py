"""Norm-based attention: the norm of what each key adds, rather than the weight that it gets."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.aggregation import vector_norm
from attnlab.analysis.attribution.checks import check_matrix, without_padding
from attnlab.analysis.attribution.decomposition import (
    AttentionBlock,
    decompose_self_attention,
    prepared,
    transformed_values,
    weighted_values,
)
from attnlab.analysis.checks import check_valid
from attnlab.functional.types import widen


def head_attention_norms(
    weights: Float[Array, "h q k"],
    values: Float[Array, "k g v"],
    output_kernel: Float[Array, "h v d"],
    *,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "h q k"]:
    """Return the norms of the weighted, transformed values of each head.

    a[h, i, j] = ‖weights[h, i, j] f_h(x_j)‖₂,    f_h(x_j) = value[j, h] W_O[h]

    As `attention_norms`, for the heads one by one.

    Args: as `attention_norms`.
    Returns: the norms, at least 0.
    Cost: 1 forward pass, for the capture.
    Numerics: dtype of the arguments, computed in float32 at least; rows and columns of padding have exactly 0.
    Reference: Kobayashi et al. 2020, section 3.

    >>> head_attention_norms(jnp.array([[[0.5, 0.5]]]), jnp.array([[[2.0]], [[-4.0]]]), jnp.ones((1, 1, 1))).tolist()
    [[[1.0, 2.0]]]
    """
    check_matrix("head_attention_norms", weights, query_valid, key_valid)
    norms = vector_norm(transformed_values(widen(values), widen(output_kernel)))
    products = jnp.abs(widen(weights)) * norms.T[:, None, :]
    return without_padding(products, query_valid, key_valid).astype(weights.dtype)


def attention_norms(
    weights: Float[Array, "h q k"],
    values: Float[Array, "k g v"],
    output_kernel: Float[Array, "h v d"],
    *,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "q k"]:
    """Return the norm of what each key adds to the attention's output, all heads together.

    a[i, j] = ‖Σ_h weights[h, i, j] f_h(x_j)‖₂,    f_h(x_j) = value[j, h] W_O[h]

    It can say how much a token adds to this layer's output: a token with a large weight and a small value (often a
    separator or a period, a sink) adds little. It cannot say anything of a target, nor whether the added vectors point
    the same way or cancel, and it leaves out the residual connection (`block_norms`). Norms do not enter, so
    pre-norm and post-norm layers are treated alike; it works for cross-attention too.

    Args:
        weights: attention weights of every head of one layer.
        values: values of every head, or of fewer heads that query heads share, the bias of their projection included.
        output_kernel: kernel of the output projection of every head.
        query_valid: True for real queries; None if there is no padding.
        key_valid: True for real keys; None if there is no padding.
    Returns: the norms, at least 0; the rows do not sum to 1.
    Cost: 1 forward pass, for the capture; memory [q k d].
    Numerics: dtype of the arguments, computed in float32 at least; rows and columns of padding have exactly 0.
    Reference: Kobayashi et al. 2020, "Attention is not only a weight", section 3.

    >>> attention_norms(jnp.array([[[0.5, 0.5]]]), jnp.array([[[2.0]], [[-4.0]]]), jnp.ones((1, 1, 1))).tolist()
    [[1.0, 2.0]]
    """
    check_matrix("attention_norms", weights, query_valid, key_valid)
    vectors = weighted_values(widen(weights), widen(values), widen(output_kernel))
    return without_padding(vector_norm(vectors), query_valid, key_valid).astype(weights.dtype)


def block_norms(block: AttentionBlock, *, valid: Bool[Array, " n"] | None = None) -> Float[Array, "n n"]:
    """Return the norm of each token's part in the output of self-attention with residual connection and norm.

    a[i, j] = ‖g(Σ_h weights[h, i, j] f_h(x_j) + [i = j] x_i)‖₂,    g the linear part of the norm

    It can say how far a layer keeps a token's own state rather than mixing in others' (see `mixing_ratio`). It cannot
    say anything of a target, and it leaves out the feed-forward network (`globenc` includes its residual and norm).
    In a pre-norm block nothing follows the residual connection, so g is the identity.

    Args:
        block: what was captured of one block of self-attention.
        valid: True for real tokens; None if there is no padding.
    Returns: the norms, at least 0; the rows do not sum to 1.
    Cost: 1 forward pass, for the capture; memory [n n d].
    Numerics: dtype of the arrays, computed in float32 at least; rows and columns of padding have exactly 0.
    Reference: Kobayashi et al. 2021, "Incorporating residual and normalization layers", section 3 (AttnResLn-N;
        AttnRes-N without a norm).

    >>> one = jnp.ones((1, 1, 1))
    >>> block_norms(AttentionBlock(one, one, one, jnp.array([[-3.0]]))).tolist()
    [[2.0]]
    """
    vectors = decompose_self_attention(prepared("block_norms", block, valid, valid)).vectors
    return without_padding(vector_norm(vectors), valid, valid).astype(block.weights.dtype)


def mixing_ratio(vectors: Float[Array, "n n d"], *, valid: Bool[Array, " n"] | None = None) -> Float[Array, " n"]:
    """Return how much of each token's new state comes from the other tokens.

    r_i = ‖Σ_{j≠i} v[i, j]‖ / (‖Σ_{j≠i} v[i, j]‖ + ‖v[i, i]‖)

    Args:
        vectors: each token's part in each output: `weighted_values` (attention alone) or
            `decompose_self_attention(block).vectors` (with residual connection and norm).
        valid: True for real tokens; None if there is no padding.
    Returns: ratios in [0, 1]; 0 if every vector is 0, and for padding.
    Numerics: dtype of `vectors`, computed in float32 at least.
    Reference: Kobayashi et al. 2021, section 3.

    >>> mixing_ratio(jnp.array([[[3.0], [1.0]], [[0.0], [5.0]]])).tolist()
    [0.25, 0.0]
    """
    check_valid("mixing_ratio", valid, vectors.shape[0])
    own, wide = jnp.eye(vectors.shape[0], dtype=bool), widen(vectors)
    if valid is not None:
        wide = jnp.where(valid[None, :, None], wide, 0)
    mixed = vector_norm(jnp.sum(jnp.where(own[:, :, None], 0, wide), axis=1))
    kept = vector_norm(jnp.sum(jnp.where(own[:, :, None], wide, 0), axis=1))
    total = mixed + kept
    ratio = jnp.where(total == 0, 0, mixed / jnp.where(total == 0, 1, total)).astype(vectors.dtype)
    return ratio if valid is None else jnp.where(valid, ratio, 0)
