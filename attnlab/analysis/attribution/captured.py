"""The records and arrays of a decomposition from the record of the capture."""

import jax.numpy as jnp
from jax import Array

from attnlab.analysis.attribution.decomposition import AttentionBlock, NormParameters
from attnlab.layers.layer_attention import LayerAttention


def attention_block(layer: LayerAttention, example: int) -> AttentionBlock:
    """Return one example of a captured layer as the block that `decompose_self_attention` and others take.

    The gate of the residual connection, states + gate · layer(…), multiplies the output projection's kernel and bias.
    The norm of a post-norm layer stands behind the sum, and belongs to the block; that of a pre-norm layer does not.

    Args:
        layer: a record of `apply_with_attention(…, details=True)`, of a layer with heads, an output projection and a
            residual connection.
        example: index of the example in the batch.
    Returns: an `AttentionBlock` whose decomposition sums to the layer's output, if it was captured without dropout.
    Raises: ValueError if the record lacks one of these.

    >>> from attnlab.layers.layer_attention import layer_attention
    >>> attention_block(layer_attention("self", "encoder", 1, jnp.ones((1, 1, 1, 1))), 0)
    Traceback (most recent call last):
    ValueError: attention_block: encoder/layer_1/self_attention has no pooled; capture it with details=True
    """
    pooled, projection, residual = layer.pooled, layer.projection, layer.residual
    if pooled is None:
        raise ValueError(f"attention_block: {layer.name} has no pooled; capture it with details=True")
    if projection is None or residual is None:
        missing = "output projection" if projection is None else "residual connection"
        raise ValueError(
            f"attention_block: {layer.name} has no {missing}; attention_norms and head_attention_norms take its "
            "weights and values"
        )
    dtype = projection.kernel.dtype
    gate = jnp.asarray(residual.gate, dtype)
    norm = None
    if residual.position == "post":
        norm = NormParameters(residual.scale, residual.bias, residual.epsilon, residual.norm)
    bias = None if projection.bias is None else gate * projection.bias
    weights, values, states = pooled.weights_after_dropout[example], pooled.value[example], residual.states[example]
    return AttentionBlock(weights, values, gate * projection.kernel, states, bias, norm)


def pooled_values(layer: LayerAttention, example: int | Array = 0) -> tuple[Array, Array, Array]:
    """Return one example of a captured layer as `attention_norms` takes it: weights, values, and output kernel.

    Without an output projection the outputs of the heads stand side by side, which is what the kernel then does. The
    gate of a residual connection multiplies the kernel.

    Args:
        layer: a record of `apply_with_attention(…, details=True)`.
        example: index of the example in the batch.
    Returns: weights [h q k] after dropout, values [k g v] and kernel [h v d].
    Raises: ValueError if the record has no values: it was captured without details, or the layer does not average any.

    >>> from attnlab.layers.layer_attention import PoolingInputs, layer_attention
    >>> weights, values = jnp.ones((1, 2, 1, 1)), jnp.ones((1, 1, 2, 3))
    >>> pooled = PoolingInputs(None, weights, values)
    >>> record = layer_attention("decoder", "decoder", None, weights, pooled=pooled)
    >>> [array.shape for array in pooled_values(record)]
    [(2, 1, 1), (1, 2, 3), (2, 3, 6)]
    """
    if layer.pooled is None:
        raise ValueError(f"pooled_values: {layer.name} has no pooled; capture it with details=True")
    weights, values = layer.pooled.weights_after_dropout[example], layer.pooled.value[example]
    if layer.projection is None:
        heads, width = len(weights), values.shape[-1]
        return weights, values, jnp.eye(heads * width, dtype=values.dtype).reshape(heads, width, heads * width)
    gate = 1.0 if layer.residual is None else layer.residual.gate
    return weights, values, gate * layer.projection.kernel
