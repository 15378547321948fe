"""Attention rollout: products of one matrix a layer."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.checks import (
    check_self_attention,
    check_valid,
    normalized_rows,
    without_padding,
)


def rollout(layers: Float[Array, "l n n"]) -> Float[Array, "n n"]:
    """Return the product of the layers' matrices, the first layer's on the right.

    R = M_L ⋯ M_2 M_1

    M_l[i, j] is the share of token j's state before layer l in token i's after it, the residual connection included;
    R[i, j] is then the share of input token j in token i's last state, if shares multiply along paths.

    Args:
        layers: a matrix a layer, first layer first; at least one.
    Returns: the product; its rows sum to 1 if the rows of all layers do.
    Numerics: dtype of `layers`.
    Reference: Abnar & Zuidema 2020, section 3.

    >>> rollout(jnp.array([[[1.0, 0.0], [0.5, 0.5]], [[0.0, 1.0], [0.0, 1.0]]])).tolist()
    [[0.5, 0.5], [0.5, 0.5]]
    """
    if not layers.shape[0]:
        raise ValueError(f"rollout: needs at least one layer, not an array {list(layers.shape)}")
    return lax.scan(lambda below, layer: (layer @ below, None), layers[0], layers[1:])[0]


def residual_attention(
    weights: Float[Array, "l h n n"], valid: Bool[Array, " n"] | None = None
) -> Float[Array, "l n n"]:
    """Return each layer's mean weights with the residual connection: the graph of rollout and flow.

    Â_l = normalize rows of (½ · 1/H Σ_h weights[l, h] + ½ I)

    The residual counts as much as the attention, whatever the norms of the two vectors (`mixing_ratio` says how far
    that is from the truth).

    Args:
        weights: the weights of every layer and head of self-attention.
        valid: True for real tokens; None if there is no padding.
    Returns: Â; every row sums to 1. A padded token, or a query that may attend to nothing, has the row of I.
    Numerics: dtype of `weights`.
    Reference: Abnar & Zuidema 2020, section 3.

    >>> residual_attention(jnp.array([[[[0.5, 0.5], [0.0, 1.0]]]])).tolist()
    [[[0.75, 0.25], [0.0, 1.0]]]
    """
    mean = without_padding(jnp.mean(weights, axis=1), valid, valid)
    identity = jnp.broadcast_to(jnp.eye(weights.shape[-1], dtype=weights.dtype), mean.shape)
    return normalized_rows(0.5 * mean + 0.5 * identity)


def attention_rollout(
    weights: Float[Array, "l h q k"], *, valid: Bool[Array, " n"] | None = None
) -> Float[Array, "q k"]:
    """Follow attention and residual connections through all layers down to the input tokens.

    R = Â_L ⋯ Â_1,    Â_l = normalize rows of (½ mean_h A_l + ½ I)

    It can say how much of each input token a state holds, if values had equal norms, heads equal weight, and residual
    and attention were halves. It cannot say anything of a target or of signs, and it ignores value vectors,
    feed-forward networks and norms (`alti` and `globenc` do not). The same for pre-norm and post-norm layers. For
    cross-attention or a recurrent model use another method (`requirements.METHODS`).

    Args:
        weights: the weights of every layer and head of self-attention, first layer first. For the rollout up to layer
            m pass weights[:m].
        valid: True for real tokens; None if there is no padding.
    Returns: [n n], the share of every input token in every token's last state; the rows of real tokens sum to 1.
    Cost: 1 forward pass, for the capture.
    Numerics: dtype of `weights`; rows and columns of padding have exactly 0.
    Reference: Abnar & Zuidema 2020, section 3 ("attention rollout").

    >>> attention_rollout(jnp.array([[[[0.5, 0.5], [0.0, 1.0]]]])).tolist()
    [[0.75, 0.25], [0.0, 1.0]]
    """
    instead = "raw_attention, gradient_x_attention, attention_norms or alti_plus"
    check_self_attention("attention_rollout", weights, instead)
    check_valid("attention_rollout", valid, weights.shape[-1])
    return without_padding(rollout(residual_attention(weights, valid)), valid, valid)
