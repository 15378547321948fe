"""Exact decomposition of an attention block's output into one vector for each key.

Attention is linear in the values: its output is a sum over keys. The residual connection adds to it, and a norm is
linear once the variance (of LayerNorm) or mean square (of RMSNorm) of its input is known. So the whole block, without
the feed-forward network, is a sum of one vector for each key and a constant.

A post-norm block, norm(x + f(x)), has the norm behind the sum: pass it. In a pre-norm block, x + f(norm(x)), the norm
belongs to f, and acts on each token alone: the values already contain it, and nothing follows the sum. Pass no norm;
`residual` is then x before the norm.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import check_matrix, without_padding
from attnlab.functional.types import widen


@partial(register_dataclass, data_fields=["scale", "bias"], meta_fields=["epsilon", "kind"])
@dataclass(frozen=True, eq=False)
class NormParameters:
    """The parameters of a LayerNorm or RMSNorm."""

    scale: Float[Array, " d"] | Any
    """γ; ones if the norm has none."""
    bias: Float[Array, " d"] | Any | None = None
    """β; None if the norm has none."""
    epsilon: float = 1e-5
    """Added to the variance or mean square."""
    kind: Literal["layer_norm", "rms_norm"] = "layer_norm"
    """layer_norm subtracts the mean and divides by the standard deviation; rms_norm divides by the root mean square."""


_ARRAYS = ["weights", "values", "output_kernel", "residual", "output_bias", "norm"]


@partial(register_dataclass, data_fields=_ARRAYS, meta_fields=[])
@dataclass(frozen=True, eq=False)
class AttentionBlock:
    """What was captured of one block of attention, residual connection and norm, for one example."""

    weights: Float[Array, "h q k"] | Any
    """Attention weights, as applied to the values."""
    values: Float[Array, "k g v"] | Any
    """Values, the bias of their projection included; fewer heads than `weights` if query heads share them."""
    output_kernel: Float[Array, "h v d"] | Any
    """Kernel of the output projection: Flax's [h·v, d] kernel, reshaped."""
    residual: Float[Array, "q d"] | Any
    """What the residual connection adds: the block's input, before the norm if that stands first."""
    output_bias: Float[Array, " d"] | Any | None = None
    """Bias of the output projection; None if it has none."""
    norm: NormParameters | Any | None = None
    """The norm behind the residual connection; None for a pre-norm block."""


def prepared(
    method: str, block: AttentionBlock, query_valid: Bool[Array, " q"] | None, key_valid: Bool[Array, " k"] | None
) -> AttentionBlock:
    """Return a block in float32 at least, whose padded keys have weights and values of exactly 0."""
    check_matrix(method, block.weights, query_valid, key_valid)
    wide = jax.tree.map(widen, block)
    values = wide.values if key_valid is None else jnp.where(key_valid[:, None, None], wide.values, 0)
    return replace(wide, weights=without_padding(wide.weights, query_valid, key_valid), values=values)


class Decomposition(NamedTuple):
    """Vectors that sum to a block's output."""

    vectors: Float[Array, "q k d"]
    """The part of each key's token in each query's output."""
    constant: Float[Array, "q d"]
    """The part of no token: the biases."""

    def total(self) -> Float[Array, "q d"]:
        """Return the block's output, Σ_k vectors[:, k] + constant."""
        return jnp.sum(self.vectors, axis=1) + self.constant


