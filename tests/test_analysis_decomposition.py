"""Attribution methods on vectors: the exact decomposition of a block, and norms."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from attention_blocks import (
    TWO_TOKENS,
    apply_linear_norm,
    attention_norms,
    block_norms,
    decompose_cross_attention,
    decompose_self_attention,
    encoder_norms,
    head_attention_norms,
    mixing_ratio,
    total,
    weighted_values,
)
from flax import linen as nn
from weights import drawn

from attnlab.analysis.attribution import AttentionBlock, EncoderBlock, NormParameters
from attnlab.config.attention import Attention as AttentionConfig
from attnlab.config.attention import ScaledDot
from attnlab.config.models.transformer import Block, LayerNorm, RmsNorm
from attnlab.functional import masks
from attnlab.layers.capture import apply_with_attention
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import CrossAttention, SelfAttention
from attnlab.layers.transformer import EncoderLayer

ATTENTION = AttentionConfig(score=ScaledDot())


def config(**options):
    return Block(width=12, heads=4, feed_forward=16, dropout=0.0, **options)


def norm_parameters(params, norm):
    kind = "layer_norm" if isinstance(norm, LayerNorm) else "rms_norm"
    return NormParameters(params["scale"], params.get("bias"), norm.epsilon, kind)


def captured(params, settings, inputs, residual, weights, norm=None):
    """The arrays of the first example of a `SelfAttention` whose inputs are `inputs`."""
    params = jax.tree.map(np.asarray, params)
    kernel = params["qkv"]["kernel"]
    value = np.asarray(inputs)[0] @ kernel + params["qkv"].get("bias", 0)
    heads, features = settings.key_heads, settings.head_features
    values = value[:, -heads * features :].reshape(-1, heads, features)
    output = params["output"]["kernel"].reshape(settings.heads, features, settings.width)
    arrays = np.asarray(weights)[0], values, output, np.asarray(residual)[0], params["output"].get("bias")
    return AttentionBlock(*jax.tree.map(jnp.asarray, arrays), norm)


def states(seed=1, tokens=5):
    return np.random.default_rng(seed).normal(size=(1, tokens, 12)).astype("float32")


def capturing(module, x, *arguments, **options):
    """Return parameters of a module with its output and the records of its attention, compiled as one program."""
    params = drawn(partial(module.init, **options), x, *arguments)["params"]
    run = jax.jit(lambda params, x: apply_with_attention(module, {"params": params}, x, *arguments, **options))
    output, records = run(params, x)
    return params, jax.tree.map(np.asarray, output), records


@pytest.mark.parametrize("options", [{}, {"kv_heads": 2}, {"kv_heads": 1, "biases": False}, {"head_width": 5}], ids=str)
@pytest.mark.parametrize("mask", [masks.lengths(jnp.array([5])), masks.causal()], ids=["full", "causal"])
def test_the_weighted_values_of_self_attention_sum_to_its_output(options, mask):
    settings, x = config(**options), states()
    layer, context = SelfAttention(settings, ATTENTION), Context(jnp.array([5]), mask)
    params, output, (record,) = capturing(layer, x, context, train=False)
    block = captured(params, settings, x, x, record.weights)
    vectors = weighted_values(block.weights, block.values, block.output_kernel)
    without_bias = output[0] - params["output"].get("bias", 0)
    np.testing.assert_allclose(vectors.sum(axis=1), without_bias, rtol=1e-4, atol=1e-5)


def test_the_weighted_values_of_cross_attention_and_its_residual_sum_to_the_block():
    settings, x, memory = config(), states(), jnp.asarray(states(2, tokens=3))
    layer, lengths = CrossAttention(settings, ATTENTION), jnp.array([3])
    attend = lambda layer, x: layer(x, *layer.project_memory(memory), lengths, train=False)  # noqa: E731
    params, (output, _), (record,) = capturing(layer, x, method=attend)
    params = jax.tree.map(np.asarray, params)
    values = (np.asarray(memory)[0] @ params["key_value"]["kernel"] + params["key_value"]["bias"])[:, 12:].reshape(
        3, 4, 3
    )
    kernel = params["output"]["kernel"].reshape(4, 3, 12)
    norm = NormParameters(*(jnp.asarray(np.linspace(*ends, 12, dtype="float32")) for ends in ((0.5, 2), (-1, 1))))
    arrays = np.asarray(record.weights)[0], values, kernel, x[0], params["output"]["bias"]
    block = AttentionBlock(*map(jnp.asarray, arrays))
    parts = decompose_cross_attention(block)
    assert parts.vectors.shape == (5, 4, 12)
    np.testing.assert_allclose(total(parts), (x + output)[0], rtol=1e-4, atol=1e-5)
    post = decompose_cross_attention(replace(block, norm=norm))
    expected = jax.jit(nn.LayerNorm(epsilon=1e-5).apply)(
        {"params": {"scale": norm.scale, "bias": norm.bias}}, (x + output)[0]
    )
    np.testing.assert_allclose(total(post), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("norm", [LayerNorm(), RmsNorm()], ids=lambda norm: norm.kind)
@pytest.mark.parametrize("position", ["pre", "post"])
def test_a_block_of_the_labs_encoder_layer_is_the_sum_of_its_parts(norm, position):
    settings, x, context = config(norm=norm, norm_position=position), states(), Context(jnp.array([5]), masks.causal())
    layer = EncoderLayer(settings, ATTENTION)
    params, _, (record,) = capturing(layer, x, context, train=False)

    @jax.jit
    def parts(params, x):
        output, captures = layer.apply({"params": params}, x, context, False, capture_intermediates=True)
        names = "self_norm", "self_attention", "feed_forward"
        return output, *(captures["intermediates"][name]["__call__"][0] for name in names)

    output, first, attended, fed = map(np.asarray, parts(params, x))
    weights = record.weights
    if position == "pre":  # x + f(norm(x)): values of the normed input, nothing behind the sum
        block = captured(params["self_attention"], settings, first, x, weights)
        expected, whole = x + attended, EncoderBlock(block)
        assert np.allclose(output, x + attended + fed, atol=1e-5)
    else:  # norm(x + f(x))
        parameters = norm_parameters(params["self_norm"], norm)
        block = captured(params["self_attention"], settings, x, x, weights, parameters)
        expected = first
        whole = EncoderBlock(block, norm_parameters(params["feed_forward_norm"], norm), (first + fed)[0])
    np.testing.assert_allclose(total(decompose_self_attention(block)), expected[0], rtol=1e-3, atol=1e-4)
    # GlobEnc leaves out the feed-forward network: with its part and the biases added back, the layer's output is whole
    vectors = decompose_self_attention(block).vectors
    if position == "post":
        whole_sum = whole.feed_forward_sum
        vectors = apply_linear_norm(whole.feed_forward_norm, vectors, whole_sum)
        rest = fed[0] + decompose_self_attention(block).constant
        rest = apply_linear_norm(whole.feed_forward_norm, rest, whole_sum)
        bias = 0 if whole.feed_forward_norm.bias is None else np.asarray(whole.feed_forward_norm.bias)
        np.testing.assert_allclose(vectors.sum(axis=1) + rest + bias, output[0], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(encoder_norms(whole), np.linalg.norm(vectors, axis=-1), rtol=1e-5)


def test_norms_by_hand():
    parts = decompose_self_attention(TWO_TOKENS)
    assert parts.vectors.tolist() == [[[2, 1], [1, 2]], [[0.5, 0], [1.5, 2]]]
    # ‖α f(x)‖ without the residual connection: [1, 0], [1, 2] and [0.5, 0], [1.5, 3]
    norms = attention_norms(TWO_TOKENS.weights, TWO_TOKENS.values, TWO_TOKENS.output_kernel)
    np.testing.assert_allclose(norms, [[1, 5**0.5], [0.5, 11.25**0.5]], rtol=1e-6)
    np.testing.assert_allclose(block_norms(TWO_TOKENS), [[5**0.5, 5**0.5], [0.5, 2.5]], rtol=1e-6)
    # token 0: √5 of the other, √5 of its own; token 1: 0.5 of the other, 2.5 of its own
    np.testing.assert_allclose(mixing_ratio(parts.vectors), [0.5, 1 / 6], rtol=1e-6)


def test_heads_may_cancel():
    # two heads with opposite output projections: each has norm 1, their sum 0
    weights, values = np.ones((2, 1, 1), "float32"), np.ones((1, 2, 1), "float32")
    output = jnp.array([[[1.0]], [[-1.0]]])
    assert head_attention_norms(weights, values, output).tolist() == [[[1]], [[1]]]
    assert attention_norms(weights, values, output).tolist() == [[0]]


@pytest.mark.parametrize("kind", ["layer_norm", "rms_norm"])
def test_a_norm_is_linear_given_its_total(kind):
    # layer_norm of [4, 0]: mean 2, deviation 2; [3, 1] becomes [1, −1]/2 ⊙ [2, 1]. rms_norm: root mean square √8
    norm = NormParameters(jnp.array([2.0, 1.0]), None, 0.0, kind)
    result = apply_linear_norm(norm, jnp.array([[3.0, 1.0]]), jnp.array([[4.0, 0.0]]))
    expected = {"layer_norm": [[1, -0.5]], "rms_norm": [[6 / 8**0.5, 1 / 8**0.5]]}[kind]
    np.testing.assert_allclose(result, expected, rtol=1e-6)


def test_mixing_ratio_edges():
    assert mixing_ratio(np.zeros((2, 2, 3))).tolist() == [0, 0]
    assert mixing_ratio(np.ones((1, 1, 3))).tolist() == [0]
    assert mixing_ratio(np.zeros((0, 0, 3))).shape == (0,)
    # without the padded token 1 nothing is mixed into token 0
    assert mixing_ratio(np.ones((2, 2, 3)), valid=np.array([True, False])).tolist() == [0, 0]
