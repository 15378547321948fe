"""GlobEnc: norms of whole encoder layers, rolled out."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.aggregation import vector_norm
from attnlab.analysis.attribution.checks import without_padding
from attnlab.analysis.attribution.decomposition import (
    AttentionBlock,
    NormParameters,
    apply_linear_norm,
    decompose_self_attention,
)
from attnlab.analysis.attribution.rollout import rollout


class EncoderLayer(NamedTuple):
    """What was captured of one encoder layer: its attention block, and the norm behind its feed-forward network."""

    block: AttentionBlock
    feed_forward_norm: NormParameters | None = None
    """The norm behind the second residual connection; None for a pre-norm layer."""
    feed_forward_sum: Float[Array, "n d"] | None = None
    """The input of that norm: the feed-forward network's output plus its residual."""


def encoder_norms(layer: EncoderLayer, *, valid: Bool[Array, " n"] | None = None) -> Float[Array, "n n"]:
    """Return the norm of each token's part in the output of one encoder layer, without the feed-forward network's own.

    N_Enc[i, j] = ‖g₂(g₁(Σ_h weights[h, i, j] f_h(x_j) + [i = j] x_i))‖₂

    g₁ and g₂ are the linear parts of the layer's two norms. The residual connection around the feed-forward network
    is included; the network itself, which is not linear, enters through the variance of g₂ only. In a pre-norm layer
    no norm follows either residual connection, so N_Enc is `block_norms`.

    Args:
        layer: what was captured.
        valid: True for real tokens; None if there is no padding.
    Returns: the norms, at least 0; the rows do not sum to 1.
    Numerics: dtype of the arrays; rows and columns of padding have exactly 0.
    Reference: Modarressi et al. 2022, section 3 (N_ENC).

    >>> one = jnp.ones((1, 1, 1))
    >>> encoder_norms(EncoderLayer(AttentionBlock(one, one, one, jnp.array([[-3.0]])))).tolist()
    [[2.0]]
    """
    if (layer.feed_forward_norm is None) != (layer.feed_forward_sum is None):
        raise ValueError(
            "encoder_norms: pass feed_forward_norm together with feed_forward_sum (post-norm), or neither (pre-norm)"
        )
    vectors = decompose_self_attention(layer.block).vectors
    if layer.feed_forward_norm is not None and layer.feed_forward_sum is not None:
        vectors = apply_linear_norm(layer.feed_forward_norm, vectors, layer.feed_forward_sum)
    return without_padding(vector_norm(vectors), valid, valid)


def globenc(layers: Sequence[EncoderLayer], *, valid: Bool[Array, " n"] | None = None) -> Float[Array, "n n"]:
    """Follow the norms of whole encoder layers down to the input tokens.

    R = N_L ⋯ N_1,    N_l = `encoder_norms` of layer l

    It can say how much of each input token a state holds, with value vectors, residual connections and norms counted.
    It cannot say anything of a target or of signs, norms of vectors that cancel add up, and the feed-forward networks
    are left out. As in the authors' code the rows are not normalized between layers, so they have no common scale:
    compare tokens within a row.

    Args:
        layers: what was captured of every layer, first layer first.
        valid: True for real tokens; None if there is no padding.
    Returns: R [n n], at least 0; row i is the attribution of token i's last state, such as that of [CLS].
    Cost: 1 forward pass, for the capture; memory [n n d] for one layer at a time.
    Numerics: dtype of the arrays; rows and columns of padding have exactly 0. Entries grow with the number of layers,
        by about √d a layer if norms follow.
    Reference: Modarressi et al. 2022, "GlobEnc: Quantifying global token attribution by incorporating the whole
        encoder layer", section 3.

    >>> one = jnp.ones((1, 1, 1))
    >>> globenc([EncoderLayer(AttentionBlock(one, one, one, jnp.array([[-3.0]])))] * 2).tolist()
    [[4.0]]
    """
    if not layers:
        raise ValueError("globenc: needs at least one encoder layer with self-attention; use integrated_gradients")
    return rollout(jnp.stack([encoder_norms(layer, valid=valid) for layer in layers]))
