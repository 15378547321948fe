"""The capture's record of a layer as the block of a decomposition, for every model of the lab."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from flax import linen as nn
from test_models import MODELS
from weights import drawn

from attnlab.analysis.attribution import attention_block, decompose_cross_attention, decompose_self_attention
from attnlab.layers.capture import apply_with_attention
from attnlab.layers.layer_attention import layer_attention
from attnlab.layers.multi_head import CrossAttention, SelfAttention


def normalized(states, residual):
    """The norm that was captured, applied to states."""
    centered = states - states.mean(axis=-1, keepdims=True) if residual.centers else states
    deviation = np.sqrt((centered**2).mean(axis=-1, keepdims=True) + residual.epsilon)
    return centered / deviation * residual.scale + (0 if residual.bias is None else residual.bias)


@functools.cache
def attended(name):
    """The output of every multi-head attention of a model, before the residual connection, and the records."""
    model, arguments, _ = MODELS[name]
    variables = drawn(functools.partial(model.init, train=False), *arguments)
    outputs = {}

    def record(call, args, kwargs, context):
        output, module = call(*args, **kwargs), context.module
        if isinstance(module, SelfAttention | CrossAttention) and context.method_name == "__call__":
            name = layer_attention(module.kind, module.stack, module.layer, None).name
            outputs[name] = output[0] if isinstance(output, tuple) else output
        return output

    @jax.jit
    def run(variables):
        with nn.intercept_methods(record):
            layers = apply_with_attention(model, variables, *arguments, train=False, details=True)[1]
        return outputs, layers

    return run(variables)


@compiled
def decomposed(layer):
    """The outputs of a layer for both examples, as the sums of their parts."""
    decompose = decompose_self_attention if layer.kind == "self" else decompose_cross_attention
    return jnp.stack([decompose(attention_block(layer, example)).total() for example in range(2)])


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name == "transformer_seq2seq" else ())
        for name in MODELS
        if "transformer" in name or "of layers" in name
    ],
)
@pytest.mark.quick("transformer_encoder", "transformer_captioner")
def test_the_parts_sum_to_the_output_of_every_layer(name):
    outputs, layers = attended(name)
    blocks = [layer for layer in layers if layer.residual is not None]
    assert blocks
    assert {layer.name for layer in blocks} <= set(outputs)
    for layer in blocks:
        residual = jax.tree.map(np.asarray, layer.residual)
        for example in range(2):
            expected = residual.states[example] + residual.gate * np.asarray(outputs[layer.name])[example]
            expected = normalized(expected, residual) if residual.position == "post" else expected
            total = decomposed(layer)[example]
            reached = np.asarray(layer.weights)[example].sum(axis=(0, 2)) > 0  # padded queries have no meaning
            np.testing.assert_allclose(total[reached], expected[reached], rtol=1e-4, atol=1e-4)


def test_a_gate_multiplies_kernel_and_bias():
    _, layers = attended("visual_answerer of layers")
    gated = [layer for layer in layers if layer.residual is not None and np.asarray(layer.residual.gate) != 1]
    assert gated
    block = attention_block(gated[0], 1)
    factor = gated[0].residual.gate
    np.testing.assert_allclose(block.output_kernel, factor * gated[0].projection.kernel, rtol=1e-6)
    np.testing.assert_allclose(block.output_bias, factor * gated[0].projection.bias, rtol=1e-6)


def test_records_without_details_are_refused():
    _, layers = attended("transformer_encoder")
    for field, message in (
        ("pooled", "has no pooled; capture it with details=True"),
        ("projection", "has no output projection; attention_norms"),
        ("residual", "has no residual connection; attention_norms"),
    ):
        with pytest.raises(ValueError, match=f"attention_block: encoder/layer_1/self_attention {message}"):
            attention_block(dataclasses.replace(layers[0], **{field: None}), 0)
    plain = layer_attention("self", "encoder", 1, jnp.ones((1, 1, 1, 1)))
    with pytest.raises(ValueError, match="capture it with details=True"):
        attention_block(plain, 0)