def transformed_values(values: Float[Array, "k g v"], output_kernel: Float[Array, "h v d"]) -> Float[Array, "k h d"]:
    """Return what every key would add to the output if it had all of the attention of a head.

    f_h(x_k) = value[k, h] W_O[h]

    >>> transformed_values(jnp.ones((1, 1, 2)), jnp.ones((1, 2, 3))).tolist()
    [[[2.0, 2.0, 2.0]]]
    """
    heads, shared = output_kernel.shape[0], values.shape[1]
    if not shared or heads % shared:
        raise ValueError(
            f"transformed_values: {heads} heads of output_kernel {list(output_kernel.shape)} [heads, features, width] "
            f"must be a multiple of {shared} heads of values {list(values.shape)} [keys, heads, features]"
        )
    return jnp.einsum("khv,hvd->khd", jnp.repeat(values, heads // shared, axis=1), output_kernel)


def weighted_values(
    weights: Float[Array, "h q k"], values: Float[Array, "k g v"], output_kernel: Float[Array, "h v d"]
) -> Float[Array, "q k d"]:
    """Decompose the output of multi-head attention into one vector for each key.

    v[q, k] = Σ_h weights[h, q, k] f_h(x_k),    f_h(x_k) = value[k, h] W_O[h],    Σ_k v[q, k] = output_q − b_O

    Args:
        weights: attention weights of every head.
        values: values of every head, or of fewer heads that query heads share.
        output_kernel: kernel of the output projection of every head.
    Returns: the vectors.
    Numerics: dtype of the arguments, summed in float32 at least; exact up to rounding. A value must be finite even
        where its weight is 0.
    Reference: Kobayashi et al. 2020, section 3.

    >>> weighted_values(jnp.array([[[0.5, 0.5]]]), jnp.array([[[2.0]], [[4.0]]]), jnp.ones((1, 1, 1))).tolist()
    [[[1.0], [2.0]]]
    """
    vectors = jnp.einsum("hqk,khd->qkd", widen(weights), transformed_values(widen(values), widen(output_kernel)))
    return vectors.astype(weights.dtype)


def apply_linear_norm(
    norm: NormParameters, vectors: Float[Array, "q *k d"], total: Float[Array, "q d"]
) -> Float[Array, "q *k d"]:
    """Apply the linear part of a norm to vectors, with the variance or mean square of their total.

    g(v) = (v − mean v) / √(var total + ε) ⊙ γ    (LayerNorm),    v / √(mean total² + ε) ⊙ γ    (RMSNorm)

    norm(total) = Σ g(v) + β if total = Σ v.

    Args:
        norm: the norm's parameters.
        vectors: one or several vectors for each query.
        total: the norm's input.
    Returns: the transformed vectors.
    Reference: Kobayashi et al. 2021, section 3.

    >>> apply_linear_norm(NormParameters(jnp.ones(2), epsilon=0.0), jnp.array([[3.0, 1.0]]), jnp.array([[3.0, 1.0]]))
    Array([[ 1., -1.]], dtype=float32)
    """
    if norm.kind == "layer_norm":
        total = total - jnp.mean(total, axis=-1, keepdims=True)
        vectors = vectors - jnp.mean(vectors, axis=-1, keepdims=True)
    deviation = jnp.sqrt(jnp.mean(total * total, axis=-1) + norm.epsilon)
    deviation = jnp.broadcast_to(deviation.reshape(-1, *(1,) * (vectors.ndim - 1)), vectors.shape)
    return vectors / deviation * jnp.broadcast_to(norm.scale, vectors.shape)


def decompose_self_attention(block: AttentionBlock) -> Decomposition:
    """Decompose a block of self-attention; the residual belongs to the query's own token.

    post-norm: output_i = Σ_j g(v[i, j] + [i = j] x_i) + g(b_O) + β,    g the linear part of the norm
    pre-norm:  output_i = Σ_j (v[i, j] + [i = j] x_i) + b_O

    Args:
        block: what was captured; as many queries as keys.
    Returns: vectors [n n d] and constant [n d], whose `total()` is the block's output.
    Numerics: exact up to rounding.
    Reference: Kobayashi et al. 2021, section 3.

    >>> one = jnp.ones((1, 1, 1))
    >>> decompose_self_attention(AttentionBlock(one, one, one, jnp.array([[3.0]]))).vectors.tolist()
    [[[4.0]]]
    """
    queries, keys = block.weights.shape[-2:]
    if queries != keys:
        raise ValueError(
            f"decompose_self_attention: {queries} queries and {keys} keys; for cross-attention use "
            "decompose_cross_attention"
        )
    vectors = weighted_values(block.weights, block.values, block.output_kernel)
    identity = jnp.eye(queries, dtype=vectors.dtype)
    return _normed(block, vectors + identity[:, :, None] * block.residual[:, None, :])


def decompose_cross_attention(block: AttentionBlock) -> Decomposition:
    """Decompose a block of cross-attention; the residual, which is no key, is the last vector.

    output_i = Σ_j g(v[i, j]) + g(x_i) + g(b_O) + β

    Args:
        block: what was captured.
    Returns: vectors [q k+1 d] and constant [q d], whose `total()` is the block's output.
    Numerics: exact up to rounding.
    Reference: Ferrando et al. 2022, "Towards opening the black box of neural machine translation".

    >>> one = jnp.ones((1, 1, 1))
    >>> decompose_cross_attention(AttentionBlock(one, one, one, jnp.array([[3.0]]))).vectors.tolist()
    [[[1.0], [3.0]]]
    """
    vectors = weighted_values(block.weights, block.values, block.output_kernel)
    return _normed(block, jnp.concatenate([vectors, block.residual[:, None, :]], axis=1))


def _normed(block: AttentionBlock, vectors: Float[Array, "q k d"]) -> Decomposition:
    constant = jnp.zeros_like(block.residual)
    if block.output_bias is not None:
        constant += block.output_bias[None, :]
    if block.norm is None:
        return Decomposition(vectors, constant)
    total = Decomposition(vectors, constant).total()
    constant = apply_linear_norm(block.norm, constant, total)
    if block.norm.bias is not None:
        constant += block.norm.bias[None, :]
    return Decomposition(apply_linear_norm(block.norm, vectors, total), constant)
