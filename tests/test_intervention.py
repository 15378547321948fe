"""Capture of everything an explanation needs, and weights that replace those of a model, for every model."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from test_models import MODELS
from weights import drawn

from attnlab.config.attention import Attention as Config
from attnlab.config.attention import ScaledDot
from attnlab.functional.attention import pool
from attnlab.layers.attention import Attention
from attnlab.layers.capture import LayerAttention, apply_with_attention

WITHOUT_MODULE = ("encoder/pooling_attention",)
"""A layer that pools by the first state."""


@functools.cache
def initialized(name: str) -> Any:
    model, arguments, _ = MODELS[name]
    return drawn(functools.partial(model.init, train=False), *arguments)


def captured(name: str, **options: Any) -> tuple[Any, Any, list[LayerAttention]]:
    model, arguments, _ = MODELS[name]
    variables = initialized(name)
    apply = jax.jit(functools.partial(apply_with_attention, model, train=False), static_argnames="details")
    return variables, *apply(variables, *arguments, **options)


def unchanged(layer: LayerAttention, start: Any) -> jax.Array:
    return layer.weights


def uniform(layer: LayerAttention, start: Any) -> jax.Array:
    where = jnp.broadcast_to(layer.pooled.where, layer.weights.shape)
    return where / jnp.maximum(where.sum(axis=-1, keepdims=True), 1)


@pytest.mark.parametrize("name", MODELS)
def test_details_change_no_bit_and_are_what_the_layers_computed(name):
    model, arguments, _ = MODELS[name]
    variables, output, layers = captured(name, details=True)
    chex.assert_trees_all_equal(output, jax.jit(functools.partial(model.apply, train=False))(variables, *arguments))
    for layer in layers:
        if layer.pooled is None:
            assert layer.name in WITHOUT_MODULE
            continue
        where = np.broadcast_to(layer.pooled.where, layer.weights.shape)
        assert not np.any(np.asarray(layer.weights)[~where])
        chex.assert_trees_all_equal(layer.pooled.dropped, layer.weights)
        assert layer.pooled.value.shape[:2] == (2, layer.weights.shape[3])
        assert (layer.projection is None) == (layer.residual is None)
        if layer.residual is not None:
            pooled = pool(layer.weights, layer.pooled.value)
            projected = jnp.einsum("bqhv,hvd->bqd", pooled, layer.projection.kernel)
            assert projected.shape == layer.residual.states.shape


def test_what_is_captured_of_a_transformer_layer_gives_the_input_of_the_next():
    """Post-norm: norm(states + Σ_h weights_h value_h kernel_h + bias) is the input of the feed-forward network."""
    _, _, layers = captured("transformer_seq2seq", details=True)
    by_name = {layer.name: layer for layer in layers}
    layer, cross = by_name["decoder/layer_1/self_attention"], by_name["decoder/layer_1/cross_attention"]
    pooled = pool(layer.weights, layer.pooled.value)
    output = jnp.einsum("bqhv,hvd->bqd", pooled, layer.projection.kernel) + layer.projection.bias
    total, after = layer.residual.states + layer.residual.gate * output, cross.residual.states
    if layer.residual.position == "post":
        centered = total - total.mean(axis=-1, keepdims=True)
        deviation = jnp.sqrt((centered**2).mean(axis=-1, keepdims=True) + layer.residual.epsilon)
        total = centered / deviation * layer.residual.scale + layer.residual.bias
    np.testing.assert_allclose(after, total, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_computes_the_same_with_its_own_weights_and_something_else_with_others(name):
    _, output, layers = captured(name)
    _, same, same_layers = captured(name, intervene=Partial(unchanged))
    chex.assert_trees_all_close(same, output, rtol=1e-5, atol=1e-6)
    _, other, other_layers = captured(name, intervene=Partial(uniform))
    pairs = list(zip(jax.tree.leaves(other), jax.tree.leaves(output), strict=True))
    assert any(not np.allclose(a, b, atol=1e-3, equal_nan=True) for a, b in pairs)
    for layer, before, after in zip(layers, same_layers, other_layers, strict=True):
        assert layer.name == before.name == after.name
        np.testing.assert_allclose(before.weights, layer.weights, atol=1e-6)
        if after.name not in WITHOUT_MODULE:
            positive = np.asarray(after.weights)[np.asarray(after.weights) > 0]
            np.testing.assert_allclose(np.unique(positive.round(5)), np.unique(positive.round(5)))
            np.testing.assert_allclose(np.asarray(after.weights).sum(axis=-1)[0], 1.0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_given_weights_replace_those_of_each_query(name):
    """Weights that another pass computed are arrays; a recurrent decoder takes them row by row."""
    model, arguments, _ = MODELS[name]
    variables, _, layers = captured(name, intervene=Partial(uniform))
    given = {layer.name: layer.weights for layer in layers}

    def frozen(given: Any, layer: LayerAttention, start: Any) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(given[layer.name], start, layer.weights.shape[2], axis=2)

    apply = jax.jit(functools.partial(apply_with_attention, model, train=False))
    output, replaced = apply(variables, *arguments, intervene=Partial(frozen, given))
    expected, _ = apply(variables, *arguments, intervene=Partial(uniform))
    chex.assert_trees_all_close(output, expected, rtol=1e-5, atol=1e-6)
    for layer in replaced:
        np.testing.assert_allclose(layer.weights, given[layer.name], atol=1e-6)


@pytest.mark.parametrize("name", ["recurrent_seq2seq", "transformer_seq2seq", "recurrent_classifier"])
def test_the_output_is_differentiated_by_the_weights(name):
    """A change of one weight by 1e-3 changes the output as the gradient says."""
    model, arguments, _ = MODELS[name]
    variables, _, layers = captured(name)
    zeros = {layer.name: jnp.zeros_like(layer.weights) for layer in layers}

    def shifted(shifts: Any, layer: LayerAttention, start: Any) -> jax.Array:
        rows = jax.lax.dynamic_slice_in_dim(shifts[layer.name], start, layer.weights.shape[2], axis=2)
        return layer.weights + rows

    @jax.jit
    def total(shifts: Any) -> jax.Array:
        output, _ = apply_with_attention(model, variables, *arguments, train=False, intervene=Partial(shifted, shifts))
        return jnp.sum(jnp.sin(output.logits[0]))

    gradients = jax.grad(total)(zeros)
    for layer in layers:
        place = (0, 0, layer.weights.shape[2] - 1, 1)
        plus, minus = ({**zeros, layer.name: zeros[layer.name].at[place].set(step)} for step in (1e-2, -1e-2))
        slope = (total(plus) - total(minus)) / 2e-2
        np.testing.assert_allclose(gradients[layer.name][place], slope, rtol=2e-2, atol=2e-4)


def test_weights_after_dropout_are_those_that_pooled():
    layer = Attention(Config(score=ScaledDot()), 2, 4, 4, dropout=0.5)
    query, value = jax.random.normal(jax.random.key(0), (2, 2, 5, 2, 4))
    options: Any = {"train": True, "rngs": {"dropout": jax.random.key(1)}}
    result, (record,) = apply_with_attention(layer, {}, query, query, value, jnp.array([5, 3]), details=True, **options)
    assert np.mean(np.asarray(record.pooled.dropped) == 0) > np.mean(np.asarray(record.weights) == 0)
    np.testing.assert_allclose(pool(record.pooled.dropped, value), result.output, atol=1e-6)
    with pytest.raises(ValueError, match="train=False"):
        apply_with_attention(layer, {}, query, query, value, jnp.array([5, 3]), intervene=unchanged, **options)


def test_weights_of_another_shape_are_refused():
    layer, x = Attention(Config(score=ScaledDot()), 1, 4, 4), jnp.ones((2, 3, 4))
    with pytest.raises(ValueError, match=r"\(2, 1, 3, 1\).*decoder.*\(2, 1, 3, 3\)"):
        apply_with_attention(
            layer, {}, x, x, x, jnp.array([3, 3]), train=False, intervene=lambda layer, start: layer.weights[..., :1]
        )


def test_an_intervention_ends_with_the_call():
    layer, x = Attention(Config(score=ScaledDot()), 1, 4, 4), jnp.ones((2, 3, 4))
    before = layer.apply({}, x, x, x, jnp.array([3, 3]), train=False).output
    with pytest.raises(ZeroDivisionError):
        apply_with_attention(layer, {}, x, x, x, jnp.array([3, 3]), train=False, intervene=lambda layer, start: 1 / 0)
    chex.assert_trees_all_equal(layer.apply({}, x, x, x, jnp.array([3, 3]), train=False).output, before)
