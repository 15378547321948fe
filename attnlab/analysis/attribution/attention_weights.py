"""Attention weights as attributions, alone and times their gradients."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import check_matrix, check_shape, without_padding
from attnlab.functional.types import widen


def raw_attention(
    weights: Float[Array, "l h q k"],
    *,
    layer: int | None = None,
    head: int | None = None,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "q k"]:
    """Return the attention weights of a layer and head, or their mean.

    a[i, j] = weights[l − 1, h, i, j],    or the mean over all layers, all heads, or both

    It can say from where this layer and head took information. It cannot say that the information changed the output
    (the value may be small, or cancel), nor, above the first layer, which token it came from: a state holds what
    earlier layers mixed. It is no attribution to a target.

    Args:
        weights: the weights of every layer and head, before dropout, of self- or cross-attention.
        layer: number of the layer from 1, as in `LayerAttention.layer`; None for the mean of all. Static under `jit`.
        head: index of the head from 0, from the end if negative; None for the mean of all. Static under `jit`.
        query_valid: True for real queries; None if there is no padding.
        key_valid: True for real keys; None if there is no padding.
    Returns: the weights, in [0, 1] for a normalizer whose weights are.
    Cost: 1 forward pass, for the capture.
    Numerics: dtype of `weights`, averaged in float32 at least; rows and columns of padding have exactly 0.
    Reference: Bahdanau et al. 2015, section 5.2.1; Jain & Wallace 2019 and Wiegreffe & Pinter 2019 on what it explains.

    >>> raw_attention(jnp.array([[[[1.0, 0.0]], [[0.5, 0.5]]]])).tolist()
    [[0.75, 0.25]]
    """
    name, (layers, heads, *_) = "raw_attention", weights.shape
    if not layers or not heads:
        raise ValueError(f"{name}: weights {list(weights.shape)} have no {'head' if layers else 'layer'}")
    if layer is not None and not 1 <= layer <= layers:
        raise ValueError(f"{name}: layer {layer} does not exist; there are {layers}, numbered from 1")
    if head is not None and not -heads <= head < heads:
        raise ValueError(f"{name}: head {head} does not exist; there are {heads}, from 0 to {heads - 1}")
    check_matrix(name, weights, query_valid, key_valid)
    chosen = jnp.mean(widen(weights), axis=0) if layer is None else widen(weights[layer - 1])
    chosen = jnp.mean(chosen, axis=0) if head is None else chosen[head]
    return without_padding(chosen, query_valid, key_valid).astype(weights.dtype)


def gradient_x_attention(
    weights: Float[Array, "h q k"],
    gradients: Float[Array, "h q k"],
    *,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "q k"]:
    """Return the attention weights of a layer times the gradient of the target with respect to them.

    a[i, j] = 1/H Σ_h weights[h, i, j] · ∂F/∂weights[h, i, j]

    The sum over j is a first-order estimate of what the target would lose if query i attended to nothing. Unlike raw
    weights it knows the target and has a sign. It cannot say what tokens lie behind the states of a later layer
    (`attention_relevance` follows them down); the weights' rows sum to 1, so a gradient that is constant along a row
    has no effect on the output and yet enters here.

    Args:
        weights: the weights of every head of one layer, of self- or cross-attention.
        gradients: the target's gradients with respect to them.
        query_valid: True for real queries; None if there is no padding.
        key_valid: True for real keys; None if there is no padding.
    Returns: the mean over heads, of either sign.
    Cost: 1 forward and backward pass, for the capture.
    Numerics: dtype of `weights`, averaged in float32 at least; rows and columns of padding have exactly 0.
    Reference: Serrano & Smith 2019 rank attention weights by it, without a mean over heads.

    >>> gradient_x_attention(jnp.array([[[0.25, 0.75]]]), jnp.array([[[4.0, -1.0]]])).tolist()
    [[1.0, -0.75]]
    """
    name = "gradient_x_attention"
    check_shape(name, "gradients", gradients, weights.shape, "weights")
    check_matrix(name, weights, query_valid, key_valid)
    products = jnp.mean(widen(weights) * widen(gradients), axis=0)
    return without_padding(products, query_valid, key_valid).astype(weights.dtype)
